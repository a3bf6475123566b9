"""Files that pydicom writes here stand for mammograms; those that it ships show the compressions that it cannot write."""

import struct
from pathlib import Path

import numpy as np
import pytest

from mammogan_tf.data.dicom import read_dicom_origin
from mammogan_tf.data.film import read_grey, read_size
from mammogan_tf.errors import DataError

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
)

from tests.dicom_film import COMPRESSED, make_dicom, write_dicom  # noqa: E402

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4)


def share(values: np.ndarray) -> np.ndarray:
    """Grey levels of values in [0, 1]."""
    return np.rint(255 * values).astype(np.uint8)


@pytest.fixture
def shown(tmp_path):
    """What a mammogram looks like once it was written and read."""

    def read(*arguments: object, **elements: object) -> np.ndarray:
        grey = read_grey(write_dicom(tmp_path / "film.dcm", make_dicom(*arguments, **elements)))
        assert grey.dtype == np.uint8
        return grey

    return read


def lut(first: int, bits: int, values: np.ndarray) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values), first, bits])
    item.add_new("LUTData", "US", [int(value) for value in values])
    return [item]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["u", "i"])
def test_without_a_window_the_range_of_the_film_is_shown(shown, bits, kind):
    values = RAMP * (2 ** (bits - 1) // 12)
    np.testing.assert_array_equal(shown(values.astype(f"{kind}{1 if bits == 8 else 2}"), bits), share(RAMP / 11))


def test_monochrome1_is_inverted(shown):
    np.testing.assert_array_equal(shown(RAMP, PhotometricInterpretation="MONOCHROME1"), 255 - share(RAMP / 11))


@pytest.mark.parametrize("value", [0, 4095])
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_no_part_of_the_range(shown, value, meaning):
    pixels = 500 + RAMP
    pixels[0] = value
    grey = shown(pixels, PixelPaddingValue=value, PhotometricInterpretation=meaning)
    assert not grey[0].any()
    rest = share((RAMP[1:] - 4) / 7)
    np.testing.assert_array_equal(grey[1:], 255 - rest if meaning == "MONOCHROME1" else rest)


@pytest.mark.parametrize(("value", "limit"), [(0, 3), (3, 0)])
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_a_range_of_padding(shown, value, limit, meaning):
    """Which of its two ends comes first does not count."""
    padding = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    grey = shown(RAMP, PhotometricInterpretation=meaning, **padding)
    rest = share((RAMP[1:] - 4) / 7)
    np.testing.assert_array_equal(grey[1:], 255 - rest if meaning == "MONOCHROME1" else rest)
    assert not grey[0].any()


def test_padding_all_over(shown):
    assert not shown(RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=4095).any()


def test_a_window_cuts_what_lies_beyond(shown):
    # LINEAR_EXACT: centre 4, width 8 shows 0 to 8.
    grey = shown(RAMP, WindowCenter=4, WindowWidth=8, VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_array_equal(grey, share(np.minimum(RAMP / 8, 1)))
    # LINEAR: centre - 0.5 and width - 1, so centre 5.5 and width 11 show 0 to 10.
    np.testing.assert_array_equal(shown(RAMP, WindowCenter=5.5, WindowWidth=11), share(np.minimum(RAMP / 10, 1)))
    sigmoid = shown(RAMP, WindowCenter=4, WindowWidth=8, VOILUTFunction="SIGMOID")
    np.testing.assert_array_equal(sigmoid, share(1 / (1 + np.exp(-4 * (RAMP - 4.0) / 8))))


def test_of_several_windows_the_first_counts(shown):
    grey = shown(RAMP, WindowCenter=[4, 9], WindowWidth=[8, 2], VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_array_equal(grey, share(np.minimum(RAMP / 8, 1)))


@pytest.mark.parametrize("slope", [2, -2])
def test_a_window_is_in_rescaled_values(shown, slope):
    window = {"WindowCenter": 100 + 4 * slope, "WindowWidth": 16, "VOILUTFunction": "LINEAR_EXACT"}
    grey = shown(RAMP, RescaleSlope=slope, RescaleIntercept=100, **window)
    np.testing.assert_array_equal(grey, share(np.clip((RAMP if slope > 0 else 8.0 - RAMP) / 8, 0, 1)))


def test_a_modality_table(shown):
    squares = lut(0, 16, np.arange(12) ** 2)
    np.testing.assert_array_equal(shown(RAMP, ModalityLUTSequence=squares), share(RAMP**2 / 11**2))


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("first", [0, 1])
def test_a_voi_table_is_preferred_to_a_window(shown, bits, first):
    # 601 entries: more than an index of 8 bits could count.
    levels = np.arange(601) // 4
    grey = shown(50 * RAMP, VOILUTSequence=lut(first, bits, levels), WindowCenter=3, WindowWidth=4)
    np.testing.assert_array_equal(grey, share(levels[np.maximum(50 * RAMP.astype(int) - first, 0)] / 150))


def test_a_voi_table_after_rescaling(shown):
    table = lut(-10, 12, np.arange(12) * 300)
    grey = shown(RAMP, RescaleSlope=1, RescaleIntercept=-10, VOILUTSequence=table)
    np.testing.assert_array_equal(grey, share(RAMP / 11))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.name)
@pytest.mark.parametrize("entries", [4, 11, 601])
@pytest.mark.parametrize("packed", [True, False])
def test_a_voi_table_of_words_or_packed_bytes(shown, entries, packed, syntax):
    levels = np.minimum(np.arange(entries), 255)
    item = Dataset()
    item.LUTDescriptor = [entries, 0, 8]
    padding = b"\0" * (packed and entries % 2)
    item.add_new("LUTData", "OW", levels.astype("u1" if packed else "<u2").tobytes() + padding)
    grey = shown(60 * RAMP, 12, syntax, VOILUTSequence=[item])
    np.testing.assert_array_equal(grey, share(levels[np.minimum(60 * RAMP, entries - 1)] / levels.max()))


def test_a_voi_table_that_is_cut_off(shown):
    item = Dataset()
    item.LUTDescriptor = [601, 0, 8]
    item.add_new("LUTData", "OW", bytes(300))
    with pytest.raises(DataError, match="expected a readable DICOM file"):
        shown(60 * RAMP, VOILUTSequence=[item])


@pytest.mark.parametrize(
    "empty",
    [
        {"VOILUTFunction": ""},
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleIntercept": ""},
        {"VOILUTSequence": None, "ModalityLUTSequence": None},
    ],
    ids=" ".join,
)
def test_what_is_empty_is_as_good_as_absent(shown, empty):
    window = {"WindowCenter": 5.5, "WindowWidth": 11}
    np.testing.assert_array_equal(shown(RAMP, **window, **empty), shown(RAMP, **window))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, *COMPRESSED], ids=lambda uid: uid.name)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_transfer_syntaxes(shown, syntax, bits):
    if syntax in COMPRESSED:
        pytest.importorskip("openjpeg", reason="needs the extra dicom")
    ramp = np.kron(RAMP, np.ones((16, 16), np.uint16))  # JPEG 2000 wants 32 x 32 pixels at least.
    values = ramp * (2**bits // 12)
    grey = shown(values.astype(np.uint8 if bits == 8 else np.uint16), bits, syntax)
    np.testing.assert_array_equal(grey, share(ramp / 11))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_lossless(tmp_path, bits):
    """What most archives keep mammograms in."""
    pytest.importorskip("libjpeg", reason="needs the extra dicom")
    values = RAMP[:, ::-1] * (2**bits // 12)
    dataset = make_dicom(values.astype(np.uint8 if bits == 8 else np.uint16), bits)
    dataset.PixelData = encapsulate([jpeg_lossless(values, bits)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    np.testing.assert_array_equal(read_grey(write_dicom(tmp_path / "film.dcm", dataset)), share(RAMP[:, ::-1] / 11))


def jpeg_lossless(pixels: np.ndarray, bits: int) -> bytes:
    """Encodes a picture as ITU-T T.81 annex H has it, first predictor; each of 17 magnitudes has a code of 5 bits."""
    before = np.hstack([np.vstack([[[1 << (bits - 1)]], pixels[:-1, :1]]), pixels[:, :-1]])
    stream = ""
    for difference in (pixels.astype(int) - before).ravel():
        size = int(abs(difference)).bit_length()
        rest = int(difference if difference >= 0 else difference - 1) & ((1 << size) - 1)
        stream += f"{size:05b}" + (f"{rest:0{size}b}" if size else "")
    stream += "1" * (-len(stream) % 8)
    content = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, bits, *pixels.shape, 1, 1, 0x11, 0)
    codes = struct.pack(">HHB", 0xFFC4, 2 + 1 + 16 + 17, 0) + bytes([0, 0, 0, 0, 17] + 11 * [0]) + bytes(range(17))
    scan = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + codes + scan + content + b"\xff\xd9"


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("JPEGLSNearLossless_16.dcm", None),
        ("JPGExtended.dcm", None),
        ("JPEG2000.dcm", None),
    ],
)
def test_files_that_pydicom_ships(name, same_as):
    pytest.importorskip("libjpeg", reason="needs the extra dicom")
    grey = read_grey(shipped(name))
    assert grey.shape == read_size(shipped(name))
    assert grey.max() == 255
    if same_as:
        np.testing.assert_array_equal(grey, read_grey(shipped(same_as)))


def shipped(name: str) -> Path:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    if not path.exists():
        pytest.skip(f"needs {name} of pydicom")
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_a_mammogram_of_many_megabytes(tmp_path, syntax):
    """12 bits of 16, 4000 x 3000 pixels, 24 MB, with a window, inverted and compressed as scanners do."""
    if syntax in COMPRESSED:
        pytest.importorskip("openjpeg", reason="needs the extra dicom")
    rows, columns = np.ogrid[:4000, :3000]
    values = np.uint16(4095) - ((rows + columns) // 2).astype(np.uint16)
    window = {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_dicom(
        tmp_path / "film", make_dicom(values, 12, syntax, PhotometricInterpretation="MONOCHROME1", **window)
    )
    assert read_size(path) == (4000, 3000)
    grey = read_grey(path)
    assert grey.shape == (4000, 3000)
    np.testing.assert_allclose(grey[::400, ::300], 255 * (1 - values[::400, ::300] / 4095), atol=0.51)


@pytest.mark.parametrize(
    ("orientation", "side"), [(["A", "F"], "left"), (["P", "FL"], "right"), (["L", "F"], None), (None, None)]
)
def test_the_chest_wall_is_where_rows_that_run_to_anterior_begin(tmp_path, orientation, side):
    path = write_dicom(tmp_path / "film.dcm", make_dicom(RAMP, PatientOrientation=orientation, ImageLaterality="R"))
    assert read_dicom_origin(path)[1] == side


def test_a_patient_is_known_without_her_id(tmp_path):
    ids = ["12-34", "12-34 ", "12-35", "", None]
    paths = [write_dicom(tmp_path / f"{number}.dcm", make_dicom(RAMP, PatientID=id_)) for number, id_ in enumerate(ids)]
    one, same, other, *unknown = (read_dicom_origin(path)[0] for path in paths)
    assert one == same != other
    assert {one, other}.isdisjoint(ids)
    assert unknown == [None, None]
