"""Pictures to look at: sheets of films beside masks, and files that say that they are synthetic."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mammogan_tf import __version__
from mammogan_tf.data.label_maps import overlay
from mammogan_tf.files import atomic_path

__all__ = [
    "BESIDE_REAL",
    "NOTES",
    "SYNTHETIC",
    "comparison_rows",
    "save_picture",
    "synthetic_notes",
    "tile",
    "to_bytes",
]

SYNTHETIC = "Synthetic mammogram of no patient; for research and teaching, never for diagnosis."
BESIDE_REAL = "Synthetic mammograms, of no patient, beside real ones; for research and teaching, never for diagnosis."
"""What a picture says of itself."""

NOTES = {"Synthetic": "true", "Software": f"mammogan-tf {__version__}", "Comment": SYNTHETIC}
"""Keywords and texts of a synthetic PNG."""


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] to uint8, of any shape."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def tile(rows: Sequence[Sequence[np.ndarray]], gap: int = 2, shortest: int = 128) -> np.ndarray:
    """Lays out pictures of one size, uint8 [S, S] or [S, S, 3], in rows; small ones are magnified by a whole number.

    Returns:
        uint8 [H, W, 3].
    """
    size = rows[0][0].shape[0]
    zoom = max(1, shortest // size)
    cell = size * zoom + gap
    sheet = np.zeros((len(rows) * cell - gap, max(map(len, rows)) * cell - gap, 3), np.uint8)
    for top, row in enumerate(rows):
        for left, picture in enumerate(row):
            colour = picture if picture.ndim == 3 else picture[..., None].repeat(3, axis=-1)
            large = colour.repeat(zoom, axis=0).repeat(zoom, axis=1)
            sheet[top * cell : top * cell + size * zoom, left * cell : left * cell + size * zoom] = large
    return sheet


def comparison_rows(pictures: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """A sheet with a row ``film | annotation | found`` for each film; all uint8 [N, S, S], N 1 or more."""
    return tile(
        [
            [picture, overlay(picture, asked), overlay(picture, guess)]
            for picture, asked, guess in zip(pictures, truth, found, strict=True)
        ]
    )


def synthetic_notes(comment: str = SYNTHETIC) -> PngInfo:
    """Text chunks of a PNG that say that it is synthetic, or shows what is."""
    notes = PngInfo()
    for keyword, text in (NOTES | {"Comment": comment}).items():
        notes.add_text(keyword, text)
    return notes


def save_picture(path: Path, pixels: np.ndarray, notes: PngInfo | None = None) -> None:
    """Writes uint8 [H, W] or [H, W, 3] as an image file, a PNG with its ``notes``, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=notes)
