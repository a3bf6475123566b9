"""Whose films stand behind each interval: two films of a patient are not two patients."""

import dataclasses

import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.evaluation.evidence import DownstreamResult, Evidence
from mammogan_tf.evaluation.sections import REFERENCES, SECTIONS, distribution
from mammogan_tf.evaluation.sections.downstream import ARMS
from mammogan_tf.metrics.distribution import kid
from mammogan_tf.metrics.intervals import MIN_PATIENTS
from mammogan_tf.metrics.two_sample import classifier_auc
from tests.toy_films import draw_films, evidence_of

NUMBERS = range(12)
UNSEEN, TRAINING = {str(number) for number in NUMBERS}, {str(number) for number in range(100, 110)}
WITH_LESION = {str(number) for number in NUMBERS if number % 2}

GROUPS = {
    **{
        f"tissue_{tissue}": {str(number) for number in NUMBERS if number % 3 == place}
        for place, tissue in enumerate("FGD")
    },
    "benign": {str(number) for number in NUMBERS if number % 4 == 1},
    "malignant": {str(number) for number in NUMBERS if number % 4 == 3},
    "normal": UNSEEN - WITH_LESION,
}


@pytest.fixture(scope="module")
def evidence():
    """Evidence of two films, and of two images of each, of every patient; with a critic and with networks of use."""
    films = draw_films(NUMBERS, 1000)
    made = evidence_of(films, draw_films(range(100, 110), 5000))
    assert [len(part) for part in (made.real, made.train, made.synthetic)] == [2 * 12, 2 * 10, 2 * 2 * 12]
    lesion = (films.masks == LESION).any(axis=(1, 2))
    values = np.where(lesion, np.random.default_rng(0).random(len(films)), np.nan)
    return dataclasses.replace(
        made,
        spaces={"texture": made.spaces["segmenter"]},  # Of few features.
        critic=lambda images, masks, labels: images.mean(axis=(1, 2)),
        downstream=tuple(DownstreamResult(arm, seed, values, values) for arm in ARMS for seed in range(2)),
    )


def behind(evidence: Evidence, section: str, key: str, kind: str) -> set[str]:
    """The patients who have films, or images, that are evaluated."""
    if section == "obedience" and key == "dice_lesion" and kind == "control":
        patients = evidence.synthetic.patients  # An image is compared with the mask of somebody else who has a lesion.
        return set(patients[np.isin(patients[evidence.someone_else(patients)], [*WITH_LESION])])
    if key == "membership_auc" or (key.startswith(("fine_texture", "classifier")) and kind == "floor"):
        return UNSEEN | TRAINING
    if key in ("lesion_false_alarms", "clear_films_with_false_positives"):
        return UNSEEN - WITH_LESION
    asked = WITH_LESION if section == "downstream" or "lesion" in key else UNSEEN
    groups = [members for name, members in GROUPS.items() if section.endswith("by_class") and key.endswith(name)]
    return asked.intersection(*groups)


def fewest(key: str, patients: set[str]) -> int:
    """How many of them the smaller of the two sides has, where the estimate compares two."""
    sides = [patients & UNSEEN, patients & TRAINING]
    if key.startswith("auc_"):
        sides = [patients & GROUPS["benign"], patients & GROUPS["malignant"]]
    return min(len(side) for side in sides if side)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.key)
def test_who_is_behind_each_number(evidence, section):
    found = section.compute(evidence)
    assert found
    for key, estimate in found.items():
        for kind in ("", *REFERENCES):
            part = estimate.get(kind) if kind else estimate
            if part is None:
                continue
            patients = behind(evidence, section.key, key, kind)
            assert ("value" in part) == (len(patients) >= MIN_PATIENTS), (key, kind)
            if "value" in part:
                assert part["patients"] == fewest(key, patients), (key, kind)
                assert set(part.get("without", patients)) == patients, (key, kind)


def test_no_pair_of_films_of_one_patient_counts_for_the_kid(evidence):
    train, real, made = evidence.features("texture")
    training, unseen, synthetic = (films.patients for films in (evidence.train, evidence.real, evidence.synthetic))
    found = distribution.DISTRIBUTION.compute(evidence)["kid_texture"]
    assert found["floor"]["value"] == pytest.approx(kid(train, real, training, unseen))
    assert found["floor"]["value"] != pytest.approx(kid(train, real))
    of_sets = [kid(train, made[rows], training, synthetic[rows]) for rows in evidence.synthetic.sets]
    assert found["value"] == pytest.approx(np.mean(of_sets))


def test_a_classifier_is_tested_on_patients_whom_it_has_not_seen(evidence, monkeypatch):
    given = []

    def spy(real, made, patients_real, patients_made, *options):
        given.append((len(real), len(made), patients_real.tolist(), patients_made.tolist()))
        return classifier_auc(real, made, patients_real, patients_made, *options)

    monkeypatch.setattr(distribution, "classifier_auc", spy)
    distribution.DISTRIBUTION.compute(evidence)
    train, real, made = (part.patients.tolist() for part in (evidence.train, evidence.real, evidence.synthetic))
    assert given == [(len(train), len(real), train, real), (len(real), len(made), real, made)]
