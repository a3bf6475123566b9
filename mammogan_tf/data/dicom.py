"""Mammograms in DICOM files, read through pydicom (the extra ``dicom``).

Of a file only what its pixels need is read, the id of the patient, and how the picture is turned. Names and dates stay
in it, and the id leaves this module as a digest.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mammogan_tf.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "DICOM_SUFFIXES",
    "digest_patient",
    "is_dicom",
    "read_dicom",
    "read_dicom_modality",
    "read_dicom_origin",
    "read_dicom_size",
    "scale_grey",
]

warnings.filterwarnings("ignore", "End of file reached", module="pydicom")  # An error of ours says it, with the file.

DICOM_SUFFIXES = (".dcm", ".dicom")
INSTALL = "pip install 'mammogan-tf[dicom]'"

KIND = [
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
]
STORED = ["PixelRepresentation", "PlanarConfiguration", "PixelPaddingValue", "PixelPaddingRangeLimit"]
MODALITY = ["ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"]
VOI = ["VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth"]


def is_dicom(path: Path) -> bool:
    """Whether the file ``path`` is called ``.dcm`` or carries the mark of a DICOM file behind its preamble.

    Raises:
        DataError: it cannot be read.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as stream:
            stream.seek(128)
            return stream.read(4) == b"DICM"
    except OSError as error:
        reason = error.strerror or error
        advice = "make it readable or fetch it again"
        raise DataError(f"{path}: expected a readable file, received: {reason}; {advice}") from error


def read_dicom(path: Path) -> np.ndarray:
    """The film as its file wants it shown, uint8 [H, W], dark background.

    Stored values pass through the modality LUT or rescaling and the VOI LUT or window, the first where there are several
    (DICOM PS3.3 C.11.1 and C.11.2); where there is none of these, the darkest value becomes 0 and the brightest 255.
    MONOCHROME1 is inverted after that, padding is black.

    Raises:
        DataError: not DICOM, broken, compressed in a way that is not installed, several frames, colour, or not of the
            lowest 8 to 16 bits; or pydicom is not installed.
    """
    with _dataset(path, [*KIND, *STORED, *MODALITY, *VOI, "PixelData"]) as dataset:
        _check_kind(path, dataset)
        stored = dataset.pixel_array.astype(np.int32)
        padding = _is_padding(stored, dataset)
        film = stored[~padding]
        if film.size == 0:
            return np.zeros(stored.shape, np.uint8)
        levels = np.arange(film.min(), film.max() + 1)
        table = _shown(
            levels, dataset
        )  # Nothing here depends on a pixel's place: 65536 values are shown, not millions.
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            table = 255 - table
        grey = table[stored.clip(levels[0], levels[-1]) - levels[0]]
        grey[padding] = 0
        return grey


def read_dicom_size(path: Path) -> tuple[int, int]:
    """Height and width of a film that :func:`read_dicom` can read, from the header alone.

    Raises:
        DataError: not DICOM, several frames, colour, or not of the lowest 8 to 16 bits; or pydicom is not installed.
    """
    with _dataset(path, KIND) as dataset:
        _check_kind(path, dataset)
        return int(dataset.Rows), int(dataset.Columns)


def read_dicom_origin(path: Path) -> tuple[str | None, str | None]:
    """Patient, as a digest of her id, and the edge of the picture where the chest wall is; None where the file is silent.

    The edge comes from *Patient Orientation*: rows that run towards anterior start at the chest wall. Laterality alone
    does not tell it: it names the breast, and scanners store either breast either way.

    Raises:
        DataError: not DICOM, or pydicom is not installed.
    """
    with _dataset(path, ["PatientID", "PatientOrientation"]) as dataset:
        patient = str(dataset.get("PatientID") or "").strip()
        along_rows = str((dataset.get("PatientOrientation") or [""])[0])
    side = {"A": "left", "P": "right"}.get(along_rows[:1])
    return digest_patient(patient) if patient else None, side


