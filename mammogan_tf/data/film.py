"""One film and what is known about it; how its pixels, and the mask drawn on it, are read."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mammogan_tf.config import CLASSES
from mammogan_tf.data.dicom import is_dicom, read_dicom, read_dicom_origin, read_dicom_size, scale_grey
from mammogan_tf.errors import DataError

__all__ = [
    "AUTOMATIC",
    "SIDES",
    "TISSUES",
    "DrawnMask",
    "Film",
    "Lesion",
    "read_drawn_mask",
    "read_grey",
    "read_origin",
    "read_size",
]

SIDES = ("left", "right")
TISSUES = ("F", "G", "D")

AUTOMATIC = 255
"""Value in a drawn mask of a pixel whose class the automatic anatomy finds."""

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of a TIFF: *Bits Per Sample* and *Sample Format*, one for each channel, and *Photometric Interpretation*."""

SIGNED = 2
"""*Sample Format* of whole numbers with a sign."""

ORIENTATION = 274
"""Tag of EXIF and TIFF: how a picture is to be turned for viewing, 1 as it is stored, 2 to 8 in another way."""

WHITE_IS_ZERO = 0
"""*Photometric Interpretation* of a film whose dark pixels have high values."""

NO_CLASS = 254


@dataclass(frozen=True)
class Lesion:
    """A circle around a lesion, in pixels of the film as stored: ``column`` and ``row`` count from the top left."""

    kind: str
    label: int
    column: float
    row: float
    radius: float


@dataclass(frozen=True)
class DrawnMask:
    """A mask drawn by hand, of the film's size. ``classes`` pairs its grey values with classes 0-4 or ``AUTOMATIC``."""

    path: Path
    classes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Film:
    """A mammogram on disk.

    ``side`` is the edge of the picture where the chest wall is (``"left"``, ``"right"``, or None where unknown);
    ``label`` is 0 benign, 1 malignant, 2 normal; ``tissue`` is F, G, D or None.
    """

    id: str
    path: Path
    patient: str
    label: int
    side: str | None = None
    tissue: str | None = None
    lesions: tuple[Lesion, ...] = ()
    drawn: DrawnMask | None = None

    def random(self, purpose: object) -> np.random.Generator:
        """What is drawn at random for the film: the same each time, whatever other films there are."""
        digest = hashlib.sha256(f"{self.id}:{purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def read_grey(path: Path) -> np.ndarray:
    """Reads a film of any format that the project accepts as uint8 [H, W], dark background.

    PGM, PNG, TIFF and JPEG with 8 bits are taken as they are, RGB where the three channels agree, with an alpha that is opaque
    or none. Of 16 bits the darkest pixel becomes 0 and the brightest 255: such files hold 10 to 16 bits and do not say how
    many. DICOM, known by its suffix or its content, is read by :func:`mammogan_tf.data.dicom.read_dicom`.

    Raises:
        DataError: missing, unreadable, empty, truncated, several pages, to be turned for viewing, colour, RGB of 16 bits,
            floating point, or no image.
    """
    _require_content(path)
    if is_dicom(path):
        return read_dicom(path)
    with _opened(path) as image:
        pixels, mode = _grey_if_equal(image)
        white_is_zero = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    if mode.startswith("I"):
        grey = scale_grey(pixels, pixels.min(), pixels.max())
        return 255 - grey if white_is_zero else grey  # Of 8 bits, Pillow inverts it itself.
    if mode != "L":
        raise DataError(f"{path}: expected greyscale of 8 or 16 bits, received: mode {mode}; convert it to greyscale")
    return pixels


def read_size(path: Path) -> tuple[int, int]:
    """Height and width that the header of an image states, without decoding its pixels.

    Raises:
        DataError: missing, unreadable, empty, several pages, to be turned for viewing, or no image.
    """
    _require_content(path)
    if is_dicom(path):
        return read_dicom_size(path)
    with _opened(path) as image:
        return image.height, image.width


def read_origin(path: Path) -> tuple[str | None, str | None]:
    """What a DICOM file says of patient and chest wall (:func:`mammogan_tf.data.dicom.read_dicom_origin`); None of others.

    Raises:
        DataError: it cannot be read.
    """
    return read_dicom_origin(path) if is_dicom(path) else (None, None)


def read_drawn_mask(drawn: DrawnMask, shape: tuple[int, ...]) -> np.ndarray:
    """The classes of a drawn mask, uint8 [H, W]: 0-4, and ``AUTOMATIC`` (255) where the automatic anatomy decides.

    Args:
        drawn: an index image (mode P, its indices count), greyscale of 8 bits, or black and white (0 and 255).
        shape: height and width of its film.

    Raises:
        DataError: missing, unreadable, of several pages, to be turned for viewing, JPEG, of another mode or size, or with grey
            values that ``drawn.classes`` leaves out.
    """
    path = drawn.path
    _require_content(path)
    with _opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{path}: expected a mask that keeps its grey values, received: JPEG; export it as PNG")
        values, mode = _grey_if_equal(image.convert("L") if image.mode == "1" else image)
    if mode not in ("L", "P"):
        raise DataError(f"{path}: expected a mask (mode L, P or 1), received: mode {mode}; save it as 8-bit greyscale")
    if values.shape != shape:
        expected, received = (f"{columns}x{rows}" for rows, columns in (shape, values.shape))
        raise DataError(
            f"{path}: expected {expected} pixels as its film has, received: {received}; draw it on the film"
        )
    table = np.full(256, NO_CLASS, np.uint8)
    for grey, class_ in drawn.classes:
        table[grey] = class_
    strange = [grey for grey in np.flatnonzero(np.bincount(values.ravel(), minlength=256)) if table[grey] == NO_CLASS]
    if strange:
        expected = ", ".join(str(grey) for grey, _ in drawn.classes) or "that dataset.json maps, none"
        received = ", ".join(map(str, strange[:8])) + (", ..." if len(strange) > 8 else "")
        raise DataError(
            f"{path}: expected the grey values {expected}, received: {received}; "
            f"map them in dataset.json to {', '.join(CLASSES)} or automatic"
        )
    return table[values]


def _grey_if_equal(image: Image.Image) -> tuple[np.ndarray, str]:
    """Pixels and mode of an image; RGB whose channels agree, and grey with alpha, as the greyscale that it is where it is opaque.

    A mode that is not to be taken as it is says why.

    Of colour with 16 bits Pillow keeps the upper 8, which of a film of 12 bits are next to nothing: its mode says so. Of 8 bits
    with a sign it takes -1 for 255.
    """
    tags = getattr(image, "tag_v2", {})
    mode, bits = image.mode, tags.get(BITS, (8,))
    stored = str(getattr(image, "tile", ""))  # Until it is decoded: of PNG such as "RGB;16B".
    if mode in ("LA", "RGB", "RGBA") and (max(bits) > 8 or ";16" in stored):
        mode += " of 16 bits"
    if mode == "L" and SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, ())):
        mode += " of signed numbers"
    if mode in ("L", "RGB") and "transparency" in image.info:
        mode += " with a transparent colour"
    pixels = np.asarray(image)
    if mode in ("LA", "RGB", "RGBA"):
        colours = mode.count("L") or 3
        if (pixels[..., :colours] == pixels[..., :1]).all() and (pixels[..., colours:] == 255).all():
            return np.ascontiguousarray(pixels[..., 0]), "L"
    return pixels, mode


