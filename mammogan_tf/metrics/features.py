"""Images as vectors: handcrafted texture (scikit-image)."""

import numpy as np
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from mammogan_tf.arrays import require_films
from mammogan_tf.console import Progress
from mammogan_tf.errors import DataError

__all__ = [
    "FAINTEST",
    "co_occurrence",
    "grey_percentiles",
    "local_patterns",
    "mean_spectrum",
    "power_spectrum",
    "radiomics_features",
    "spectrum_bands",
    "spectrum_ratio",
    "wavelet_energies",
]

FOREGROUND = 1 / 32
"""Pixels darker than this are background and take no part in percentiles, co-occurrence and patterns."""

LEVELS = 16
BANDS = 8
HALVINGS = 3
FAINTEST = 1e-12
"""Added to powers and energies before their logarithm."""


def radiomics_features(images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """The handcrafted features, side by side: what reports call texture features.

    Args:
        images: float [N, H, W] in [0, 1], one or more, 16 x 16 pixels or more.
        progress: called with (done, total) after each image.

    Returns:
        float64 [N, 40]: 5 grey percentiles, 8 co-occurrence statistics, 10 local patterns, 8 spectral bands, 9 wavelet
        energies. All are finite, for an empty image too.

    Raises:
        DataError: not a stack of images of that size, or values outside [0, 1].
    """
    if images.ndim != 3 or not len(images) or min(images.shape[1:]) < 16:
        raise DataError(f"images: expected a stack [N, H, W] of 16 x 16 pixels or more, received: {images.shape}")
    require_films(images, DataError)
    families = (grey_percentiles, co_occurrence, local_patterns, spectrum_bands, wavelet_energies)
    rows = []
    for image in images:
        rows.append(np.concatenate([family(image) for family in families]))
        if progress:
            progress(len(rows), len(images))
    return np.array(rows).reshape(len(images), -1)


def grey_percentiles(image: np.ndarray) -> np.ndarray:
    """The 10th, 25th, 50th, 75th and 90th percentile of the foreground of an image [H, W]: float64 [5] in [0, 1]."""
    foreground = image[image > FOREGROUND]
    return np.percentile(foreground, [10, 25, 50, 75, 90]) if foreground.size else np.zeros(5)


def co_occurrence(image: np.ndarray) -> np.ndarray:
    """Contrast, homogeneity, angular second moment and correlation of neighbouring grey levels (Haralick et al. 1973).

    16 grey levels, neighbours at a distance of 1 and of 2 pixels (on the diagonals (1, 1) in both cases), averaged over
    four directions; only pairs of two foreground pixels count, so that the black around the breast does not drown the
    tissue. float64 [8], each statistic at either distance; 0, 0, 0, 1 where there is no pair.
    """
    levels = np.clip(image * LEVELS, 0, LEVELS - 1).astype(np.uint8) + 1
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(np.where(image > FOREGROUND, levels, 0), [1, 2], angles, LEVELS + 1, symmetric=True)
    names = ("contrast", "homogeneity", "ASM", "correlation")
    return np.concatenate([graycoprops(matrix[1:, 1:], name).mean(axis=1) for name in names])


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
        float64 [R], R = min(H, W) // 2: mean power at the frequencies 1 .. R cycles per shorter side of the image (R: Nyquist).
    """
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / image.size
    rows, columns = (np.fft.fftfreq(length) for length in image.shape)
    count = min(image.shape) // 2
    radius = np.rint(np.hypot(rows[:, None], columns[None, :]) * 2 * count).astype(int).ravel()
    total = np.bincount(radius, power.ravel(), minlength=count + 1)[1 : count + 1]
    return total / np.bincount(radius, minlength=count + 1)[1 : count + 1]


def mean_spectrum(images: np.ndarray) -> np.ndarray:
    """The :func:`power_spectrum` averaged over images [N, H, W]: float64 [R]."""
    return np.mean([power_spectrum(image) for image in images], axis=0)


def spectrum_ratio(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """:func:`mean_spectrum` of synthetic [M, H, W] over that of real images [N, H, W], frequency by frequency.

    1 is right at every frequency; below 1 at the end: smoother than real; peaks: a lattice (Durall et al. 2020).

    Returns:
        float64 [R]; nan where the real images have no power.
    """
    over, under = mean_spectrum(synthetic), mean_spectrum(real)
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


def spectrum_bands(image: np.ndarray) -> np.ndarray:
    """Decimal logarithm of the :func:`power_spectrum` in eight bands of equal width in log frequency: float64 [8].

    The finest band is where missing texture, and the lattice of a generator, show.
    """
    power = power_spectrum(image)
    edges = np.geomspace(1, len(power) + 1, BANDS + 1)
    band = np.clip(np.digitize(np.arange(1, len(power) + 1), edges) - 1, 0, BANDS - 1)
    used = np.unique(band)
    means = np.array([power[band == index].mean() for index in used])
    return np.interp(np.arange(BANDS), used, np.log10(means + FAINTEST))


def wavelet_energies(image: np.ndarray) -> np.ndarray:
    """Decimal logarithm of the energies of the Haar wavelet (Mallat 1989), finest scale first: float64 [9].

    At each of three scales the mean square of the differences along rows, along columns, and of both. Unlike the
    :func:`spectrum_bands` they tell directions apart: stripes show.
    """
    energies = []
    for _ in range(HALVINGS):
        height, width = (length // 2 * 2 for length in image.shape)
        above, below = image[:height:2, :width], image[1:height:2, :width]
        low, high = (above + below) / 2, (above - below) / 2
        details = (low[:, ::2] - low[:, 1::2], high[:, ::2] + high[:, 1::2], high[:, ::2] - high[:, 1::2])
        energies += [np.mean(detail**2) for detail in details]
        image = low[:, ::2] + low[:, 1::2]
    return np.log10(np.array(energies) + FAINTEST)
