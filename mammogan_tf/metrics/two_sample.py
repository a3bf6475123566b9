"""Can a classifier tell two sets of feature vectors apart? (NumPy, SciPy)"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.distribution import standardise

__all__ = ["SHRINKAGE", "TwoSampleTest", "auc", "classifier_auc", "discriminant"]

SHRINKAGE = 0.1
"""How far the covariance is drawn towards a multiple of the identity, so that few images with many features do."""


@dataclass(frozen=True)
class TwoSampleTest:
    """Result of :func:`classifier_auc`.

    ``auc``: 0.5 where real and synthetic cannot be told apart, 1 where always. ``scores_real`` [N] and
    ``scores_synthetic`` [M]: log odds of being synthetic, from a classifier that saw nothing of the image's group; the
    easiest synthetic images have the highest. ``folds_real`` [N] and ``folds_synthetic`` [M]: only scores of one fold
    compare.
    """

    auc: float
    scores_real: np.ndarray
    scores_synthetic: np.ndarray
    folds_real: np.ndarray
    folds_synthetic: np.ndarray


def classifier_auc(
    features_real: np.ndarray,
    features_synthetic: np.ndarray,
    groups_real: np.ndarray,
    groups_synthetic: np.ndarray,
    folds: int = 5,
    seed: int = 0,
) -> TwoSampleTest:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017) with a cross-validated linear :func:`discriminant`.

    The AUC is over all pairs of a real and a synthetic image *of one fold*: scores of different folds come from
    different classifiers, and pooling them would draw the AUC of equal sets below 0.5. Linear: sees that means
    differ, not that only the spread does (density and coverage do).

    Args:
        features_real: [N, D]; features_synthetic: [M, D].
        groups_real: [N], what must not be split between training and testing: patients, say.
        groups_synthetic: [M], in the same names: the patient whose mask the image was made from, say.
        folds: number of folds; seed: the same seed deals the same folds.

    Raises:
        DataError: a set has fewer groups than folds; no feature varies; shapes do not fit.
    """
    count = len(features_real)
    groups = np.concatenate([groups_real, groups_synthetic])
    if len(groups_real) != count or len(groups_synthetic) != len(features_synthetic):
        raise DataError(
            f"groups: expected one for each of {count} and {len(features_synthetic)} samples, "
            f"received: {len(groups_real)} and {len(groups_synthetic)}"
        )
    shapes = np.shape(features_real), np.shape(features_synthetic)
    if shapes[0][1:] != shapes[1][1:]:
        raise DataError(f"features: expected the same ones of both sets, received: {shapes[0]} and {shapes[1]}")
    features = np.concatenate([features_real, features_synthetic])
    is_synthetic = np.arange(len(groups)) >= count
    fold = _deal(groups, is_synthetic, folds, seed)
    scores = np.empty(len(groups))
    for number in range(folds):
        train, test = fold != number, fold == number
        if test.any():
            seen, unseen = standardise(features[train], features[test])
            weights, offset = discriminant(seen[~is_synthetic[train]], seen[is_synthetic[train]])
            scores[test] = unseen @ weights + offset
    halves = (scores[:count], scores[count:], fold[:count], fold[count:])
    return TwoSampleTest(_auc_within_folds(*halves), *halves)


def discriminant(negative: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, float]:
    """Fisher's linear discriminant with a shrunk covariance, both classes equally likely.

    The covariance is the mean of those of the classes, (1 - s) C + s Tr(C) / D, s = :data:`SHRINKAGE`.

    Args:
        negative: [N, D]; positive: [M, D].

    Returns:
        Weights [D] and offset of the log odds of being positive, ``features @ weights + offset``.
    """
    covariance = np.mean([np.atleast_2d(np.cov(f, rowvar=False, bias=True)) for f in (negative, positive)], axis=0)
    size = len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    if not covariance.any():  # Each class is one point: the line between them tells them apart.
        shrunk = np.eye(size)
    mean_0, mean_1 = negative.mean(axis=0), positive.mean(axis=0)
    weights = np.linalg.lstsq(shrunk, mean_1 - mean_0, rcond=None)[0]
    return weights, float(-weights @ (mean_0 + mean_1) / 2)


def auc(negative: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    The Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982); nan where either set is empty.

    Args:
        negative: scores [N]; positive: scores [M].
    """
    pairs = len(negative) * len(positive)
    if not pairs:
        return float("nan")
    ranks = rankdata(np.concatenate([negative, positive]))[len(negative) :]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / pairs)


def _deal(groups: np.ndarray, is_synthetic: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each sample: groups dealt out in random order, so that each fold has its share of either class."""
    names, group = np.unique(groups, return_inverse=True)
    real, synthetic = (np.bincount(group[chosen], minlength=len(names)) > 0 for chosen in (~is_synthetic, is_synthetic))
    if min(real.sum(), synthetic.sum()) < folds:
        raise DataError(
            f"groups: expected {folds} or more with real and with synthetic samples, "
            f"received: {real.sum()} and {synthetic.sum()}; add films"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort((synthetic.astype(int) - real)[order], kind="stable")]  # only real, both, only synthetic
    fold = np.empty(len(names), int)
    fold[order] = np.arange(len(names)) % folds
    return fold[group]


def _auc_within_folds(
    real: np.ndarray, synthetic: np.ndarray, fold_real: np.ndarray, fold_synthetic: np.ndarray
) -> float:
    total, pairs = 0.0, 0
    for number in np.intersect1d(fold_real, fold_synthetic):
        negative, positive = real[fold_real == number], synthetic[fold_synthetic == number]
        total += auc(negative, positive) * len(negative) * len(positive)
        pairs += len(negative) * len(positive)
    return total / pairs
