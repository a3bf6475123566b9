"""Is synthetic data of use? Small networks trained on real films, with and without synthetic ones, tested on unseen films.

The recipe is fixed and the same for all: a network, a number of steps, a learning rate. So the arms differ in their films
alone, and the numbers are those of this recipe, not the best that can be reached.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from mammogan_tf import __version__
from mammogan_tf.config import LESION, MALIGNANT, NORMAL
from mammogan_tf.console import Console
from mammogan_tf.data.label_maps import has_lesion
from mammogan_tf.data.preparation import canvas_size
from mammogan_tf.data.transforms import AUGMENTATIONS, Augmentation, augment_film
from mammogan_tf.evaluation.evidence import DownstreamResult, Generate, RealFilms
from mammogan_tf.evaluation.sections.downstream import ARMS, Arm
from mammogan_tf.files import write_text
from mammogan_tf.metrics.segmentation import dice
from mammogan_tf.models.blocks import convolution_block
from mammogan_tf.models.unet import build_unet
from mammogan_tf.training.segmentation import segmentation_loss
from mammogan_tf.training.strategy import set_up_device

__all__ = ["Recipe", "evaluate_downstream"]

BATCH = 64
MAX_SYNTHETIC = max(arm.synthetic for arm in ARMS.values())


@dataclass(frozen=True)
class Recipe:
    """How every network is trained. ``steps`` counts updates, pre-training among them; ``seeds`` the repetitions."""

    widths: tuple[int, ...] = (8, 16, 32)
    steps: int = 400
    batch_size: int = 8
    learning_rate: float = 1e-3
    seeds: int = 5


@dataclass(frozen=True)
class Pool:
    """Films to train on: ``images`` float32 [N, S, S], ``lesions`` uint8 [N, S, S] (0 or 1), ``malignant`` int [N]."""

    images: np.ndarray
    lesions: np.ndarray
    malignant: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __add__(self, other: "Pool") -> "Pool":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Pool(*(np.concatenate(pair) for pair in pairs))

    def draw(self, count: int, seed: int) -> "Pool":
        rows = np.random.default_rng(seed).permutation(len(self))[:count]
        return Pool(self.images[rows], self.lesions[rows], self.malignant[rows])


def evaluate_downstream(
    train: RealFilms,
    test: RealFilms,
    generator: Generate,
    view: str,
    file: Path,
    seed: int = 0,
    recipe: Recipe = Recipe(),
    console: Console | None = None,
) -> tuple[DownstreamResult, ...]:
    """Trains a classifier of severity and a segmenter of lesions for every arm and seed, and tests them on unseen films.

    Training films are those with a lesion. The synthetic ones are made from their masks and labels.

    Args:
        train: films that the generator was trained on; test: films of other patients.
        generator: seeds, masks and labels to images, as in :func:`mammogan_tf.evaluation.evidence.synthesise`.
        view: one of ``config.VIEWS``; it says how the classic augmentation changes a film.
        file: a line of JSON for each arm and seed that is finished; a second call goes on from there.
        seed: of the synthetic images.
        recipe: how the networks are trained.
        console: where to show progress.
    """
    console = console or Console()
    rows = np.flatnonzero(has_lesion(train.masks) & (train.labels != NORMAL))
    if not len(rows):
        return ()
    real = _pool(train, rows, train.images[rows])
    repeated = np.tile(rows, int(np.ceil(MAX_SYNTHETIC)))
    synthetic = _pool(train, repeated, _synthesise(train, repeated, generator, seed))
    set_up_device("float32", seed, deterministic=False)
    key = _key(recipe, view, real, synthetic, test)
    kept = list(_read(file))
    others = [(found, result) for found, result in kept if found != key]
    done = {(result.arm, result.seed): result for found, result in kept if found == key}
    jobs = [(name, repetition) for repetition in range(recipe.seeds) for name in ARMS]
    progress = console.progress("downstream networks")
    for number, (name, repetition) in enumerate(jobs, start=1):
        if (name, repetition) not in done:
            pools = _pools(ARMS[name], real, synthetic, repetition)
            limits = AUGMENTATIONS[view] if ARMS[name].augment else None
            if limits:
                pools = [_with_margin(pool, view) for pool in pools]
            done[name, repetition] = DownstreamResult(
                name,
                repetition,
                malignant=_classify(recipe, pools, limits, test, repetition),
                dice=_segment(recipe, pools, limits, test, repetition),
            )
            _write(file, [*others, *((key, result) for result in done.values())])
        progress(number, len(jobs), f"{name}, seed {repetition}")
    return tuple(done[job] for job in jobs)


def _pool(films: RealFilms, rows: np.ndarray, images: np.ndarray) -> Pool:
    """Images with the lesions and the severity of the films in these rows."""
    malignant = films.labels[rows] == MALIGNANT
    return Pool(images, (films.masks[rows] == LESION).astype(np.uint8), malignant.astype(np.int32))


def _synthesise(films: RealFilms, rows: np.ndarray, generator: Generate, seed: int) -> np.ndarray:
    """With other seeds than the images that the rest of the report is about."""
    seeds = np.random.default_rng([seed, 1]).choice(2**31, size=len(rows), replace=False).astype(np.int64)
    parts = [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)]
    made = [generator(seeds[part], films.masks[rows[part]], films.labels[rows[part]]) for part in parts]
    return np.concatenate(made).astype(np.float32)


def _pools(arm: Arm, real: Pool, synthetic: Pool, seed: int) -> list[Pool]:
    """What an arm is trained on, one after the other."""
    added = synthetic.draw(round(arm.synthetic * len(real)), seed)
    if arm.pretrain:
        return [added, real]
    if not arm.real:
        return [added]
    return [real + added]


def _with_margin(pool: Pool, view: str) -> Pool:
    """The films on the canvas that a training's films have, mirrored at their edges, for the augmentation to move.

    Without it black would come in where no window of a test has any.
    """
    size = pool.images.shape[1]
    before = (canvas_size(size, view) - size) // 2
    after = canvas_size(size, view) - size - before
    margin = ((0, 0), (before, after), (before, after))
    images, lesions = (np.pad(each, margin, "symmetric") for each in (pool.images, pool.lesions))
    return Pool(images, lesions, pool.malignant)


def _classify(recipe: Recipe, pools: list[Pool], limits: Augmentation | None, test: RealFilms, seed: int) -> np.ndarray:
    """Log odds of malignancy of the films that are benign or malignant; nan for the others."""
    keras.utils.set_random_seed(seed)
    size = test.images.shape[1]
    network = _classifier(size, recipe.widths)
    for pool in pools:
        batches = _batches(pool, recipe, limits, size, seed).map(lambda image, lesions, malignant: (image, malignant))
        _fit(network, keras.losses.BinaryCrossentropy(from_logits=True), batches, recipe, recipe.steps // len(pools))
    scores = np.concatenate([network(part, training=False)[:, 0] for part in _parts(test.images)])
    return np.where(test.labels == NORMAL, np.nan, scores)


def _segment(recipe: Recipe, pools: list[Pool], limits: Augmentation | None, test: RealFilms, seed: int) -> np.ndarray:
    """Dice of the lesions; nan for the films without one."""
    keras.utils.set_random_seed(seed)
    size = test.images.shape[1]
    network = build_unet(size, classes=2, widths=recipe.widths, dropout=0.0)
    for pool in pools:
        batches = _batches(pool, recipe, limits, size, seed).map(
            lambda image, lesions, malignant: (image, tf.one_hot(tf.cast(lesions, tf.int32), 2))
        )
        _fit(network, segmentation_loss, batches, recipe, recipe.steps // len(pools))
    found = np.concatenate([np.argmax(network(part, training=False), axis=-1) for part in _parts(test.images)])
    values = dice(test.masks == LESION, found, 1)
    return np.where(has_lesion(test.masks), values, np.nan)


def _classifier(size: int, widths: tuple[int, ...]) -> keras.Model:
    x = image = keras.Input((size, size, 1), name="image")
    for level, width in enumerate(widths):
        x = convolution_block(x, width, f"block{level}")
        x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(1, name="malignant")(x), name="classifier")


def _fit(network: keras.Model, loss: Callable, batches: tf.data.Dataset, recipe: Recipe, steps: int) -> None:
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps, alpha=0.01)
    network.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
    network.fit(batches, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)


def _batches(pool: Pool, recipe: Recipe, limits: Augmentation | None, size: int, seed: int) -> tf.data.Dataset:
    """Endless batches of (image [B, S, S, 1], lesions [B, S, S], malignant [B]), each epoch in another order."""
    films = tf.data.Dataset.from_tensor_slices((pool.images[..., None], pool.lesions, pool.malignant))
    films = films.shuffle(len(pool), seed=seed).repeat()
    if limits:

        def change(number: tf.Tensor, film: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            image, lesions, malignant = film
            key = tf.stack([tf.constant(seed, tf.int64), number])
            return *augment_film(image, lesions, key, size, limits), malignant

        films = tf.data.Dataset.zip(tf.data.Dataset.counter(), films).map(change, tf.data.AUTOTUNE, deterministic=True)
    return films.batch(recipe.batch_size).prefetch(2)


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + BATCH, ..., None] for start in range(0, len(images), BATCH))


def _key(recipe: Recipe, view: str, *films: Pool | RealFilms) -> str:
    """Names everything that a result depends on."""
    digest = hashlib.sha256(f"{__version__} {recipe} {view} {AUGMENTATIONS[view]} {ARMS}".encode())
    for each in films:
        for value in vars(each).values():
            digest.update(value.tobytes())
    return digest.hexdigest()


def _read(file: Path) -> Iterator[tuple[str, DownstreamResult]]:
    """The results, each with its key; broken lines are passed over."""
    for line in file.read_text(errors="replace").splitlines() if file.exists() else ():
        try:
            values = json.loads(line)
            scores, dices = (np.array(values[name], np.float64) for name in ("malignant", "dice"))
            yield values["key"], DownstreamResult(values["arm"], values["seed"], scores, dices)
        except (ValueError, KeyError, TypeError):
            continue


def _write(file: Path, results: list[tuple[str, DownstreamResult]]) -> None:
    lines = []
    for key, result in results:
        arrays = {
            name: [None if np.isnan(value) else float(value) for value in getattr(result, name)]
            for name in ("malignant", "dice")
        }
        lines.append(json.dumps({"key": key, "arm": result.arm, "seed": result.seed, **arrays}))
    write_text(file, "\n".join(lines) + "\n")
