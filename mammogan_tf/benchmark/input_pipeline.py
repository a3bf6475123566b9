"""How fast films come in: prepared for the first time, from the cache, and whether training ever waits for them."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mammogan_tf.benchmark.machine import measured_on
from mammogan_tf.benchmark.timing import in_turns, spread
from mammogan_tf.config import DataConfig, GANConfig, UNetConfig
from mammogan_tf.console import Progress
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet, load_films
from mammogan_tf.data.pipeline import gan_batches, segmentation_batches
from mammogan_tf.data.transforms import AUGMENTATIONS
from mammogan_tf.training.gan import build_wgan_gp
from mammogan_tf.training.segmentation import build_segmentation_trainer
from mammogan_tf.training.strategy import set_up_device

__all__ = ["benchmark_input", "format_input"]


def benchmark_input(
    films: Sequence[Film],
    gan: GANConfig,
    unet: UNetConfig,
    *,
    rounds: int = 5,
    steps: int = 10,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures preparation and the pipelines of both trainings, on films that train.

    Args:
        films: the films.
        gan: of the step that waits, and how the films are prepared.
        unet: of the step of the U-Net; its films are prepared in the same way.
        rounds: measurements of each kind.
        steps: training steps in a row in each measurement.
        progress: called with (parts done, parts).

    Returns:
        Plain JSON types: films a second ``cold`` (prepared anew) and ``warm`` (from the cache), for each training
        ``wait_share`` of the time of its steps that waits for a batch, and ``input_wait_share``, the larger of the two.
    """
    policy = set_up_device(gan.precision, gan.seed, gan.deterministic)
    preparation = _preparation(films, gan.data, rounds)
    prepared = _prepare(films, gan.data)
    shares = {}
    for done, (name, batches, step) in enumerate((_gan(gan, prepared), _unet(unet, prepared)), start=1):
        shares[name] = _wait_share(batches, step, rounds, steps)
        if progress:
            progress(done, 2)
    return {
        "films": len(films),
        "films_per_s": preparation,
        "wait_share": shares,
        "input_wait_share": max(share["median"] for share in shares.values()),
        "batch": {"train-gan": gan.batch_size, "train-unet": unet.batch_size},
        "precision": policy,
        **measured_on(),
    }


def format_input(result: dict[str, Any]) -> str:
    """The figures as a table for a terminal."""
    rows = [
        *((f"films a second, {name}", figures) for name, figures in result["films_per_s"].items()),
        *((f"share of a step that waits, {name}", figures) for name, figures in result["wait_share"].items()),
    ]
    lines = [f"{result['films']} films, {result['precision']} on {result['device']}"]
    lines += [f"{title:36}{one['median']:10.4f} [{one['p10']:.4f}, {one['p90']:.4f}]" for title, one in rows]
    return "\n".join(lines)


def _prepare(films: Sequence[Film], data: DataConfig) -> FilmSet:
    return load_films(films, data.size, data.view, data.lesions)


def _preparation(films: Sequence[Film], data: DataConfig, rounds: int) -> dict[str, Any]:
    with _empty_cache() as cache:

        def rate() -> float:
            begin = time.perf_counter()
            _prepare(films, data)
            return len(films) / (time.perf_counter() - begin)

        def anew() -> float:
            shutil.rmtree(cache / "prepared", ignore_errors=True)
            return rate()

        return {name: spread(values) for name, values in in_turns({"cold": anew, "warm": rate}, rounds).items()}


@contextmanager
def _empty_cache() -> Iterator[Path]:
    """A cache for prepared films that is not the user's."""
    usual = os.environ.get("MAMMOGAN_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAMMOGAN_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ["MAMMOGAN_CACHE"]
            if usual is not None:
                os.environ["MAMMOGAN_CACHE"] = usual


def _wait_share(batches: tf.data.Dataset, step: Callable[[Any], object], rounds: int, steps: int) -> dict[str, Any]:
    source = iter(batches)

    def measure() -> float:
        waited, begin = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(source)
            waited += time.perf_counter() - asked
            step(batch)
        return waited / (time.perf_counter() - begin)

    return spread(in_turns({"share": measure}, rounds)["share"])


def _gan(config: GANConfig, films: FilmSet) -> tuple[str, tf.data.Dataset, Callable[[Any], object]]:
    model = build_wgan_gp(config)
    step = tf.function(model.train_step)
    batches = gan_batches(films, config.batch_size * config.n_critic, seed=config.seed)
    return "train-gan", batches, lambda batch: tf.nest.map_structure(np.asarray, step(batch))


def _unet(config: UNetConfig, films: FilmSet) -> tuple[str, tf.data.Dataset, Callable[[Any], object]]:
    model = build_segmentation_trainer(config, steps_per_epoch=max(1, len(films) // config.batch_size))
    step = tf.function(model.train_step)
    batches = segmentation_batches(
        films,
        config.batch_size,
        seed=config.seed,
        keep_background=config.data.keep_background,
        limits=AUGMENTATIONS[config.data.view],
    )
    return "train-unet", batches, lambda batch: tf.nest.map_structure(np.asarray, step(batch))
