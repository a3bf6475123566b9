import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.estimates import (
    bootstrap_auc,
    bootstrap_pairs,
    bootstrap_patients,
    bootstrap_two_samples,
    computed,
    jackknife_patients,
    jackknife_sets,
)
from mammogan_tf.metrics.two_sample import auc

PATIENTS = np.array(["a", "a", "b", "c"])


def test_a_mean_without_each_patient():
    found = bootstrap_patients(np.array([1.0, 3.0, 5.0, np.nan]), np.array(["a", "a", "b", "c"]))
    assert "not computed" in found  # only two patients are left
    found = bootstrap_patients(np.array([1.0, 3.0, 5.0, 9.0]), PATIENTS)
    assert found["value"] == (1 + 3 + 5 + 9) / 4
    assert found["without"] == {"a": (5 + 9) / 2, "b": (1 + 3 + 9) / 3, "c": (1 + 3 + 5) / 3}
    assert bootstrap_patients(np.array([1.0, 3.0, 5.0, 9.0, np.nan]), np.array([*PATIENTS, "d"])) == found


def test_the_seed_draws_the_patients():
    values, patients = np.random.default_rng(0).normal(size=20), np.arange(20).astype(str)
    first, other = (bootstrap_patients(values, patients, seed=seed) for seed in (0, 1))
    assert (first["low"], first["value"]) != (other["low"], other["value"])
    assert first["value"] == other["value"]


def test_a_pair_is_left_out_with_either_patient():
    pairs = np.array([list(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")])
    found = bootstrap_patients(np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]), pairs)
    assert found["without"] == {
        "a": (8 + 16 + 32) / 3,
        "b": (2 + 4 + 32) / 3,
        "c": (1 + 4 + 16) / 3,
        "d": (1 + 2 + 8) / 3,
    }


def test_an_area_that_hangs_on_one_pair_is_not_computed():
    patients = np.arange(20).astype(str)
    found = bootstrap_auc(np.zeros(20), np.ones(20), patients, patients, np.arange(400).reshape(20, 20) == 1)
    assert found["not computed"].startswith("too few patients: 5")  # 1 - (1 - 1 / e)^2 of the samples lack either.


@pytest.mark.parametrize("patients", [[], ["the only one"], ["a", "b", "b"]])
def test_either_side_has_patients_enough(patients):
    few, many, others = np.ones(len(patients)), np.zeros(3), np.array(["a", "b", "c"])
    patients = np.array(patients, dtype=str)
    says = f"needs 3 patients or more on either side, found {len(set(patients))}"
    assert bootstrap_auc(many, few, others, patients) == {"not computed": says}
    assert bootstrap_two_samples(few, many, patients, others, lambda x, y: x.mean()) == {"not computed": says}


def test_values_without_a_patient_are_kept_where_all_are_numbers():
    def odd(values: np.ndarray, weights: np.ndarray) -> float:
        return float("nan") if weights.tolist() == [0, 1, 1, 1] else float(values @ weights)

    assert "without" not in bootstrap_patients(np.ones(4), np.array(list("abcd")), odd)


def test_no_rows_at_all():
    assert bootstrap_patients(np.empty(0), np.empty(0)) == {"not computed": "nothing to measure"}


def test_a_statistic_of_two_sets():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 5.0, 5.0])
    found = bootstrap_two_samples(
        first, second, np.array(list("abc")), np.array(list("abbd")), lambda x, y: x.max() / y.max()
    )
    assert found["value"] == 3 / 20
    assert found["without"] == {"a": 3 / 20, "b": 3 / 10, "c": 2 / 20, "d": 3 / 20}
    assert found["n"] == 3 + 4


def test_the_area_is_that_of_the_metric():
    random = np.random.default_rng(0)
    negative, positive = random.integers(0, 5, 30).astype(float), random.integers(1, 6, 40).astype(float)
    patients = np.arange(30).astype(str), np.arange(40).astype(str)
    found = bootstrap_auc(negative, positive, *patients)
    assert found["value"] == pytest.approx(auc(negative, positive))
    assert found["low"] < found["value"] < found["high"]
    half = np.arange(30)[:, None] % 2 == np.arange(40) % 2
    areas = [auc(negative[start::2], positive[start::2]) for start in (0, 1)]
    assert bootstrap_auc(negative, positive, *patients, half)["value"] == pytest.approx(np.mean(areas))
    assert "not computed" in bootstrap_auc(negative, positive, *patients, np.zeros((30, 40)))


@pytest.mark.parametrize("kind", [np.uint8, np.float32, bool])
def test_scores_of_any_type_have_the_area_of_the_metric(kind):
    random = np.random.default_rng(0)
    negative, positive = random.integers(0, 5, 20).astype(kind), random.integers(1, 6, 20).astype(kind)
    patients = np.arange(20).astype(str)
    assert bootstrap_auc(negative, positive, patients, patients)["value"] == pytest.approx(auc(negative, positive))


