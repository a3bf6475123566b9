import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.config import CLASSES, LESION
from mammogan_tf.data.film import AUTOMATIC, DrawnMask, Film, read_grey
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.label_maps import overlay, save_label_map
from mammogan_tf.data.preparation import outline_film
from mammogan_tf.evaluation.drawn import (
    DRAWN_REGIONS,
    _is_scored,
    compare_with_drawn,
    differences,
    format_comparison,
    summarise,
    worst,
)
from mammogan_tf.pictures import tile
from tests.drawn_film import draw

SIZE = 32
EVERY_CLASS = tuple((number, number) for number in range(len(CLASSES)))


@pytest.fixture
def films(tmp_path):
    """Three films; the masks drawn on them are the automatic ones, but on film2 all is adipose tissue."""
    films = []
    for number in range(3):
        path = tmp_path / f"film{number}.png"
        Image.fromarray(draw(SIZE * 4, SIZE * 4, padding=number)).save(path)
        films.append(Film(f"film{number}", path, f"patient{number}", 2, side="left"))
    found = load_films(films, SIZE * 4).label_maps
    found[2][found[2] > 0] = 1
    for film, label_map in zip(films, found, strict=True):
        turned = np.zeros_like(label_map)
        offset = int(film.id[-1])  # The padding at the chest wall, which the square has lost.
        turned[:, offset:] = label_map[:, : label_map.shape[1] - offset]
        save_label_map(tmp_path / f"{film.id}-mask.png", turned)
    return [dataclasses.replace(film, drawn=DrawnMask(tmp_path / f"{film.id}-mask.png", EVERY_CLASS)) for film in films]


def test_dice_with_drawn_masks(films, tmp_path):
    table = compare_with_drawn(films, SIZE * 4, tmp_path / "out")
    breast = table[table.region == "breast with pectoral"].set_index("film")["dice"]
    assert (breast > 0.98).all()
    assert "lesion" not in set(table.region)  # The automatic anatomy knows none.
    assert (tmp_path / "out" / "drawn.csv").read_text().startswith("film,patient,method,region,dice\n")
    assert {path.stem for path in (tmp_path / "out" / "worst").iterdir()} == {"film0", "film1", "film2"}
    summary = summarise(table).loc[("automatic", "breast with pectoral")]
    assert (summary["films"], summary["mean"]) == (3, pytest.approx(breast.mean()))


def test_pictures_of_films_that_are_the_worst_no_longer_go(films, tmp_path, monkeypatch):
    other = tmp_path / "worst" / "of mine.png"
    save_label_map(other, np.zeros((4, 4), np.uint8))
    for count in (5, 1):
        monkeypatch.setattr("mammogan_tf.evaluation.drawn.WORST", count)
        table = compare_with_drawn(films, SIZE * 4, tmp_path)
    named = {film for names in worst(table).values() for film in names}
    assert len(named) < len(films)
    assert {path.stem for path in (tmp_path / "worst").iterdir()} == {*named, "of mine"}


def test_the_summary_names_the_worst_films_first():
    rows = [(f"film{n}", f"patient{n}", "automatic", "breast", value) for n, value in enumerate((0.9, 0.5, 0.7))]
    table = pd.DataFrame(rows, columns=["film", "patient", "method", "region", "dice"])
    row = summarise(table).loc[("automatic", "breast")]
    assert (row["films"], row["mean"], row["median"]) == (3, pytest.approx((0.9 + 0.5 + 0.7) / 3), 0.7)
    assert row["p10"] == pytest.approx(0.5 + 0.2 * (0.7 - 0.5))
    assert row["worst"] == "film1, film2, film0"
    assert "0.700   0.700  0.540      3   film1, film2, film0" in format_comparison(table)


def test_a_segmenter_is_compared_with_the_automatic_anatomy(films, tmp_path):
    def blind(images):
        return np.zeros(images.shape, np.uint8)

    table = compare_with_drawn(films, SIZE * 4, tmp_path / "out", {"unet": blind})
    difference = differences(table, "unet")["breast with pectoral"]
    assert difference["value"] == pytest.approx(
        0 - table[(table.method == "automatic") & (table.region == "breast with pectoral")].dice.mean()
    )
    assert difference["high"] < 0
    assert "unet - automatic, breast with pectoral" in format_comparison(table)
    assert "automatic is better" in format_comparison(table)


