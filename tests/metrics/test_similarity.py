import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.similarity import pairwise_ssim, sample_pairs, ssim


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
    values = [ssim(images, images + sigma * noise).mean() for sigma in (0, 0.1, 0.5)]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]


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
    assert len({tuple(pair) for pair in drawn}) == 4
    assert (drawn == sample_pairs(allowed, 4, seed=1)).all()
    assert len(sample_pairs(np.eye(5, dtype=bool), 4)) == 0


@pytest.mark.parametrize(("first", "second"), [((16, 16), (16, 17)), ((8, 8), (8, 8)), ((16,), (16,))])
def test_wrong_sizes_are_refused(first, second):
    with pytest.raises(DataError, match="received"):
        ssim(np.zeros(first), np.zeros(second))
