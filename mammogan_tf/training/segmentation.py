"""Training of the U-Net, and label maps from a trained one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mammogan_tf.config import UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import LESION
from mammogan_tf.data.pipeline import segmentation_batches, validation_batches
from mammogan_tf.data.splits import split_patients
from mammogan_tf.data.transforms import AUGMENTATIONS
from mammogan_tf.files import atomic_path, write_text
from mammogan_tf.losses import cross_entropy, dice_loss, focal_tversky
from mammogan_tf.metrics.segmentation import REGIONS
from mammogan_tf.models.unet import build_unet
from mammogan_tf.training.callbacks import AveragedWeights, BestWeights, History, Stopwatch
from mammogan_tf.training.card import unet_card
from mammogan_tf.training.checkpoint import Checkpoints
from mammogan_tf.training.region_dice import RegionDice
from mammogan_tf.training.run import Run, load_split
from mammogan_tf.training.samples import beside, save_picture
from mammogan_tf.training.scores import compare_with_disc, lesion_scores, mean_dice
from mammogan_tf.training.strategy import scaled, set_up_device

__all__ = ["PICTURES", "create_unet_run", "lesion_chances", "predict_label_maps", "train_unet"]

PICTURES = {"cleaned": "images", "as_it_is": "films"}
"""Ways in which a film can come, as a report calls them, and where a film set keeps them."""

JUDGED = {"whole": ("breast", "pectoral", "dense"), "roi": ("breast", "lesion")}
"""By view: the regions whose mean Dice on the validation films says which epoch is the best. On whole films too few have
a lesion to choose by it."""


def create_unet_run(workdir: str | Path, config: UNetConfig, films: Sequence[Film], data: Sequence[str | Path]) -> Run:
    """Splits the films by patient and makes a run directory."""
    split = split_patients(films, config.data.validation, config.data.test, config.data.split_seed)
    return Run.create(workdir, config, split, data)


def train_unet(run: Run, films: Sequence[Film], console: Console | None = None) -> dict:
    """Trains the U-Net of a run, or goes on from its last checkpoint, and tests it on the patients kept apart.

    Writes ``history.csv``, ``tensorboard/``, ``samples/``, ``checkpoints/``, ``model.keras`` (the averaged weights of
    the best epoch), ``report.json`` and ``MODEL_CARD.md`` into the run directory.

    Returns:
        The report: on the test films, cleaned and as they are, Dice for each region and how lesions are found; in the
        roi view, also Dice of a disc in the middle of each window.
    """
    console = console or Console()
    config = run.config
    assert isinstance(config, UNetConfig)
    policy = set_up_device(config.precision, config.seed, config.deterministic)
    training, validation, test = load_split(run, films, console.progress("preparing films"))
    console.line(f"{run.path}: {len(training)} films train, {len(validation)} validate, {policy}")

    repeated = _repeat_lesions(training, config.lesion_repeats)
    model = build_unet(config.data.size, widths=config.widths, dropout=config.dropout, attention=config.attention)
    steps = max(1, len(repeated) // config.batch_size)
    compile_unet(model, config, steps)
    watch = Stopwatch()
    averaged = AveragedWeights(model, config.ema)
    best = BestWeights(averaged.weights, "val_dice", config.patience, console)
    epoch = tf.Variable(0, dtype=tf.int64)
    checkpoints = Checkpoints(
        run.path / "checkpoints",
        [
            *model.variables,
            *model.optimizer.variables,
            *averaged.variables,
            *best.variables,
            watch.seconds,
            epoch,
        ],
    )
    checkpoints.restore()
    begin = int(epoch.numpy())
    history = History(run.path, "epoch", begin)
    progress = console.progress("epoch")
    watch.start()

    def end_of_epoch(index: int, logs: dict[str, float]) -> None:
        number = index + 1
        history.record(number, logs)
        if number % 10 == 0 or number == config.epochs:
            with averaged.in_use():
                pixels = _overlays(model, validation, config.data.keep_background)
            save_picture(run.path / "samples" / f"epoch-{number:04d}.png", pixels)
            history.picture("validation", pixels, number)
        epoch.assign(number)
        watch.lap()
        checkpoints.save(number)
        progress(number, config.epochs, f"loss {logs['loss']:.3f}  validation Dice {logs['val_dice']:.3f}")

    if begin < config.epochs and not best.exhausted_at(begin):
        keep = config.data.keep_background
        model.fit(
            segmentation_batches(
                repeated,
                config.batch_size,
                seed=config.seed,
                start=begin * steps,
                keep_background=keep,
                limits=AUGMENTATIONS[config.data.view],
            ),
            validation_data=validation_batches(validation, config.batch_size, keep_background=keep),
            steps_per_epoch=steps,
            initial_epoch=begin,
            epochs=config.epochs,
            callbacks=[averaged, best, keras.callbacks.LambdaCallback(on_epoch_end=end_of_epoch)],
            shuffle=False,
            verbose=0,
        )
    model.set_weights([weight.numpy() for weight in best.weights])
    report = {
        "films": {"train": len(training), "validation": len(validation), "test": len(test)},
        "best_epoch": int(best.best_epoch.numpy()),
        "seconds": round(float(watch.seconds.numpy()), 1),
        "parameters": model.count_params(),
        **_test(model, training.cropped(), test, config.data.view),
    }
    run.write_json("report.json", report)
    write_text(run.path / "MODEL_CARD.md", unet_card(run, report))
    with atomic_path(run.model_path) as temporary:
        model.save(temporary)
    return report


def _repeat_lesions(films: FilmSet, repeats: int) -> FilmSet:
    """The films, those with a lesion ``repeats`` times."""
    with_lesion = {films.ids[row] for row in np.flatnonzero((films.label_maps == LESION).any(axis=(1, 2)))}
    ids = dict.fromkeys(films.ids)
    return films.select([id_ for id_ in ids for _ in range(repeats if id_ in with_lesion else 1)])


@keras.saving.register_keras_serializable("mammogan_tf")
def segmentation_loss(truth: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Soft Dice plus cross-entropy."""
    return dice_loss(truth, probabilities) + cross_entropy(truth, probabilities)