def test_films_of_one_patient_are_drawn_together():
    """Three patients: in one of 27 samples one is drawn alone, with both of her films, which gives the ends."""
    gains = {"a": (0.1, 0.3), "b": (0.3, 0.5), "c": (0.5, 0.7)}
    rows = [
        (f"{patient}{number}", patient, method, "breast", 0.2 + gain * (method == "unet"))
        for patient, both in gains.items()
        for number, gain in enumerate(both)
        for method in ("automatic", "unet")
    ]
    table = pd.DataFrame(rows, columns=["film", "patient", "method", "region", "dice"])
    found = differences(table, "unet")["breast"]
    assert (found["n"], found["patients"]) == (3 * 2, 3)
    assert found["value"] == pytest.approx((0.2 + 0.4 + 0.6) / 3)
    assert (found["low"], found["high"]) == (pytest.approx(0.2), pytest.approx(0.6))


@pytest.mark.parametrize(
    ("gains", "better"),
    [
        ((0.1, 0.2, 0.1), "unet"),
        ((0.2, 0.2, -0.1), "neither"),
        ((0.1, -0.2, -0.2), "neither"),
        ((-0.1,) * 3, "automatic"),
    ],
)
def test_a_method_is_better_where_the_interval_says_so(gains, better):
    rows = [
        (f"film{n}", f"patient{n}", method, "breast", 0.5 + more)
        for n, gain in enumerate(gains)
        for method, more in (("automatic", 0), ("unet", gain))
    ]
    table = pd.DataFrame(rows, columns=["film", "patient", "method", "region", "dice"])
    assert format_comparison(table).endswith(f": {better} is better")


def test_a_segmenter_gets_films_as_they_are_and_each_is_shown_with_its_own_masks(films, tmp_path):
    given = []

    def unet(images):
        given.append(images)
        return np.repeat(np.arange(1, 4, dtype=np.uint8), images[0].size).reshape(images.shape)  # Another on each film.

    drawn = load_films(films, SIZE * 4)
    plain = load_films([dataclasses.replace(film, drawn=None) for film in films], SIZE * 4)
    compare_with_drawn(films, SIZE * 4, tmp_path / "out", {"unet": unet})
    assert (drawn.raw != drawn.images * 255).any()  # The film's label is no tissue.
    np.testing.assert_array_equal(given[0], plain.raw.astype(np.float32) / 255)
    for number, film in enumerate(plain.raw):
        masks = drawn.label_maps[number], plain.label_maps[number], np.full(film.shape, number + 1, np.uint8)
        with Image.open(tmp_path / "out" / "worst" / f"film{number}.png") as picture:
            np.testing.assert_array_equal(picture, tile([[film, *(overlay(film, mask) for mask in masks)]]))


def test_what_a_data_set_does_not_draw_is_not_scored(films, tmp_path):
    """An outline alone: muscle and dense tissue count as breast in it, and are in no drawing."""
    outlines = []
    for film in films:
        assert film.drawn
        path = tmp_path / f"{film.id}-outline.png"
        with Image.open(film.drawn.path) as mask:
            Image.fromarray(np.where(np.asarray(mask) > 0, 255, 0).astype(np.uint8)).save(path)
        outlines.append(dataclasses.replace(film, drawn=DrawnMask(path, ((0, 0), (255, 1)))))
    table = compare_with_drawn(outlines, SIZE * 4, tmp_path / "out")
    assert set(table.region) == {"breast with pectoral"}