def _require_content(path: Path) -> None:
    if not path.is_file():
        received = "a folder; name the files in it" if path.is_dir() else "nothing there"
        raise DataError(f"{path}: expected an image file, received: {received}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: expected an image, received: an empty file; fetch it again")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The open image of a file that holds no other; whatever is wrong, on opening or on decoding, is a DataError.

    So is a picture that is to be turned for viewing: Pillow turns those in TIFF alone, and garbles some of them.
    """
    try:
        with Image.open(path) as image:
            if (pages := _count_pages(image)) > 1:
                advice = "save each as a file of its own"
                raise DataError(f"{path}: expected a single picture, received: {pages} pages; {advice}")
            if (orientation := _read_orientation(image)) in range(2, 9):
                expected, advice = "a picture stored as it is seen", "turn it and save it again"
                raise DataError(f"{path}: expected {expected}, received: EXIF orientation {orientation}; {advice}")
            yield image
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no image format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{path}: expected a readable image, received: {reason}; fetch it again") from error


def _count_pages(image: Image.Image) -> int:
    """How many pictures a file holds; what a phone stores behind a JPEG (MPO) are previews of it, and do not count."""
    if image.format == "MPO":
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception as error:  # Pillow raises almost anything.
        raise ValueError("a damaged second page") from error


def _read_orientation(image: Image.Image) -> object:
    """What the header of an image says of its orientation; None where it says nothing that can be read."""
    try:  # Not image.getexif(), which decodes a PNG to look behind its pixels.
        return Image.Image.getexif(image).get(ORIENTATION)
    except Exception:  # Pillow raises almost anything.
        return None
