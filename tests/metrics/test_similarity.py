import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.similarity import SCALE_WEIGHTS, ms_ssim, pairwise_ssim, sample_pairs, scales, ssim


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((4, 16, 16))


def test_equals_scikit_image(images):
    expected = structural_similarity(
        images[0], images[1], data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(images[0], images[1]) == pytest.approx(expected)
    assert ssim(images[:2], images[1:3])[0] == pytest.approx(expected)


def test_constant_images_by_hand():
    # no variance: SSIM = (2 a b + c1) / (a^2 + b^2 + c1), c1 = (0.01 * 1)^2
    a, b, c1 = 0.25, 0.5, 0.01**2
    assert ssim(np.full((16, 16), a), np.full((16, 16), b)) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_falls_with_noise(images):
    noise = np.random.default_rng(1).normal(size=images.shape)
    values = [ssim(images, np.clip(images + sigma * noise, 0, 1)).mean() for sigma in (0, 0.1, 0.5)]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]


def test_scales_that_fit_the_window():
    # the coarsest side is size / 2^(scales - 1), 11 at least
    assert [scales(size, size) for size in (11, 16, 22, 64, 128, 175, 176, 512)] == [1, 1, 2, 3, 4, 4, 5, 5]
    assert scales(64, 512) == 3


def test_ms_ssim_of_one_scale_is_ssim(images):
    second = 0.8 * images + 0.1
    assert ms_ssim(images, second) == pytest.approx(ssim(images, second) ** sum(SCALE_WEIGHTS))


def test_ms_ssim_of_a_long_stack_is_that_of_each_pair():
    first, second = np.random.default_rng(0).random((2, 130, 1, 11, 11))
    values = ms_ssim(first, second)
    assert values.shape == (130, 1)
    assert values[[0, 64, 129]] == pytest.approx(np.array([ms_ssim(first[row], second[row]) for row in (0, 64, 129)]))


def test_ms_ssim_of_constant_images_by_hand():
    # no contrast: only the luminance of the coarsest of three scales is below 1
    a, b, c1 = 0.25, 0.5, 0.01**2
    weight = SCALE_WEIGHTS[2] * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:3])
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ms_ssim(np.full((44, 45), a), np.full((44, 45), b)) == pytest.approx(luminance**weight)


def test_ms_ssim_halves_by_means():
    # Fine checks become grey, so that only the first of two scales is below 1: structure c2 / (0.5^2 + c2).
    checks, c2 = np.indices((22, 22)).sum(axis=0) % 2, 0.03**2
    weight = SCALE_WEIGHTS[0] * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:2])
    assert ms_ssim(checks, np.full((22, 22), 0.5)) == pytest.approx((c2 / (0.5**2 + c2)) ** weight, rel=1e-3)


def test_ms_ssim_forgives_noise_that_halving_removes():
    coarse = np.kron(np.random.default_rng(0).random((8, 8)), np.ones((8, 8)))
    noisy = np.clip(coarse + np.random.default_rng(1).normal(0, 0.1, coarse.shape), 0, 1)
    assert ssim(coarse, noisy) < ms_ssim(coarse, noisy) < ms_ssim(coarse, coarse) == pytest.approx(1)


@pytest.mark.parametrize("function", [ssim, ms_ssim])
@pytest.mark.parametrize(
    "change", [lambda films: films * 255, lambda films: films * 2 - 1, lambda films: films * np.nan]
)
def test_values_that_are_no_grey_levels_are_refused(function, change, images):
    for pair in ((images, change(images)), (change(images), images)):
        with pytest.raises(DataError, match=r"films: expected values in \[0, 1\]"):
            function(*pair)


def test_ms_ssim_of_the_negative_is_0(images):
    assert ms_ssim(images, 1 - images).tolist() == [0, 0, 0, 0]


def test_pairwise_is_one_for_a_repeated_image(images):
    pairs = np.array([[0, 1], [2, 3]])
    assert pairwise_ssim(np.repeat(images[:1], 4, axis=0), pairs) == pytest.approx([1, 1])
    assert (pairwise_ssim(images, pairs) < 0.5).all()


def test_sample_pairs():
    allowed = np.ones((5, 5), bool)
    every = sample_pairs(allowed, 100)
    assert len(every) == 5 * 4 / 2
    assert (every[:, 0] < every[:, 1]).all()
    drawn = sample_pairs(allowed, 4, seed=1)
    assert (drawn == sample_pairs(allowed, 4, seed=1)).all()
    assert (drawn != sample_pairs(allowed, 4, seed=2)).any()
    for seed in range(5):
        nine = [tuple(pair) for pair in sample_pairs(allowed, 9, seed)]
        assert nine == sorted(set(nine))
        assert len(nine) == 9
    assert len(sample_pairs(np.eye(5, dtype=bool), 4)) == 0


@pytest.mark.parametrize(("first", "second"), [((16, 16), (16, 17)), ((8, 8), (8, 8)), ((16,), (16,))])
def test_wrong_sizes_are_refused(first, second):
    for measure in (ssim, ms_ssim):
        with pytest.raises(DataError, match="received"):
            measure(np.zeros(first), np.zeros(second))
