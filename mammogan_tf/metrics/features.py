"""Handcrafted texture features: what a mammogram's grey levels look like, whatever its anatomy (scikit-image)."""

from collections.abc import Callable

import numpy as np
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from mammogan_tf.errors import DataError

__all__ = [
    "co_occurrence",
    "grey_percentiles",
    "local_patterns",
    "power_spectrum",
    "spectrum_bands",
    "texture_features",
]

FOREGROUND = 1 / 32
"""Pixels darker than this are background and take no part in percentiles, co-occurrence and patterns."""

LEVELS = 16
BANDS = 8


def texture_features(images: np.ndarray, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """All features of this module, side by side.

    Args:
        images: float [N, H, W] in [0, 1], 16 x 16 pixels or more.
        progress: called with (done, total) after each image.

    Returns:
        float64 [N, 31]: 5 grey percentiles, 8 co-occurrence statistics, 10 local patterns, 8 spectral bands. All are
        finite, for an empty image too.

    Raises:
        DataError: not a stack of images of that size.
    """
    if images.ndim != 3 or min(images.shape[1:]) < 16:
        raise DataError(f"images: expected a stack [N, H, W] of 16 x 16 pixels or more, received: {images.shape}")
    rows = []
    for image in images:
        parts = (grey_percentiles(image), co_occurrence(image), local_patterns(image), spectrum_bands(image))
        rows.append(np.concatenate(parts))
        if progress:
            progress(len(rows), len(images))
    return np.array(rows).reshape(len(images), -1)


def grey_percentiles(image: np.ndarray) -> np.ndarray:
    """The 10th, 25th, 50th, 75th and 90th percentile of the foreground of an image [H, W]: float64 [5] in [0, 1]."""
    foreground = image[image > FOREGROUND]
    return np.percentile(foreground, [10, 25, 50, 75, 90]) if foreground.size else np.zeros(5)


def co_occurrence(image: np.ndarray) -> np.ndarray:
    """Contrast, homogeneity, energy and correlation of the grey-level co-occurrence matrix (Haralick et al. 1973).

    16 grey levels, at a distance of 1 and of 2 pixels, averaged over four directions; pairs of two background pixels
    are left out, so that the black around the breast does not drown the tissue. float64 [8].
    """
    quantised = np.clip(image * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(quantised, [1, 2], angles, LEVELS, symmetric=True)
    matrix[0, 0] = 0
    names = ("contrast", "homogeneity", "energy", "correlation")
    return np.concatenate([graycoprops(matrix, name).mean(axis=1) for name in names])


def local_patterns(image: np.ndarray) -> np.ndarray:
    """Histogram of the ten uniform local binary patterns of the foreground (Ojala et al. 2002).

    8 neighbours at 1 pixel. float64 [10], shares that add up to 1 (all 0 where there is no foreground).
    """
    bytes_ = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    patterns = local_binary_pattern(bytes_, P=8, R=1, method="uniform")[image > FOREGROUND].astype(int)
    return np.bincount(patterns, minlength=10) / max(patterns.size, 1)


def power_spectrum(image: np.ndarray) -> np.ndarray:
    """Radially averaged power spectrum of an image [H, W], mean taken off, under a Hann window against edge effects.

    Returns:
        float64 [R], R = min(H, W) // 2: mean power at the frequencies 1 .. R cycles per image width (R: Nyquist).
    """
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / image.size
    rows, columns = (np.fft.fftfreq(length) for length in image.shape)
    count = min(image.shape) // 2
    radius = np.rint(np.hypot(rows[:, None], columns[None, :]) * 2 * count).astype(int).ravel()
    total = np.bincount(radius, power.ravel(), minlength=count + 1)[1 : count + 1]
    return total / np.bincount(radius, minlength=count + 1)[1 : count + 1]


def spectrum_bands(image: np.ndarray) -> np.ndarray:
    """Decimal logarithm of the :func:`power_spectrum` in eight bands of equal width in log frequency: float64 [8].

    The finest band is where missing texture, and the lattice of a generator, show.
    """
    power = power_spectrum(image)
    edges = np.geomspace(1, len(power) + 1, BANDS + 1)
    band = np.clip(np.digitize(np.arange(1, len(power) + 1), edges) - 1, 0, BANDS - 1)
    used = np.unique(band)
    means = np.array([power[band == index].mean() for index in used])
    return np.interp(np.arange(BANDS), used, np.log10(means + 1e-12))
