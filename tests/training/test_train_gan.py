import dataclasses
import json
import shutil
import signal

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.sources import load_all
from mammogan_tf.data.splits import split_patients
from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.training import gan
from mammogan_tf.training.averaging import estimate_statistics
from mammogan_tf.training.checkpoint import newest_checkpoint
from mammogan_tf.training.conditioning import condition, create_gan_run
from mammogan_tf.training.gan import generator_inputs, require_convergence, train_gan
from mammogan_tf.training.run import Run, load_split
from mammogan_tf.training.segmentation import predict_label_maps
from tests.command_line import unfinished_files
from tests.disturbed import assert_same_end, final_weights, train

QUIET = Console(quiet=True)
LESION = 4


@pytest.fixture(scope="module")
def films(phantom_root):
    return load_mias(phantom_root)


@pytest.fixture
def make_run(tmp_path, films, phantom_root):
    """Makes a run of the tiny preset with masks from the annotations and some changes."""

    def make(**changes) -> Run:
        config = preset(GANConfig, "tiny", {"masks": "annotation", **changes})
        return create_gan_run(tmp_path, config, films, [phantom_root])

    return make


@pytest.fixture(scope="module")
def prepared(films):
    return load_films(films, 16)


def test_films_of_other_labels_stay_out(films, make_run):
    run, everything = make_run(labels=("malignant", "benign")), split_patients(films)
    label = {film.id: film.label for film in films}
    assert {label[id_] for part in run.split.to_dict().values() for id_ in part} == {0, 1}
    assert {id_ for id_ in everything.test if label[id_] < 2} == set(run.split.test)
    with pytest.raises(ConfigError, match="labels: expected one or more of benign, malignant, normal, received: dense"):
        make_run(labels=("dense",))


def test_the_run_directory_is_complete(gan_run):
    run = Run.open(gan_run)
    assert (run.path.name, run.path.parent.name) == ("00001", "train-gan")
    assert run.config == preset(GANConfig, "tiny")
    assert {"python", "versions", "devices", "git_commit"} <= set(
        json.loads((run.path / "environment.json").read_text())
    )
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))
    assert newest_checkpoint(run.path / "checkpoints")
    assert "lambda 10," in (run.path / "MODEL_CARD.md").read_text()
    assert sorted(path.name for path in (run.path / "samples").iterdir()) == ["step-000002.png", "step-000004.png"]
    with Image.open(run.path / "samples" / "step-000004.png") as sheet:
        # Mask, real and five synthetic films, 16 pixels magnified to 128, with gaps of two.
        assert sheet.size == (7 * 130 - 2, 2 * 130 - 2)
    assert not list(run.path.rglob(".*")), "temporary files"


def test_history_and_report_end_with_the_last_step(gan_run):
    history = pd.read_csv(gan_run / "history.csv")
    assert history["step"].tolist() == [2, 4]
    assert np.isfinite(history).all(axis=None)
    report = json.loads((gan_run / "report.json").read_text())
    assert report["last"] == pytest.approx(history.iloc[-1].to_dict())
    assert report["best_step"] == history["step"][history["validation_kid"].idxmin()]
    run = Run.open(gan_run)
    assert report["films"] == {"train": len(run.split.train), "validation": 2, "test": len(run.split.test)}


def test_the_network_is_the_averaged_generator(gan_run):
    saved = keras.models.load_model(gan_run / "model.keras", compile=False).get_weights()
    kept = list(final_weights(gan_run).values())
    for weight in saved:
        assert any(np.array_equal(weight, value) for value in kept)


def test_its_statistics_fit_the_averaged_weights(gan_run, films):
    run = Run.open(gan_run)
    training, _, _ = load_split(run, films)
    network = keras.models.load_model(run.model_path, compile=False)
    before = network.get_weights()
    estimate_statistics(network, generator_inputs(condition(run, training), run.config))
    for kept, estimated in zip(before, network.get_weights(), strict=True):
        np.testing.assert_allclose(kept, estimated, rtol=1e-4, atol=1e-5)


