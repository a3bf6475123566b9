"""From a run to its report: films, synthetic images, judge, numbers, pages."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mammogan_tf
from mammogan_tf.config import GANConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.judge import UnseenFilms, judge, synthesise
from mammogan_tf.evaluation.page import SHEET, render_page
from mammogan_tf.evaluation.sheet import comparison_sheet
from mammogan_tf.files import write_json, write_text
from mammogan_tf.inference import load_generator, load_segmenter
from mammogan_tf.training.gan import condition
from mammogan_tf.training.run import Run, load_split
from mammogan_tf.training.segmentation import train_unet

__all__ = ["JUDGE_SEED", "evaluate"]

JUDGE_SEED = 7919
"""Seed of the judging segmenter, so that it is not the network that made the masks."""

SHEET_ROWS = 16


def evaluate(
    run: Run,
    films: Sequence[Film],
    out: str | Path,
    count: int = 500,
    seed: int = 0,
    judge_config: UNetConfig | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Judges the generator of a run on its test patients; writes ``report.json``, ``report.html`` and ``sheet.png``.

    A segmenter that looks for the masks in the synthetic images is trained first, on the run's training films, into
    ``out/judge``; a second call finds it there, and goes on where an interrupted one stopped.

    Args:
        run: a finished ``train-gan`` run.
        films: the films of its data; more than those of its split do no harm.
        out: the folder to write to; it is made.
        count: synthetic images, about: the same number, two or more, from the mask of each test film.
        seed: of noise, drawn pairs and bootstrap samples; the same seed gives the same report.
        judge_config: the judging segmenter; the defaults of :class:`UNetConfig` where None. Its ``data`` is always that
            of the run, its seed :data:`JUDGE_SEED`.
        console: where to show progress.

    Returns:
        The content of ``report.json``: ``measures`` maps section and measure to ``{value, low, high, n, patients}`` or
        ``{"not computed": why}``, with ``floor``, ``ceiling`` or ``control`` beside them in the same form.

    Raises:
        ModelError: the run is not a finished GAN.
        DataError: films of the split are missing, or there are too few test patients.
    """
    console, out = console or Console(), Path(out)
    if (out / "config.json").exists():
        raise DataError(
            f"{out}: expected a folder of its own for the report, received: a run directory; choose another"
        )
    if not isinstance(run.config, GANConfig) or not run.finished:
        raise ModelError(f"{run.path}: expected a finished train-gan run, received: {run.command}; finish it first")
    training, test = _load(run, films, console)
    unseen = _unseen(test, films)
    segmenter = load_segmenter(_trained_judge(run, films, out / "judge", judge_config, console).path)
    per_mask = max(2, round(count / len(test)))
    generator = load_generator(run.path)
    synthetic = synthesise(unseen, generator, per_mask, seed, console.progress("synthetic images"))
    train_images = _to_float(training.images)
    report = {
        "format": 1,
        "version": mammogan_tf.__version__,
        "run": str(run.path),
        "masks": run.config.masks,
        "size": run.config.data.size,
        "films": {
            "train": len(training),
            "test": len(test),
            "test_patients": len(set(test.patients)),
        },
        "synthetic": {"images": len(test) * per_mask, "per_mask": per_mask, "seed": seed},
        "measures": judge(unseen, synthetic, train_images, segmenter, seed, console.progress("measures")),
    }
    _write(report, unseen, synthetic, train_images, out)
    return report


def _load(run: Run, films: Sequence[Film], console: Console) -> tuple[FilmSet, FilmSet]:
    """Training and test films, with the masks that the generator is conditioned on."""
    training, validation, test = load_split(run, films, console.progress("preparing films"))
    leaked = sorted(set(test.patients) & {*training.patients, *validation.patients})
    if leaked:
        raise DataError(
            f"evaluate: expected test patients that were never seen, received: {', '.join(leaked[:5])} in both"
        )
    return condition(run, training.cropped()), condition(run, test)


def _unseen(test: FilmSet, films: Sequence[Film]) -> UnseenFilms:
    sides = {film.id: film.side or "" for film in films}
    return UnseenFilms(
        images=_to_float(test.images),
        masks=test.label_maps,
        labels=test.labels,
        patients=np.array(test.patients),
        sides=np.array([sides[name] for name in test.ids]),
        tissues=np.array([tissue or "" for tissue in test.tissues]),
    )


def _trained_judge(run: Run, films: Sequence[Film], folder: Path, config: UNetConfig | None, console: Console) -> Run:
    """The judging segmenter for the split of ``run``: the one in ``folder`` if it fits, else a new one."""
    config = dataclasses.replace(config or UNetConfig(), data=run.config.data, seed=JUDGE_SEED)
    for file in sorted((folder / "train-unet").glob("[0-9]*/config.json")):
        found = Run.open(file.parent)
        if (found.config, found.split, found.data) == (config, run.split, run.data):
            break
    else:
        found = Run.create(folder, config, run.split, run.data)
    if not found.finished:
        console.line("training the segmenter that judges")
        train_unet(found, films, console)
    return found


def _write(
    report: dict[str, Any], unseen: UnseenFilms, synthetic: np.ndarray, train_images: np.ndarray, out: Path
) -> None:
    every = synthetic.reshape(-1, *synthetic.shape[2:])
    random = np.random.default_rng(report["synthetic"]["seed"])
    rows = np.sort(random.permutation(len(unseen.images))[:SHEET_ROWS])
    titles = ("mask", "its real film", "synthetic")
    sheet = comparison_sheet(unseen.masks[rows], unseen.images[rows], synthetic[rows, 0], out / "sheet.png", titles)
    measures = report["measures"]
    pictures = {
        SHEET: sheet.read_bytes(),
        "bars": figures.similarity_bars(measures["similarity"], measures["diversity"]),
        "obedience": figures.obedience_bars(measures["obedience"]),
        "spectra": figures.spectra(unseen.images, every),
        "closest": figures.closest_pairs(unseen.images, synthetic, train_images),
    }
    write_text(out / "report.html", render_page(report, pictures))
    write_json(out / "report.json", report)


def _to_float(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255
