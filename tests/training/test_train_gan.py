import json
import shutil
import signal
from collections import Counter
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.sources import load_all
from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.pictures import BESIDE_REAL
from mammogan_tf.training import gan
from mammogan_tf.training.averaging import update_batch_norm
from mammogan_tf.training.checkpoint import newest_checkpoint
from mammogan_tf.training.conditioning import create_gan_run, with_condition_masks
from mammogan_tf.training.gan import generator_inputs, require_convergence, train_gan
from mammogan_tf.training.run import Run
from mammogan_tf.training.split_films import load_split
from tests.command_line import unfinished_files
from tests.disturbed import assert_same_end, final_weights, train

QUIET = Console(quiet=True)


def test_the_run_directory_is_complete(gan_run):
    run = Run.open(gan_run)
    assert (run.path.name, run.path.parent.name) == ("00001", "train-gan")
    assert run.config == preset(GANConfig, "tiny")
    assert {"versions", "devices", "git_commit"} <= set(json.loads((run.path / "environment.json").read_text()))
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))
    assert newest_checkpoint(run.path / "checkpoints")
    assert "lambda 10," in (run.path / "MODEL_CARD.md").read_text()
    assert sorted(path.name for path in (run.path / "samples").iterdir()) == ["step-000002.png", "step-000004.png"]
    with Image.open(run.path / "samples" / "step-000004.png") as sheet:
        # Mask, real and five synthetic films, 16 pixels magnified to 128, with gaps of two.
        assert sheet.size == (7 * 130 - 2, 2 * 130 - 2)
        assert (sheet.info["Synthetic"], sheet.info["Comment"]) == ("true", BESIDE_REAL)
    assert not list(run.path.rglob(".*")), "temporary files"


def test_an_energy_score_wants_films_in_pairs(make_run, films):
    with pytest.raises(ConfigError, match="batch_size: expected an even number for each device"):
        train_gan(make_run(energy_weight=1.0, batch_size=3), films)


def test_history_and_report_end_with_the_last_step(gan_run):
    history = pd.read_csv(gan_run / "history.csv")
    assert history["step"].tolist() == [2, 4]
    assert np.isfinite(history).all(axis=None)
    report = json.loads((gan_run / "report.json").read_text())
    assert report["last"] == pytest.approx(history.iloc[-1].to_dict())
    assert report["best_step"] == history["step"][history["validation_kid"].idxmin()]
    run = Run.open(gan_run)
    counts = {"train": len(run.split.train), "validation": 2, "test": len(run.split.test), "variants": 0}
    assert report["films"] == counts
    assert 0 < report["mean_grey"] < 255
    model = gan.build_wgan_gp(run.config)
    assert report["parameters"] == {"generator": model.generator.count_params(), "critic": model.critic.count_params()}


def test_its_statistics_fit_the_averaged_weights(gan_run, films):
    run = Run.open(gan_run)
    training, _, _ = load_split(run, films)
    network = keras.models.load_model(run.model_path, compile=False)
    before = network.get_weights()
    update_batch_norm(network, generator_inputs(with_condition_masks(run, training), run.config))
    for kept, estimated in zip(before, network.get_weights(), strict=True):
        np.testing.assert_allclose(kept, estimated, rtol=1e-4, atol=1e-5)


def test_the_generator_of_the_lowest_kid_is_kept(make_run, monkeypatch):
    run = make_run(ema=0.0, steps=3)
    kept = {}

    class Worsening(gan.ValidationMonitor):
        """Says that the generator gets worse and worse, and remembers what it was."""

        def __call__(self, step):
            kept[step] = self._model.ema_generator.get_weights()
            return {"validation_kid": float(step)}

    monkeypatch.setattr(gan, "ValidationMonitor", Worsening)
    report = train_gan(run, load_all(run.data), QUIET)
    assert (report["best_step"], report["last"]["step"]) == (2, 3)
    assert list(kept) == [2, 3], "the last step is looked at, whatever sample_every is"
    saved = keras.models.load_model(run.model_path, compile=False).get_weights()
    assert all(np.array_equal(weight, first) for weight, first in zip(saved, kept[2], strict=True))
    assert any(not np.array_equal(weight, last) for weight, last in zip(saved, kept[3], strict=True))


