import json
import shutil
import signal
from collections import Counter

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from mammogan_tf.config import UNetConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.sources import load_all
from mammogan_tf.data.transforms import AUGMENTATIONS
from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.metrics.segmentation import region_dice
from mammogan_tf.training import segmentation, session
from mammogan_tf.training.checkpoint import newest_checkpoint
from mammogan_tf.training.prediction import lesion_probabilities, predict_label_maps
from mammogan_tf.training.run import Run
from mammogan_tf.training.scores import lesion_scores
from mammogan_tf.training.segmentation import create_unet_run, train_unet
from mammogan_tf.training.segmentation_trainer import SegmentationTrainer
from mammogan_tf.training.split_films import load_split
from tests.disturbed import assert_same_end, train

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def films(phantom_root):
    return load_mias(phantom_root)


@pytest.fixture
def make_run(tmp_path, films, phantom_root):
    """Makes a run of the tiny preset with some changes."""

    def make(**changes) -> Run:
        return create_unet_run(tmp_path, preset(UNetConfig, "tiny", changes), films, [phantom_root])

    return make


def test_the_run_directory_is_complete(unet_run):
    run = Run.open(unet_run)
    assert (run.path.name, run.path.parent.name) == ("00001", "train-unet")
    assert run.config == preset(UNetConfig, "tiny")
    assert json.loads((run.path / "environment.json").read_text())["versions"]["tensorflow"] == tf.__version__
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))
    assert newest_checkpoint(run.path / "checkpoints")
    assert "Never for diagnosis" in (run.path / "MODEL_CARD.md").read_text()
    with Image.open(run.path / "samples" / "epoch-0002.png") as sheet:
        assert sheet.mode == "RGB"
    assert not list(run.path.rglob(".*")), "temporary files"


