"""What each number of the report is a share of, and which films its floor is made of."""

import dataclasses

import numpy as np
import pytest

from mammogan_tf.data.label_maps import LESION
from mammogan_tf.evaluation.sections.distribution import DISTRIBUTION
from mammogan_tf.evaluation.sections.diversity import DIVERSITY
from mammogan_tf.evaluation.sections.fidelity import FIDELITY
from mammogan_tf.evaluation.sections.obedience import OBEDIENCE
from mammogan_tf.metrics.distribution import frechet_distance
from tests.toy_films import draw_films, evidence_of, with_images


def with_films(evidence, part: str, images: np.ndarray):
    """The same evidence with other pictures of its ``real`` or ``train`` films."""
    films = dataclasses.replace(getattr(evidence, part), images=images.astype(np.float32))
    return dataclasses.replace(evidence, _scaled={}, **{part: films})


@pytest.fixture(scope="module")
def few(evidence):
    """Of 7 patients, 3 of them with lesions: two films of each, and two images of a film. One space, of few features."""
    made = evidence_of(draw_films(range(7), 1000), evidence.train)
    return dataclasses.replace(made, spaces={"texture": made.spaces["segmenter"]})


def test_features_are_scaled_by_the_training_films(evidence):
    train, *_ = evidence.features("segmenter")
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-6)


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


def test_which_pairs_of_real_films_are_compared(evidence):
    """Four patients with two films of either side, and all of one tissue class."""
    films = draw_films(range(8), 1000)
    films = dataclasses.replace(films, patients=np.repeat(list("abcd"), 4), tissues=np.full(16, "F"))
    found = FIDELITY.compute(evidence_of(films, evidence.train))
    for name in ("ssim", "ms_ssim"):
        assert found[f"{name}_own_film"]["floor"]["n"] == 16 * 15 / 2 - 4 * (4 * 3 / 2)
        assert found[f"{name}_left_right"]["n"] == 4 * (2 * 2)


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
