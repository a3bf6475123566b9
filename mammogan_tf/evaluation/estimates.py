"""Estimates that remember what they would be without each patient, so that two reports can be compared."""

from collections.abc import Callable, Sequence

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.intervals import (
    MIN_PATIENTS,
    Estimate,
    Statistic,
    bootstrap,
    jackknife,
    mean,
    not_computed,
)

__all__ = [
    "bootstrap_auc",
    "bootstrap_pairs",
    "bootstrap_patients",
    "bootstrap_two_samples",
    "computed",
    "jackknife_patients",
    "jackknife_sets",
]

BLOCKS = 30
"""Most patients, or blocks of patients, that :func:`jackknife_patients` leaves out one after the other."""


def bootstrap_patients(
    values: np.ndarray,
    patients: np.ndarray,
    statistic: Statistic = mean,
    seed: int = 0,
    independent: int | None = None,
) -> Estimate:
    """:func:`~mammogan_tf.metrics.intervals.bootstrap`, whose arguments these are.

    Where the value without some patient is no number, none is kept.
    """
    if not len(values):
        return not_computed("nothing to measure")
    estimate = bootstrap(values, patients, statistic, seed=seed, independent=independent)
    if "value" not in estimate:
        return estimate
    measured = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    values, patients = values[measured], np.asarray(patients).reshape(len(patients), -1)[measured]
    kept = {name: (patients != name).all(axis=1).astype(int) for name in np.unique(patients)}
    without = {name: float(statistic(values, weights)) if weights.any() else np.nan for name, weights in kept.items()}
    return estimate | {"without": without} if np.isfinite(list(without.values())).all() else estimate


def bootstrap_two_samples(
    first: np.ndarray,
    second: np.ndarray,
    patients_first: np.ndarray,
    patients_second: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    seed: int = 0,
) -> Estimate:
    """A statistic of two sets of rows, [N, ...] and [M, ...], patients drawn with all their rows of either set."""
    count = len(first)

    def of_rows(rows: np.ndarray, weights: np.ndarray) -> float:
        drawn = np.repeat(rows, weights)
        one, other = drawn[drawn < count], drawn[drawn >= count] - count
        return statistic(first[one], second[other]) if len(one) and len(other) else float("nan")

    return _over_two_sides(patients_first, patients_second, of_rows, seed)


def _over_two_sides(first: np.ndarray, second: np.ndarray, statistic: Statistic, seed: int) -> Estimate:
    """:func:`bootstrap_patients` of the rows of two sides, given each row's patient; Student's t counts the smaller side."""
    fewest = min(len(np.unique(side)) for side in (first, second))
    if fewest < MIN_PATIENTS:
        return not_computed(f"needs {MIN_PATIENTS} patients or more on either side, found {fewest}")
    patients = np.concatenate([first, second])
    return bootstrap_patients(np.arange(len(patients)), patients, statistic, seed, fewest)


def bootstrap_auc(
    negative: np.ndarray,
    positive: np.ndarray,
    patients_negative: np.ndarray,
    patients_positive: np.ndarray,
    comparable: np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """:func:`~mammogan_tf.metrics.two_sample.auc` of scores [N] and [M], patients drawn with all their scores.

    Args:
        comparable: bool [N, M], the pairs that count; all where None.
    """
    negative = negative[:, None]
    above = (positive > negative) + 0.5 * (positive == negative)
    above = np.where(np.isnan(positive) | np.isnan(negative), np.nan, above)
    return bootstrap_pairs(above, patients_negative, patients_positive, comparable, seed)


def bootstrap_pairs(
    values: np.ndarray,
    patients_first: np.ndarray,
    patients_second: np.ndarray,
    counted: np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean of ``values`` [N, M] over all pairs of a first and a second, or those ``counted``, bool [N, M].

    Patients are drawn with all that is theirs; a pair counts as often as both of its sides were drawn.
    """
    counts = np.ones(values.shape) if counted is None else counted.astype(float)
    names = np.unique(patients_first), np.unique(patients_second)
    weighted = np.where(counts > 0, values, 0) * counts
    first, second = names[0][:, None] == patients_first, names[1][:, None] == patients_second
    sums, pairs = (first @ films @ second.T for films in (weighted, counts))  # Of each two patients.

    def average(rows: np.ndarray, weights: np.ndarray) -> float:
        of_first, of_second = np.split(weights, [len(first)])
        count = of_first @ pairs @ of_second
        return float(of_first @ sums @ of_second / count) if count else float("nan")

    estimate = _over_two_sides(*names, average, seed)
    return estimate | {"n": sum(values.shape)} if "value" in estimate else estimate


def jackknife_patients(
    statistic: Callable[[np.ndarray], float], patients: np.ndarray, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """:func:`~mammogan_tf.metrics.intervals.jackknife` for a statistic that takes the patients who are kept.

    Many patients are left out in :data:`BLOCKS` of about equal size (the grouped jackknife), dealt at random: neighbours in
    the alphabet are of one data set, whose difference to another would count as error.

    Args:
        statistic: takes names of patients [K].
        patients: [N], the patient of each film.
        limits: what the statistic can be; the interval is cut to them.
    """
    names = np.unique(patients)
    blocks = np.array_split(np.random.default_rng(0).permutation(names), min(BLOCKS, len(names)))
    block_of = {name: " ".join(sorted(map(str, block))) for block in blocks for name in block}
    estimate = jackknife(lambda chosen: statistic(names[chosen]), np.array([block_of[name] for name in names]))
    if "value" not in estimate:
        return estimate
    low, high = np.clip([estimate["low"], estimate["high"]], *limits)
    return estimate | {"low": float(low), "high": float(high), "n": len(patients), "patients": len(names)}


def jackknife_sets(
    statistic: Callable[[np.ndarray], float],
    sets: Sequence[np.ndarray],
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """:func:`jackknife_patients` for a mean over sets of images, given the patients [N] of the images of each set.

    Only patients who have an image in a set are left out: without another one nothing would change, and yet she would
    count. ``n`` is that of one set, as the statistic depends on it.
    """
    estimate = jackknife_patients(statistic, np.concatenate(sets), limits)
    return estimate | {"n": len(sets[0])} if "value" in estimate else estimate


def computed(measure: Callable[[], Estimate]) -> Estimate:
    """The estimate; or, where the data do not allow for it, ``{"not computed": why}``."""
    try:
        return measure()
    except DataError as error:
        return not_computed(str(error))
