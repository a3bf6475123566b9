import numpy as np
import pytest

from mammogan_tf.models.unet import build_unet
from mammogan_tf.training.prediction import lesion_probabilities, predict_label_maps, shift_averaged


class FixedNetwork:
    """Finds with certainty what its film's grey level 0-4 says, and the pectoral muscle as second best."""

    input_shape = (None, 4, 4, 1)

    def __call__(self, images, training):
        levels = np.rint(images[..., 0] * 255).astype(int)
        return np.eye(5)[levels] + 0.1 * np.eye(5)[3]


def test_label_maps_with_and_without_lesions():
    films = np.random.default_rng(0).integers(0, 5, (5, 4, 4)).astype(np.uint8)
    np.testing.assert_array_equal(predict_label_maps(FixedNetwork(), films, batch_size=2), films)
    anatomy = predict_label_maps(FixedNetwork(), films, lesions=False, batch_size=2)
    np.testing.assert_array_equal(anatomy, np.where(films == 4, 3, films))
    assert predict_label_maps(FixedNetwork(), films[:0]).shape == (0, 4, 4)
    np.testing.assert_array_equal(lesion_probabilities(FixedNetwork(), films), films == 4)


def test_shifted_films_are_moved_back():
    films = np.random.default_rng(0).integers(0, 5, (3, 4, 4)).astype(np.uint8)
    films[:, :, 2:] = films[:, 2:] = 1  # The four pixels that are left see themselves and their edges alone.
    found = predict_label_maps(FixedNetwork(), films, tta=True)
    np.testing.assert_array_equal(found[:, 2:, 2:], films[:, 2:, 2:])


def test_shifted_films_are_averaged():
    films = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
    rows, columns = np.arange(8)[:, None, None], np.arange(8)[:, None]
    weights = rows**2 + 10 * columns**2
    found = shift_averaged(lambda moved: moved * weights, films)
    # The mean of n**2, (n - 2)**2 and (n + 2)**2 is that much above n**2. In the middle a pixel sees no edge.
    mean_weights = weights + (2 * 2**2 + 10 * 2 * 2**2) / 5
    assert found[:, 2:6, 2:6] == pytest.approx((films * mean_weights)[:, 2:6, 2:6], rel=1e-5)


def test_a_network_works_on_larger_films_too():
    network = build_unet(32, widths=(4, 8))
    films = np.random.default_rng(0).integers(0, 256, (2, 48, 48)).astype(np.uint8)
    found, in_the_middle = predict_label_maps(network, films), predict_label_maps(network, films[:, 8:40, 8:40])
    assert found.shape == films.shape
    # Far from the edges of either picture a pixel sees the same surroundings.
    np.testing.assert_array_equal(found[:, 20:28, 20:28], in_the_middle[:, 12:20, 12:20])