def test_the_generator_of_the_lowest_kid_is_kept(make_run, monkeypatch):
    run = make_run(ema=0.0)
    kept = {}

    class Worsening:
        """Says that the generator gets worse and worse, and remembers what it was."""

        def __init__(self, model, *others):
            self.model = model

        def __call__(self, step):
            kept[step] = self.model.averaged.get_weights()
            return {"validation_kid": float(step)}

    monkeypatch.setattr(gan, "ValidationMonitor", Worsening)
    assert train_gan(run, load_all(run.data), QUIET)["best_step"] == 2
    saved = keras.models.load_model(run.model_path, compile=False).get_weights()
    assert all(np.array_equal(weight, first) for weight, first in zip(saved, kept[2], strict=True))
    assert any(not np.array_equal(weight, last) for weight, last in zip(saved, kept[4], strict=True))


def test_the_unet_hands_its_split_and_its_network_on(gan_run, unet_run):
    run, unet = Run.open(gan_run), Run.open(unet_run)
    assert run.split == unet.split
    assert (gan_run / "unet.keras").read_bytes() == unet.model_path.read_bytes()


def test_a_part_of_the_data_keeps_its_split(tmp_path, films, unet_run):
    unet = Run.open(unet_run)
    patient = films[0].patient
    part = [film for film in films if film.patient != patient]
    run = create_gan_run(tmp_path, preset(GANConfig, "tiny"), part, [tmp_path], unet)
    assert run.split == unet.split.without([film.id for film in films if film.patient == patient])


def test_other_data_gets_a_split_of_its_own(tmp_path, films, unet_run):
    config = preset(GANConfig, "tiny", {"split_seed": 3})
    others = [dataclasses.replace(film, id=f"{film.id}b", patient=f"{film.patient}b") for film in films]
    run = create_gan_run(tmp_path, config, others, [tmp_path], Run.open(unet_run))
    assert run.split == split_patients(others, config.data.validation, config.data.test, 3)
    with pytest.raises(
        ModelError, match=r"expected a U-Net that has seen no test patient, received: one that has seen"
    ):
        create_gan_run(tmp_path, config, [*films, *others], [tmp_path], Run.open(unet_run))


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


def test_the_training_masks_travel_with_the_network(gan_run, prepared):
    run = Run.open(gan_run)
    expected = condition(run, prepared.select(run.split.train))
    with np.load(gan_run / "masks.npz") as stored:
        assert tuple(stored["ids"]) == run.split.train
        np.testing.assert_array_equal(stored["label_maps"], expected.label_maps)
        np.testing.assert_array_equal(stored["labels"], expected.labels)


def test_masks_from_the_unet_carry_the_annotated_lesions(gan_run, unet_run, prepared):
    run = Run.open(gan_run)
    conditioned = condition(run, prepared)
    network = keras.models.load_model(unet_run / "model.keras", compile=False)
    anatomy = predict_label_maps(network, prepared.images, lesions=False)
    annotated = prepared.label_maps == LESION
    assert annotated.any()
    np.testing.assert_array_equal(conditioned.label_maps, np.where(annotated, LESION, anatomy))
    assert (conditioned.images[conditioned.label_maps == 0] == 0).all()
    np.testing.assert_array_equal(
        conditioned.images[conditioned.label_maps > 0], prepared.images[conditioned.label_maps > 0]
    )


def test_masks_from_annotations_stay_as_they_are(make_run, prepared):
    conditioned = condition(make_run(), prepared)
    np.testing.assert_array_equal(conditioned.label_maps, prepared.label_maps)


def test_a_kept_background_stays_on_the_films(make_run, prepared):
    conditioned = condition(make_run(keep_background=True), prepared)
    np.testing.assert_array_equal(conditioned.images, prepared.films)


