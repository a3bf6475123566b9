"""Label maps (uint8, values 0-4 in the order of ``config.CLASSES``): shrunk, shown, and as index PNGs on disk."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from mammogan_tf.config import CLASSES, LESION
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path

__all__ = [
    "PALETTE",
    "has_lesion",
    "is_automatic",
    "lies_as_its_film",
    "overlay",
    "read_label_map",
    "read_masks",
    "save_label_map",
    "shrink_label_map",
]


PALETTE = np.array([(0, 0, 0), (0, 114, 178), (230, 159, 0), (204, 121, 167), (240, 228, 66)], np.uint8)
"""RGB of each class, from the palette of Okabe and Ito (2008), which colour-blind readers can tell apart."""

CLASS_OF = {tuple(colour): value for value, colour in enumerate(PALETTE.tolist())}
"""Values by colour."""

ORIENTATION_NOTE = ("Chest wall", "as on the film")
"""Key and text by which the PNG of a label map says that it was not turned."""

AUTOMATIC_NOTE = ("Mask", "of mammogan-tf data masks")
"""Key and text by which the PNG of a label map says that another may take its place."""

FAIR_SHARE = 0.25
"""A lesion wins a pixel when it covers this share of it."""


def has_lesion(label_maps: np.ndarray) -> np.ndarray:
    """Which of the label maps [N, H, W] show a lesion, bool [N]."""
    return (label_maps == LESION).any(axis=(1, 2))


def shrink_label_map(label_map: np.ndarray, size: int) -> np.ndarray:
    """Shrinks a label map by area: the class that covers most of a pixel wins it.

    A lesion wins from a quarter of a pixel on, and every connected lesion keeps at least one pixel. Maps that are not
    square are filled up with background on the right or at the bottom.

    Args:
        label_map: uint8 [H, W], values 0-4.
        size: S.

    Returns:
        uint8 [S, S].
    """
    height, width = label_map.shape
    side = max(height, width)
    square = np.pad(label_map, ((0, side - height), (0, side - width)))
    shares = np.stack([_shrink_mask(square == value, (size, size)) for value in range(len(CLASSES))])
    small = shares.argmax(axis=0).astype(np.uint8)
    small[shares[LESION] >= FAIR_SHARE] = LESION
    lesions, _ = ndimage.label(square == LESION)
    for index, (rows, columns) in enumerate(ndimage.find_objects(lesions), start=1):
        # Only where the lesion lies, or many would take minutes: across first and then down, as Pillow does it.
        down, along = (slice(place.start * size // side, -(-place.stop * size // side)) for place in (rows, columns))
        across = np.zeros((side, along.stop - along.start), np.float32)
        across[rows] = _shrink_mask(lesions[rows] == index, (rows.stop - rows.start, size))[:, along]
        share, near = _shrink_mask(across, (size, across.shape[1]))[down], small[down, along]
        if not (near[share > 0] == LESION).any():
            near[np.unravel_index(share.argmax(), share.shape)] = LESION
    return small


def _shrink_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Share of each pixel of a picture of ``shape`` (rows, columns) that ``mask`` covers, float32."""
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize(shape[::-1], Image.Resampling.BOX))


def save_label_map(
    path: str | os.PathLike[str], label_map: np.ndarray, *, as_its_film: bool = False, automatic: bool = False
) -> None:
    """Writes a label map as an index PNG whose palette makes it readable to the eye.

    One that lies ``as_its_film``, whose chest wall may be on the right, says so (:func:`lies_as_its_film`), and so does an
    ``automatic`` one (:func:`is_automatic`).

    Raises:
        DataError: values other than those of :data:`mammogan_tf.config.CLASSES`.
    """
    values = np.asarray(label_map)
    if not np.isin(values, range(len(CLASSES))).all():
        strange = values[~np.isin(values, range(len(CLASSES)))].flat[0]
        raise DataError(f"{path}: expected a label map of values 0-{LESION}, received: {strange}")
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(PALETTE.ravel().tolist())
    notes = PngInfo()
    if as_its_film:
        notes.add_text(*ORIENTATION_NOTE)
    if automatic:
        notes.add_text(*AUTOMATIC_NOTE)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=notes)


def lies_as_its_film(path: str | os.PathLike[str]) -> bool:
    """Whether an image says that it was not turned: its chest wall need not be on the left, as networks want it."""
    return _says(path, *ORIENTATION_NOTE)


def is_automatic(path: str | os.PathLike[str]) -> bool:
    """Whether an image says that ``data masks`` wrote it, and nobody drew it."""
    return _says(path, *AUTOMATIC_NOTE)


def _says(path: str | os.PathLike[str], key: str, text: str) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get(key) == text
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False  # Whoever reads it says what is wrong with it.


def read_label_map(path: str | os.PathLike[str], size: int | None = None) -> np.ndarray:
    """Reads an index image as uint8 [H, W], or [size, size] where a size is given.

    Raises:
        DataError: missing, unreadable, not of mode P or L, with values outside 0-4, or with the colours of :data:`PALETTE` in
            another order.
    """
    path = Path(path)
    expected = f"an index PNG (mode P or L) with values 0-{LESION}"
    try:
        with Image.open(path) as image:
            label_map, mode = np.array(image), image.mode
            palette = np.reshape(image.getpalette() or [], (-1, 3))
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected {expected}, received: nothing there; write one") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: expected {expected}, received: {error}; write it again") from error
    if mode not in ("P", "L"):
        raise DataError(
            f"{path}: expected {expected}, received: mode {mode}; save it as greyscale of 8 bits with these values"
        )
    strange = np.setdiff1d(label_map, range(len(CLASSES)))
    if strange.size:
        values = ", ".join(map(str, strange[:8])) + (", ..." if strange.size > 8 else "")
        raise DataError(f"{path}: expected {expected}, received: {values}; map them to {dict(enumerate(CLASSES))}")
    if mode == "P" and _is_sorted_otherwise(np.unique(label_map), palette):
        raise DataError(
            f"{path}: expected {expected}, received: their colours in another order, in which a program has sorted them; "
            "save it as greyscale of 8 bits with these values"
        )
    return label_map if size is None or label_map.shape == (size, size) else shrink_label_map(label_map, size)


def _is_sorted_otherwise(values: np.ndarray, palette: np.ndarray) -> bool:
    """Whether a palette [N, 3] gives each of the values the colour of a class, and not all of them their own."""
    colours = [tuple(palette[value].tolist()) for value in values if value < len(palette)]
    shown = [CLASS_OF.get(colour) for colour in colours]
    return len({*shown}) == len(values) and None not in shown and shown != values.tolist()


def read_masks(path: Path, names: Sequence[str], advice: str) -> list[np.ndarray]:
    """The arrays of these names in an ``.npz`` file of masks, as runs and exports keep them.

    Raises:
        DataError: missing, broken, or without one of them; ``advice`` says what to do.
    """
    try:
        with np.load(path) as stored:
            return [stored[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: expected masks, received: a broken file; {advice}") from error


def overlay(image: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """An image tinted by class, with every border between classes drawn.

    Args:
        image: uint8 [H, W].
        label_map: uint8 [H, W].

    Returns:
        uint8 [H, W, 3].
    """
    grey = np.repeat(image[..., None], 3, axis=-1).astype(np.float32)
    colour = PALETTE[label_map].astype(np.float32)
    border = ndimage.maximum_filter(label_map, 2) != ndimage.minimum_filter(label_map, 2)
    weight = np.where(label_map == 0, 0, np.where(border, 0.8, 0.2))[..., None]
    return np.rint((1 - weight) * grey + weight * colour).astype(np.uint8)
