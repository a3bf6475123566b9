import dataclasses

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.label_maps import PALETTE
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation import writing
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


@pytest.mark.parametrize(
    ("tied", "masked", "titles"),
    [
        (True, True, ("mask", "its real film", "synthetic")),
        (False, True, ("mask", "some real film", "synthetic")),
        (False, False, ("mask of the film", "some real film", "synthetic")),
    ],
    ids=["tied", "of masks of their own", "without masks"],
)
def test_a_report_shows_images_drawn_by_the_seed_with_their_masks(
    evidence, tmp_path, monkeypatch, tied, masked, titles
):
    drawn = []

    def note(masks, films, images, path, titles):
        drawn.append((masks, films, images, titles))
        return comparison_sheet(masks[:1], films[:1], images[:1], path, titles)

    monkeypatch.setattr(writing, "comparison_sheet", note)
    synthetic, real = evidence.synthetic, evidence.real
    masks = synthetic.masks.copy()
    masks[:, -1, -1] = np.arange(len(masks)) % 2 if masked and not tied else 0
    changed = dataclasses.replace(synthetic, masks=masks if masked else None, films=synthetic.films if tied else None)
    for seed in range(2):
        writing._sheet(dataclasses.replace(evidence, synthetic=changed, seed=seed), tmp_path)
    rows = [[find(synthetic.images, image) for image in images] for _, _, images, _ in drawn]
    assert [len(set(each)) for each in rows] == [16, 16]
    assert set(rows[0]) != set(rows[1])
    for chosen, (shown, films, _, words) in zip(rows, drawn, strict=True):
        assert words == titles
        of_films = [find(real.images, film) for film in films]
        if tied:
            assert of_films == synthetic.films[chosen].tolist()
        expected = masks[chosen] if masked else real.masks[of_films]
        assert (shown == expected).all()


def find(images, image) -> int:
    (index,) = np.flatnonzero((images == image).all(axis=(1, 2)))
    return int(index)


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
