"""Does a generator hand out its training images? Nearest neighbours, membership, and a verdict (NumPy, SciPy)."""

import math
from collections.abc import Iterator, Mapping
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
    "distance_ratio",
    "median_ratio",
    "membership_auc",
    "near_copies",
    "nearest",
    "verdict",
]

BATCH = 256

SAME = 1e-6
"""Distance up to which two images are one, but for rounding: a change of one grey level of one pixel is more."""

NEAR = 5
"""Percentile of the unseen real images' distances below which a synthetic image counts as near a training image."""

MAX_NEAR = 0.25
MIN_RATIO = 0.8
MAX_MEMBERSHIP = 0.65
"""Limits of the rule: real films of 24 patients break one of the first two in 1 % of draws (``docs/metrics.md``)."""

MIN_DISTANCE_RATIO = 0.4
"""Largest ratio that :func:`near_copies` counts. Of 322 real films of mini-MIAS, each compared with the films of other patients,
none has less than 0.49."""

RULE = (
    "A pass needs all of these. In pixels and in every feature space: (1) no synthetic image is nearer to a training image than "
    f"half the distance of the nearest unseen real image; (2) at most {MAX_NEAR:.0%} are nearer than the nearest {NEAR}% of the "
    f"unseen real images; (3) the median distance is at least {MIN_RATIO} times that of the unseen real images. In pixels: "
    f"(4) for no synthetic image the nearest training patient is at most {MIN_DISTANCE_RATIO} times as far as the next one, "
    "and this ratio lower than for every unseen real image. Where there is a critic: (5) its score distinguishes training "
    f"from unseen real images with an AUC of at most {MAX_MEMBERSHIP}."
)


@dataclass(frozen=True)
class Closeness:
    """How near synthetic images come to training images, against unseen real ones (:func:`closeness`).

    ``ratio``: :func:`median_ratio`; ``near``: share nearer than 5 % of the unseen images (0.05 is expected, of 48 unseen images
    0.07);
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
        DataError: the sizes differ, there is no reference, or a value is not finite.
    """
    distances, indices = [np.empty(0)], [np.empty(0, int)]
    for batch, flat, order in _compare(queries, references):
        indices.append(order.argmin(axis=1))
        distances.append(_distance(batch, flat, indices[-1]))
    return np.concatenate(distances), np.concatenate(indices)


def distance_ratio(queries: np.ndarray, references: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Distance of every query to its nearest reference over that to the nearest one of another group (Lowe 2004, section 7.1).

    About 1: as near to one patient as to others. Near 0: a film of hers, but for some noise.

    Args:
        queries, references: as of :func:`nearest`.
        groups: [M], such as the patient of each reference.

    Returns:
        float64 [N] in [0, 1]; nan where all references are of one group, or two groups have the query itself.
    """
    ratios, groups = [np.empty(0)], np.asarray(groups)
    for batch, flat, order in _compare(queries, references):
        first = order.argmin(axis=1)
        order[groups[first][:, None] == groups] = np.inf
        second = order.argmin(axis=1)
        others = np.where(np.isfinite(order.min(axis=1)), _distance(batch, flat, second), np.nan)
        ratios.append(_distance(batch, flat, first) / np.where(others > 0, others, np.nan))
    return np.concatenate(ratios)


def _compare(queries: np.ndarray, references: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of queries [B, D], the references [M, D], and numbers [B, M] that order these by their distance to each query."""
    if queries.ndim < 2 or queries.shape[1:] != references.shape[1:] or len(references) == 0:
        raise DataError(
            f"images: expected two stacks [N, ...] of one size, received: {queries.shape} and {references.shape}"
        )
    if not (np.isfinite(queries).all() and np.isfinite(references).all()):
        raise DataError("images: expected finite numbers, received: others; leave these images out")
    flat = references.reshape(len(references), -1).astype(np.float64)
    squares = np.einsum("md,md->m", flat, flat)
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH].reshape(-1, flat.shape[1]).astype(np.float64)
        yield batch, flat, squares - 2 * batch @ flat.T


def _distance(batch: np.ndarray, references: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.sqrt(((batch - references[index]) ** 2).mean(axis=1))


def near_copies(synthetic: np.ndarray, unseen: np.ndarray) -> int:
    """How many synthetic images are near copies, from their ratios [N] of :func:`distance_ratio` and those [M] of unseen films.

    Copies with noise, or darker, are farther from a training image than :class:`Closeness` takes for a copy, and where they are
    few no share and no median sees them.
    """
    return int(np.sum((synthetic <= MIN_DISTANCE_RATIO) & (synthetic < np.nanmin([*unseen, np.inf]))))


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


def verdict(spaces: Mapping[str, Closeness], membership: float | None = None, near: int = 0) -> Verdict:
    """Applies the :data:`RULE`: a number that is not finite breaks it, since it shows nothing.

    Args:
        spaces: the closeness in each space, ``{"pixels": ..., "features": ...}``.
        membership: :func:`membership_auc`; None where no critic is at hand.
        near: :func:`near_copies` in pixels.
    """
    reasons = [] if spaces else ["nothing was compared"]
    if near:
        reasons.append(
            f"pixels: {near} at most {MIN_DISTANCE_RATIO} times as far from the nearest training patient as from the next"
        )
    for space, found in spaces.items():
        if found.copies:
            reasons.append(f"{space}: {found.copies} nearer than half of the nearest unseen real image")
        if math.isnan(found.ratio):
            reasons.append(f"{space}: nothing to compare with, as all unseen real images are training images")
            continue
        if not math.isfinite(found.ratio):
            reasons.append(
                f"{space}: median distance {found.ratio} times that of unseen real images, not a finite number"
            )
            continue
        if not found.near <= MAX_NEAR:
            share = _beyond(100 * MAX_NEAR, 100 * found.near, decimals=0)
            reasons.append(f"{space}: {share}% nearer than {NEAR}% of the unseen real images (at most {MAX_NEAR:.0%})")
        if not found.ratio >= MIN_RATIO:
            ratio = _beyond(MIN_RATIO, found.ratio)
            reasons.append(f"{space}: median distance {ratio} times that of unseen real images (at least {MIN_RATIO})")
    if membership is not None and not membership <= MAX_MEMBERSHIP:
        area = _beyond(MAX_MEMBERSHIP, membership)
        reasons.append(
            f"scores distinguish training from unseen real images with an AUC of {area} (at most {MAX_MEMBERSHIP})"
        )
    return Verdict(not reasons, tuple(reasons))


def _beyond(limit: float, number: float, decimals: int = 2) -> str:
    """A number that breaks a limit, with these decimals or as many more as tell the two apart."""
    while f"{number:.{decimals}f}" == f"{limit:.{decimals}f}":
        decimals += 1
    return f"{number:.{decimals}f}"