def test_a_region_counts_where_it_is_drawn_for_every_method_alike(films, tmp_path):
    """A muscle is drawn on film0 and film1: one that a method invents on film2 costs it Dice of the breast there."""
    for film in films[:2]:
        with Image.open(film.drawn.path) as mask:
            label_map = np.array(mask)
        label_map[:16, :16] = 3
        save_label_map(film.drawn.path, label_map)
    drawn = load_films(films, SIZE * 4).label_maps

    def invents(images):
        found = drawn.copy()
        found[2, SIZE * 2 :, :8] = 3
        return found

    table = compare_with_drawn(films, SIZE * 4, tmp_path / "out", {"right": lambda images: drawn, "unet": invents})
    scored = table.groupby(["method", "region"])["film"].agg(set)
    for method in ("automatic", "right", "unet"):
        assert scored[method, "pectoral"] == {"film0", "film1"}
        assert scored[method, "breast"] == scored[method, "breast with pectoral"] == {"film0", "film1", "film2"}
    assert (table[table.method == "right"].dice == 1).all()
    breast = table[(table.method == "unet") & (table.region == "breast")].set_index("film")["dice"]
    assert breast["film2"] < breast["film1"] == 1


def test_tissue_drawn_beyond_the_automatic_outline_costs_what_is_missed_alone(tmp_path):
    """The breast is drawn as far as the film's edge, beyond the padding that its own square has lost."""
    padding, size = 12, SIZE * 4
    Image.fromarray(draw(size, size, padding=padding)).save(tmp_path / "film.png")
    film = Film("film", tmp_path / "film.png", "patient", 2, side="left")
    automatic, own, _ = outline_film(read_grey(film.path), film.side)
    assert own.left == padding
    reaching = np.concatenate(
        [np.repeat(automatic[:, padding : padding + 1], padding, axis=1), automatic[:, padding:]], axis=1
    )
    save_label_map(tmp_path / "mask.png", reaching)
    films = [dataclasses.replace(film, drawn=DrawnMask(tmp_path / "mask.png", EVERY_CLASS))]
    truth = load_films(films, size)
    table = compare_with_drawn(films, size, tmp_path / "out", {"all": lambda images: truth.label_maps})
    breast, strip = (truth.label_maps > 0).sum(), (truth.label_maps[:, :, :padding] > 0).sum()
    found = table[table.region == "breast with pectoral"].set_index("method")["dice"]
    assert strip > 0
    for method in ("automatic", "all"):  # It would not have been shown the strip.
        assert found[method] == pytest.approx(2 * (breast - strip) / (2 * breast - strip), abs=0.01)
    with Image.open(tmp_path / "out" / "worst" / "film.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture)[:size, :size, 0], truth.raw[0])


@pytest.mark.parametrize(
    ("classes", "regions"),
    [
        ([0, 4], ["lesion"]),
        ([0, 3], ["pectoral"]),
        ([0, 1], ["breast with pectoral"]),
        ([0, 2], ["breast with pectoral", "dense"]),
        ([0, 1, 2, 3], ["breast with pectoral", "breast", "pectoral", "dense"]),
        ([0, 4, AUTOMATIC], ["lesion"]),
    ],
    ids=str,
)
def test_which_regions_somebody_has_drawn(films, classes, regions):
    drawn = DrawnMask(films[0].drawn.path, tuple((number, number) for number in classes))
    film = dataclasses.replace(films[0], drawn=drawn)
    assert {region for region in DRAWN_REGIONS if _is_scored(film, "unet", region)} == set(regions)


def test_where_lesions_alone_are_drawn_they_alone_are_scored(films, tmp_path):
    """The lesion is drawn on half of what the segmenter takes for one: Dice 2 * 1 / (1 + 2)."""
    mask = np.zeros((SIZE * 4, SIZE * 4), np.uint8)
    mask[:, : SIZE * 2] = 200
    Image.fromarray(mask).save(tmp_path / "lesion.png")
    drawn = DrawnMask(tmp_path / "lesion.png", ((0, AUTOMATIC), (200, LESION)))
    lesions = [dataclasses.replace(films[0], drawn=drawn, patient=f"patient{number}") for number in range(3)]

    def everything(images):
        return np.full(images.shape, LESION, np.uint8)

    table = compare_with_drawn(lesions, SIZE * 4, tmp_path / "out", {"unet": everything})
    assert set(zip(table.method, table.region, strict=True)) == {("unet", "lesion")}
    np.testing.assert_allclose(table.dice, 2 * 1 / (1 + 2))
    assert differences(table, "unet") == {}
    assert "no drawn mask outlines a region" in format_comparison(
        compare_with_drawn(lesions, SIZE * 4, tmp_path / "out")
    )
