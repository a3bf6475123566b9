import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.lesions import control_contrast, lesion_contrast


def breast(*lesions: tuple[int, int]) -> np.ndarray:
    """A label map [24, 24], breast in the columns 0-19, with lesions of 3 x 3 pixels centred there."""
    label_map = np.zeros((24, 24), np.uint8)
    label_map[:, :20] = 1
    for row, column in lesions:
        label_map[row - 1 : row + 2, column - 1 : column + 2] = 4
    return label_map


def test_by_hand():
    label_map = breast((10, 10))
    image = np.where(label_map == 4, 0.8, 0.2)
    # 9 of 24 * 20 pixels 0.6 brighter than the others
    share = 9 / (24 * 20)
    assert lesion_contrast(image, label_map) == pytest.approx([0.6 / (0.6 * np.sqrt(share * (1 - share)))])


def test_the_ring_has_as_many_pixels_as_the_lesion_and_all_as_near_as_its_last():
    label_map = breast()
    label_map[8:13, 8:13] = 4
    image = np.full((24, 24), 0.2)
    image[7:14, 8:13] = image[8:13, 7:14] = 0.6
    image[8:13, 8:13] = 0.8
    # Of the 25 nearest pixels 20 lie at a distance of 1, 4 on the diagonals, and the last at 2, as 19 others do.
    ring = (20 * 0.6 + (4 + 20) * 0.2) / (20 + 4 + 20)
    assert lesion_contrast(image, label_map) == pytest.approx([(0.8 - ring) / image[label_map > 0].std()])


def test_background_and_other_lesions_are_not_the_ring():
    label_map = breast((10, 18), (13, 18))
    image = np.where(label_map == 4, 0.5, 0.25)
    image[label_map == 0] = 1
    contrast = lesion_contrast(image, label_map)
    assert len(contrast) == 1  # the two touch
    assert contrast[0] == pytest.approx(0.25 / image[label_map > 0].std())


def test_one_value_a_lesion_with_its_sign():
    label_map = breast((4, 4), (18, 14))
    image = np.full((24, 24), 0.5)
    image[3:6, 3:6], image[17:20, 13:16] = 0.9, 0.1
    bright, dark = lesion_contrast(image, label_map)
    assert bright > 3 > -3 > dark
    assert lesion_contrast(image, breast()).shape == (0,)


def test_nothing_to_compare_with():
    assert np.isnan(lesion_contrast(np.full((24, 24), 0.3), breast((10, 10)))).all()
    only = np.where(breast((10, 10)) == 4, 4, 0)
    assert np.isnan(lesion_contrast(np.random.default_rng(0).random((24, 24)), only)).all()


def test_the_control_avoids_lesions_and_background():
    label_map = breast((10, 10))
    image = np.where(label_map == 4, 0.9, 0.5)
    image[label_map == 0] = 0
    controls = np.concatenate([control_contrast(image, label_map, label_map, seed) for seed in range(30)])
    assert controls == pytest.approx(np.zeros(30))


def test_the_control_lends_shapes_to_a_clear_image():
    image = np.random.default_rng(0).random((24, 24))
    lent = control_contrast(image, breast(), breast((4, 4), (18, 14)), seed=1)
    assert lent.shape == (2,)
    assert lent.tolist() == control_contrast(image, breast(), breast((4, 4), (18, 14)), seed=1).tolist()
    assert lent.tolist() != control_contrast(image, breast(), breast((4, 4), (18, 14)), seed=2).tolist()


def test_places_in_different_films_are_unrelated():
    image = np.broadcast_to(np.arange(24.0)[:, None] ** 3, (24, 24))  # The lower a place, the less it stands out.
    highest, lowest = (lesion_contrast(image, breast((row, 10)))[0] for row in (2, 21))
    found = []
    for width in range(10, 24):
        film = np.zeros((24, 24), np.uint8)
        film[:, :width] = 1
        found += control_contrast(image, film, breast((10, 10))).tolist()
    assert np.ptp(found) > 0.5 * (highest - lowest)


def test_a_shape_that_fits_nowhere():
    large = np.full((24, 24), 4)
    assert np.isnan(control_contrast(np.random.default_rng(0).random((24, 24)), breast(), large)).all()


@pytest.mark.parametrize("edge", [2, 3])
def test_a_shape_that_fits_in_one_place_lands_there(edge):
    free = np.zeros((24, 24), np.uint8)
    free[5 : 5 + edge, 7 : 7 + edge] = 1
    free[20, :20] = 1
    shape = np.zeros((24, 24), np.uint8)
    shape[:edge, :edge] = 4
    image = np.where(free == 1, 0.5, 0.0)
    image[5 : 5 + edge, 7 : 7 + edge] = 1
    assert control_contrast(image, free, shape)[0] > 0


def test_other_sizes_are_refused():
    for measure in (lesion_contrast, lambda image, label_map: control_contrast(image, label_map, label_map)):
        with pytest.raises(DataError, match="received"):
            measure(np.zeros((8, 8)), breast())