@keras.saving.register_keras_serializable("mammogan_tf")
def lesion_loss(truth: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Soft Dice plus cross-entropy, plus the focal Tversky loss of the lesions."""
    lesions = focal_tversky(truth[..., LESION], probabilities[..., LESION])
    return segmentation_loss(truth, probabilities) + lesions


LOSSES = {"none": segmentation_loss, "focal-tversky": lesion_loss}


def compile_unet(model: keras.Model, config: UNetConfig, steps_per_epoch: int) -> None:
    """The loss as configured, Adam with a cosine schedule, Dice of the judged regions and of each region as metrics."""
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps_per_epoch * config.epochs, alpha=0.01)
    regions = [RegionDice([region], f"dice_{region}") for region in REGIONS]
    model.compile(
        optimizer=scaled(keras.optimizers.Adam(rate)),
        loss=LOSSES[config.lesion_loss],
        metrics=[RegionDice(JUDGED[config.data.view], "dice"), *regions],
    )
    model.optimizer.build(model.trainable_variables)


def predict_label_maps(
    model: keras.Model, images: np.ndarray, *, lesions: bool = True, tta: bool = False, batch_size: int = 32
) -> np.ndarray:
    """Label maps that a U-Net finds.

    Args:
        model: a U-Net.
        images: uint8 [N, S, S], of the size the U-Net was built for or larger, such as windows with their margins.
        lesions: False leaves the lesion class out, so that each pixel gets the anatomy under it.
        tta: average over films that are shifted by a few pixels; five times the work.

    Returns:
        uint8 [N, S, S], values 0-4, or 0-3 without lesions.
    """
    classes = None if lesions else -1
    maps = [batch[..., :classes].argmax(axis=-1) for batch in _probabilities(model, images, tta, batch_size)]
    return np.concatenate(maps).astype(np.uint8) if maps else np.zeros(images.shape, np.uint8)


def lesion_chances(model: keras.Model, images: np.ndarray, *, tta: bool = False, batch_size: int = 32) -> np.ndarray:
    """Chance of a lesion in each pixel, float32 [N, S, S]; the arguments are those of :func:`predict_label_maps`."""
    maps = [batch[..., LESION] for batch in _probabilities(model, images, tta, batch_size)]
    return np.concatenate(maps) if maps else np.zeros(images.shape, np.float32)


def _probabilities(model: keras.Model, images: np.ndarray, tta: bool, batch_size: int) -> Iterator[np.ndarray]:
    """Batches float32 [B, S, S, 5]."""
    model = _at_size(model, images.shape[-1])
    shifts = SHIFTS if tta else SHIFTS[:1]
    for begin in range(0, len(images), batch_size):
        batch = images[begin : begin + batch_size, ..., None].astype(np.float32) / 255
        yield np.mean([_shifted(model, batch, *shift) for shift in shifts], axis=0)


SHIFTS = ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2))
"""Rows and columns by which a film is moved for test-time averaging."""


def _shifted(model: keras.Model, batch: np.ndarray, down: int, right: int) -> np.ndarray:
    """Probabilities for films that are moved for the network, and moved back; their edges go on as they end."""
    rows, columns = (np.arange(batch.shape[1]) + shift for shift in (down, right))
    limit = batch.shape[1] - 1
    moved = batch[:, np.clip(rows, 0, limit)][:, :, np.clip(columns, 0, limit)]
    found = np.asarray(model(moved, training=False))
    return found[:, np.clip(rows - 2 * down, 0, limit)][:, :, np.clip(columns - 2 * right, 0, limit)]


def _at_size(unet: keras.Model, side: int) -> keras.Model:
    """The same network for pictures of another size."""
    if unet.input_shape[1] == side:
        return unet
    other = keras.models.clone_model(unet, input_tensors=keras.Input((side, side, 1), name="image"))
    other.set_weights(unet.get_weights())
    return other


def _test(model: keras.Model, training: FilmSet, films: FilmSet, view: str) -> dict[str, dict]:
    """What the network finds on test films, for both ways in which a film can come, beside a disc in the roi view."""
    pictures = {name: getattr(films, part) for name, part in PICTURES.items()}
    found = {name: predict_label_maps(model, each) for name, each in pictures.items()}
    report: dict[str, dict] = {
        "dice": {name: mean_dice(films, label_maps) for name, label_maps in found.items()},
        "lesions": {
            name: lesion_scores(films, found[name], lesion_chances(model, each)) for name, each in pictures.items()
        },
    }
    if view == "roi":
        report["disc"] = {name: compare_with_disc(training, films, label_maps) for name, label_maps in found.items()}
    return report


def _overlays(model: keras.Model, films: FilmSet, keep_background: bool, count: int = 8) -> np.ndarray:
    """A sheet ``film | annotation | found`` of the first validation films."""
    pictures = (films.films if keep_background else films.images)[:count]
    found = predict_label_maps(model, pictures)
    return beside(pictures, films.label_maps[:count], found)
