import dataclasses

import numpy as np
import pytest

from mammogan_tf.console import Console
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.evidence import SyntheticFilms, synthesise
from mammogan_tf.evaluation.image_folder import synthetic_films
from mammogan_tf.evaluation.measuring import draw, measure
from mammogan_tf.evaluation.sections import REFERENCES, SECTIONS
from mammogan_tf.evaluation.sections.diversity import DIVERSITY
from mammogan_tf.evaluation.sections.memorisation import MEMORISATION, memorisation_verdict
from mammogan_tf.evaluation.sections.obedience import OBEDIENCE
from mammogan_tf.evaluation.spaces import FeatureSpace
from tests.evaluation.controls import CONTROLS, SHOWN, evaluate_controls, table
from tests.toy_films import PATIENTS, SIZE, draw_films, evidence_of, segment, with_images


@pytest.fixture(scope="module")
def controls(evidence):
    return evaluate_controls(evidence)


@pytest.fixture(scope="module")
def progress():
    """What is heard while the ``faithful`` are evaluated."""
    return []


@pytest.fixture(scope="module")
def faithful(evidence, progress):
    return measure(evidence, lambda *state: progress.append(state))


def values(controls, name: str) -> dict[str, float]:
    measured = controls[name][0]
    return {f"{s}.{key}": e["value"] for s, rows in measured.items() for key, e in rows.items() if "value" in e}


def test_every_number_has_its_interval(faithful):
    for section in SECTIONS:
        known = {measure.key: measure for measure in section.measures}
        assert set(faithful[section.key]) <= set(known)
        for key, estimate in faithful[section.key].items():
            for kind in ("", *REFERENCES):
                found = estimate.get(kind, {}) if kind else estimate
                assert not kind or not found or getattr(known[key], kind), f"{key}: what is its {kind}?"
                if "value" in found:
                    assert found["low"] <= found["value"] <= found["high"] or "_auc_" in key or "near_" in key, key
                    assert found["n"] > 0
    computed = [e for rows in faithful.values() for e in rows.values() if "value" in e]
    assert len(computed) > 70


def test_the_progress_names_the_section_that_comes(faithful, progress):
    count = len(faithful)
    assert progress == [(done, count, key) for done, key in enumerate([*faithful, ""])]


def test_images_of_one_mask_are_those_of_one_film(evidence, faithful):
    alike = np.ones_like(evidence.synthetic.masks)
    changed = dataclasses.replace(evidence, synthetic=dataclasses.replace(evidence.synthetic, masks=alike))
    assert DIVERSITY.compute(changed)["ssim_same_mask"] == faithful["diversity"]["ssim_same_mask"]


def test_a_faithful_generator_reaches_the_references(faithful):
    for region in ("breast", "pectoral", "dense", "lesion"):
        estimate = faithful["obedience"][f"dice_{region}"]
        assert estimate["value"] == pytest.approx(estimate["ceiling"]["value"], abs=0.05)
        assert estimate["value"] > estimate["control"]["value"] + 0.05
    for key in ("ssim_across_masks", "ssim_same_mask"):
        estimate = faithful["diversity"][key]
        assert estimate["value"] == pytest.approx(estimate["floor"]["value"], abs=0.05)
    assert faithful["diversity"]["spread_over_error"]["value"] == pytest.approx(1, abs=0.03)
    assert faithful["fidelity"]["ssim_own_film"]["value"] > faithful["fidelity"]["ssim_own_film"]["floor"]["value"]
    assert faithful["distribution"]["fine_texture"]["value"] == pytest.approx(1, abs=0.1)
    assert faithful["distribution"]["classifier_auc_texture"]["value"] == pytest.approx(0.5, abs=0.15)
    assert faithful["obedience"]["lesion_contrast_to_real"]["value"] == pytest.approx(1, abs=0.1)
    assert faithful["obedience"]["lesion_auc"]["value"] > 0.9
    assert faithful["memorisation"]["neighbour_ratio_pixels"]["value"] == pytest.approx(1, abs=0.05)


def test_segmentation_of_an_ideal_network(faithful):
    found = faithful["segmentation"]
    assert found["dice_breast"]["value"] > 0.95 > found["dice_breast"]["control"]["value"]
    assert found["hd95_breast"]["value"] < found["hd95_breast"]["control"]["value"]
    assert found["lesions_found"]["value"] > 0.9 > found["lesions_found"]["control"]["value"]
    assert found["lesions_found"]["n"] == PATIENTS  # films with a lesion
    assert found["false_positives"]["n"] == 2 * PATIENTS
    assert found["dice_lesion"]["n"] == PATIENTS
    by_class = faithful["segmentation_by_class"]
    assert "not computed" in by_class["dice_lesion_normal"]
    assert sum(by_class[f"dice_breast_tissue_{tissue}"]["n"] for tissue in "FGD") == 2 * PATIENTS
    assert by_class["lesions_found_malignant"]["value"] > 0.9
    assert by_class["lesions_found_normal"] == {"not computed": "nothing to measure"}
    assert "value" in by_class["false_positives_normal"]


