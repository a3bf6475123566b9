import dataclasses
import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from mammogan_tf.data.film import Film
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.splits import Split, require_disjoint_patients, split_folds, split_patients
from mammogan_tf.errors import DataError


def make_films(patients: int) -> list[Film]:
    """Two films a patient; all combinations of label and tissue take turns. The second film is normal."""
    strata = list(itertools.product((0, 1, 2), "FGD"))
    films = []
    for number in range(patients):
        label, tissue = strata[number % len(strata)]
        for half, film_label in (("a", label), ("b", 2)):
            films.append(Film(f"{number:03d}{half}", Path("film.pgm"), f"p{number:03d}", film_label, tissue=tissue))
    return films


def patients_of(ids):
    return {film[:3] for film in ids}


def check_whole(split: Split, films: list[Film]) -> None:
    parts = [split.train, split.validation, split.test]
    assert all(list(part) == sorted(part) for part in parts)
    assert sorted(itertools.chain(*parts)) == sorted(film.id for film in films)
    patient = {film.id: film.patient for film in films}
    seen = [{patient[film] for film in part} for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_every_film_once_and_patients_whole():
    films = make_films(90)
    split = split_patients(films)
    check_whole(split, films)
    assert len(patients_of(split.validation)) == 90 * 0.10
    assert len(patients_of(split.test)) == round(90 * 0.15)


def test_strata_keep_their_shares():
    films = make_films(180)
    split = split_patients(films, validation=0.10, test=0.20)
    stratum = {film.patient[1:]: (film.label, film.tissue) for film in films if film.id.endswith("a")}
    for part, share in ((split.train, 0.70), (split.validation, 0.10), (split.test, 0.20)):
        counts = Counter(stratum[patient] for patient in patients_of(part))
        for each in set(stratum.values()):
            assert abs(counts[each] - share * 180 / 9) < 2


def test_a_patient_counts_as_her_worst_film_and_for_the_first_of_her_tissues():
    films = make_films(90)
    worst, second = {film.patient: film.label for film in films[::2]}, films[1::2]
    benign = {film.id: dataclasses.replace(film, label=0) for film in second if worst[film.patient] == 1}
    glandular = {film.id: dataclasses.replace(film, tissue="G") for film in second}  # After D and F.
    for changed in (benign, glandular):
        assert split_patients([changed.get(film.id, film) for film in films]) == split_patients(films)


def test_seed_decides_and_order_does_not():
    films = make_films(60)
    shuffled = random.Random(1).sample(films, len(films))
    assert split_patients(films, seed=3) == split_patients(shuffled, seed=3)
    assert split_patients(films, seed=3) != split_patients(films, seed=4)


def test_the_split_of_a_seed_never_changes():
    assert split_patients(make_films(9), seed=0).test == ("008a", "008b")


@pytest.mark.parametrize("patients", [3, 4, 5, 7, 12])
def test_no_part_is_empty(patients):
    films = make_films(patients)
    split = split_patients(films)
    check_whole(split, films)
    assert min(len(split.train), len(split.validation), len(split.test)) >= 2


def test_too_few_patients():
    with pytest.raises(
        DataError, match=r"expected patients for training, validation and test, received: 2 .* in the table"
    ):
        split_patients(make_films(2))
    with pytest.raises(DataError, match=r"received: 10 with shares 0\.5 and 0\.5"):
        split_patients(make_films(10), validation=0.5, test=0.5)


def test_json_round_trip():
    split = split_patients(make_films(12))
    assert Split.from_dict(split.to_dict()) == split


@pytest.mark.parametrize(
    "values",
    [
        {"train": ["a"], "test": ["b"]},
        {"train": "a", "validation": ["b"], "test": ["c"]},
        {"train": ["a"], "validation": ["a"], "test": ["b"]},
    ],
    ids=["no validation", "no list", "a film twice"],
)
def test_broken_dicts(values):
    with pytest.raises(DataError, match="split: expected"):
        Split.from_dict(values)


def test_real_mias(mias_root):
    films = load_mias(mias_root)
    split = split_patients(films)
    check_whole(split, films)
    # 161 patients: 16 validate, 24 test.
    assert (len(split.validation), len(split.test)) == (2 * 16, 2 * 24)
    label = {film.id: film.label for film in films}
    abnormal = Counter(label[film] for film in split.test)
    assert abs(abnormal[0] - 0.15 * 63) < 3
    assert abs(abnormal[1] - 0.15 * 52) < 3


def test_every_film_is_tested_in_one_fold():
    films = make_films(92)
    splits = split_folds(films, 5)
    for split in splits:
        check_whole(split, films)
        assert len(patients_of(split.validation)) == round(0.10 * 92)
    tested = [patients_of(split.test) for split in splits]
    assert sorted(map(len, tested)) == [18, 18, 18, 19, 19]
    assert sorted(itertools.chain(*tested)) == sorted(patients_of(film.id for film in films))


def test_folds_keep_the_shares_of_the_strata():
    films = make_films(180)
    stratum = {film.patient[1:]: (film.label, film.tissue) for film in films if film.id.endswith("a")}
    for split in split_folds(films, 5):
        for part, share in ((split.validation, 0.10), (split.test, 0.20)):
            counts = Counter(stratum[patient] for patient in patients_of(part))
            assert all(abs(counts[each] - share * 180 / 9) < 2 for each in set(stratum.values()))


def test_the_seed_decides_the_folds_and_order_does_not():
    films = make_films(60)
    shuffled = random.Random(1).sample(films, len(films))
    assert split_folds(films, 3, seed=3) == split_folds(shuffled, 3, seed=3)
    assert split_folds(films, 3, seed=3) != split_folds(films, 3, seed=4)


@pytest.mark.parametrize(("patients", "folds"), [(2, 2), (3, 2), (4, 5)])
def test_too_few_patients_for_the_folds(patients, folds):
    with pytest.raises(DataError, match=rf"in each of {folds}, received: {patients} patients"):
        split_folds(make_films(patients), folds)


def test_a_split_without_some_films_keeps_the_parts():
    films = make_films(60)
    split = split_patients(films)
    some = split.without(film.id for film in films if film.label == 2)
    assert set(some.test) == {film.id for film in films if film.label != 2} & set(split.test)
    assert not {*some.train, *some.validation} - {*split.train, *split.validation}
    with pytest.raises(DataError, match="expected films in each part, received: none to validation, test"):
        split.without([*split.validation, *split.test])


@pytest.mark.parametrize("parts", [*itertools.combinations(("train", "validation", "test"), 2)], ids="-".join)
def test_patients_who_were_found_out_later_are_not_in_two_parts(parts):
    films = make_films(20)
    split = split_patients(films)
    require_disjoint_patients(split, films)
    require_disjoint_patients(split, films[2:])  # Films that are gone are of no patient.
    of_one = {getattr(split, part)[0] for part in parts}
    found_out = [dataclasses.replace(film, patient="one") if film.id in of_one else film for film in films]
    with pytest.raises(DataError, match="expected each patient in one part, received: one in two"):
        require_disjoint_patients(split, found_out)
