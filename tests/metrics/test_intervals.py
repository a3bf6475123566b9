import numpy as np
import pytest

from mammogan_tf.metrics.distribution import kid
from mammogan_tf.metrics.intervals import MIN_PATIENTS, bootstrap, half_width, jackknife, ratio_of_means


def test_the_value_is_the_mean_over_films_and_the_interval_holds_it():
    values, patients = np.array([1.0, 2.0, 3.0, 6.0]), np.array(["a", "a", "b", "c"])
    estimate = bootstrap(values, patients)
    assert estimate["value"] == (1 + 2 + 3 + 6) / 4
    assert (1 + 2) / 2 <= estimate["low"] < estimate["value"] < estimate["high"] <= 6
    assert (estimate["n"], estimate["patients"]) == (4, 3)
    assert estimate == bootstrap(values, patients)


def test_coverage_with_two_alike_films_a_patient():
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 2)
    inside_by_patient = inside_by_film = 0
    for _ in range(200):
        values = np.repeat(random.normal(size=40), 2) + random.normal(0, 0.1, 80)
        by_patient = bootstrap(values, patients, resamples=200)
        by_film = bootstrap(values, np.arange(80), resamples=200)
        inside_by_patient += by_patient["low"] <= 0 <= by_patient["high"]
        inside_by_film += by_film["low"] <= 0 <= by_film["high"]
    assert inside_by_patient / 200 == pytest.approx(0.95, abs=0.05)
    assert inside_by_film / 200 < 0.90  # what resampling films instead would give


def test_coverage_with_five_patients():
    random, inside = np.random.default_rng(2), 0
    for _ in range(400):
        estimate = bootstrap(random.normal(size=5), np.arange(5), resamples=300)
        inside += estimate["low"] <= 0 <= estimate["high"]
    assert inside / 400 > 0.90  # Percentiles 2.5 and 97.5 cover it in 85 %.


def test_half_width_is_that_of_students_t():
    assert [half_width(patients) for patients in (3, 24, 10**6)] == pytest.approx([4.3027, 2.0687, 1.96], rel=1e-4)


def test_coverage_of_pairs():
    random = np.random.default_rng(1)
    pairs = np.argwhere(np.triu(np.ones((25, 25)), 1))
    inside = 0
    for _ in range(200):
        effects = random.normal(size=25)
        estimate = bootstrap(effects[pairs].mean(axis=1), pairs, resamples=200)
        inside += estimate["low"] <= 0 <= estimate["high"]
    assert inside / 200 == pytest.approx(0.94, abs=0.06)


def test_a_pair_of_films_of_one_patient_counts_as_often_as_she_was_drawn():
    values, patients = np.random.default_rng(0).normal(size=40), np.repeat(np.arange(20), 2)
    assert bootstrap(values, np.stack([patients, patients], axis=1)) == bootstrap(values, patients)


def test_another_seed_draws_other_patients():
    values, patients = np.random.default_rng(0).normal(size=20), np.arange(20)
    assert bootstrap(values, patients, seed=1)["low"] != bootstrap(values, patients)["low"]


def test_an_interval_stands_on_a_thousand_samples():
    weights = []
    bootstrap(np.arange(5.0), np.arange(5), lambda values, drawn: weights.append(drawn.tolist()) or 0.0)
    assert len(weights) == 1000 + 1
    assert weights.count([1] * 5) < 100


def test_rows_that_have_no_value_are_left_out():
    estimate = bootstrap(np.array([1.0, np.nan, 2.0, 3.0, np.nan]), np.array(list("abcda")))
    assert estimate["value"] == (1 + 2 + 3) / 3
    assert (estimate["n"], estimate["patients"]) == (3, 3)


@pytest.mark.parametrize("independent", [0, 1, 2])
def test_too_few_independent_patients_give_no_number(independent):
    estimate = bootstrap(np.arange(8.0), np.arange(8), independent=independent)
    assert estimate == {"not computed": f"needs {MIN_PATIENTS} patients or more, found {independent}"}


def test_no_more_patients_are_independent_than_there_are():
    values, patients = np.append(np.arange(5.0), np.nan), np.arange(6)
    assert bootstrap(values, patients, independent=6) == bootstrap(values, patients)
    assert bootstrap(values, patients, independent=3)["patients"] == 3


@pytest.mark.parametrize("values", [[1.0, 2.0, np.nan, np.nan], [np.nan] * 4])
def test_too_few_patients_give_no_number(values):
    estimate = bootstrap(np.array(values), np.array(list("abcd")))
    assert list(estimate) == ["not computed"]
    assert str(MIN_PATIENTS) in estimate["not computed"]
    assert list(bootstrap(np.zeros((0, 2)), np.array([], str), ratio_of_means)) == ["not computed"]
    assert "not computed" in jackknife(lambda chosen: 1.0, np.array(["a", "b"]))


def test_ratio_of_means():
    values = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0]])
    assert bootstrap(values, np.array(list("abc")), ratio_of_means)["value"] == (1 + 3 + 2) / (2 + 2 + 2)
    assert "not computed" in bootstrap(values * [1, 0], np.array(list("abc")), ratio_of_means)


def test_no_interval_where_many_samples_have_no_value():
    """What 2 of 10 patients have: (8/10)^10, a tenth of the samples, lack it; of 4 it is (6/10)^10."""
    few, enough = (np.stack([np.ones(10), np.arange(10) < have], axis=1) for have in (2, 4))
    assert "of the bootstrap samples" in bootstrap(few, np.arange(10), ratio_of_means)["not computed"]
    assert "value" in bootstrap(enough, np.arange(10), ratio_of_means)


def test_jackknife_of_a_mean_is_the_textbook_error():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    estimate = jackknife(lambda chosen: float(values[chosen].mean()), np.arange(4))
    assert estimate["value"] == values.mean()
    for width in (estimate["high"] - estimate["value"], estimate["value"] - estimate["low"]):
        assert width == pytest.approx(3.1824 * values.std(ddof=1) / np.sqrt(4), rel=1e-4)  # t(0.975, 3)


def test_patients_may_come_as_a_list():
    values, patients = np.arange(5.0) ** 2, list("abcde")
    found = jackknife(lambda chosen: values[chosen].mean(), patients)
    assert found == jackknife(lambda chosen: values[chosen].mean(), np.array(patients))
    assert found["low"] < found["value"] < found["high"]
    assert bootstrap(values, patients) == bootstrap(values, np.array(patients))


def test_jackknife_leaves_patients_out_with_all_their_films():
    films, kept = np.array(list("abacc")), []

    def recorded(chosen: np.ndarray) -> float:
        kept.append("".join(films[chosen]))
        return 1.0

    estimate = jackknife(recorded, films)
    assert kept == ["abacc", "bcc", "aacc", "aba"]
    assert (estimate["n"], estimate["patients"]) == (5, 3)


def test_jackknife_of_kid_is_its_deviation_over_new_samples():
    def sample(seed: int, count: int, mean: float) -> np.ndarray:
        return np.random.default_rng(seed).normal(mean, 1, (count, 4))

    reference = sample(0, 60, 0)
    deviation = np.std([kid(reference, sample(seed, 40, 0.5)) for seed in range(1, 300)])
    widths = []
    for seed in range(1, 20):
        other = sample(seed, 40, 0.5)

        def distance(chosen: np.ndarray, other: np.ndarray = other) -> float:
            return kid(reference, other[chosen])

        estimate = jackknife(distance, np.arange(40))
        widths.append((estimate["high"] - estimate["value"]) / half_width(40))
    assert np.mean(widths) == pytest.approx(deviation, rel=0.25)