def test_scores_that_do_not_count_may_be_no_numbers():
    negative, positive = np.arange(8.0), np.arange(8.0) + 0.5
    patients = np.arange(8).astype(str)
    counted = np.ones((8, 8), bool)
    counted[0] = False
    expected = bootstrap_auc(negative, positive, patients, patients, counted)
    negative[0], positive[7] = np.nan, np.inf
    assert bootstrap_auc(negative, positive, patients, patients, counted) == expected


def test_pairs_of_patients_with_several_films():
    random = np.random.default_rng(0)
    values, counted = random.random((30, 40)), random.random((30, 40)) < 0.8
    first, second = (
        np.array([f"{kind}{number % 7}" for number in range(count)]) for kind, count in (("f", 30), ("s", 40))
    )
    found = bootstrap_pairs(values, first, second, counted)
    assert found["value"] == pytest.approx(values[counted].mean())
    assert found["n"] == 30 + 40
    assert found["patients"] == 7
    kept = counted[first != "f3"]
    assert found["without"]["f3"] == pytest.approx(values[first != "f3"][kept].mean())


def test_the_smaller_side_says_how_sure_it_is():
    """Three patients against forty are not forty-three: t(0.975, 2) = 4.30, not 2.02."""
    random = np.random.default_rng(0)
    values = random.random((3, 40))
    sides = (np.array([f"{kind}{number}" for number in range(count)]) for kind, count in (("f", 3), ("s", 40)))
    found = bootstrap_pairs(values, *sides)
    as_of_all = bootstrap_patients(
        np.arange(43), np.arange(43).astype(str), lambda rows, weights: _mean_of_pairs(values, weights)
    )
    assert found["value"] == pytest.approx(as_of_all["value"])
    assert found["high"] - found["low"] > as_of_all["high"] - as_of_all["low"]


def _mean_of_pairs(values: np.ndarray, weights: np.ndarray) -> float:
    first, second = np.split(weights, [len(values)])
    count = first.sum() * second.sum()
    return float(first @ values @ second / count) if count else float("nan")


def test_patients_may_be_numbers():
    names = np.repeat(np.arange(40), 2)
    found = jackknife_patients(lambda kept: float(kept.sum()), names)
    assert found["patients"] == 40
    assert found["low"] < found["value"] < found["high"]


def test_leaving_out_patients():
    names = np.array(["a", "a", "b", "c", "d"])
    found = jackknife_patients(lambda kept: float(np.mean([ord(name) - ord("a") for name in kept])), names)
    assert found["value"] == (0 + 1 + 2 + 3) / 4
    assert found["without"] == {"a": (1 + 2 + 3) / 3, "b": (2 + 3) / 3, "c": (1 + 3) / 3, "d": (1 + 2) / 3}
    assert (found["n"], found["patients"]) == (5, 4)
    error = np.sqrt(3 * np.var(list(found["without"].values())))
    assert found["high"] == pytest.approx(1.5 + 3.1824 * error, rel=1e-4)  # t(0.975, 3)


def test_many_patients_are_left_out_in_blocks():
    names = np.array([f"{number:03d}" for number in range(100)])
    seen = []

    def count(kept: np.ndarray) -> float:
        seen.append(len(kept))
        return float(len(kept))

    found = jackknife_patients(count, names, limits=(0, 99))
    assert len(seen) == 1 + 30
    assert set(seen[1:]) == {100 - 3, 100 - 4}
    left = [block.split() for block in found["without"]]
    assert sorted(name for block in left for name in block) == names.tolist()
    assert max(int(block[-1]) - int(block[0]) for block in map(sorted, left)) > 50, "neighbours stay together"
    assert found["high"] == 99
    assert found["patients"] == 100


@pytest.mark.parametrize(
    "measure",
    [jackknife_patients, lambda statistic, patients, limits: jackknife_sets(statistic, [patients, patients], limits)],
    ids=["patients", "sets"],
)
def test_an_interval_ends_at_both_limits_of_its_measure(measure):
    """1 but without one patient of five: an error of 4 / 5 * (1 - 1 / 5) squared, and so an interval beyond 0 and 1."""
    found = measure(lambda kept: float("a" in kept), np.array(list("abcde")), (0.0, 1.0))
    assert 1 - 2.776 * np.sqrt(4 * (1 / 5) * (4 / 5)) < 0
    assert (found["low"], found["value"], found["high"]) == (0, 1, 1)


def test_patients_without_an_image_in_a_set_are_not_left_out():
    sets = [np.array(["a", "b", "c"]), np.array(["a", "d", "c"])]
    found = jackknife_sets(lambda kept: float(len(kept)), sets)
    assert found["without"] == {"a": 3, "b": 3, "c": 3, "d": 3}
    assert (found["n"], found["patients"]) == (3, 4)
    assert "not computed" in jackknife_sets(lambda kept: 1.0, [np.array(["a", "b", "b"])])


def test_too_few_patients():
    assert "not computed" in jackknife_patients(lambda kept: 1.0, np.array(["a", "b"]))


def test_data_that_do_not_allow_for_a_measure():
    def fails():
        raise DataError("needs more")

    assert computed(fails) == {"not computed": "needs more"}
