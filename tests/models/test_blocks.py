import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import correlate

from mammogan_tf.models.blocks import Emphasis


def seen(film: np.ndarray, gain: float) -> np.ndarray:
    return np.asarray(Emphasis(gain)(film[None, :, :, None].astype(np.float32)))[0, :, :, 0]


@pytest.fixture
def film():
    return np.random.default_rng(0).uniform(-1, 1, (16, 16))


def test_without_gain_a_film_is_seen_as_it_is(film):
    np.testing.assert_array_equal(seen(film, 0.0), film.astype(np.float32))


def test_what_is_flat_stays_as_it_is():
    np.testing.assert_allclose(seen(np.full((16, 16), -0.7), 8.0), -0.7, rtol=1e-5)


def test_a_chequerboard_is_lifted_by_the_whole_gain():
    film = np.indices((16, 16)).sum(axis=0) % 2 * 2.0 - 1.0
    # Both blurs take it away wholly, but where the edge mirrors it: x + g x + g / 2 x.
    inside = np.s_[3:-3, 3:-3]
    np.testing.assert_allclose(seen(film, 8.0)[inside], film[inside] * (1 + 8 + 8 / 2), rtol=1e-5)


def test_it_is_the_formula_of_its_docstring(film):
    narrow, wide = np.array([1, 2, 1]) / 4, np.array([1, 6, 15, 20, 15, 6, 1]) / 64
    blurred = [correlate(film, np.outer(row, row), mode="reflect") for row in (narrow, wide)]
    expected = film + 3 * (film - blurred[0]) + 3 / 2 * (film - blurred[1])
    np.testing.assert_allclose(seen(film, 3.0), expected, rtol=1e-4, atol=1e-5)


def test_it_is_linear_so_that_films_interpolate_as_before(film):
    other = np.random.default_rng(1).uniform(-1, 1, film.shape)
    between = seen(film + 0.3 * (other - film), 8.0)
    expected = seen(film, 8.0) + 0.3 * (seen(other, 8.0) - seen(film, 8.0))
    np.testing.assert_allclose(between, expected, rtol=1e-4, atol=1e-4)


def test_it_survives_saving(tmp_path, film):
    inputs = keras.Input((16, 16, 1))
    network = keras.Model(inputs, Emphasis(5.0)(inputs))
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    batch = tf.constant(film[None, :, :, None], tf.float32)
    np.testing.assert_array_equal(network(batch), again(batch))