@pytest.mark.slow
def test_real_films_are_as_good_as_real_films(controls):
    found = values(controls, "real")
    assert found["fidelity.ssim_own_film"] == 1
    assert found["distribution.fine_texture"] == 1
    measured, passed = controls["real"]
    for key in ("kid_texture", "kid_segmenter", "radiomics_frechet"):
        estimate = measured["distribution"].get(key, {})
        assert estimate.get("value") == pytest.approx(estimate.get("floor", {}).get("value")), key
    assert passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blurred", "noisy", "patches shuffled", "one repeated"])
def test_texture_of_no_film(controls, name):
    found, real = values(controls, name), values(controls, "real")
    assert found["distribution.kid_texture"] > 5 * abs(real["distribution.kid_texture"])
    assert found["distribution.classifier_auc_texture"] > 0.9
    assert found["diversity.coverage_texture"] < 0.5 * real["diversity.coverage_texture"]


@pytest.mark.slow
def test_blur_and_noise_change_the_finest_texture(controls):
    assert values(controls, "blurred")["distribution.fine_texture"] < 0.3
    assert values(controls, "noisy")["distribution.fine_texture"] > 1.1


@pytest.mark.slow
def test_swapped_masks_are_not_obeyed(controls, faithful):
    obedience = controls["masks swapped"][0]["obedience"]
    for region in ("breast", "pectoral", "dense"):
        estimate = obedience[f"dice_{region}"]
        assert estimate["value"] < faithful["obedience"][f"dice_{region}"]["low"]
        assert estimate["value"] == pytest.approx(estimate["control"]["value"], abs=0.1)
    assert obedience["lesion_auc"]["value"] < faithful["obedience"]["lesion_auc"]["low"]


@pytest.mark.slow
def test_one_image_repeated_is_not_diverse(controls, faithful):
    found = values(controls, "one repeated")
    assert found["diversity.ssim_across_masks"] == pytest.approx(1)
    assert found["diversity.recall_texture"] == 0


@pytest.mark.slow
def test_training_films_handed_out_fail(controls):
    measured, passed = controls["training films"]
    assert measured["memorisation"]["neighbour_ratio_pixels"]["high"] < 0.1
    assert measured["memorisation"]["near_pixels"]["value"] == 1
    assert not passed


def test_new_images_are_no_copies(evidence, faithful):
    assert memorisation_verdict(evidence, faithful["memorisation"])["passed"]


@pytest.mark.slow
def test_the_table_of_controls(controls):
    lines = table(controls).splitlines()
    assert len(lines) == 3 + sum(map(len, SHOWN.values()))
    assert lines[0].count("|") == 2 + len(CONTROLS)
    assert lines[-1].startswith("| memorisation: verdict | pass |")


def test_the_critic_that_knows_its_films(evidence):
    known = {image.tobytes() for image in evidence.train.images}

    def by_heart(images, masks, labels):
        assert images.shape == (16, SIZE, SIZE)
        return np.array([image.tobytes() in known for image in images], float)

    found = MEMORISATION.compute(dataclasses.replace(evidence, critic=by_heart))["membership_auc"]
    assert found["value"] == 1
    assert found["n"] == len(evidence.train) + len(evidence.real)


def test_black_images(evidence):
    black = with_images(evidence, np.zeros((len(evidence.synthetic), SIZE, SIZE)))
    obedience = OBEDIENCE.compute(black)
    assert obedience["dice_dense"]["value"] == 0
    assert "not computed" in obedience["lesion_contrast"]
    assert DIVERSITY.compute(black)["ssim_same_mask"]["value"] == pytest.approx(1)


