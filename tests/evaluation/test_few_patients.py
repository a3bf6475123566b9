"""What a report can say where films, images or patients are few."""

import dataclasses

import numpy as np
import pytest

from mammogan_tf.evaluation.evidence import Evidence, SyntheticFilms
from mammogan_tf.evaluation.image_folder import synthetic_films
from mammogan_tf.evaluation.measuring import measure
from mammogan_tf.evaluation.sections.distribution import DISTRIBUTION
from mammogan_tf.evaluation.sections.diversity import DIVERSITY, SHARES
from mammogan_tf.evaluation.sections.memorisation import memorisation_verdict
from mammogan_tf.evaluation.sections.obedience import OBEDIENCE
from tests.toy_films import PATIENTS, evidence_of, generate

OVER_SETS = (
    *((DIVERSITY, f"{share}_{space}") for space in ("texture", "segmenter") for share in SHARES),
    *((DISTRIBUTION, key) for key in ("kid_texture", "kid_segmenter", "floor_over_fid_segmenter")),
)


def test_masks_of_one_patient_have_nobody_to_be_shuffled_with(evidence):
    patients = np.full(len(evidence.synthetic), evidence.real.patients[0])
    alone = dataclasses.replace(evidence, synthetic=dataclasses.replace(evidence.synthetic, patients=patients))
    assert "one patient only" in OBEDIENCE.compute(alone)["dice_breast"]["control"]["not computed"]


def images_of_masks(evidence, numbers: list[int]) -> Evidence:
    """As many images of the mask of each patient's first film."""
    masks = np.repeat(evidence.real.masks[: 2 * len(numbers) : 2], numbers, axis=0)
    images = generate(90000 + np.arange(len(masks)), masks, masks).astype(np.float32)
    return evidence_of(evidence.real, evidence.train, synthetic_films(images, masks, evidence.real))


@pytest.mark.parametrize(
    ("numbers", "found"), [([120], 1), ([60, 60], 2), ([38, 1, 1], 3), ([78, 1, 1], 2)], ids=["1", "2", "3", "apart"]
)
def test_sets_of_images_of_few_patients(evidence, numbers, found):
    few = images_of_masks(evidence, numbers)
    measured = {section.key: section.compute(few) for section in (DIVERSITY, DISTRIBUTION)}
    reasons = {measured[section.key][key].get("not computed", "") for section, key in OVER_SETS}
    if found < 3:
        assert reasons == {f"needs 3 patients or more in each set of images, found {found}"}
    else:
        assert not any("set of images" in reason for reason in reasons)
    reason = f"needs synthetic images of 5 patients or more, found {len(numbers)}"
    assert measured["distribution"]["classifier_auc_texture"] == {"not computed": reason}


@pytest.mark.parametrize("numbers", [[120], [60, 60], [40, 40, 40]], ids=["1", "2", "3"])
def test_images_of_one_or_two_patients_do_not_pass(evidence, numbers):
    few = images_of_masks(evidence, numbers)
    verdict = memorisation_verdict(few, {"membership_auc": {"value": 0.5}})
    reason = f"too few to pass: needs 3 patients or more in each set of images, found {len(numbers)}"
    assert (reason in verdict["reasons"]) == (len(numbers) < 3)


def test_patients_without_images_stand_behind_no_distance(evidence):
    few = images_of_masks(evidence, [40, 40, 40])
    measured = {section.key: section.compute(few) for section in (DIVERSITY, DISTRIBUTION)}
    for section, key in OVER_SETS:
        estimate = measured[section.key][key]
        assert estimate["n"] == 2 * PATIENTS
        if key.startswith("floor"):
            assert estimate["patients"] == PATIENTS  # The unseen films are all behind the floor.
        else:
            assert (estimate["patients"], estimate["floor"]["patients"]) == (3, PATIENTS)
    values = list(measured["distribution"]["kid_texture"]["without"].values())
    error = np.sqrt(2 * np.var(values))  # (P - 1) / P times the sum over P = 3 patients
    estimate = measured["distribution"]["kid_texture"]
    assert estimate["high"] - estimate["value"] == pytest.approx(4.3027 * error, rel=1e-4)  # t(0.975, 2)


def test_few_films_of_unknown_side_and_tissue(evidence):
    chosen = {field.name: getattr(evidence.real, field.name)[:8] for field in dataclasses.fields(evidence.real)}
    few = dataclasses.replace(evidence.real, **chosen | {"sides": np.full(8, ""), "tissues": np.full(8, "")})
    report = measure(evidence_of(few, evidence.train))
    assert "40 films" in report["distribution"]["radiomics_frechet"]["not computed"]
    assert "not computed" in report["fidelity"]["ssim_left_right"]
    assert "not computed" in report["fidelity"]["ssim_own_film"]["floor"]
    assert "2" in report["obedience"]["dice_lesion"]["not computed"]  # 2 patients with a lesion
    reason = "needs test films of 5 patients or more, found 4"
    assert report["distribution"]["classifier_auc_texture"] == {"not computed": reason}
    assert "value" in report["obedience"]["dice_breast"]


@pytest.mark.parametrize("count", [6, 8])
def test_test_films_that_neighbours_need(evidence, count):
    few = {field.name: getattr(evidence.real, field.name)[:count] for field in dataclasses.fields(evidence.real)}
    found = DIVERSITY.compute(evidence_of(dataclasses.replace(evidence.real, **few), evidence.train))
    reason = "needs 8 test films or more, so that 6 are left without a patient, found 6"
    for share in SHARES:
        estimate = found[f"{share}_texture"]
        assert "value" in estimate["floor"] if count == 8 else estimate == {"not computed": reason}


def test_fewer_images_than_films_show_little(evidence):
    rows = np.arange(20)
    few = SyntheticFilms(evidence.synthetic.images[rows], None, None, evidence.synthetic.patients[rows], (rows,))
    changed = evidence_of(evidence.real, evidence.train, few)
    report = measure(changed)
    too_few = "needs as many images as test films, 40, found 20"
    for section, key in (("diversity", "recall_texture"), ("distribution", "kid_texture")):
        assert report[section][key] == {"not computed": too_few}
    assert memorisation_verdict(changed, report["memorisation"])["reasons"] == [f"too few to pass: {too_few}"]
