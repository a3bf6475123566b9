"""Numbers with 95 % intervals over patients: two films of one patient are not two independent observations."""

from collections.abc import Callable
from typing import Literal, TypedDict

import numpy as np
from scipy import stats

__all__ = [
    "MIN_PATIENTS",
    "Estimate",
    "Reference",
    "bootstrap",
    "half_width",
    "jackknife",
    "mean",
    "not_computed",
    "ratio_of_means",
]

Estimate = TypedDict(
    "Estimate",
    {
        "value": float,
        "low": float,
        "high": float,
        "n": int,
        "patients": int,
        "without": dict[str, float],
        "note": str,
        "not computed": str,
        "floor": "Estimate",
        "ceiling": "Estimate",
        "control": "Estimate",
    },
    total=False,
)
"""A value with its 95 % interval, as ``report.json`` has it.

Either ``value``, ``low``, ``high``, ``n`` (films, or pairs of films, behind the value) and ``patients`` (where two sides are
compared, those of the smaller side, as Student's t does), or ``not computed``, the reason why there is none. Beside them a
``note``, the values ``without`` each patient or block of patients, and what it is read against: ``floor``, ``ceiling``,
``control``."""

MIN_PATIENTS = 3

MAX_MISSING_SHARE = 0.05
"""Share of bootstrap samples that may be without a value: an interval from the others would pass over the worst cases."""

Statistic = Callable[[np.ndarray, np.ndarray], float]


Reference = Literal["floor", "ceiling", "control"]
"""Keys of the estimates that a value is compared with."""


def not_computed(why: str) -> Estimate:
    """In place of an estimate, the reason why there is none."""
    return {"not computed": why}


def half_width(count: int) -> float:
    """Half of a 95 % interval, in standard errors: Student's t for so many patients, 2.07 for 24, 4.30 for 3, 1.96 for many."""
    return float(stats.t.ppf(0.975, count - 1))


def mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of ``values`` [N]."""
    return float(values @ weights / weights.sum())


def ratio_of_means(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of ``values[:, 0]`` over that of ``values[:, 1]``; nan where the latter is 0."""
    over, under = weights @ values
    return float(over / under) if under else float("nan")


def bootstrap(
    values: np.ndarray,
    patients: np.ndarray,
    statistic: Statistic = mean,
    resamples: int = 1000,
    seed: int = 0,
    independent: int | None = None,
) -> Estimate:
    """A statistic with its 95 % percentile bootstrap interval, patients drawn with all their rows (Efron 1979).

    The percentiles are expanded as Student's t is wider than the normal distribution (Hesterberg 2015, *What Teachers Should
    Know About the Bootstrap*): with few patients the plain ones, 2.5 and 97.5, are far too narrow. Below six patients
    the expanded ones are, too: an interval of a mean lies within the patients' own means, so that of symmetric data it covers
    the true one in at most 1 - 2^(1 - P) of all cases, 75 % with 3 patients, 88 % with 4, 94 % with 5. It has no width where all
    patients have one value.

    Args:
        values: float [N] or [N, K], a row for each film or pair of films; rows with a nan have no value and are left
            out.
        patients: [N], the patient of each row; or [N, 2] where a row is a pair of films: its weight is then the product
            of how often each of its (different) patients was drawn.
        statistic: takes the values and the weights of the rows; the mean unless told.
        resamples: number of bootstrap samples.
        seed: the same seed gives the same interval.
        independent: how many patients Student's t and the estimate count, such as those of the smaller of two sides; all where
            None.

    Returns:
        ``{value, low, high, n, patients}``; ``{"not computed": why}`` with fewer than :data:`MIN_PATIENTS` patients,
        where the statistic is not a finite number, or where it is none in more than :data:`MAX_MISSING_SHARE` of the samples
        (one patient of either kind has an AUC, but half of the samples lack her).
    """
    if not len(values):
        return not_computed(f"needs {MIN_PATIENTS} patients or more, found 0")
    measured = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    values, patients = values[measured], np.asarray(patients).reshape(len(patients), -1)[measured]
    names, members = np.unique(patients, return_inverse=True)
    count = len(names) if independent is None else min(independent, len(names))
    if count < MIN_PATIENTS:
        return not_computed(f"needs {MIN_PATIENTS} patients or more, found {count}")
    members = members.reshape(patients.shape)
    same = np.all(members == members[:, :1], axis=1)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    row_weights = np.where(same, draws[:, members[:, 0]], draws[:, members].prod(axis=2))
    estimates = [statistic(values, weights) if weights.any() else np.nan for weights in row_weights]
    value = statistic(values, np.ones(len(values), int))
    return _estimate(value, np.array(estimates), len(values), count)


def _estimate(value: float, estimates: np.ndarray, count: int, patients: int) -> Estimate:
    finite = np.isfinite(estimates)
    if not np.isfinite(value):
        return not_computed("the measure is not a finite number here")
    if (missing := 1 - finite.mean()) > MAX_MISSING_SHARE:
        return not_computed(f"too few patients: {missing:.0%} of the bootstrap samples have no value")
    tail = stats.norm.cdf(-np.sqrt(patients / (patients - 1)) * half_width(patients))
    low, high = np.quantile(estimates[finite], [tail, 1 - tail])
    return {"value": value, "low": float(low), "high": float(high), "n": count, "patients": patients}


def jackknife(statistic: Callable[[np.ndarray], float], patients: np.ndarray) -> Estimate:
    """A statistic of sets of films with a 95 % interval of :func:`half_width`, leaving out one patient at a time.

    For distances between distributions, where a bootstrap would count a film twice and so bias them. Variance:
    (P - 1) / P times the sum of squares about the mean of the P values (Efron and Stein 1981, equation 1.2).

    Args:
        statistic: takes the chosen films, bool [N].
        patients: [N], the patient of each film.

    Returns:
        ``{value, low, high, n, patients, without}``, the last by patient; or why it is not computed.
    """
    patients = np.asarray(patients)
    names = np.unique(patients)
    if len(names) < MIN_PATIENTS:
        return not_computed(f"needs {MIN_PATIENTS} patients or more, found {len(names)}")
    value = statistic(np.ones(len(patients), bool))
    without_one = np.array([statistic(patients != name) for name in names])
    error = np.sqrt((len(names) - 1) * without_one.var())
    if not np.isfinite([value, error]).all():
        return not_computed("the measure is not a finite number here")
    reach = half_width(len(names)) * error
    low, high = value - reach, value + reach
    without = dict(zip(names.tolist(), without_one.tolist(), strict=True))
    return {
        "value": value,
        "low": float(low),
        "high": float(high),
        "n": len(patients),
        "patients": len(names),
        "without": without,
    }
