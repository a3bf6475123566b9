"""Distances between two sets of feature vectors (NumPy only)."""

import numpy as np

from mammogan_tf.errors import DataError

__all__ = ["frechet_distance", "kid", "standardise"]


def standardise(reference: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Scales every feature to mean 0 and deviation 1 *of the reference*; features constant there are left out.

    Without it the feature with the largest unit would decide every distance alone.

    Args:
        reference: [N, D]; ``others``: [M, D] each.

    Returns:
        The reference and the others, float64, with at most D columns.

    Raises:
        DataError: no feature of the reference varies.
    """
    _check(reference, *others)
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    varies = deviation > 1e-9 * (1 + np.abs(mean))
    if not varies.any():
        raise DataError(
            "features: expected at least one that varies, received: constant ones; are all images the same?"
        )
    return [(features[:, varies] - mean[varies]) / deviation[varies] for features in (reference, *others)]


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)), with the trace of the root from the eigenvalues of the symmetric
    C1^(1/2) C2 C1^(1/2). On few samples it is biased upwards, so that only values from equal numbers compare.

    Args:
        first: [N, D] with N >= 2; second: [M, D] with M >= 2.

    Returns:
        A number >= 0.

    Raises:
        DataError: fewer than two samples, or different numbers of features.
    """
    _check(first, second)
    covariance_1, covariance_2 = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second))
    values, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    trace_of_root = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance_2 @ root), 0, None)).sum()
    shift = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return float(max(shift + np.trace(covariance_1) + np.trace(covariance_2) - 2 * trace_of_root, 0.0))


def kid(first: np.ndarray, second: np.ndarray) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, section 4).

    Unbiased: around 0, also below it, for two samples of one distribution, however small they are.

    Args:
        first: [N, D] with N >= 2; second: [M, D] with M >= 2.

    Raises:
        DataError: fewer than two samples, or different numbers of features.
    """
    _check(first, second)
    return float(
        _off_diagonal_mean(_kernel(first, first))
        + _off_diagonal_mean(_kernel(second, second))
        - 2 * _kernel(first, second).mean()
    )


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _off_diagonal_mean(square: np.ndarray) -> float:
    count = len(square)
    return (square.sum() - np.trace(square)) / (count * (count - 1))


def _check(*sets: np.ndarray) -> None:
    if any(features.ndim != 2 or len(features) < 2 for features in sets) or len({f.shape[1] for f in sets}) != 1:
        shapes = ", ".join(str(features.shape) for features in sets)
        raise DataError(f"features: expected two or more samples of the same features each, received: {shapes}")