def test_the_history_has_a_row_for_each_epoch(unet_run):
    history = pd.read_csv(unet_run / "history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert {"loss", "val_loss", "dice", "val_dice", "val_dice_lesion"} <= set(history.columns)
    assert np.isfinite(history[["loss", "val_loss"]]).all(axis=None)


def test_the_report_is_what_the_saved_network_scores_on_the_test_films(unet_run, films):
    run = Run.open(unet_run)
    report = json.loads((unet_run / "report.json").read_text())
    test = load_films(films, run.config.data.size).select(run.split.test).cropped()
    network = keras.models.load_model(run.model_path, compile=False)
    for kind, pictures in (("cleaned", test.images), ("as_it_is", test.raw)):
        for region, values in region_dice(test.label_maps, predict_label_maps(network, pictures)).items():
            scored = values[~np.isnan(values)]
            cell = report["dice"][kind][region]
            assert cell["films"] == len(scored)
            assert cell["mean"] == pytest.approx(scored.mean())
        found = predict_label_maps(network, pictures), lesion_probabilities(network, pictures)
        assert report["lesions"][kind] == lesion_scores(test, *found)
    assert report["films"] == {"train": len(run.split.train), "validation": 2, "test": len(test)}
    history = pd.read_csv(unet_run / "history.csv")
    assert report["best_epoch"] == history["val_dice"].to_numpy().argmax() + 1


@pytest.mark.slow
def test_windows_are_evaluated_beside_a_disc_and_by_their_lesions(make_run):
    run = make_run(view="roi", lesion_loss="focal-tversky", lesion_repeats=2, attention=True, epochs=1)
    report = train_unet(run, load_all(run.data), QUIET)
    assert set(report["disc"]["cleaned"]) == {"network", "disc", "radius", "films"}
    assert "a disc in the middle of each: 0." in (run.path / "MODEL_CARD.md").read_text()
    history = pd.read_csv(run.path / "history.csv")
    sums = history[["val_dice_breast", "val_dice_lesion"]]
    assert history["val_dice"].to_numpy() == pytest.approx(sums.mean(axis=1).to_numpy(), abs=1e-6)


def test_a_run_ends_when_no_epoch_is_better_for_long_enough_and_keeps_the_best(make_run, monkeypatch, capsys):
    kept = []

    def validate(model, batches):
        """Says that the second epoch is the best, and remembers the weights of all."""
        kept.append(model.ema_network.get_weights())
        return {"loss": 1.0, "dice": {2: 0.9}.get(len(kept), 0.5)}

    monkeypatch.setattr(SegmentationTrainer, "validate", validate)
    run = make_run(epochs=20, patience=9)
    report = train_unet(run, load_all(run.data), Console())
    epochs = pd.read_csv(run.path / "history.csv")["epoch"]
    assert (report["best_epoch"], report["epochs"]) == (2, 11)
    assert epochs.tolist() == [*range(1, 12)]
    assert sorted(sheet.name for sheet in (run.path / "samples").iterdir()) == ["epoch-0010.png", "epoch-0011.png"]
    saved = keras.models.load_model(run.model_path, compile=False).get_weights()
    same = [all(map(np.array_equal, saved, weights)) for weights in kept]
    assert same == [epoch == 2 for epoch in epochs]
    assert "stopped early" in "".join(capsys.readouterr())
    train_unet(run, load_all(run.data), QUIET)
    assert pd.read_csv(run.path / "history.csv")["epoch"].equals(epochs)


@pytest.fixture
def epoch_of_no_step(make_run, films, monkeypatch):
    """Ends the first epoch of a run with some changes without a step; what was asked on the way, by name of the function."""

    def fit(model, batches, last, callbacks, save):
        batches(tf.distribute.InputContext())
        model.step.assign(last)
        callbacks[0].set_model(model)
        callbacks[0].on_train_batch_end(0)

    def asked(**changes):
        calls = {}

        def spy(name):
            original = getattr(segmentation, name)

            def called(*arguments, **options):
                calls[name] = arguments, options
                return original(*arguments, **options)

            monkeypatch.setattr(segmentation, name, called)

        monkeypatch.setattr(session, "fit", fit)
        for name in ("segmentation_batches", "validation_batches", "comparison_rows", "compare_with_disc"):
            spy(name)
        run = make_run(epochs=1, **changes)
        train_unet(run, films, QUIET)
        return run, calls

    return asked


@pytest.mark.parametrize("keep", [False, True])
def test_backgrounds_are_kept_in_training_validation_and_sheets_or_nowhere(keep, epoch_of_no_step):
    _, calls = epoch_of_no_step(keep_background=keep)
    for name in ("segmentation_batches", "validation_batches"):
        assert calls[name][1]["keep_background"] == keep
    (validation, _), _ = calls["validation_batches"]
    (shown, *_), _ = calls["comparison_rows"]
    np.testing.assert_array_equal(shown, validation.raw if keep else validation.images)
    assert (validation.raw != validation.images).any()


@pytest.mark.parametrize("view", ["whole", "roi"])
def test_a_view_is_moved_as_its_own_limits_say_and_its_lesions_come_as_often_as_asked(view, epoch_of_no_step, films):
    run, calls = epoch_of_no_step(view=view, lesion_repeats=3)
    (training, _), options = calls["segmentation_batches"]
    assert options["limits"] == AUGMENTATIONS[view]
    everything, _, test = load_split(run, films)
    with_lesion = {id_ for id_, mask in zip(everything.ids, everything.label_maps, strict=True) if (mask == 4).any()}
    times = {id_: 3 if id_ in with_lesion else 1 for id_ in everything.ids}
    assert set(times.values()) == {1, 3}
    assert Counter(training.ids) == {id_: times[id_] * count for id_, count in Counter(everything.ids).items()}
    if view == "roi":
        (fitted, tested, _), _ = calls["compare_with_disc"]
        assert (fitted.names, tested.names) == (everything.names, test.names)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_and_who_is_shown(precision, make_run, monkeypatch):
    shown = {}

    def spy(name):
        original = getattr(segmentation, name)

        def batches(films, *arguments, **options):
            shown[name] = set(films.patients)
            return original(films, *arguments, **options)

        monkeypatch.setattr(segmentation, name, batches)

    spy("segmentation_batches")
    spy("validation_batches")
    computed, untouched = set(), segmentation._test

    def test(network, *arguments):
        computed.update(layer.compute_dtype for layer in network.layers)
        return untouched(network, *arguments)

    monkeypatch.setattr(segmentation, "_test", test)
    run = make_run(precision=precision, epochs=1)
    report = train_unet(run, load_all(run.data), QUIET)
    assert computed == {"float32"}, "tested as it will be used"
    assert keras.config.dtype_policy().name == precision
    assert all(np.isfinite(weight).all() for weight in keras.models.load_model(run.model_path).get_weights())
    assert report["best_epoch"] == 1
    patient = {film.id: film.patient for film in load_all(run.data)}
    tested = {patient[film] for film in run.split.test}
    assert shown["segmentation_batches"] == {patient[film] for film in run.split.train}
    assert shown["validation_batches"] == {patient[film] for film in run.split.validation}
    assert not tested & (shown["segmentation_batches"] | shown["validation_batches"])


@pytest.mark.slow
def test_a_run_that_is_killed_and_interrupted_ends_as_an_undisturbed_one(make_run):
    undisturbed, disturbed = (make_run(deterministic=True, epochs=3).path for _ in range(2))
    assert train(undisturbed)[0] == 0
    steps = len(Run.open(undisturbed).split.train) // 4
    killed_at = int(np.random.default_rng(0).integers(steps + 1, 2 * steps))
    assert train(disturbed, signal.SIGKILL, step=killed_at)[0] == -signal.SIGKILL
    assert newest_checkpoint(disturbed / "checkpoints").parent.name == f"step-{steps}"
    interrupted_at = 2 * steps + 2
    assert train(disturbed, signal.SIGINT, step=interrupted_at)[0] == 1
    assert newest_checkpoint(disturbed / "checkpoints").parent.name == f"step-{interrupted_at}", "within an epoch"
    assert not (disturbed / "model.keras").exists()
    assert train(disturbed)[0] == 0
    assert_same_end(undisturbed, disturbed)


def test_a_run_does_not_go_on_in_another_precision(tmp_path, unet_run, films, monkeypatch):
    path = shutil.copytree(unet_run, tmp_path / "copy")
    monkeypatch.setattr("mammogan_tf.training.strategy.choose_precision", lambda precision: "mixed_bfloat16")
    with pytest.raises(ConfigError, match="began with, policy float32, received: policy mixed_bfloat16; go on where"):
        train_unet(Run.open(path), films)


def test_a_loss_that_is_no_number_ends_it_with_one_line(make_run):
    run = make_run(learning_rate=1e38)
    with pytest.raises(ModelError, match=r"epoch \d: expected finite losses, received: .*loss") as caught:
        train_unet(run, load_all(run.data), QUIET)
    assert "\n" not in str(caught.value)
    assert not run.finished
