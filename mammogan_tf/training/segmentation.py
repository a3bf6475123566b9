"""Training of the U-Net."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mammogan_tf.config import KEEP, LESION, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import has_lesion
from mammogan_tf.data.pipeline import segmentation_batches, validation_batches
from mammogan_tf.data.splits import split_patients
from mammogan_tf.data.transforms import AUGMENTATIONS
from mammogan_tf.files import atomic_path, write_json, write_text
from mammogan_tf.losses import cross_entropy, dice_loss, focal_tversky
from mammogan_tf.models.unet import build_unet
from mammogan_tf.pictures import comparison_rows, save_picture
from mammogan_tf.training.callbacks import StepCallback
from mammogan_tf.training.card import unet_card
from mammogan_tf.training.checkpoint import compute_in_float32
from mammogan_tf.training.prediction import lesion_probabilities, predict_label_maps
from mammogan_tf.training.run import Run
from mammogan_tf.training.scores import compare_with_disc, lesion_scores, mean_dice
from mammogan_tf.training.segmentation_trainer import SegmentationTrainer
from mammogan_tf.training.session import Session
from mammogan_tf.training.split_films import fingerprint, load_split, mean_grey
from mammogan_tf.training.strategy import describe_replicas, require_divisible, set_up_device, with_loss_scaling
from mammogan_tf.training.workers import broadcast_from_chief, require_same, writable_run
from mammogan_tf.validated import to_dict

__all__ = ["BACKGROUNDS", "create_unet_run", "finished_report", "segmentation_loss", "train_unet"]

BACKGROUNDS = {"cleaned": False, "as_it_is": True}
"""The two inputs that are tested, as a report calls them, and whether each keeps the film's background."""

SELECTION_REGIONS = {"whole": ("breast", "pectoral", "dense"), "roi": ("breast", "lesion")}
"""By view: the regions whose mean validation Dice selects the best epoch. Too few whole films have a lesion to include it."""


def create_unet_run(workdir: str | Path, config: UNetConfig, films: Sequence[Film], data: Sequence[str | Path]) -> Run:
    """Splits the films by patient and makes a run directory.

    Args:
        workdir: where run directories are made.
        config: the hyper-parameters.
        films: the films.
        data: where they come from.

    Raises:
        DataError: fewer than three patients, or too few to leave one for training.
    """
    split = split_patients(films, config.data.validation, config.data.test, config.data.split_seed)
    return Run.create(workdir, config, split, data, films=films)


def train_unet(
    run: Run,
    films: Sequence[Film],
    console: Console | None = None,
    *,
    strategy: tf.distribute.Strategy | None = None,
    keep: int = KEEP,
    finish: bool = False,
) -> dict:
    """Trains the U-Net of a run, or goes on from its last checkpoint, and tests it on the patients kept apart.

    Writes ``history.csv``, ``tensorboard/``, ``samples/``, ``checkpoints/``, ``model.keras`` (the averaged weights of
    the best epoch), ``report.json`` and ``MODEL_CARD.md`` into the run directory.
    On Ctrl-C or SIGTERM it writes a checkpoint first.

    Args:
        run: the run.
        films: the films.
        console: for progress messages.
        strategy: the devices to train on, out of :func:`make_strategy`; one by default.
        keep: checkpoints that stay.
        finish: train no further, and end the run with what the last checkpoint holds. It may go on later.

    Returns:
        The report: on the test films, cleaned and as they are, Dice for each region and how lesions are found; in the
        roi view, also Dice of a disc in the middle of each window.

    Raises:
        ConfigError: the devices cannot share a batch, or options or films are not those of the checkpoint.
        DataError: a film of the split is missing, or a part of it has no picture (:func:`load_split`).
        ModelError: a loss or a weight is not finite, there is no room for a checkpoint, or another worker is gone; the
            last good checkpoint stays. Or there is no network yet to ``finish`` with.
    """
    console = console or Console()
    config = run.config_of(UNetConfig)
    strategy = strategy or tf.distribute.get_strategy()
    require_divisible(config, strategy)
    policy = set_up_device(config.precision, config.seed, config.deterministic)
    training, *others = load_split(run, films, console)
    validation, test = (part.cropped() for part in others)
    console.line(
        f"{run.path}: {len(training)} films train, {len(validation)} validate, {policy}{describe_replicas(strategy)}"
    )
    repeated = _repeat_lesions(training, config.lesion_repeats)
    run_settings = {
        **to_dict(config),
        "widths": config.level_widths,
        "policy": policy,
        "films": fingerprint(repeated, validation, test),
    }
    with writable_run(run, strategy) as output_run:
        require_same(strategy, run_settings)
        steps = _steps_per_epoch(config, repeated)
        with strategy.scope():
            model = build_segmentation_trainer(config, steps)
        session = Session(
            run,
            output_run,
            model,
            model.ema_network,
            run_settings,
            console,
            keep=keep,
            index="epoch",
            steps_per_row=steps,
        )
        if not finish:
            _train(session, config, repeated, validation)
        session.best.restore()
        unet = compute_in_float32(model.ema_network)  # As whoever loads it will have it.
        report = {
            "films": {"train": len(training), "validation": len(validation), "test": len(test)},
            "mean_grey": mean_grey(training.cropped()),
            "epochs": int(model.step.numpy()) // steps,
            "best_epoch": session.best.best_step,
            "seconds": round(session.seconds, 1),
            "parameters": unet.count_params(),
            **_test(unet, training.cropped(), test, config.data.view),
        }
        output_run.model_path.unlink(missing_ok=True)  # One that was finished early is not to stand beside what is new.
        write_json(output_run.report_path, report)
        write_text(output_run.card_path, unet_card(output_run, report))
        with atomic_path(output_run.model_path) as temporary:
            unet.save(temporary)
    return report


