"""Distances between two sets of feature vectors, and the share of each that the other covers (NumPy, SciPy)."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from mammogan_tf.errors import DataError

__all__ = [
    "NEIGHBOURS",
    "Manifolds",
    "frechet_distance",
    "kid",
    "kid_of_subsets",
    "manifolds",
    "radiomics_frechet_distance",
    "standardise",
]

NEIGHBOURS = 5
"""k of :func:`manifolds` (Naeem et al. 2020, section 5.2)."""


@dataclass(frozen=True)
class Manifolds:
    """Fidelity (``precision``, ``density``) and diversity (``recall``, ``coverage``) of :func:`manifolds`."""

    precision: float
    recall: float
    density: float
    coverage: float


def standardise(reference: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Scales every feature to mean 0 and deviation 1 *of the reference*; features constant there are left out.

    A feature is constant if its deviation is at most ``1e-9 * (1 + abs(mean))``, which rounding alone can give. Without the
    scaling the feature with the largest unit would decide every distance alone.

    Args:
        reference: [N, D]; ``others``: [M, D] each.

    Returns:
        The reference and the others, float64, with at most D columns.

    Raises:
        DataError: no feature of the reference varies, or some are not finite.
    """
    reference, *rest = _features(reference, *others)
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    varies = deviation > 1e-9 * (1 + np.abs(mean))
    if not varies.any():
        raise DataError(
            "features: expected at least one that varies, received: constant ones; are all images the same?"
        )
    return [(features[:, varies] - mean[varies]) / deviation[varies] for features in (reference, *rest)]


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)), with the trace of the root from the eigenvalues of the symmetric
    C1^(1/2) C2 C1^(1/2). On few samples it is biased upwards, so that only values from equal numbers compare.

    Args:
        first: [N, D] with N >= 2; second: [M, D] with M >= 2.

    Returns:
        A number >= 0.

    Raises:
        DataError: fewer than two samples, different numbers of features, or some that are not finite.
    """
    first, second = _features(first, second)
    covariance_1, covariance_2 = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second))
    values, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    trace_of_root = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance_2 @ root), 0, None)).sum()
    shift = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return float(max(shift + np.trace(covariance_1) + np.trace(covariance_2) - 2 * trace_of_root, 0.0))


def radiomics_frechet_distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """:func:`frechet_distance` of handcrafted features, each scaled by the real ones (after Konz et al. 2024).

    Deep features share a scale, handcrafted ones do not: hence :func:`standardise`. Theirs has some 464 features and is
    given as a logarithm, so it does not compare with this one. Which features, how many and how many images decide the
    number: read it beside its floor only.

    The report's ``radiomics_frechet`` takes the training films for ``real`` and is a mean over sets of as many synthetic
    images as there are unseen films. Its features are scaled once for all measures, so it calls :func:`frechet_distance`.

    Args:
        real: [N, D]; synthetic: [M, D].
    """
    return frechet_distance(*standardise(real, synthetic))


def kid(
    first: np.ndarray,
    second: np.ndarray,
    groups_first: np.ndarray | None = None,
    groups_second: np.ndarray | None = None,
) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, section 4).

    Around 0, also below it, for two sets of one distribution, however small they are. That takes independent samples, and the
    two films of a patient are none, nor are synthetic films of one mask: with groups, pairs within a set count only where
    they are of different ones.

    Args:
        first: [N, D] with N >= 2; second: [M, D] with M >= 2.
        groups_first: [N], such as the patient of each; every sample is a group of its own where None.
        groups_second: [M], the same of the other set; pairs across the sets count whatever their groups.

    Raises:
        DataError: fewer than two samples or groups in a set, another number of groups than of samples, different numbers of
            features, or some that are not finite.
    """
    first, second = _features(first, second)
    within = _mean_between_groups(first, groups_first) + _mean_between_groups(second, groups_second)
    return float(within - 2 * _kernel(first, second).mean())


