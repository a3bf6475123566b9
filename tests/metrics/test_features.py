import numpy as np
import pytest
from skimage.filters import gaussian

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.distribution import frechet_distance, kid, standardise
from mammogan_tf.metrics.features import (
    co_occurrence,
    grey_percentiles,
    local_patterns,
    power_spectrum,
    spectrum_bands,
    texture_features,
)


def textures(seed: int, count: int = 24) -> np.ndarray:
    """Breast-like images: smoothed noise on a half ellipse."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1:1:32j, 0:1:32j]
    noise = np.array([gaussian(random.normal(size=(32, 32)), 1.5) for _ in range(count)])
    return np.clip(0.5 + noise, 0.05, 1) * (rows**2 + columns**2 < 0.9)


def test_shape_and_finite_for_an_empty_image():
    seen = []
    features = texture_features(np.stack([np.zeros((16, 16)), np.ones((16, 16))]), lambda *step: seen.append(step))
    assert features.shape == (2, 5 + 8 + 10 + 8)
    assert np.isfinite(features).all()
    assert seen == [(1, 2), (2, 2)]


def test_percentiles_leave_the_background_out():
    image = np.zeros((16, 16))
    image[:, 8:] = np.linspace(0.5, 1, 16)[:, None]
    assert grey_percentiles(image)[2] == pytest.approx((0.5 + 1) / 2)


def test_co_occurrence_of_a_checkerboard():
    image = np.indices((16, 16)).sum(axis=0) % 2 * 0.5 + 0.25  # levels 4 and 12
    contrast = co_occurrence(image)[:2]
    # distance 1: (12 - 4)^2 along rows and columns, 0 on the diagonals; distance 2: always the same level
    assert contrast == pytest.approx([((12 - 4) ** 2 * 2 + 0 * 2) / 4, 0])


def test_local_patterns_are_shares():
    histogram = local_patterns(textures(0)[0])
    assert histogram.shape == (10,)
    assert histogram.sum() == pytest.approx(1)


def test_power_spectrum_peaks_at_the_wave():
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * 6 * np.arange(32) / 32)[:, None] * np.ones(32)
    assert power_spectrum(wave).argmax() + 1 == 6
    assert power_spectrum(wave).shape == (16,)


def test_blur_takes_the_finest_band():
    image = np.random.default_rng(0).random((64, 64))
    assert (spectrum_bands(gaussian(image, 2)) - spectrum_bands(image))[-1] < -1


def test_distances_move_the_right_way():
    real, floor = textures(0), textures(1)
    blurred = np.array([gaussian(image, 1) for image in floor])
    noisy = np.clip(floor + np.random.default_rng(2).normal(0, 0.1, floor.shape), 0, 1)
    reference, *others = standardise(*map(texture_features, (real, floor, blurred, noisy)))
    for distance in (kid, frechet_distance):
        unchanged, *changed = (distance(reference, other) for other in others)
        assert all(unchanged < value for value in changed)


@pytest.mark.parametrize("shape", [(16, 16), (2, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="16 x 16"):
        texture_features(np.zeros(shape))