def finished_report(run: Run) -> dict[str, Any] | None:
    """The report of a finished run; None if the run, its report or its network is incomplete."""
    report = run.ended_with
    whole = zipfile.is_zipfile(run.model_path) and {"dice", "seconds", "best_epoch"} <= report.keys()
    return report if whole else None


def _steps_per_epoch(config: UNetConfig, training: FilmSet) -> int:
    return max(1, len(training) // config.batch_size)


def _train(session: Session[SegmentationTrainer], config: UNetConfig, training: FilmSet, validation: FilmSet) -> None:
    """Trains to the last epoch, or until none is better."""
    model, best, history, console = session.model, session.best, session.history, session.console
    background, steps = config.data.keep_background, _steps_per_epoch(config, training)
    progress = console.progress("epoch")

    def end_of_epoch(step: int) -> None:
        epoch = step // steps
        validated = model.validate(validation_batches(validation, config.batch_size, keep_background=background))
        logs = {**model.pop_metrics(), **{f"val_{name}": value for name, value in validated.items()}}
        history.record(epoch, logs)
        best.update(epoch, broadcast_from_chief(model.distribute_strategy, logs["val_dice"]))
        enough = best.steps_since_best(epoch) >= config.patience
        if epoch % 10 == 0 or epoch == config.epochs or enough:
            pixels = _overlays(model.ema_network, validation, background)
            save_picture(session.output_run.path / "samples" / f"epoch-{epoch:04d}.png", pixels)
            history.picture("validation", pixels, epoch)
        session.save(step)
        progress(epoch, config.epochs, f"loss {logs['loss']:.3f}  validation Dice {logs['val_dice']:.3f}")
        if enough:
            model.stop_training = True
            console.line(f"stopped early: no better val_dice in {config.patience} epochs")

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return segmentation_batches(
            training,
            config.batch_size,
            seed=config.seed,
            start=session.begin,
            keep_background=background,
            limits=AUGMENTATIONS[config.data.view],
            context=context,
        )

    last = config.epochs * steps
    if best.steps_since_best(session.begin // steps) < config.patience:
        session.fit(batches, last, [StepCallback(end_of_epoch, last, steps)])


def _repeat_lesions(films: FilmSet, repeats: int) -> FilmSet:
    """The films, those with a lesion ``repeats`` times."""
    with_lesion = {films.ids[row] for row in np.flatnonzero(has_lesion(films.label_maps))}
    ids = dict.fromkeys(films.ids)
    return films.select([id_ for id_ in ids for _ in range(repeats if id_ in with_lesion else 1)])


def segmentation_loss(truth: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Soft Dice plus cross-entropy."""
    return dice_loss(truth, probabilities) + cross_entropy(truth, probabilities)


def lesion_loss(truth: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Soft Dice plus cross-entropy, plus the focal Tversky loss of the lesions."""
    lesions = focal_tversky(truth[..., LESION], probabilities[..., LESION])
    return segmentation_loss(truth, probabilities) + lesions


LOSSES = {"none": segmentation_loss, "focal-tversky": lesion_loss}


def build_segmentation_trainer(config: UNetConfig, steps_per_epoch: int) -> SegmentationTrainer:
    """The U-Net and its loss as configured, and Adam with a cosine schedule."""
    unet = build_unet(config.data.size, widths=config.level_widths, dropout=config.dropout, attention=config.attention)
    selection_regions = SELECTION_REGIONS[config.data.view]
    model = SegmentationTrainer(
        unet, loss=LOSSES[config.lesion_loss], selection_regions=selection_regions, ema=config.ema
    )
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps_per_epoch * config.epochs, alpha=0.01)
    model.compile(with_loss_scaling(keras.optimizers.Adam(rate)))
    return model


def _test(model: keras.Model, training: FilmSet, films: FilmSet, view: str) -> dict[str, dict]:
    """What the network finds on test films, for both :data:`BACKGROUNDS`; in the roi view compared with a disc, too."""
    pictures = {name: films.pictures(keep_background) for name, keep_background in BACKGROUNDS.items()}
    found = {name: predict_label_maps(model, each) for name, each in pictures.items()}
    report: dict[str, dict] = {
        "dice": {name: mean_dice(films, label_maps) for name, label_maps in found.items()},
        "lesions": {
            name: lesion_scores(films, found[name], lesion_probabilities(model, each))
            for name, each in pictures.items()
        },
    }
    if view == "roi":
        report["disc"] = {name: compare_with_disc(training, films, label_maps) for name, label_maps in found.items()}
    return report


def _overlays(model: keras.Model, films: FilmSet, keep_background: bool, count: int = 8) -> np.ndarray:
    """A sheet ``film | annotation | found`` of the first validation films."""
    pictures = films.pictures(keep_background)[:count]
    found = predict_label_maps(model, pictures)
    return comparison_rows(pictures, films.label_maps[:count], found)
