"""Does a generator hand out its training images? Nearest neighbours, membership, and a verdict (NumPy, SciPy)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.two_sample import auc

__all__ = [
    "RULE",
    "Closeness",
    "Verdict",
    "closeness",
    "closest_pairs",
    "median_ratio",
    "membership_auc",
    "nearest",
    "verdict",
]

BATCH = 256

SAME = 1e-6
"""Distance up to which two images are one, but for rounding: a change of one grey level of one pixel is more."""

NEAR = 5
"""Percentile of the unseen real images' distances below which a synthetic image counts as near a training image."""

MOST_NEAR = 0.25
LEAST_RATIO = 0.8
MOST_MEMBERSHIP = 0.65
"""Limits of the rule: real films of 24 patients break one of the first two in 1 % of draws (``docs/metrics.md``)."""

RULE = (
    f"Pass: no synthetic image lies nearer to a training image than half of what the nearest unseen real image does; at "
    f"most {MOST_NEAR:.0%} lie nearer than {NEAR}% of the unseen real images do; the median distance is at least "
    f"{LEAST_RATIO} times that of the unseen real images; and scores tell training from unseen real images with an AUC of at "
    f"most {MOST_MEMBERSHIP}. A distance is judged in every space given."
)


@dataclass(frozen=True)
class Closeness:
    """How near synthetic images come to training images, against unseen real ones (:func:`closeness`).

    ``ratio``: :func:`median_ratio`; ``near``: share nearer than 5 % of the unseen images (0.05 is expected);
    ``copies``: number nearer than half of the nearest unseen image that is no training image. nan, nan and 0 where all
    unseen images are training images.
    """

    ratio: float
    near: float
    copies: int


@dataclass(frozen=True)
class Verdict:
    """``passed``, and ``reasons``: what broke the :data:`RULE`, one sentence each."""

    passed: bool
    reasons: tuple[str, ...]


def nearest(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest reference of every query, by root-mean-square difference.

    Args:
        queries: float [N, ...]: images [N, H, W] in [0, 1], or features [N, D] of one scale.
        references: float [M, ...] of the same size.

    Returns:
        Distances float64 [N], of images in [0, 1], and the index of the nearest reference, int [N].

    Raises:
        DataError: the sizes differ, or there is no reference.
    """
    if queries.ndim < 2 or queries.shape[1:] != references.shape[1:] or len(references) == 0:
        raise DataError(
            f"images: expected two stacks [N, ...] of one size, received: {queries.shape} and {references.shape}"
        )
    flat = references.reshape(len(references), -1).astype(np.float64)
    indices, distances = [], []
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH].reshape(-1, flat.shape[1]).astype(np.float64)
        index = ((flat**2).sum(axis=1) - 2 * batch @ flat.T).argmin(axis=1)
        indices.append(index)
        distances.append(np.sqrt(((batch - flat[index]) ** 2).mean(axis=1)))
    return np.concatenate(distances), np.concatenate(indices)


def median_ratio(synthetic: np.ndarray, unseen: np.ndarray) -> float:
    """Median training-neighbour distance of synthetic images over that of unseen real ones.

    About 1: as far from the training images as real films of new patients are. Well below 1: training images are
    copied, or the synthetic images are smoother than real ones, which lowers every distance: look at the pairs.

    Args:
        synthetic: distances [N] from :func:`nearest`; unseen: distances [M].

    Returns:
        A number >= 0; nan where the unseen images are themselves training images (median distance 0).
    """
    reference = float(np.median(unseen))
    return float(np.median(synthetic)) / reference if reference > 0 else float("nan")


def closeness(synthetic: np.ndarray, unseen: np.ndarray) -> Closeness:
    """All that the distances [N] of synthetic and [M] of unseen real images from :func:`nearest` tell."""
    others = unseen[unseen > SAME]  # A film that the data hold twice may stand on both sides.
    if not len(others):
        return Closeness(float("nan"), float("nan"), 0)
    near = float(np.mean(synthetic < np.percentile(others, NEAR)))
    copies = int(np.sum(synthetic < max(SAME, others.min() / 2)))
    return Closeness(median_ratio(synthetic, others), near, copies)


def closest_pairs(distances: np.ndarray, indices: np.ndarray, count: int = 10) -> np.ndarray:
    """The ``count`` closest pairs, nearest first: int [P, 2], query and reference; arguments from :func:`nearest`."""
    order = np.argsort(distances, kind="stable")[:count]
    return np.stack([order, indices[order]], axis=1)


def membership_auc(train_scores: np.ndarray, unseen_scores: np.ndarray) -> float:
    """How well a score, the critic's say, tells training images [N] from unseen real ones [M].

    The white-box attack of Hayes et al. 2019 ("LOGAN", section 4.1) as an AUC: 0.5 where the critic knows nothing of
    membership, 1 where every training image scores above every unseen one. nan where either is empty.
    """
    return auc(unseen_scores, train_scores)


def verdict(spaces: Mapping[str, Closeness], membership: float | None = None) -> Verdict:
    """Applies the :data:`RULE`: a number that is not finite breaks it, since it shows nothing.

    Args:
        spaces: the closeness in each space, ``{"pixels": ..., "features": ...}``.
        membership: :func:`membership_auc`; None where no critic is at hand.
    """
    reasons = []
    for space, found in spaces.items():
        if found.copies:
            reasons.append(f"{space}: {found.copies} nearer than half of the nearest unseen real image")
        if math.isnan(found.ratio):
            reasons.append(f"{space}: nothing to compare with, as all unseen real images are training images")
            continue
        if not found.near <= MOST_NEAR:
            near = _beyond(100 * MOST_NEAR, 100 * found.near, decimals=0)
            reasons.append(f"{space}: {near}% nearer than {NEAR}% of the unseen real images (at most {MOST_NEAR:.0%})")
        if not found.ratio >= LEAST_RATIO:
            ratio = _beyond(LEAST_RATIO, found.ratio)
            reasons.append(
                f"{space}: median distance {ratio} times that of unseen real images (at least {LEAST_RATIO})"
            )
    if membership is not None and not membership <= MOST_MEMBERSHIP:
        area = _beyond(MOST_MEMBERSHIP, membership)
        reasons.append(
            f"scores tell training from unseen real images with an AUC of {area} (at most {MOST_MEMBERSHIP})"
        )
    return Verdict(not reasons, tuple(reasons))


def _beyond(limit: float, number: float, decimals: int = 2) -> str:
    """A number that breaks a limit, with these decimals or as many more as tell the two apart."""
    while f"{number:.{decimals}f}" == f"{limit:.{decimals}f}":
        decimals += 1
    return f"{number:.{decimals}f}"
