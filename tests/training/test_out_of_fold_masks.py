"""Conditions of a GAN on the masks of a cross-validation, each from the network that never saw the patient."""

import dataclasses
import shutil

import numpy as np
import pytest

from mammogan_tf.config import LESION, GANConfig, preset
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.training.conditioning import create_gan_run, mask_source, with_condition_masks
from mammogan_tf.training.run import Run


@pytest.fixture
def gan(tmp_path, films, phantom_root, cross_validated):
    return create_gan_run(tmp_path, preset(GANConfig, "tiny", {"view": "roi"}), films, [phantom_root], cross_validated)


def test_a_gan_is_conditioned_on_masks_from_outside_the_fold(gan, cross_validated, windows):
    some = windows.select(gan.split.validation)
    assert mask_source(gan) == "cross-validation"
    conditioned = with_condition_masks(gan, some).label_maps
    with np.load(cross_validated.masks_path) as masks:
        rows = [list(masks["ids"]).index(name) for name in some.names]
        anatomy = masks["anatomy"][rows]
    lesions = some.label_maps == LESION
    assert (conditioned[lesions] == LESION).all()
    np.testing.assert_array_equal(conditioned[~lesions], anatomy[~lesions])
    np.testing.assert_array_equal(
        with_condition_masks(gan, some.cropped()).label_maps,
        dataclasses.replace(some, label_maps=conditioned).cropped().label_maps,
    )


def test_masks_of_other_films_of_the_same_names_are_refused(gan, windows):
    some = windows.select(gan.split.train)
    other = dataclasses.replace(some, raw=np.where(np.arange(len(some))[:, None, None] == 1, 255 - some.raw, some.raw))
    with pytest.raises(
        DataError, match=f"expected the films that were cross-validated, received: another {some.names[1]}"
    ):
        with_condition_masks(gan, other)
    unknown = dataclasses.replace(some, names=("stranger", *some.names[1:]))
    with pytest.raises(DataError, match="received: another stranger; put it back, or cross-validate again"):
        with_condition_masks(gan, unknown)


def test_a_gan_whose_masks_are_damaged(tmp_path, gan, windows):
    broken = Run.open(gan.path)
    broken.path = tmp_path
    (tmp_path / "unet_masks.npz").write_bytes((gan.path / "unet_masks.npz").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"unet_masks\.npz: expected masks, received: a broken file; write them again"):
        with_condition_masks(broken, windows.select(gan.split.validation))


def test_a_gan_keeps_its_own_split(gan, films):
    assert gan.split.train
    assert gan.split.test


def test_a_film_without_a_mask_is_refused(tmp_path, films, phantom_root, cross_validated):
    stranger = dataclasses.replace(films[0], id="stranger")
    with pytest.raises(ModelError, match="expected masks of all films, received: none of stranger"):
        create_gan_run(
            tmp_path, preset(GANConfig, "tiny", {"view": "roi"}), [*films, stranger], [phantom_root], cross_validated
        )


def test_a_cross_validation_that_is_not_finished_is_refused(tmp_path, films, phantom_root, cross_validated):
    path = shutil.copytree(cross_validated.path, tmp_path / "begun")
    (path / "masks.npz").unlink()
    with pytest.raises(ModelError, match=r"expected a finished .* go on with: mammogan-tf cross-validate --resume"):
        create_gan_run(tmp_path, preset(GANConfig, "tiny", {"view": "roi"}), films, [phantom_root], Run.open(path))
