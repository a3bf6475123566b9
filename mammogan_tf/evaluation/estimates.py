"""Estimates that remember what they would be without each patient, so that two reports can be compared."""

from collections.abc import Callable

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.intervals import Estimate, Statistic, bootstrap, jackknife, mean, not_computed

__all__ = ["WITHOUT", "auc_between", "between", "computed", "left_out", "over_pairs", "over_patients"]

WITHOUT = "without"
"""Key of an estimate under which the values without each patient, by name, are kept."""

BLOCKS = 30
"""Most patients, or blocks of patients, that :func:`left_out` leaves out one after the other."""


def over_patients(values: np.ndarray, patients: np.ndarray, statistic: Statistic = mean, seed: int = 0) -> Estimate:
    """:func:`~mammogan_tf.metrics.intervals.bootstrap`, whose arguments these are.

    Where the value without some patient is no number, none is kept.
    """
    if not len(values):
        return not_computed("nothing to judge")
    estimate = bootstrap(values, patients, statistic, seed=seed)
    if "value" not in estimate:
        return estimate
    judged = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    values, patients = values[judged], patients.reshape(len(patients), -1)[judged]
    kept = {name: (patients != name).all(axis=1).astype(int) for name in np.unique(patients)}
    without = {name: float(statistic(values, weights)) if weights.any() else np.nan for name, weights in kept.items()}
    return estimate | ({WITHOUT: without} if np.isfinite(list(without.values())).all() else {})


def between(
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

    patients = np.concatenate([patients_first, patients_second])
    return over_patients(np.arange(len(patients)), patients, of_rows, seed)


def auc_between(
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
    above = (np.sign(positive - negative[:, None]) + 1) / 2
    return over_pairs(above, patients_negative, patients_positive, comparable, seed)


def over_pairs(
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
    count = len(values)

    def average(rows: np.ndarray, weights: np.ndarray) -> float:
        of_first, of_second = np.split(weights, [count])
        pairs = of_first @ counts @ of_second
        return float(of_first @ (values * counts) @ of_second / pairs) if pairs else float("nan")

    patients = np.concatenate([patients_first, patients_second])
    return over_patients(np.arange(len(patients)), patients, average, seed)


def left_out(
    statistic: Callable[[np.ndarray], float], patients: np.ndarray, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """:func:`~mammogan_tf.metrics.intervals.jackknife` for a statistic that takes the patients who are kept.

    Many patients are left out in :data:`BLOCKS` of about equal size (the grouped jackknife).

    Args:
        statistic: takes names of patients [K].
        patients: [N], the patient of each film.
        limits: what the statistic can be; the interval is cut to them.
    """
    names = np.unique(patients)
    blocks = np.array_split(names, min(BLOCKS, len(names)))
    block_of = {name: " ".join(block) for block in blocks for name in block}
    values: dict[str, float] = {}

    def recorded(chosen: np.ndarray) -> float:
        kept = names[chosen]
        out = " ".join(name for name in names if name not in set(kept))
        values[out] = statistic(kept)
        return values[out]

    estimate = jackknife(recorded, np.array([block_of[name] for name in names]))
    if "value" not in estimate:
        return estimate
    values.pop("")
    estimate |= {end: float(np.clip(estimate[end], *limits)) for end in ("low", "high")}
    return estimate | {"n": len(patients), "patients": len(names), WITHOUT: values}


def computed(measure: Callable[[], Estimate]) -> Estimate:
    """The estimate; or, where the data do not allow for it, ``{"not computed": why}``."""
    try:
        return measure()
    except DataError as error:
        return not_computed(str(error))
