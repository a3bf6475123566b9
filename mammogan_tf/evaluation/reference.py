"""The real films that a report stands on, and the evaluation U-Net that is trained on them."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mammogan_tf import __version__
from mammogan_tf.arrays import to_float
from mammogan_tf.config import LABELS, DataConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.cache import cache_folder
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import ModelError
from mammogan_tf.evaluation.evidence import RealFilms, require_patients
from mammogan_tf.files import locked
from mammogan_tf.training.run import Run, run_folders
from mammogan_tf.training.segmentation import finished_report, train_unet
from mammogan_tf.training.split_films import fingerprint, load_split

__all__ = ["EVALUATOR_SEED", "Reference", "evaluators_folder", "prepare_reference", "real_films"]

EVALUATOR_SEED = 7919
"""Seed of the evaluation U-Net, so that it is not the network that made the masks."""


def evaluators_folder() -> Path:
    """Where evaluation U-Nets are kept: one for all reports on the same films, as figures by several would not compare."""
    return cache_folder() / "evaluators"


@dataclass(frozen=True)
class Reference:
    """Prepared training and test films, with their margin and ``images`` as networks see them, and the evaluation U-Net."""

    training: FilmSet
    test: FilmSet
    evaluator: Run


def prepare_reference(
    films: Sequence[Film],
    data: DataConfig,
    split: Split,
    sources: Sequence[str | Path],
    folder: Path,
    config: UNetConfig | None,
    console: Console,
    labels: Sequence[str] = LABELS,
) -> Reference:
    """Prepares the films of a split and trains the evaluation U-Net on its training films, or finds it in ``folder``.

    Args:
        films: the films of the split; more do no harm.
        data: how they are prepared.
        split: which train and which are unseen.
        sources: where they come from, to be written down.
        folder: where evaluation U-Nets are kept, one for each set of films and masks; an interrupted training continues.
        config: of the evaluation U-Net; the defaults where None. Its ``data``, seed and precision are set here: float32, so
            that a training that was interrupted on a GPU continues without one.
        console: where to show progress.
        labels: of the pictures that take part; the evaluation U-Net is trained on all.

    Raises:
        DataError: films of the split are missing, a patient is in more than one part, or there are too few test patients.
    """
    config = dataclasses.replace(config or UNetConfig(), data=data, seed=EVALUATOR_SEED, precision="float32")
    asked = Run(folder, "train-unet", config, split, ())
    training, validation, test = load_split(asked, films, console)
    place = folder / f"{fingerprint(training, validation, test)}-{__version__}"
    training, test = training.of_labels(labels), test.of_labels(labels)
    require_patients(test.patients)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place):  # Another report on these films waits for the evaluation U-Net that this one trains.
        evaluator = _find_evaluator(place, config, split) or Run.create(place, config, split, sources, films=films)
        if finished_report(evaluator) is None:
            console.line("training the evaluation U-Net")
            train_unet(evaluator, films, console)
    if data.keep_background:
        training, test = (dataclasses.replace(part, images=part.raw) for part in (training, test))
    return Reference(training, test, evaluator)


def _find_evaluator(folder: Path, config: UNetConfig, split: Split) -> Run | None:
    for path in run_folders(folder, "train-unet"):
        with suppress(ModelError):  # Of sources that knew other options, say: it cannot evaluate these.
            found = Run.open(path)
            if (found.config, found.split) == (config, split):
                return found
    return None


def real_films(chosen: FilmSet, films: Sequence[Film], view: str) -> RealFilms:
    """Films, cropped, with the masks that a generator is asked for. Windows have no other breast to be compared with: no side."""
    chosen = chosen.cropped()
    sides = {film.id: film.side or "" for film in films if view == "whole"}
    return RealFilms(
        images=to_float(chosen.images),
        masks=chosen.label_maps,
        labels=chosen.labels,
        names=np.array(chosen.names),
        patients=np.array(chosen.patients),
        sides=np.array([sides.get(name, "") for name in chosen.ids]),
        tissues=np.array([tissue or "" for tissue in chosen.tissues]),
    )
