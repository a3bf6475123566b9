import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.label_maps import read_label_map, save_label_map
from mammogan_tf.data.masks import write_masks
from mammogan_tf.errors import DataError
from tests.drawn_film import circle, draw

SIZE = 64


def test_no_picture_is_one_line(make_film, tmp_path):
    films = load_films([make_film("mdb002")], SIZE).select([])
    with pytest.raises(DataError, match="masks: expected one picture or more, received: none"):
        write_masks(films, tmp_path / "out")


@pytest.mark.parametrize("view", ["whole", "roi"])
def test_write_masks(make_film, tmp_path, view):
    lesions = [circle(40, 100, 15), circle(60, 150, 15)]
    films = load_films(
        [make_film("mdb002"), make_film("mdb004", draw(padding=8), lesions=lesions)], SIZE, view
    ).cropped()
    assert films.names == (("mdb002", "mdb004") if view == "whole" else ("mdb002", "mdb004-1", "mdb004-2"))
    sheet = write_masks(films, tmp_path / "out")
    assert sheet == tmp_path / "out" / "contact_sheet.png"
    with Image.open(sheet) as image:  # Two beside each other; of three, the last one below.
        assert image.size == (2 * 128, 128 * (len(films) - 1))
        cells = np.asarray(image.convert("L")).reshape(-1, 128, 2, 128).any(axis=(1, 3))
    assert cells.ravel()[: len(films)].all()
    for name, label_map in zip(films.names, films.label_maps, strict=True):
        np.testing.assert_array_equal(read_label_map(tmp_path / "out" / "masks" / f"{name}.png"), label_map)
        with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as image:
            assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))


def test_the_end_of_a_long_name_stays_on_its_own_picture(make_film, tmp_path):
    films = load_films([make_film("mdb002"), make_film("mdb004")], SIZE)
    sheets = []
    for name in ("mdb004", "of-a-data-set-with-a-long-name-mdb004"):
        named = dataclasses.replace(films, names=("mdb002", name))
        with Image.open(write_masks(named, tmp_path / name)) as image:
            sheets.append(np.asarray(image))
    np.testing.assert_array_equal(sheets[0][:, :128], sheets[1][:, :128])
    np.testing.assert_array_equal(sheets[0][:, -40:], sheets[1][:, -40:])
    assert (sheets[0] != sheets[1]).any()


def test_names_with_accents_are_readable_on_the_sheet(make_film, tmp_path):
    """Its font has no such letters: they are drawn without their marks, or as a question mark."""
    sheets = [
        np.asarray(Image.open(write_masks(load_films([make_film(name)], SIZE), tmp_path / name)))
        for name in ("Müßigø", "Mussig?", "Mossig?")
    ]
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert (sheets[1] != sheets[2]).any()


def test_a_mask_of_the_same_name_that_somebody_drew_is_kept(make_film, tmp_path):
    films, drawn = load_films([make_film("mdb002")], SIZE), tmp_path / "masks" / "mdb002.png"
    save_label_map(drawn, np.ones((8, 8), np.uint8))
    before = drawn.read_bytes()
    with pytest.raises(
        DataError, match=r"mdb002\.png: expected a mask that data masks wrote, received: another; choose"
    ):
        write_masks(films, tmp_path)
    assert drawn.read_bytes() == before


@pytest.mark.parametrize("place", ["masks", "overlays"])
def test_pictures_of_other_films_are_refused(make_film, tmp_path, place):
    films, out = load_films([make_film("mdb002"), make_film("mdb004")], SIZE), tmp_path / "out"
    for _ in range(2):  # Those of the same films are written again.
        write_masks(films, out)
    (out / place / "mdb006.png").write_bytes(b"of the user")
    (out / "masks" / "mdb002.png").unlink()
    says = f"{out / place}: expected pictures of these films only, received: mdb006.png; remove them or choose another"
    with pytest.raises(DataError, match=re.escape(says)):
        write_masks(films, out)
    assert (out / place / "mdb006.png").read_bytes() == b"of the user"
    assert not (out / "masks" / "mdb002.png").exists(), "it is refused before anything is written"
