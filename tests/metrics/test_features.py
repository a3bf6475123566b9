import numpy as np
import pytest
from skimage.filters import gaussian

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.distribution import frechet_distance, kid, standardise
from mammogan_tf.metrics.features import (
    co_occurrence,
    grey_percentiles,
    local_patterns,
    mean_spectrum,
    power_spectrum,
    radiomics_features,
    spectrum_bands,
    spectrum_ratio,
    wavelet_energies,
)


def textures(seed: int, count: int = 24) -> np.ndarray:
    """Breast-like images: smoothed noise on a half ellipse."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1:1:32j, 0:1:32j]
    noise = np.array([gaussian(random.normal(size=(32, 32)), 1.5) for _ in range(count)])
    return np.clip(0.5 + noise, 0.05, 1) * (rows**2 + columns**2 < 0.9)


def test_shape_and_finite_for_an_empty_image():
    seen = []
    features = radiomics_features(np.stack([np.zeros((16, 16)), np.ones((16, 16))]), lambda *step: seen.append(step))
    assert features.shape == (2, 5 + 8 + 10 + 8 + 9)
    assert np.isfinite(features).all()
    assert seen == [(1, 2), (2, 2)]


def test_bytes_are_refused():
    with pytest.raises(DataError, match=r"films: expected values in \[0, 1\], received: 0 to 255; divide bytes by 255"):
        radiomics_features(np.full((1, 16, 16), 255, np.uint8) * np.eye(16, dtype=np.uint8))


def test_percentiles_leave_the_background_out():
    image = np.zeros((16, 16))
    image[:, 8:] = np.linspace(0.5, 1, 16 * 8).reshape(16, 8)
    assert grey_percentiles(image) == pytest.approx(0.5 + (1 - 0.5) * np.array([0.1, 0.25, 0.5, 0.75, 0.9]))


def test_co_occurrence_of_a_checkerboard():
    image = np.indices((16, 16)).sum(axis=0) % 2 * 0.5 + 0.25  # levels 4 and 12
    contrast = co_occurrence(image)[:2]
    # distance 1: (12 - 4)^2 along rows and columns, 0 on the diagonals; distance 2: always the same level
    assert contrast == pytest.approx([((12 - 4) ** 2 * 2 + 0 * 2) / 4, 0])


def test_co_occurrence_leaves_every_pair_with_background_out():
    image = np.zeros((16, 16))
    image[4:12, 4:12] = 0.5  # one level only, in black
    # contrast, homogeneity, second moment, correlation (1 where nothing varies), at both distances
    assert co_occurrence(image).tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert co_occurrence(np.zeros((16, 16))).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_local_patterns_are_shares():
    histogram = local_patterns(textures(0)[0])
    assert histogram.shape == (10,)
    assert histogram.sum() == pytest.approx(1)
    assert local_patterns(np.pad(textures(0)[0], 8)) == pytest.approx(histogram)  # Black counts nowhere.


def test_power_spectrum_peaks_at_the_wave():
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * 6 * np.arange(32) / 32)[:, None] * np.ones(32)
    assert power_spectrum(wave).argmax() + 1 == 6
    assert power_spectrum(wave).shape == (16,)


@pytest.mark.parametrize("axis", [0, 1])
def test_power_of_a_wave_that_the_edge_cuts_stays_near_it(axis):
    wave = np.sin(2 * np.pi * 6.5 * np.indices((32, 32))[axis] / 32)
    power = power_spectrum(wave)
    assert power.argmax() + 1 in (6, 7)
    assert power[11:].max() < 5e-4 * power.max()


def test_spectrum_ratio():
    images = np.random.default_rng(0).random((3, 32, 32))
    assert mean_spectrum(images)[4] == pytest.approx(sum(power_spectrum(image)[4] for image in images) / 3)
    assert spectrum_ratio(images, 0.5 + (images - 0.5) / 2) == pytest.approx(np.full(16, 1 / 2**2))
    blurred = np.array([gaussian(image, 1) for image in images])
    assert spectrum_ratio(images, blurred)[-1] < 0.01 < 0.5 < spectrum_ratio(images, blurred)[0]
    assert np.isnan(spectrum_ratio(np.zeros((1, 32, 32)), images)).all()


def test_wavelet_energies_by_hand():
    # stripes one pixel wide, 0 and 1: the finest difference along rows is (0 + 0 - 1 - 1) / 2 everywhere
    stripes = np.tile([0.0, 1.0], (16, 8))
    energies = 10 ** wavelet_energies(stripes)
    assert energies == pytest.approx([((0 + 0 - 1 - 1) / 2) ** 2, *[0] * 8], abs=1e-9)
    assert 10 ** wavelet_energies(stripes.T) == pytest.approx([0, 1, *[0] * 7], abs=1e-9)
    checks = np.indices((16, 16)).sum(axis=0) % 2
    assert 10 ** wavelet_energies(checks) == pytest.approx([0, 0, 1, *[0] * 6], abs=1e-9)


def test_wavelet_energies_add_up():
    """Parseval: the squares of all coefficients of a Haar transform add up to those of the image."""
    image = np.random.default_rng(0).random((32, 32))
    counts = np.repeat([16 * 16, 8 * 8, 4 * 4], 3)
    coarsest = image.reshape(4, 8, 4, 8).sum(axis=(1, 3)) / 8
    assert counts @ 10 ** wavelet_energies(image) + (coarsest**2).sum() == pytest.approx((image**2).sum())


def test_blur_takes_the_finest_band():
    image = np.random.default_rng(0).random((64, 64))
    assert (spectrum_bands(gaussian(image, 2)) - spectrum_bands(image))[-1] < -1


def test_distances_move_the_right_way():
    real, floor = textures(0), textures(1)
    blurred = np.array([gaussian(image, 1) for image in floor])
    noisy = np.clip(floor + np.random.default_rng(2).normal(0, 0.1, floor.shape), 0, 1)
    reference, *others = standardise(*map(radiomics_features, (real, floor, blurred, noisy)))
    for distance in (kid, frechet_distance):
        unchanged, *changed = (distance(reference, other) for other in others)
        assert all(unchanged < value for value in changed)


@pytest.mark.parametrize("shape", [(16, 16), (2, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="16 x 16"):
        radiomics_features(np.zeros(shape))
