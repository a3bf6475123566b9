"""The comparison sheet: mask, real film and synthetic image, row by row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mammogan_tf.data.label_maps import PALETTE
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path
from mammogan_tf.pictures import BESIDE_REAL, synthetic_notes, to_bytes

__all__ = ["comparison_sheet", "draw_sheet"]

CELL = 160
GAP = 6
HEADING = 26
ROWS_PER_BLOCK = 8


def comparison_sheet(
    label_maps: np.ndarray,
    reals: np.ndarray,
    synthetics: np.ndarray,
    path: str | Path,
    titles: Sequence[str] = ("mask", "real film", "synthetic"),
) -> Path:
    """Writes a PNG with one row for each mask: the mask in colours, the real film, the synthetic image.

    More than eight rows continue in a second block of columns beside the first, and so on.

    Args:
        label_maps: uint8 [N, S, S], values 0-4.
        reals: float [N, S, S] in [0, 1].
        synthetics: float [N, S, S] in [0, 1].
        path: where to write; the folder is made.
        titles: the heading of each of the three columns.

    Raises:
        DataError: the shapes differ, or there is no row.
    """
    with atomic_path(path) as temporary:
        sheet = draw_sheet(label_maps, reals, synthetics, titles)
        sheet.save(temporary, format="PNG", optimize=True, pnginfo=synthetic_notes(BESIDE_REAL))
    return Path(path)


def draw_sheet(label_maps: np.ndarray, reals: np.ndarray, synthetics: np.ndarray, titles: Sequence[str]) -> Image.Image:
    """The picture that :func:`comparison_sheet` writes."""
    shapes = {np.shape(array) for array in (label_maps, reals, synthetics)}
    if len(shapes) != 1 or len(reals) == 0:
        raise DataError(f"sheet: expected masks, real and synthetic images of one shape, received: {sorted(shapes)}")
    blocks = -(-len(reals) // ROWS_PER_BLOCK)
    rows = -(-len(reals) // blocks)
    step, block_width = CELL + GAP, 3 * (CELL + GAP) + 2 * GAP
    sheet = Image.new("RGB", (blocks * block_width - GAP, HEADING + rows * step), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for index in range(len(reals)):
        block, row = divmod(index, rows)
        cells = (_coloured(label_maps[index]), _grey(reals[index]), _grey(synthetics[index]))
        for column, (cell, title) in enumerate(zip(cells, titles, strict=True)):
            left = GAP + block * block_width + column * step
            sheet.paste(cell, (left, HEADING + row * step))
            if row == 0:
                draw.text((left + CELL / 2, HEADING / 2), title, fill="black", font=font, anchor="mm")
    return sheet


def _grey(image: np.ndarray) -> Image.Image:
    return Image.fromarray(to_bytes(image)).resize((CELL, CELL), Image.Resampling.BICUBIC)


def _coloured(label_map: np.ndarray) -> Image.Image:
    return Image.fromarray(PALETTE[label_map]).resize((CELL, CELL), Image.Resampling.NEAREST)