def read_dicom_modality(path: Path) -> str:
    """What the picture was taken by, such as MG, mammography (DICOM PS3.3 C.7.3.1.1.1); empty where the file is silent.

    Raises:
        DataError: not DICOM, or pydicom is not installed.
    """
    with _dataset(path, ["Modality"]) as dataset:
        return str(dataset.get("Modality") or "").strip()


def digest_patient(id_: str) -> str:
    """What stands for the id of a patient, the same in every data set."""
    return hashlib.sha256(id_.encode()).hexdigest()[:12]


def scale_grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps ``low`` to 0 and ``high`` to 255, linearly, as uint8; what lies beyond is cut. Equal limits give black."""
    if low == high:
        return np.zeros(values.shape, np.uint8)
    share = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.rint(255 * share.clip(0, 1)).astype(np.uint8)


@contextmanager
def _dataset(path: Path, tags: Sequence[str]) -> "Iterator[Dataset]":
    """The given elements of a file; whatever is wrong with it, on reading or on decoding, is a DataError."""
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise DataError(f"{path}: expected pydicom to read DICOM with, received: none installed; {INSTALL}") from error
    try:
        yield dcmread(path, specific_tags=list(tags), stop_before_pixels="PixelData" not in tags)
    except DataError:
        raise
    except Exception as error:  # A broken file makes pydicom and its decoders raise almost anything.
        reason = " ".join(str(error).split())[:300].partition(" Use force=True")[0]  # Which no command has.
        advice = INSTALL if "missing dependencies" in reason else "export it again"
        raise DataError(f"{path}: expected a readable DICOM file, received: {reason}; {advice}") from error


def _check_kind(path: Path, dataset: "Dataset") -> None:
    def need(holds: bool, expected: str, received: Any, advice: str) -> None:
        if not holds:
            raise DataError(f"{path}: expected {expected}, received: {received}; {advice}")

    without = "a DICOM file without pixels, or one that ends too early"
    need("Rows" in dataset, "a mammogram", without, "fetch it again, or remove it")
    meaning, bits = dataset.PhotometricInterpretation, dataset.BitsStored
    need(meaning in ("MONOCHROME1", "MONOCHROME2"), "MONOCHROME1 or MONOCHROME2", meaning, "export it in greyscale")
    frames = int(dataset.get("NumberOfFrames") or 1)
    need(frames == 1, "a single picture", f"{frames} frames", "export the 2-D mammogram, or one frame a file")
    allocated = dataset.BitsAllocated
    stored = f"{bits} in {allocated}"
    need(8 <= bits <= allocated <= 16, "8 to 16 bits stored in 16 at most", stored, "export it in 16 bits")
    high = dataset.get("HighBit", bits - 1)
    need(high == bits - 1, f"{bits - 1} as the High Bit of {bits} bits", high, "export it again")


def _is_padding(stored: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Which pixels say that there is no film (DICOM PS3.3 C.7.5.1.1.2), bool [H, W]."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((value, value if limit is None else limit))
    return (stored >= first) & (stored <= last)


def _shown(levels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Stored values, ascending, as grey levels before any inversion, uint8."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    for name in (*MODALITY, *VOI):
        if dataset.get(name, 0) in (None, ""):
            del dataset[name]  # Empty is as good as absent, but pydicom takes it for a value.
    values = apply_modality_lut(levels, dataset)
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        entries, first, bits = table.LUTDescriptor
        if bits == 8 and isinstance(table.LUTData, bytes) and len(table.LUTData) < 2 * (entries or 2**16):
            table.add_new("LUTData", "US", list(table.LUTData))  # Packed, which pydicom does not know.
        table.LUTDescriptor = [entries, first, 16]  # Where it says 8, pydicom counts the entries in 8 bits as well.
        possible = apply_voi(np.arange(first, first + (entries or 2**16)), dataset)
        return scale_grey(apply_voi(np.rint(values).astype(np.int64), dataset), possible.min(), possible.max())
    if None not in (dataset.get("WindowCenter"), dataset.get("WindowWidth")):
        low, high = apply_windowing(np.array([-np.inf, np.inf]), dataset)
        return scale_grey(apply_windowing(values, dataset), low, high)
    return scale_grey(values, values.min(), values.max())
