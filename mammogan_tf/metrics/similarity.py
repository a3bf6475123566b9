"""Structural similarity of images, pair by pair (scikit-image, SciPy)."""

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from mammogan_tf.arrays import require_films
from mammogan_tf.errors import DataError

__all__ = ["SCALE_WEIGHTS", "WINDOW", "ms_ssim", "pairwise_ssim", "sample_pairs", "scales", "ssim"]

WINDOW = 11
"""Width in pixels of the Gaussian window (sigma 1.5) of Wang et al. 2004: small enough for images of 16 pixels."""

SIGMA = 1.5

PART = 64
"""Images that are compared at once: each takes some ten times its own memory meanwhile."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, the finest first (Wang et al. 2003, section 3.2)."""


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean structural similarity (Wang et al. 2004, equation 13, with the paper's constants and Gaussian window).

    Args:
        first: float images [..., H, W] in [0, 1].
        second: float images of the same shape.

    Returns:
        float64 [...] in [-1, 1]; 1 where the two images are equal.

    Raises:
        DataError: the shapes differ, the images are smaller than the window of 11 x 11 pixels, or values lie outside [0, 1].
    """
    first, second = _pair(first, second)
    pairs = zip(first.reshape(-1, *first.shape[-2:]), second.reshape(-1, *first.shape[-2:]), strict=True)
    values = [
        structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False)
        for a, b in pairs
    ]
    return np.array(values).reshape(first.shape[:-2])


def ms_ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity (Wang et al. 2003, equation 7), with as many :func:`scales` as the size allows.

    The paper's five scales need 176 pixels; smaller images have the first ones, their exponents enlarged to the sum of
    all five, so that values of **different sizes do not compare**. Each scale halves the image by 2 x 2 means; a scale
    that correlates negatively counts 0, which makes the whole 0.

    Args:
        first: float images [..., H, W] in [0, 1].
        second: float images of the same shape.

    Returns:
        float64 [...] in [0, 1]; 1 where the two images are equal.

    Raises:
        DataError: as in :func:`ssim`.
    """
    if np.ndim(first) > 2 and np.shape(first) == np.shape(second) and len(first) > PART:
        starts = range(0, len(first), PART)
        return np.concatenate([ms_ssim(first[start : start + PART], second[start : start + PART]) for start in starts])
    first, second = _pair(first, second)
    weights = np.array(SCALE_WEIGHTS[: scales(*first.shape[-2:])])
    weights *= sum(SCALE_WEIGHTS) / weights.sum()
    value = np.ones(first.shape[:-2])
    for scale, weight in enumerate(weights, start=1):
        luminance, structure = _similarity_maps(first, second)
        kept = structure * luminance if scale == len(weights) else structure
        value *= np.clip(kept.mean(axis=(-2, -1)), 0, None) ** weight
        first, second = _halved(first), _halved(second)
    return value


def scales(height: int, width: int) -> int:
    """How many scales :func:`ms_ssim` has for a size: the window fits into the coarsest. 3 at 64 pixels, 5 at 256."""
    fitting = int(np.log2(min(height, width) / WINDOW)) + 1
    return min(fitting, len(SCALE_WEIGHTS))


def pairwise_ssim(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """SSIM of the images [N, H, W] at the index ``pairs`` [P, 2]: float64 [P]. The lower, the more diverse."""
    return ssim(images[pairs[:, 0]], images[pairs[:, 1]])


def sample_pairs(allowed: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Draws up to ``count`` different pairs from those that are allowed, without order.

    Args:
        allowed: bool [N, N], symmetric; the diagonal is ignored.
        count: how many pairs at most.
        seed: the same seed draws the same pairs.

    Returns:
        int [P, 2] with P <= ``count``, first index below the second, in ascending order.
    """
    pairs = np.argwhere(np.triu(allowed, k=1))
    if len(pairs) <= count:
        return pairs
    return pairs[np.sort(np.random.default_rng(seed).choice(len(pairs), count, replace=False))]


def _pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim < 2:
        raise DataError(
            f"images: expected two [..., H, W] of the same shape, received: {first.shape} and {second.shape}"
        )
    if min(first.shape[-2:]) < WINDOW:
        raise DataError(f"images: expected {WINDOW} x {WINDOW} pixels or more for SSIM, received: {first.shape[-2:]}")
    for images in (first, second):
        require_films(images, DataError)
    return first, second


def _similarity_maps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance, and contrast times structure, wherever the window lies wholly in the image (Wang et al. 2004, 6-10)."""
    reach = WINDOW // 2
    inside = (..., slice(reach, -reach), slice(reach, -reach))

    def averaged(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, SIGMA, radius=reach, axes=(-2, -1))[inside]

    mean_1, mean_2 = averaged(first), averaged(second)
    variance_1, variance_2 = averaged(first**2) - mean_1**2, averaged(second**2) - mean_2**2
    covariance = averaged(first * second) - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_1 + variance_2 + c2)


def _halved(images: np.ndarray) -> np.ndarray:
    height, width = (length // 2 * 2 for length in images.shape[-2:])
    blocks = images[..., :height, :width].reshape(*images.shape[:-2], height // 2, 2, width // 2, 2)
    return blocks.mean(axis=(-3, -1))
