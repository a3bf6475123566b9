"""One film and what is known about it; how its pixels are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mammogan_tf.errors import DataError

__all__ = ["Film", "Lesion", "read_grey", "read_size"]


@dataclass(frozen=True)
class Lesion:
    """A circle around a lesion, in pixels of the film as stored: ``column`` and ``row`` count from the top left."""

    kind: str
    label: int
    column: float
    row: float
    radius: float


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


def read_grey(path: Path) -> np.ndarray:
    """Reads an 8-bit greyscale image as uint8 [H, W]; RGB is accepted where the three channels agree.

    Raises:
        DataError: missing, empty, truncated, 16-bit or colour.
    """
    with _opened(path) as image:
        pixels = np.asarray(image)
        mode = image.mode
    if mode in ("RGB", "RGBA") and (np.ptp(pixels[..., :3].astype(np.int16), axis=-1) == 0).all():
        return np.ascontiguousarray(pixels[..., 0])
    if mode != "L":
        raise DataError(f"{path}: expected 8-bit greyscale, received: mode {mode}; convert it to 8-bit greyscale")
    return pixels


def read_size(path: Path) -> tuple[int, int]:
    """Height and width that the header of an image states, without decoding its pixels.

    Raises:
        DataError: missing, empty or no image.
    """
    with _opened(path) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open image; whatever is wrong with the file, on opening or on decoding, is a DataError."""
    if not path.is_file():
        raise DataError(f"{path}: expected an image file, received: nothing there")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: expected an image, received: an empty file; fetch it again")
    try:
        with Image.open(path) as image:
            yield image
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no image format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{path}: expected a readable image, received: {reason}; fetch it again") from error
