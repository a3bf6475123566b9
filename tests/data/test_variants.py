import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from mammogan_tf.config import LESION
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.preparation import prepare
from mammogan_tf.data.variants import BEND, CROP, _draw_knots, make_variants
from mammogan_tf.metrics.features import power_spectrum
from tests.drawn_film import circle, draw

SIZE, COUNT = 64, 8


@pytest.fixture
def film(make_film):
    return make_film(grey=draw(512, 512), lesions=[circle(120, 256, 12)])


def test_the_film_comes_first_and_its_variants_differ(film):
    alone, varied = prepare(film, SIZE), prepare(film, SIZE, variants=COUNT)
    assert varied.images.shape == varied.raw.shape == varied.label_maps.shape == (1 + COUNT, SIZE, SIZE)
    assert len(varied.labels) == len(varied.corners) == 1 + COUNT
    for layer in ("images", "raw", "label_maps"):
        np.testing.assert_array_equal(getattr(varied, layer)[:1], getattr(alone, layer))
        np.testing.assert_array_equal(getattr(varied, layer), getattr(prepare(film, SIZE, variants=COUNT), layer))
    assert len({picture.tobytes() for picture in varied.images}) == 1 + COUNT


def test_films_of_equal_pixels_have_variants_of_their_own(film):
    here, there = (prepare(dataclasses.replace(film, id=id_), SIZE, variants=1).images for id_ in ("mdb002", "mdb004"))
    np.testing.assert_array_equal(here[0], there[0])
    assert (here[1] != there[1]).any()


def test_knots_are_bent_and_shifted_but_at_the_edge():
    """Without either, each row of knots would lie at one height, and the first one at 0."""
    knots = np.array([_draw_knots(np.random.default_rng(seed), np.zeros(2, bool)) for seed in range(200)])
    first, inner = knots[:, 0, :, 0], knots[:, 1:-1, 1:, 0]
    assert np.ptp(first, axis=1).max() == 0
    assert first.mean() == pytest.approx(CROP / 2, rel=0.2)
    assert inner.std(axis=2, ddof=1).mean() == pytest.approx(BEND, rel=0.1)


def test_film_and_label_map_move_together(film):
    for image, label_map in zip(
        *(getattr(prepare(film, SIZE, variants=COUNT), n) for n in ("images", "label_maps")), strict=True
    ):
        tissue, mask = image > 60, label_map > 0
        assert 2 * (tissue & mask).sum() / (tissue.sum() + mask.sum()) > 0.98
        assert (label_map == LESION).any()
        assert mask[SIZE // 2, 0], "the chest wall stays at the edge"


def test_a_film_label_is_on_the_films_and_not_on_the_images():
    image, label_map = np.zeros((2, 256, 256), np.uint8)
    image[:, :100], label_map[:, :100] = 120, 1
    film = image.copy()
    film[100:140, 160:200] = 250
    images, films, _ = make_variants(image, film, label_map, SIZE, COUNT, np.random.default_rng(0))
    assert (images.max(axis=(1, 2)) == 120).all()
    assert (films.max(axis=(1, 2)) == 250).all()


def test_classes_that_touch_are_not_blended():
    """Nor where a film has fewer pixels than its variants, whose pixels then come from no more than one of it."""
    label_map = np.ones((48, 48), np.uint8)
    label_map[:24, :20] = 3
    label_map[:, 34:] = 0
    *_, label_maps = make_variants(label_map, label_map, label_map, SIZE, COUNT, np.random.default_rng(0))
    assert np.unique(label_maps).tolist() == [0, 1, 3]


def test_tissue_that_the_film_cuts_off_goes_on_to_the_edge():
    grey, label_map = np.full((256, 256), 120, np.uint8), np.ones((256, 256), np.uint8)
    grey[:, 100:] = label_map[:, 100:] = 0
    images, films, label_maps = make_variants(grey, grey, label_map, SIZE, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(images, films)
    for picture in (images, label_maps):
        assert (picture[:, [0, -1], 0] > 0).all()
        assert (picture[:, :, 0] > 0).all()


def test_tissue_that_reaches_every_edge_fills_every_variant():
    grey = np.full((256, 256), 120, np.uint8)
    images, _, label_maps = make_variants(grey, grey, np.ones_like(grey), SIZE, 150, np.random.default_rng(0))
    assert (images > 0).all()
    assert (label_maps == 1).all()


def test_small_lesions_of_large_films_stay():
    grey, label_map = np.full((2048, 2048), 120, np.uint8), np.ones((2048, 2048), np.uint8)
    label_map[1001:1004, 901:904] = LESION
    *_, label_maps = make_variants(grey, grey, label_map, SIZE, 10, np.random.default_rng(0))
    assert (label_maps == LESION).any(axis=(1, 2)).all()


def test_variants_keep_the_finest_texture():
    random = np.random.default_rng(0)
    rough = ndimage.gaussian_filter(random.normal(size=(1024, 1024)), 4)
    grey = np.clip(128 + 40 * rough / rough.std(), 0, 255).astype(np.uint8)
    varied, *_ = make_variants(grey, grey, np.ones_like(grey), SIZE, 20, random)
    plain = grey.reshape(SIZE, 16, SIZE, 16).mean(axis=(1, 3))
    fine = [power_spectrum(picture / 255)[-8:].mean() for picture in (plain, *varied)]
    assert np.mean(fine[1:]) == pytest.approx(fine[0], rel=0.05)


def test_variants_are_scaled_down_and_across_each_for_itself():
    label_map = np.zeros((256, 256), np.uint8)
    label_map[64:192, 64:192] = 1
    *_, label_maps = make_variants(label_map, label_map, label_map, SIZE, 60, np.random.default_rng(0))
    # The deviation of a side that is evenly filled is 1 / sqrt(12) of its length, here of 128 pixels of 256.
    sides = [np.std(np.nonzero(varied), axis=1) * 12**0.5 / (SIZE / 2) for varied in label_maps]
    down, across = np.transpose(sides)
    assert abs(np.corrcoef(down, across)[0, 1]) < 0.4


def test_a_film_set_holds_variants_under_names_of_their_own(film, make_film):
    films = load_films([film, make_film("mdb003")], SIZE, variants=2)
    assert films.ids == (film.id,) * 3 + ("mdb003",) * 3
    assert films.names == tuple(f"{id_}-{number}" for id_ in (film.id, "mdb003") for number in (1, 2, 3))