def test_the_unet_that_draws_the_masks_looks_at_the_films(tmp_path, films, phantom_root, unet_run, make_run):
    config = preset(GANConfig, "tiny", {"anatomy_weight": 1.0})
    run = create_gan_run(tmp_path, config, films, [phantom_root], Run.open(unet_run))
    assert train_gan(run, films, QUIET)["last"]["anatomy_loss"] > 0
    assert "beside a loss for anatomy" in (run.path / "MODEL_CARD.md").read_text()
    run = make_run(anatomy_weight=1.0)
    assert "anatomy_loss" not in train_gan(run, films, QUIET)["last"]
    assert "without a loss for anatomy" in (run.path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("teacher", ["none", "unfinished", "a gan", "another size"])
def test_masks_need_a_finished_unet_of_this_size(teacher, tmp_path, films, phantom_root, unet_run, gan_run):
    config = preset(GANConfig, "tiny", {"size": 32} if teacher == "another size" else None)
    run = Run.open(unet_run)
    unfinished = Run(tmp_path, run.command, run.config, run.split, run.data)
    given = {"none": None, "unfinished": unfinished, "a gan": Run.open(gan_run), "another size": run}[teacher]
    with pytest.raises(ModelError, match="expected a") as caught:
        create_gan_run(tmp_path / "runs", config, films, [phantom_root], given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_and_who_is_shown(precision, make_run, monkeypatch):
    shown = set()
    original = gan.gan_batches

    def spy(films, *arguments, **options):
        shown.update(films.patients)
        return original(films, *arguments, **options)

    monkeypatch.setattr(gan, "gan_batches", spy)
    run = make_run(precision=precision, steps=2, n_critic=1)
    films = load_all(run.data)
    report = train_gan(run, films, QUIET)
    assert keras.config.dtype_policy().name == precision
    assert report["last"]["step"] == 2
    network = keras.models.load_model(run.model_path, compile=False)
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
    patient = {film.id: film.patient for film in films}
    assert shown == {patient[film] for film in run.split.train}
    assert not shown & {patient[film] for film in (*run.split.test, *run.split.validation)}


def test_a_run_that_is_killed_twice_ends_as_an_undisturbed_one(make_run):
    changes = {"deterministic": True, "steps": 12, "checkpoint_every": 3, "sample_every": 4, "n_critic": 1}
    undisturbed, disturbed = (make_run(**changes).path for _ in range(2))
    assert train(undisturbed)[0] == 0
    random = np.random.default_rng(0)
    assert train(disturbed, signal.SIGKILL, step=int(random.integers(4, 6)))[0] == -signal.SIGKILL
    kept = newest_checkpoint(disturbed / "checkpoints")
    assert kept.parent.name == "step-3"
    size = kept.with_name("state.data-00000-of-00001").stat().st_size
    assert train(disturbed, written=int(random.integers(size // 2, size)))[0] == -signal.SIGXFSZ
    assert list((disturbed / "checkpoints").glob(".step-6-*")), "it died while it wrote a checkpoint"
    assert newest_checkpoint(disturbed / "checkpoints") == kept
    assert train(disturbed)[0] == 0
    assert_same_end(undisturbed, disturbed)
    assert not unfinished_files(disturbed)


def test_a_loss_that_is_no_number_ends_it_and_the_last_good_checkpoint_stays(make_run):
    run = make_run(generator_learning_rate=1e38, steps=6, checkpoint_every=1, n_critic=1)
    with pytest.raises(
        ModelError, match=r"step \d: expected finite (weights|losses), received: .* not finite"
    ) as caught:
        train_gan(run, load_all(run.data), QUIET)
    assert "\n" not in str(caught.value)
    assert not run.finished
    for value in final_weights(run.path).values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize("estimate", [-3201.0, 3201.0])
def test_a_critic_that_diverges_ends_the_run(estimate):
    # Ten times the largest distance of two films: 10 * sqrt(16 * 16 * 2 ** 2) = 320, and 1 + 1.5 * 6 = 10 times with emphasis 6.
    config = preset(GANConfig, "tiny", {"emphasis": 6.0})
    require_convergence(20, estimate / 1.01, config)
    with pytest.raises(
        ModelError, match=r"step 20: expected a Wasserstein estimate within 3200, received: -?3\.2e\+03"
    ):
        require_convergence(20, estimate, config)


def test_a_run_whose_critic_diverges_keeps_its_checkpoint(make_run):
    run = make_run(gp=0.0, critic_learning_rate=0.3, steps=60, checkpoint_every=1, n_critic=1)
    with pytest.raises(ModelError, match=r"step \d+: expected (a Wasserstein estimate|finite)"):
        train_gan(run, load_all(run.data), QUIET)
    assert newest_checkpoint(run.path / "checkpoints")
    assert not run.finished


def test_a_finished_run_without_its_history(tmp_path, gan_run, films):
    shutil.copytree(gan_run, tmp_path / "run")
    (tmp_path / "run" / "history.csv").unlink()
    with pytest.raises(ModelError, match=r"history\.csv: expected the steps of the run, received: none; put it back"):
        train_gan(Run.open(tmp_path / "run"), films, QUIET)


def test_a_run_without_its_unet(tmp_path, gan_run, films):
    broken = Run.open(gan_run)
    broken.path = tmp_path
    with pytest.raises(ModelError, match=r"unet\.keras: expected a trained network, received: nothing there"):
        train_gan(broken, films, QUIET)