@pytest.mark.slow
def test_a_report_on_the_training_films_themselves(evidence):
    unseen = draw_films(range(len(evidence.train) // 2), 1000)
    handed_out = evidence_of(unseen, evidence.train, synthetic_films(evidence.train.images, None, unseen))
    measured = measure(handed_out)
    reason = "the FID is 0: the images have the features of the training films"
    assert measured["distribution"]["floor_over_fid_segmenter"] == {"not computed": reason}
    assert not memorisation_verdict(handed_out, measured["memorisation"])["passed"]


def test_films_without_any_texture(evidence):
    flat = dataclasses.replace(evidence.train, images=np.zeros_like(evidence.train.images))
    report = measure(dataclasses.replace(evidence, train=flat))
    for section, key in (("distribution", "kid_texture"), ("diversity", "recall_texture")):
        assert "are all images the same" in report[section][key]["not computed"]
    assert "near_texture" not in report["memorisation"]
    assert "value" in report["memorisation"]["neighbour_ratio_pixels"]


def test_an_evaluator_that_fails_on_real_films_says_so(evidence):
    blind = dataclasses.replace(evidence, segmenter=lambda images: np.ones(images.shape, np.uint8))
    dense = OBEDIENCE.compute(blind)["dice_dense"]
    assert dense["ceiling"]["value"] == 0
    assert dense["note"] == "the evaluation U-Net reaches only 0.00 on real films, so this value says little"


def test_images_without_masks(evidence):
    images = evidence.synthetic.images
    patients = np.resize(np.unique(evidence.real.patients), len(images))
    unknown = SyntheticFilms(images, None, None, patients, evidence.synthetic.sets)
    changed = evidence_of(evidence.real, evidence.train, unknown)
    report = measure(changed)
    assert all("no masks" in estimate["not computed"] for estimate in report["obedience"].values())
    assert "not computed" in report["fidelity"]["ssim_own_film"]
    assert "value" in report["distribution"]["kid_texture"]
    pictures = draw(changed, report)
    assert set(pictures) == set(report)
    assert not pictures["obedience"]


def test_synthesise_orders_images_by_film_and_repeats_with_the_seed(evidence):
    def mask_mean(seeds, masks, labels):
        assert len(set(seeds.tolist())) == len(seeds)
        return np.broadcast_to((labels + seeds / 2**40)[:, None, None], masks.shape)

    seen, real = [], evidence.real
    made = synthesise(real, mask_mean, 2, seed=3, progress=lambda *step: seen.append(step))
    assert made.images.shape == (80, SIZE, SIZE)
    assert np.floor(made.images[:, 0, 0]).tolist() == np.repeat(real.labels, 2).tolist()
    assert made.films.tolist() == np.repeat(np.arange(40), 2).tolist()
    assert [rows.tolist() for rows in made.sets] == [list(range(0, 80, 2)), list(range(1, 80, 2))]
    assert (made.images == synthesise(real, mask_mean, 2, seed=3).images).all()
    assert (made.images != synthesise(real, mask_mean, 2, seed=4).images).any()
    assert seen[-1] == (80, 80)


def test_what_the_verdict_stands_on(evidence, faithful):
    found = memorisation_verdict(evidence, faithful["memorisation"])
    assert found["checked"] == ["pixels", "texture", "segmenter"]  # no critic
    found = memorisation_verdict(evidence, {"membership_auc": {"value": 0.9}})
    assert (found["checked"][-1], found["passed"]) == ("membership", False)


def test_what_could_not_be_computed_does_not_pass(evidence):
    lost = dataclasses.replace(evidence, critic=lambda images, masks, labels: np.full(len(images), np.nan))
    found = memorisation_verdict(lost, MEMORISATION.compute(lost))
    assert found["checked"][-1] == "membership"
    assert found["reasons"] == ["scores distinguish training from unseen real images with an AUC of nan (at most 0.65)"]
    flat = FeatureSpace("flat", lambda images: np.ones((len(images), 2)), Console(quiet=True))
    blind = dataclasses.replace(evidence, spaces={**evidence.spaces, "segmenter": flat})
    found = memorisation_verdict(blind, MEMORISATION.compute(blind))
    assert found["checked"] == ["pixels", "texture"]
    assert found["reasons"] == ["segmenter: no distances could be computed"]


def test_evidence_that_does_not_fit_is_refused(evidence):
    with pytest.raises(DataError, match="3 patients or more, received: 1"):
        evidence_of(draw_films(range(1), 0), evidence.train)
    with pytest.raises(DataError, match="two or more of"):
        with_images(evidence, np.zeros((1, SIZE, SIZE)))
    for wrong, says in ((np.nan, "received: nan"), (255.0, "received: 0.0 to 255.0")):
        images = evidence.synthetic.images.copy()
        images[0] = wrong
        with pytest.raises(DataError, match=rf"grey levels in \[0, 1\], {says}"):
            with_images(evidence, images)
    with pytest.raises(DataError, match="a mask of its size"):
        dataclasses.replace(evidence.real, masks=evidence.real.masks[:3])
    assert segment(evidence.real.images).shape == evidence.real.masks.shape