def kid_of_subsets(
    first: np.ndarray, second: np.ndarray, subsets: int = 100, size: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of :func:`kid` over random subsets, as it is reported in most papers.

    The deviation is that of *one subset of that size*: not the error of the mean, and no interval over patients. A size
    beyond half of the images underestimates even it, since the subsets share most of their images.

    Args:
        first: [N, D]; second: [M, D]; N and M not below ``size``.
        subsets: how many pairs of subsets; size: images in each, drawn without replacement.
        seed: the same seed draws the same subsets.

    Raises:
        DataError: too few samples, different numbers of features, or some that are not finite.
    """
    first, second = _features(first, second)
    if min(len(first), len(second)) < size:
        raise DataError(f"features: expected {size} samples or more, received: {len(first)} and {len(second)}")
    random = np.random.default_rng(seed)
    values = [kid(*(random.permutation(features)[:size] for features in (first, second))) for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))


def manifolds(real: np.ndarray, synthetic: np.ndarray, k: int = NEIGHBOURS) -> Manifolds:
    """How much of each set lies within the other, by balls that reach to the k-th nearest neighbour of their set.

    Precision: share of synthetic samples in a real ball; recall: of real samples in a synthetic ball (Kynkaanniemi et
    al. 2019, equation 2; what lies on a ball is not in it, as with Naeem et al.). Density: real balls around a synthetic
    sample, over k: may exceed 1; coverage: share of real balls with a synthetic sample in them (Naeem et al. 2020,
    equations 3 and 4). Two samples of one distribution do not give 1, and how much they give depends on the numbers of
    samples: read it beside real against real of equal numbers.

    Args:
        real: [N, D] with N > k; synthetic: [M, D] with M > k; features of one scale (:func:`standardise`).
        k: 1 or more.

    Raises:
        DataError: too few samples, different numbers of features, or some that are not finite.
    """
    real, synthetic = _features(real, synthetic)
    if min(len(real), len(synthetic)) <= k or k < 1:
        raise DataError(
            f"features: expected a k of 1 or more, and more samples than that, received: k {k}, {len(real)} and {len(synthetic)}"
        )
    between = cdist(real, synthetic)
    in_real = between < _reach(real, k)[:, None]
    return Manifolds(
        precision=float(in_real.any(axis=0).mean()),
        recall=float((between < _reach(synthetic, k)).any(axis=1).mean()),
        density=float(in_real.sum(axis=0).mean() / k),
        coverage=float(in_real.any(axis=1).mean()),
    )


def _reach(features: np.ndarray, k: int) -> np.ndarray:
    """Distance of each sample to its k-th nearest neighbour: itself comes first, at 0."""
    return np.partition(cdist(features, features), k, axis=1)[:, k]


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_between_groups(features: np.ndarray, groups: np.ndarray | None) -> float:
    groups = np.arange(len(features)) if groups is None else np.asarray(groups)
    if len(groups) != len(features):
        raise DataError(f"groups: expected one for each of {len(features)} samples, received: {len(groups)}")
    different = groups[:, None] != groups
    if not different.any():
        raise DataError(f"features: expected samples of two or more groups, received: {len(features)} of one")
    return float(_kernel(features, features)[different].mean())


def _features(*sets: np.ndarray) -> list[np.ndarray]:
    """The sets as float64 [N, D], in which alone a constant column has a deviation of 0."""
    found = [np.asarray(features, np.float64) for features in sets]
    if any(features.ndim != 2 or len(features) < 2 for features in found) or len({f.shape[1] for f in found}) != 1:
        shapes = ", ".join(str(features.shape) for features in found)
        raise DataError(f"features: expected two or more samples of the same features each, received: {shapes}")
    broken = sum(int((~np.isfinite(features)).any(axis=1).sum()) for features in found)
    if broken:
        raise DataError(f"features: expected finite numbers, received: others in {broken} samples; leave these out")
    return found
