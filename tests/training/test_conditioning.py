"""The run of a GAN, and the masks that it is conditioned on."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest

from mammogan_tf.config import LESION, GANConfig, preset
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.splits import split_patients
from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.training import conditioning
from mammogan_tf.training.conditioning import (
    create_gan_run,
    load_anatomy_unet,
    mask_source,
    supports_variants,
    with_condition_masks,
    with_variants,
)
from mammogan_tf.training.prediction import predict_label_maps
from mammogan_tf.training.run import Run
from mammogan_tf.training.split_films import load_split


def test_films_of_other_labels_stay_out(films, make_run):
    run, everything = make_run(labels=("malignant", "benign")), split_patients(films)
    label = {film.id: film.label for film in films}
    assert {label[id_] for part in run.split.to_dict().values() for id_ in part} == {0, 1}
    assert {id_ for id_ in everything.test if label[id_] < 2} == set(run.split.test)
    with pytest.raises(ConfigError, match="labels: expected one or more of benign, malignant, normal, received: dense"):
        make_run(labels=("dense",))


def test_the_unet_hands_its_split_and_its_network_on(gan_run, unet_run):
    run, unet = Run.open(gan_run), Run.open(unet_run)
    assert run.split == unet.split
    assert (gan_run / "unet.keras").read_bytes() == unet.model_path.read_bytes()
    assert mask_source(run) == "unet"


def test_a_part_of_the_data_keeps_its_split(tmp_path, films, unet_run):
    unet = Run.open(unet_run)
    patient = films[0].patient
    part = [film for film in films if film.patient != patient]
    run = create_gan_run(tmp_path, preset(GANConfig, "tiny"), part, [tmp_path], unet)
    assert run.split == unet.split.without([film.id for film in films if film.patient == patient])


@pytest.mark.parametrize(("view", "there"), [("whole", False), ("roi", True)])
def test_a_benign_lesion_beside_a_malignant_one_has_a_window(tmp_path, films, view, there):
    def labelled(film, label, *labels):
        lesions = tuple(dataclasses.replace(film.lesions[0], label=each) for each in labels)
        return dataclasses.replace(film, label=label, lesions=lesions)

    first, *others = [film for film in films if film.lesions]
    benign = [labelled(film, 0, 0) for film in others]
    config = preset(GANConfig, "tiny", {"view": view, "labels": ("benign",), "masks": "annotation"})
    split = create_gan_run(tmp_path, config, [labelled(first, 1, 0, 1), *benign], [tmp_path]).split
    assert (first.id in {*split.train, *split.validation, *split.test}) == there


def test_other_data_gets_a_split_of_its_own(tmp_path, films, unet_run):
    config = preset(GANConfig, "tiny", {"split_seed": 3})
    others = [dataclasses.replace(film, id=f"{film.id}b", patient=f"{film.patient}b") for film in films]
    run = create_gan_run(tmp_path, config, others, [tmp_path], Run.open(unet_run))
    assert run.split == split_patients(others, config.data.validation, config.data.test, 3)
    with pytest.raises(
        ModelError, match=r"expected a U-Net that has seen no test patient, received: one that has seen"
    ):
        create_gan_run(tmp_path, config, [*films, *others], [tmp_path], Run.open(unet_run))


def test_a_unet_that_has_seen_other_films_of_the_test_patients_is_refused(tmp_path, films, unet_run):
    unet = Run.open(unet_run)
    seen = {film.patient for film in films if film.id in (*unet.split.train, *unet.split.validation)}
    others = [dataclasses.replace(film, id=f"{film.id}b") for film in films]
    configs = [preset(GANConfig, "tiny", {"split_seed": seed}) for seed in range(1, 9)]
    leaked = 0
    for config in configs:
        test = split_patients(others, config.data.validation, config.data.test, config.data.split_seed).test
        known = seen & {film.patient for film in others if film.id in test}
        leaked += bool(known)
        with pytest.raises(ModelError, match=f"that has seen {len(known)}, ") if known else contextlib.nullcontext():
            create_gan_run(tmp_path, config, others, [tmp_path], unet)
    assert leaked


def test_a_film_under_the_name_of_another_does_not_hide_whom_the_unet_has_seen(tmp_path, films, unet_run):
    unet, config = Run.open(unet_run), preset(GANConfig, "tiny")
    anna = next(film for film in films if film.id == unet.split.train[0])
    clara = [dataclasses.replace(film, patient="clara") for film in films if film.patient == anna.patient]
    others = [dataclasses.replace(film, id=f"{film.id}b", patient=f"{film.patient}b") for film in films]
    leaked = []
    for patient in dict.fromkeys(film.patient for film in others):
        hers = [dataclasses.replace(film, patient=anna.patient) if film.patient == patient else film for film in others]
        now = [*hers, *clara]
        test = split_patients(now, config.data.validation, config.data.test).test
        leaked.append(any(film.patient == anna.patient for film in now if film.id in test))
        refused = pytest.raises(ModelError, match=f"that has seen 1, {anna.patient};")
        with refused if leaked[-1] else contextlib.nullcontext():
            create_gan_run(tmp_path, config, now, [tmp_path], unet)
    assert {*leaked} == {True, False}


def test_films_that_the_unet_does_not_know_do_not_get_lost(tmp_path, films, unet_run):
    unet = Run.open(unet_run)
    more = [*films, dataclasses.replace(films[0], id="new", patient="new")]
    run = create_gan_run(tmp_path, preset(GANConfig, "tiny"), more, unet.data, unet)
    assert run.split == split_patients(more, run.config.data.validation, run.config.data.test)


def test_patients_who_were_found_out_later_are_refused(tmp_path, films, unet_run):
    unet = Run.open(unet_run)
    patients = {unet.split.train[0]: "one", unet.split.test[0]: "one"}
    told = [dataclasses.replace(film, patient=patients.get(film.id, film.patient)) for film in films]
    with pytest.raises(DataError, match="expected each patient in one part, received: one in two"):
        create_gan_run(tmp_path, preset(GANConfig, "tiny"), told, unet.data, unet)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="expected each patient in one part"):
        load_split(unet, told)


def test_the_same_films_in_another_place_keep_their_split(tmp_path, films, unet_run):
    unet = Run.open(unet_run)
    assert create_gan_run(tmp_path, preset(GANConfig, "tiny"), films, [tmp_path], unet).split == unet.split
    with pytest.raises(ModelError, match="expected a U-Net trained with split_seed 3, received: split_seed 0"):
        create_gan_run(tmp_path, preset(GANConfig, "tiny", {"split_seed": 3}), films, [tmp_path], unet)


@pytest.mark.parametrize(("name", "wanted"), [("size", 32), ("view", "roi"), ("keep_background", True)])
def test_a_unet_of_other_pictures_is_refused_for_other_films_too(tmp_path, films, unet_run, name, wanted):
    others = [dataclasses.replace(film, id=f"{film.id}b", patient=f"{film.patient}b") for film in films]
    with pytest.raises(ModelError, match=f"expected a U-Net trained with {name} {wanted}, received: {name}"):
        create_gan_run(tmp_path, preset(GANConfig, "tiny", {name: wanted}), others, [tmp_path], Run.open(unet_run))


@pytest.mark.parametrize(
    ("weight", "view", "there"), [(0.0, "whole", False), (1.0, "whole", True), (1.0, "roi", False)]
)
def test_the_anatomy_loss_of_whole_films_has_a_unet_where_it_has_a_weight(gan_run, weight, view, there):
    run = Run.open(gan_run)
    data = dataclasses.replace(run.config.data, view=view)
    run.config = dataclasses.replace(run.config, data=data, anatomy_weight=weight)
    assert (load_anatomy_unet(run) is not None) == there


def test_masks_from_the_unet_carry_the_annotated_lesions(gan_run, unet_run, prepared):
    run = Run.open(gan_run)
    conditioned = with_condition_masks(run, prepared)
    network = keras.models.load_model(unet_run / "model.keras", compile=False)
    anatomy = predict_label_maps(network, prepared.images, lesions=False)
    annotated = prepared.label_maps == LESION
    assert annotated.any()
    np.testing.assert_array_equal(conditioned.label_maps, np.where(annotated, LESION, anatomy))
    assert (conditioned.images[conditioned.label_maps == 0] == 0).all()
    np.testing.assert_array_equal(
        conditioned.images[conditioned.label_maps > 0], prepared.images[conditioned.label_maps > 0]
    )


def test_a_unet_of_kept_backgrounds_sees_them(gan_run, prepared, monkeypatch):
    run, seen = Run.open(gan_run), []
    run.config = dataclasses.replace(run.config, data=dataclasses.replace(run.config.data, keep_background=True))

    def spy(network, pictures, **options):
        seen.append(pictures)
        return predict_label_maps(network, pictures, **options)

    monkeypatch.setattr(conditioning, "predict_label_maps", spy)
    with_condition_masks(run, prepared)
    np.testing.assert_array_equal(seen, [prepared.raw])
    assert (prepared.raw != prepared.images).any()


def test_masks_from_annotations_stay_as_they_are(make_run, prepared):
    conditioned = with_condition_masks(make_run(), prepared)
    np.testing.assert_array_equal(conditioned.label_maps, prepared.label_maps)


def test_a_kept_background_stays_on_the_films(make_run, prepared):
    conditioned = with_condition_masks(make_run(keep_background=True), prepared)
    np.testing.assert_array_equal(conditioned.images, prepared.raw)


@pytest.mark.parametrize("mask_run", ["none", "unfinished", "a gan", "another size"])
def test_masks_need_a_finished_unet_of_this_size(mask_run, tmp_path, films, phantom_root, unet_run, gan_run):
    config = preset(GANConfig, "tiny", {"size": 32} if mask_run == "another size" else None)
    run = Run.open(unet_run)
    unfinished = Run(tmp_path, run.command, run.config, run.split, run.data)
    given = {"none": None, "unfinished": unfinished, "a gan": Run.open(gan_run), "another size": run}[mask_run]
    with pytest.raises(ModelError, match="expected a") as caught:
        create_gan_run(tmp_path / "runs", config, films, [phantom_root], given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_the_training_masks_travel_with_the_network(gan_run, prepared):
    run = Run.open(gan_run)
    expected = with_condition_masks(run, prepared.select(run.split.train))
    with np.load(gan_run / "masks.npz") as stored:
        assert tuple(stored["ids"]) == run.split.train
        np.testing.assert_array_equal(stored["label_maps"], expected.label_maps)
        np.testing.assert_array_equal(stored["labels"], expected.labels)


@pytest.mark.parametrize("variants", [0, 2])
def test_whole_films_have_variants(make_run, films, variants):
    run = make_run(variants=variants)
    training, _, _ = load_split(run, films)
    varied = with_variants(run, films, training)
    assert varied.ids == tuple(id_ for id_ in training.ids for _ in range(variants + 1))
    np.testing.assert_array_equal(varied.images[:: variants + 1], training.images)


def test_lesions_of_variants_are_outlined_as_those_of_the_films(make_run, films):
    film = next(film for film in films if film.lesions)
    circle, refined = (load_films([film], 16, lesions=lesions) for lesions in ("circle", "refined"))
    varied = with_variants(make_run(variants=1, lesions="refined"), films, refined)
    np.testing.assert_array_equal(varied.label_maps[:1], refined.label_maps)
    assert (circle.label_maps != refined.label_maps).any()


def test_neither_windows_nor_masks_of_the_films_alone_have_variants(make_run, tmp_path, films, unet_run):
    assert make_run(variants=2, view="roi").config.variants == 0
    unet = Run.open(unet_run)
    folds = Run(tmp_path / "folds", "cross-validate", unet.config, unet.split, unet.data)
    assert not supports_variants(preset(GANConfig, "tiny"), folds)
    assert supports_variants(preset(GANConfig, "tiny", {"masks": "annotation"}), folds)
