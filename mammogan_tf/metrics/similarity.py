"""Structural similarity of images, pair by pair (scikit-image)."""

import numpy as np
from skimage.metrics import structural_similarity

from mammogan_tf.errors import DataError

__all__ = ["WINDOW", "pairwise_ssim", "sample_pairs", "ssim"]

WINDOW = 11
"""Width in pixels of the Gaussian window (sigma 1.5) of Wang et al. 2004: small enough for images of 16 pixels."""


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean structural similarity (Wang et al. 2004, equation 13, with the paper's constants and Gaussian window).

    Args:
        first: float images [..., H, W] in [0, 1].
        second: float images of the same shape.

    Returns:
        float64 [...] in [-1, 1]; 1 where the two images are equal.

    Raises:
        DataError: the shapes differ, or the images are smaller than the window of 11 x 11 pixels.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim < 2:
        raise DataError(
            f"images: expected two [..., H, W] of the same shape, received: {first.shape} and {second.shape}"
        )
    if min(first.shape[-2:]) < WINDOW:
        raise DataError(f"images: expected {WINDOW} x {WINDOW} pixels or more for SSIM, received: {first.shape[-2:]}")
    pairs = zip(first.reshape(-1, *first.shape[-2:]), second.reshape(-1, *first.shape[-2:]), strict=True)
    values = [
        structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for a, b in pairs
    ]
    return np.array(values).reshape(first.shape[:-2])


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