@pytest.mark.slow
def test_the_unet_that_draws_the_masks_looks_at_the_films(tmp_path, films, phantom_root, unet_run, make_run):
    config = preset(GANConfig, "tiny", {"anatomy_weight": 1.0})
    run = create_gan_run(tmp_path, config, films, [phantom_root], Run.open(unet_run))
    assert train_gan(run, films, QUIET)["last"]["anatomy_loss"] > 0
    assert "beside a loss for anatomy" in (run.path / "MODEL_CARD.md").read_text()
    run = make_run(anatomy_weight=1.0)
    assert "anatomy_loss" not in train_gan(run, films, QUIET)["last"]
    assert "without a loss for anatomy" in (run.path / "MODEL_CARD.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_and_who_is_shown(precision, make_run, monkeypatch):
    shown = set()
    original = gan.gan_batches

    def spy(films, *arguments, **options):
        shown.update(films.patients)
        return original(films, *arguments, **options)

    monkeypatch.setattr(gan, "gan_batches", spy)
    run = make_run(precision=precision, steps=2)
    films = load_all(run.data)
    report = train_gan(run, films, QUIET)
    assert keras.config.dtype_policy().name == precision
    assert report["last"]["step"] == 2
    network = keras.models.load_model(run.model_path, compile=False)
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
    patient = {film.id: film.patient for film in films}
    assert shown == {patient[film] for film in run.split.train}
    assert not shown & {patient[film] for film in (*run.split.test, *run.split.validation)}


@pytest.mark.slow
def test_variants_are_trained_on_and_nothing_else_is_made_of_them(make_run, films, capsys, monkeypatch):
    shown = []
    original = gan.gan_batches

    def spy(films, *arguments, **options):
        shown.append((len(films), options["seed"]))
        return original(films, *arguments, **options)

    monkeypatch.setattr(gan, "gan_batches", spy)
    run = make_run(variants=2, seed=5)
    report = train_gan(run, films)
    count = len(run.split.train)
    assert shown == [(3 * count, 5)]
    said = capsys.readouterr().err
    assert f"{count} films and {2 * count} variants train" in said
    assert "test films of 2 patients: evaluate needs 3; add patients or labels" in said
    assert (report["films"]["train"], report["films"]["variants"]) == (count, 2 * count)
    assert f"on the films and {2 * count} that were moved at random" in (run.path / "MODEL_CARD.md").read_text()
    with np.load(run.path / "masks.npz") as masks:
        assert list(masks["ids"]) == list(run.split.train)


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_as_an_undisturbed_one(make_run):
    changes = {"deterministic": True, "steps": 12, "checkpoint_every": 3, "sample_every": 4}
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
    run = make_run(generator_learning_rate=1e38, steps=6, checkpoint_every=1)
    with pytest.raises(
        ModelError, match=r"step \d: expected finite (weights|losses), received: .* not finite"
    ) as caught:
        train_gan(run, load_all(run.data), QUIET)
    assert "\n" not in str(caught.value)
    assert not run.finished
    for value in final_weights(run.path).values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize("estimate", [-321.0, 321.0])
def test_a_critic_that_diverges_ends_the_run(estimate):
    # The largest distance of two films: sqrt(16 * 16 * 2 ** 2) = 32, and 1 + 1.5 * 6 = 10 times that with emphasis 6.
    config = preset(GANConfig, "tiny", {"emphasis": 6.0})
    require_convergence(20, estimate / 1.01, config)
    with pytest.raises(
        ModelError, match=r"step 20: expected a Wasserstein estimate within 320, received: -?321, .* --resume --finish"
    ):
        require_convergence(20, estimate, config)


def test_a_run_whose_critic_diverges_keeps_its_checkpoint(make_run):
    run = make_run(gp=0.0, critic_learning_rate=0.3, steps=60, checkpoint_every=1)
    with pytest.raises(ModelError, match=r"step \d+: expected (a Wasserstein estimate|finite)"):
        train_gan(run, load_all(run.data), QUIET)
    assert newest_checkpoint(run.path / "checkpoints")
    assert not run.finished


def test_one_film_is_too_few_to_train_on(make_run, films):
    run = make_run()
    run.split = replace(run.split, train=run.split.train[:1])
    with pytest.raises(DataError, match="training films: expected two or more, received: 1; add films or --classes"):
        train_gan(run, films, QUIET)


def test_a_finished_run_without_its_history(tmp_path, gan_run, films):
    shutil.copytree(gan_run, tmp_path / "run")
    (tmp_path / "run" / "history.csv").unlink()
    with pytest.raises(
        ModelError, match=r"history\.csv: expected the rows that the run wrote, received: none; put the"
    ):
        train_gan(Run.open(tmp_path / "run"), films, QUIET)


def test_a_finished_run_that_is_resumed_keeps_what_its_card_says(tmp_path, gan_run, films):
    shutil.copytree(gan_run, tmp_path / "run")
    (tmp_path / "run" / "MODEL_CARD.md").write_text("measured")
    train_gan(Run.open(tmp_path / "run"), films, QUIET)
    assert (tmp_path / "run" / "MODEL_CARD.md").read_text() == "measured"
    (tmp_path / "run" / "report.json").unlink()
    train_gan(Run.open(tmp_path / "run"), films, QUIET)
    assert "4 generator updates" in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert json.loads((tmp_path / "run" / "report.json").read_text())["last"]["step"] == 4


class StopsAtStepFour(Console):
    def progress(self, name):
        def show(done, total, note=""):
            if (name, done) == ("step", 4):
                signal.raise_signal(signal.SIGINT)

        return show


@pytest.mark.slow
def test_a_run_ends_with_its_best_so_far_where_it_is_told_to_and_may_go_on(make_run, films, monkeypatch):
    run = make_run(steps=6)
    with pytest.raises(
        ModelError, match="expected a run that has validated its network, received: one that has not yet"
    ):
        train_gan(run, films, QUIET, finish=True)
    with pytest.raises(KeyboardInterrupt):
        train_gan(run, films, StopsAtStepFour(quiet=True))
    assert not run.finished

    report = train_gan(run, films, QUIET, finish=True)
    history = pd.read_csv(run.path / "history.csv")
    assert history["step"].tolist() == [2, 4]
    assert (report["last"]["step"], report["best_step"]) == (4, history["step"][history["validation_kid"].idxmin()])
    in_checkpoint = final_weights(run.path).values()
    for weight in keras.models.load_model(run.model_path, compile=False).get_weights():
        assert any(np.array_equal(weight, kept) for kept in in_checkpoint)
    assert "4 of 6 generator updates" in run.card_path.read_text()

    run.card_path.write_text("measured, of the generator so far")
    train_gan(run, films, QUIET, finish=True)
    assert run.card_path.read_text() == "measured, of the generator so far"

    def no_room(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(gan, "write_text", no_room)
        with pytest.raises(OSError, match="no room"):
            train_gan(run, films, QUIET)
    assert not run.finished, "the earlier generator would stand beside what is new"
    assert train_gan(run, films, QUIET)["last"]["step"] == 6
    assert "\n6 generator updates" in run.card_path.read_text()


def test_a_run_without_its_unet(tmp_path, gan_run, films):
    broken = Run.open(gan_run)
    broken.path = tmp_path
    with pytest.raises(ModelError, match=r"expected unet\.keras, or unet_masks\.npz where .*, received: neither; put"):
        train_gan(broken, films, QUIET)


def test_the_validation_films_are_watched_with_the_masks_of_the_unet_and_a_resumed_run_recalls_its_history(
    gan_run, films, monkeypatch
):
    given, recalled = [], []

    class Spy(gan.ValidationMonitor):
        measures_diversity = True

        def __init__(self, model, *arguments):
            given.extend(arguments)

        def recall(self, rows):
            recalled.extend(row["step"] for row in rows)
            raise KeyboardInterrupt

    monkeypatch.setattr(gan, "ValidationMonitor", Spy)
    run = Run.open(gan_run)
    with pytest.raises(KeyboardInterrupt):
        train_gan(run, films, QUIET)
    training, validation, *_ = given
    for watched, as_annotated in zip((training, validation), load_split(run, films), strict=False):
        assert watched.ids == as_annotated.ids
        np.testing.assert_array_equal(watched.label_maps, with_condition_masks(run, as_annotated).label_maps)
        assert (watched.label_maps != as_annotated.label_maps).any()
    assert recalled == [2, 4]


def test_statistics_are_estimated_on_every_film_with_its_own_label_and_noise(prepared):
    config = preset(GANConfig, "tiny")
    batches = list(generator_inputs(prepared, config))
    assert len(batches) == len(prepared) // (config.batch_size * config.n_critic)
    noise, mask, label = (np.concatenate([batch[name] for batch in batches]) for name in ("noise", "mask", "label"))
    shown = zip(map(np.ndarray.tobytes, mask.argmax(-1).astype(np.uint8)), label, strict=True)
    expected = zip(map(np.ndarray.tobytes, prepared.label_maps), prepared.labels, strict=True)
    assert Counter(shown) == Counter(expected)
    assert len(np.unique(label)) > 1
    assert len(np.unique(noise, axis=0)) == len(prepared)
