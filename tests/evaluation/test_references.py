"""What each number of the report is a share of, and which films its floor is made of."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.console import Console
from mammogan_tf.evaluation import estimates
from mammogan_tf.evaluation.evidence import Segmentation, SyntheticFilms
from mammogan_tf.evaluation.sections import fidelity
from mammogan_tf.evaluation.sections.distribution import DISTRIBUTION, FOLDS, _decibels
from mammogan_tf.evaluation.sections.diversity import DIVERSITY, SHARES
from mammogan_tf.evaluation.sections.fidelity import FIDELITY
from mammogan_tf.evaluation.sections.memorisation import MEMORISATION
from mammogan_tf.evaluation.sections.obedience import OBEDIENCE
from mammogan_tf.evaluation.sections.segmentation import AGREEMENT
from mammogan_tf.evaluation.spaces import FeatureSpace
from mammogan_tf.metrics.distribution import frechet_distance, manifolds
from mammogan_tf.metrics.intervals import jackknife
from mammogan_tf.metrics.two_sample import classifier_auc
from tests.toy_films import draw_films, evidence_of, segment, with_images


def with_films(evidence, part: str, images: np.ndarray):
    """The same evidence with other pictures of its ``real`` or ``train`` films."""
    films = dataclasses.replace(getattr(evidence, part), images=images.astype(np.float32))
    return dataclasses.replace(evidence, **{part: films})


def one_of_each(synthetic: SyntheticFilms) -> SyntheticFilms:
    """The first image of each mask of two."""
    return SyntheticFilms(
        synthetic.images[::2],
        synthetic.masks[::2],
        synthetic.films[::2],
        synthetic.patients[::2],
        (synthetic.sets[0] // 2,),
    )


@pytest.fixture(scope="module")
def few(evidence):
    """Of 7 patients, 3 of them with lesions: two films of each, and two images of a film. One space, of few features."""
    made = evidence_of(draw_films(range(7), 1000), evidence.train)
    return dataclasses.replace(made, spaces={"texture": made.spaces["segmenter"]})


def test_features_are_scaled_by_the_training_films(evidence):
    train, *_ = evidence.features("segmenter")
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-6)


def test_changed_evidence_has_features_of_its_own(evidence):
    _, real, _ = evidence.features("texture")
    train, changed, _ = with_films(evidence, "real", evidence.real.images[::-1]).features("texture")
    np.testing.assert_allclose(changed, real[::-1])
    np.testing.assert_array_equal(train, evidence.features("texture")[0])


@pytest.mark.parametrize("seed", range(3))
def test_someone_else_is_another_patient(evidence, seed):
    patients = evidence.synthetic.patients[:12]
    assert sorted(np.unique(patients, return_counts=True)[1]) == [4, 4, 4]
    assert (patients[dataclasses.replace(evidence, seed=seed).someone_else(patients)] != patients).all()


def test_distances_over_those_of_real_films(few):
    """Where training films and images are half as bright as the unseen films, power is a quarter."""
    dark = with_films(with_images(few, few.synthetic.images / 2), "train", few.train.images / 2)
    found = DISTRIBUTION.compute(dark)
    assert found["fine_texture"]["value"] == pytest.approx((1 / 2) ** 2, rel=0.1)
    assert found["fine_texture"]["floor"]["value"] == pytest.approx(2**2, rel=0.1)
    train, unseen, made = dark.features("texture")
    fid = np.mean([frechet_distance(train, made[rows]) for rows in dark.synthetic.sets])
    ratio = frechet_distance(train, unseen) / fid
    assert ratio > 10
    assert found["floor_over_fid_texture"]["value"] == pytest.approx(ratio)


def test_unseen_films_that_are_all_alike_are_precise_and_reach_few_training_films(few):
    mean = few.train.images.mean(axis=0)
    alike = with_films(few, "real", mean + 0.1 * (few.real.images - mean))
    found = DIVERSITY.compute(alike)
    assert found["precision_texture"]["floor"]["value"] > 0.9
    assert found["recall_texture"]["floor"]["value"] < 0.3


@pytest.mark.parametrize(
    ("tissues", "pairs"),
    [("FFFFFF", 6 * 5 / 2), ("FFFFGG", 4 * 3 / 2 + 1), ("FFFF  ", 4 * 3 / 2)],
    ids=["one", "two", "unknown"],
)
def test_which_pairs_of_films_are_compared(evidence, tissues, pairs):
    """Six patients with two films of either side, of one tissue class each or of none that is known."""
    films = draw_films(range(12), 1000)
    tissues = np.repeat([tissue.strip() for tissue in tissues], 4)
    films = dataclasses.replace(films, patients=np.repeat(list("abcdef"), 4), tissues=tissues)
    made = dataclasses.replace(evidence_of(films, evidence.train), spaces={})
    found = FIDELITY.compute(made)
    for name in ("ssim", "ms_ssim"):
        assert found[f"{name}_own_film"]["floor"]["n"] == pairs * (4 * 4)
        assert found[f"{name}_left_right"]["n"] == 6 * (2 * 2)
    found = DIVERSITY.compute(made)
    for estimate in (found["ssim_across_masks"], found["ssim_across_masks"]["floor"]):
        assert estimate["n"] == 6 * 5 / 2 * (4 * 4)


def test_images_of_one_mask_are_compared_where_a_patient_has_several(few):
    """Two masks of each patient, and of each mask one image twice; no mask is that of an unseen film."""
    rows = np.arange(len(few.synthetic))
    images, masks = few.real.images[rows // 4 * 2 + rows % 2], few.synthetic.masks.copy()
    masks[:, -1, -1] = 1 + rows % 2
    synthetic = SyntheticFilms(images, masks, None, few.synthetic.patients, few.synthetic.sets)
    estimate = DIVERSITY.compute(dataclasses.replace(few, synthetic=synthetic, spaces={}))["ssim_same_mask"]
    assert (estimate["value"], estimate["n"]) == (pytest.approx(1), 7 * 2)


@pytest.mark.parametrize(("first", "ratio"), [("the real film", 1 / ((0 + 1) / 2)), ("the other image", 0)])
def test_spread_of_images_of_one_mask_over_their_distance_to_its_real_film(few, first, ratio):
    """Two images of a mask: one is the real film, so that the other is as far from both; or both are the same."""
    images = few.synthetic.images.copy()
    images[::2] = few.real.images if first == "the real film" else images[1::2]
    estimate = DIVERSITY.compute(with_images(few, images))["spread_over_error"]
    assert estimate["value"] == pytest.approx(ratio, abs=1e-9)
    assert (estimate["n"], estimate["patients"]) == (len(few.real), 7)


def test_spread_over_error_needs_real_films_and_two_images_of_a_mask(few):
    untied = dataclasses.replace(few.synthetic, films=None)
    alone = dataclasses.replace(few, synthetic=one_of_each(few.synthetic))
    for evidence, why in ((dataclasses.replace(few, synthetic=untied), "unseen film"), (alone, "no two images")):
        assert why in DIVERSITY.compute(evidence)["spread_over_error"]["not computed"]


def test_faint_lesions_have_a_share_of_the_contrast_of_real_ones(few):
    images = few.synthetic.images
    faint = np.where(few.synthetic.masks == LESION, 0.7 * images, images)
    found = OBEDIENCE.compute(with_images(few, faint))
    contrast = found["lesion_contrast"]
    share = contrast["value"] / contrast["ceiling"]["value"]
    assert share < 0.8
    assert found["lesion_contrast_to_real"]["value"] == pytest.approx(share)


def test_false_alarms_are_those_where_no_lesion_was_asked_for(few):
    everywhere = dataclasses.replace(few, segmenter=lambda images: np.full(images.shape, LESION, np.uint8))
    alarms = OBEDIENCE.compute(everywhere)["lesion_false_alarms"]
    assert (alarms["value"], alarms["n"]) == (1, (7 - 3) * 2 * 2)
    assert (alarms["floor"]["value"], alarms["floor"]["n"]) == (1, (7 - 3) * 2)


def test_references_are_those_of_real_films_and_values_those_of_images(few):
    """In noise, so that no lesion is plain in either."""
    random = np.random.default_rng(0)
    films, others = random.random((2, *few.real.images.shape))
    images, other_images = random.random((2, *few.synthetic.images.shape))
    noise = with_films(with_images(few, images), "real", films)
    found = OBEDIENCE.compute(noise)
    of_other_images = OBEDIENCE.compute(with_images(noise, other_images))
    of_other_films = OBEDIENCE.compute(with_films(noise, "real", others))
    assert set(found) == {measure.key for measure in OBEDIENCE.measures}
    for key, estimate in found.items():
        for kind in ("floor", "ceiling"):
            assert of_other_images[key].get(kind) == estimate.get(kind), key
        if key != "lesion_contrast_to_real":
            assert of_other_films[key]["value"] == estimate["value"], key
            assert of_other_films[key].get("control") == estimate.get("control"), key
    for key in ("lesion_contrast", "lesion_auc"):
        assert of_other_images[key]["value"] != found[key]["value"] != found[key]["ceiling"]["value"]
        assert of_other_films[key]["ceiling"] != found[key]["ceiling"]


@pytest.mark.parametrize("right", [4, 5])
def test_an_evaluator_is_doubted_below_a_dice_of_three_tenths_on_real_films(few, right):
    """It is right on some of 14 films and finds nothing dense in the others."""

    def evaluator(images):
        found = segment(images)
        if len(images) == 14:
            found = np.where((np.arange(14) < right)[:, None, None], few.real.masks, 1)
        return found

    dense = OBEDIENCE.compute(dataclasses.replace(few, segmenter=evaluator))["dice_dense"]
    assert dense["ceiling"]["value"] == pytest.approx(right / 14)
    assert ("note" in dense) == (right / 14 < 0.3)


def test_agreement_by_hand(few):
    """Of 16 pixels of a lesion 8 are found, with 4 others; in half of the films without one, two are."""
    truth, found = np.zeros((2, *few.real.masks.shape), np.uint8)
    lesion = few.real.labels != 2
    truth[lesion, 4:8, 4:8] = found[lesion, 4:8, 3:6] = LESION
    clear = np.flatnonzero(~lesion)
    assert (lesion.sum(), len(clear)) == (3 * 2, 4 * 2)
    found[clear[::2], 4:8, 4:8] = found[clear[::2], 20:24, 4:8] = LESION
    measured = AGREEMENT.compute(dataclasses.replace(few, segmentation=Segmentation("by hand", truth, found)))
    values = {key: estimate["value"] for key, estimate in measured.items() if "value" in estimate}
    assert values["dice_lesion"] == pytest.approx(2 * 8 / (16 + 12))
    assert values["iou_lesion"] == pytest.approx(8 / (16 + 12 - 8))
    assert values["sensitivity_lesion"] == pytest.approx(8 / 16)
    assert values["precision_lesion"] == pytest.approx(8 / 12)
    assert values["lesions_found"] == 1
    assert values["false_positives"] == pytest.approx(2 * 4 / (6 + 8))
    assert values["clear_films_with_false_positives"] == 4 / 8


def test_windows_have_the_dice_of_a_disc_beside_that_of_the_network(few):
    truth = np.zeros((len(few.real), 4, 4), np.uint8)
    truth[:, 1:3, 1:3] = 1
    truth[::2, 1, 1:3] = LESION  # Two pixels in one film of two.
    disc = np.zeros((4, 4), int)
    disc[1:3, 1:3] = LESION  # Four pixels, two of them right.
    lesions = few.segmentation
    measured = AGREEMENT.compute(dataclasses.replace(few, segmentation=Segmentation("a network", truth, truth, disc)))
    assert measured["dice_lesion"]["value"] == 1
    assert measured["dice_lesion_disc"]["value"] == pytest.approx(2 * 2 / (2 + 4))
    assert measured["dice_lesion_disc"]["n"] == len(few.real) // 2
    assert "dice_lesion_disc" not in AGREEMENT.compute(dataclasses.replace(few, segmentation=lesions)), "whole films"


def test_deviation_of_power_spectra_in_decibels():
    one, others = np.ones((3, 4)), np.array([[2.0, 2, 8, 8], [2.0, 2, 8, 8]])
    of_power_2, of_power_8 = 10 * np.log10(2), 10 * np.log10(8)
    assert _decibels(others, one) == pytest.approx(np.sqrt((of_power_2**2 + of_power_8**2) / 2))
    assert _decibels(one, others) == pytest.approx(_decibels(others, one))
    assert _decibels(others, others) == 0
    assert _decibels(0 * one, 0 * one) == 0
    assert np.isfinite(_decibels(0 * one, others)), "as of images without texture, which have no power"


def test_smooth_images_deviate_in_their_spectrum_more_than_real_films(few):
    smooth = few.synthetic.images.mean(axis=(1, 2), keepdims=True) + 0.1 * (few.synthetic.images - 0.5)
    found = DISTRIBUTION.compute(with_images(few, smooth))["spectrum_deviation"]
    assert (
        found["value"] > 15 > found["floor"]["value"]
    )  # A tenth of the amplitude: 20 dB less power at all frequencies.


def test_shares_are_means_over_sets_of_images(few):
    found = DIVERSITY.compute(few)
    train, _, made = few.features("texture")
    assert len(few.synthetic.sets) == 2
    of_sets = [manifolds(train, made[rows]) for rows in few.synthetic.sets]
    assert of_sets[0] != of_sets[1]
    for share in SHARES:
        assert found[f"{share}_texture"]["value"] == pytest.approx(np.mean([getattr(each, share) for each in of_sets]))


def test_an_area_is_over_pairs_of_one_fold(few):
    found = DISTRIBUTION.compute(few)["classifier_auc_texture"]
    (train, real, made), parts = few.features("texture"), (few.train, few.real, few.synthetic)
    of_train, of_real, of_made = (part.patients for part in parts)
    assert found["value"] == pytest.approx(classifier_auc(real, made, of_real, of_made, FOLDS, few.seed).auc)
    assert found["floor"]["value"] == pytest.approx(classifier_auc(train, real, of_train, of_real, FOLDS, few.seed).auc)


def test_a_covariance_needs_more_films_than_features(few):
    """14 unseen films."""

    def rows(images, count):
        return images[:, 8 : 8 + count, 4]

    for features, enough in ((13, True), (14, False)):
        space = FeatureSpace(f"{features} rows", partial(rows, count=features), Console())
        found = DISTRIBUTION.compute(dataclasses.replace(few, spaces={"texture": space}))
        for key in ("radiomics_frechet", "floor_over_fid_texture"):
            assert ("value" in found[key]) == enough
            assert enough or "more than 14 films" in found[key]["not computed"]


def test_an_interval_ends_where_its_measure_does(few, monkeypatch):
    def wide(*arguments):
        return jackknife(*arguments) | {"low": -9.0, "high": 99.0}

    monkeypatch.setattr(estimates, "jackknife", wide)
    found = DIVERSITY.compute(few) | DISTRIBUTION.compute(few)
    for share in SHARES:
        for estimate in (found[f"{share}_texture"], found[f"{share}_texture"]["floor"]):
            assert (estimate["low"], estimate["high"]) == (0, 99 if share == "density" else 1)
    distances = {"kid_texture": -9, "radiomics_frechet": 0}
    for key, low in distances.items():
        for estimate in (found[key], found[key]["floor"]):
            assert (estimate["low"], estimate["high"]) == (low, 99)
    assert found["floor_over_fid_texture"]["low"] == 0


def test_no_jackknife_of_medians_and_percentiles_is_kept(few):
    found = MEMORISATION.compute(few)
    for key in ("neighbour_ratio_pixels", "near_pixels", "neighbour_ratio_texture", "near_texture"):
        assert "value" in found[key]
        assert "without" not in found[key]


def test_the_seed_draws_pairs_places_and_patients(few, monkeypatch):
    monkeypatch.setattr(fidelity, "MAX_PAIRS", 15)
    found, other = (
        FIDELITY.compute(dataclasses.replace(few, seed=seed)) | OBEDIENCE.compute(dataclasses.replace(few, seed=seed))
        for seed in range(2)
    )
    assert found["ssim_own_film"]["floor"]["value"] != other["ssim_own_film"]["floor"]["value"]
    assert found["lesion_contrast"]["control"]["value"] != other["lesion_contrast"]["control"]["value"]
    assert found["ssim_own_film"]["value"] == other["ssim_own_film"]["value"]
    assert found["ssim_own_film"]["low"] != other["ssim_own_film"]["low"]
