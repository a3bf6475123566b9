"""What is refused of DICOM files, in one line: what shows no mammogram, what is broken, and what nothing is installed for."""

import subprocess
import sys

import numpy as np
import pytest

from mammogan_tf.data.dicom import read_dicom_origin
from mammogan_tf.data.film import read_grey, read_size
from mammogan_tf.errors import DataError

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")

from pydicom.dataset import Dataset  # noqa: E402

from tests.dicom_film import COMPRESSED, make_dicom, write_dicom  # noqa: E402

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4)


def tomosynthesis() -> Dataset:
    return make_dicom(np.zeros((6, 4), np.uint16), Rows=3, NumberOfFrames=2)


def without_pixels() -> Dataset:
    dataset = make_dicom(RAMP)
    for name in ("PixelData", "Rows", "Columns"):
        delattr(dataset, name)
    return dataset


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (tomosynthesis, "expected a single picture, received: 2 frames"),
        (lambda: make_dicom(RAMP, PhotometricInterpretation="RGB", SamplesPerPixel=3), "MONOCHROME2, received: RGB"),
        (
            lambda: make_dicom(RAMP.astype(np.uint32), 32),
            "expected 8 to 16 bits stored in 16 at most, received: 32 in 32",
        ),
        (lambda: make_dicom(RAMP, 7), "expected 8 to 16 bits stored in 16 at most, received: 7 in 16"),
        (lambda: make_dicom(RAMP << 4, 12, HighBit=15), "expected 11 as the High Bit of 12 bits, received: 15; export"),
        (without_pixels, "expected a mammogram, received: a DICOM file without pixels"),
    ],
    ids=["frames", "colour", "32 bits", "7 bits", "upper bits", "no pixels"],
)
def test_what_is_no_mammogram_is_refused_by_its_header(tmp_path, dataset, says):
    path = write_dicom(tmp_path / "film.dcm", dataset())
    for read in (read_size, read_grey):
        with pytest.raises(DataError, match=says) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: expected")
        assert "Nobody" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda content: content[:-5], "received: The number of bytes of pixel data is less than expected"),
        (lambda content: content[:200], "expected a mammogram|expected a readable DICOM file"),
        (lambda content: content[132:], "'DICM' prefix is missing from the header.; export it again"),
        (lambda content: b"<html>not found</html>", "'DICM' prefix is missing"),
        (lambda content: b"", "an empty file"),
    ],
    ids=["truncated", "no data set", "no mark", "no DICOM", "empty"],
)
def test_a_broken_file(tmp_path, harm, says):
    path = write_dicom(tmp_path / "film.dcm", make_dicom(RAMP))
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(DataError, match=says) as error:
        read_grey(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=["RLE", "JPEG 2000"])
def test_a_compressed_film_that_ends_too_early_is_one_line(tmp_path, syntax):
    path = write_dicom(tmp_path / "film.dcm", make_dicom(np.tile(RAMP, (16, 16)), syntax=syntax))
    path.write_bytes(path.read_bytes()[:-20])
    code = "import sys; from pathlib import Path; from mammogan_tf.data.film import read_grey; read_grey(Path(sys.argv[1]))"
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    says = "received: a DICOM file without pixels, or one that ends too early; fetch it again"
    assert says in ended.stderr.splitlines()[-1]
    assert "UserWarning" not in ended.stderr


def test_without_pydicom_it_says_what_to_install(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "film.dcm", make_dicom(RAMP))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (read_size, read_grey, read_dicom_origin):
        with pytest.raises(DataError, match=r"film\.dcm: expected pydicom .* pip install 'mammogan-tf\[dicom\]'"):
            read(path)


def test_without_a_decoder_it_says_what_to_install(tmp_path, monkeypatch):
    def decode(self: Dataset) -> None:
        raise RuntimeError("Unable to decompress as all\n plugins are missing dependencies:\n\tpylibjpeg")

    path = write_dicom(tmp_path / "film.dcm", make_dicom(RAMP))
    monkeypatch.setattr(Dataset, "pixel_array", property(decode))
    with pytest.raises(DataError, match=r"missing dependencies: pylibjpeg; pip install 'mammogan-tf\[dicom\]'$"):
        read_grey(path)
