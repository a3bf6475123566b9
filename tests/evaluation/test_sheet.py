import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.label_maps import PALETTE
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.sheet import CELL, GAP, HEADING, comparison_sheet


def pixel(path, row: int, column: int):
    """The middle of a cell in the first block."""
    step = CELL + GAP
    with Image.open(path) as sheet:
        return sheet.convert("RGB").getpixel((GAP + column * step + CELL // 2, HEADING + row * step + CELL // 2))


def test_each_row_shows_mask_film_and_synthetic_image(tmp_path):
    label_maps = np.full((2, 16, 16), 3, np.uint8)
    label_maps[1] = 4
    reals, synthetics = np.full((2, 16, 16), 0.2), np.full((2, 16, 16), 1.5)
    path = comparison_sheet(label_maps, reals, synthetics, tmp_path / "new" / "sheet.png")
    for row, value in enumerate((3, 4)):
        assert pixel(path, row, 0) == tuple(PALETTE[value])
        assert pixel(path, row, 1) == (round(0.2 * 255),) * 3
        assert pixel(path, row, 2) == (255, 255, 255)


def test_sixteen_rows_stand_in_two_blocks(tmp_path):
    stack = np.zeros((16, 16, 16))
    path = comparison_sheet(stack.astype(np.uint8), stack, stack, tmp_path / "sheet.png", ("a", "b", "c"))
    with Image.open(path) as sheet:
        assert sheet.height == HEADING + 8 * (CELL + GAP)
        assert sheet.width > 6 * CELL


def test_headings_are_drawn(tmp_path):
    stack = np.zeros((1, 16, 16))
    paths = [
        comparison_sheet(stack.astype(np.uint8), stack, stack, tmp_path / f"{titles[0]}.png", titles)
        for titles in (("mask", "real", "synthetic"), ("x", "nearest real", "synthetic"))
    ]
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_it_says_that_it_shows_synthetic_films(tmp_path):
    stack = np.zeros((1, 16, 16))
    with Image.open(comparison_sheet(stack.astype(np.uint8), stack, stack, tmp_path / "sheet.png")) as sheet:
        assert sheet.info["Synthetic"] == "true"
        assert "of no patient, beside real ones" in sheet.info["Comment"]


@pytest.mark.parametrize("count", [0, 3])
def test_rows_that_do_not_match_are_refused(tmp_path, count):
    with pytest.raises(DataError, match="one shape"):
        comparison_sheet(
            np.zeros((count, 8, 8), np.uint8), np.zeros((0, 8, 8)), np.zeros((0, 8, 8)), tmp_path / "s.png"
        )
    assert not list(tmp_path.iterdir())
