"""Cross-validation by patient: how good the U-Net is on every film, and a mask of each that no network has memorised."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mammogan_tf.config import KEEP, CrossValidationConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.anatomy import DOUBTFUL
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet, load_films
from mammogan_tf.data.splits import Split, split_folds
from mammogan_tf.errors import ConfigError, DataError
from mammogan_tf.files import atomic_path, read_json, write_json, write_text
from mammogan_tf.metrics.intervals import Estimate
from mammogan_tf.metrics.segmentation import region_dice
from mammogan_tf.pictures import comparison_rows, save_picture
from mammogan_tf.training.card import cross_validation_card
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.prediction import lesion_probabilities, predict_label_maps
from mammogan_tf.training.run import Run, run_folders
from mammogan_tf.training.scores import estimate_against_disc, estimate_dice, estimate_lesions
from mammogan_tf.training.segmentation import BACKGROUNDS, finished_report, train_unet
from mammogan_tf.training.split_films import fingerprint, fingerprints, require_pictures
from mammogan_tf.training.workers import num_workers, writable_run

__all__ = ["ONE_MACHINE", "create_cross_validation_run", "cross_validate"]

ONE_MACHINE = "cross-validate: expected one machine, received: TF_CONFIG with several; use --strategy one"


def create_cross_validation_run(
    workdir: str | Path, config: CrossValidationConfig, films: Sequence[Film], data: Sequence[str | Path]
) -> Run:
    """Makes a run directory. Its split names every film as a test film: each is tested once.

    Raises:
        DataError: too few patients for the folds.
    """
    _folds(config, films)
    return Run.create(workdir, config, Split((), (), tuple(sorted(film.id for film in films))), data)


def cross_validate(
    run: Run,
    films: Sequence[Film],
    console: Console | None = None,
    *,
    strategy: tf.distribute.Strategy | None = None,
    keep: int = KEEP,
) -> dict:
    """Trains a U-Net for each fold, or goes on where it was stopped, and evaluates each film with the one that never saw it.

    Writes an ordinary run for each fold into ``train-unet/``, then ``report.json``, ``MODEL_CARD.md``, the worst pictures by
    region in ``samples/REGION.png`` (film, annotation, found) and ``masks.npz``: ``ids``, ``label_maps`` uint8 [N, S, S]
    as found, and ``anatomy`` uint8 [N, C, C] without lesions, for a GAN to be conditioned on; in the roi view with its
    margin, C > S, and ``corners`` [N, 2] to cut the picture out; ``fingerprints`` say of which pixels they are the masks.

    Args:
        run: the run.
        films: the films.
        console: for progress messages.
        strategy: the devices of this machine to train on; one by default.
        keep: checkpoints of each fold that stay.

    Returns:
        The report: Dice for each region, also by tissue density and where the automatic mask is not doubtful, and how
        lesions are found, with intervals over patients; in the roi view also against a disc in the middle of each window;
        and the figures of each fold.

    Raises:
        ConfigError: the strategy spans several machines.
        DataError: the films are not those that the run began with, or a part of a fold has no picture.
        ModelError: as in :func:`train_unet`, or another process trains the run.
    """
    console = console or Console()
    if strategy and num_workers(strategy) > 1:
        raise ConfigError(ONE_MACHINE)
    with writable_run(run, strategy or tf.distribute.get_strategy()):
        runs, reports, everything = _train_folds(run, films, console, strategy, keep)
        return _finish(run, runs, reports, everything)


def _train_folds(
    run: Run, films: Sequence[Film], console: Console, strategy: tf.distribute.Strategy | None, keep: int
) -> tuple[list[Run], list[dict], FilmSet]:
    """The runs of the folds, trained, their reports, and all films."""
    config = run.config_of(CrossValidationConfig)
    if sorted(run.split.test) != sorted(film.id for film in films):
        raise DataError(
            f"{run.path}: expected the {len(run.split.test)} films that it began with, received: {len(films)}; "
            "give the data back as they were, or start another run"
        )
    everything = load_films(
        films, config.data.size, config.data.view, config.data.lesions, progress=console.progress("preparing films")
    )
    _require_same(run, everything.select(sorted(run.split.test)))
    for split in _folds(config, films):
        train, validation, test = (len(everything.select(ids)) for ids in (split.train, split.validation, split.test))
        require_pictures(training=train, validation=validation, test=test)
    runs = _fold_runs(run, config, films)
    reports = []
    for number, fold in enumerate(runs, start=1):
        console.line(f"fold {number} of {len(runs)}")
        report = finished_report(fold)
        reports.append(report or train_unet(fold, films, console, strategy=strategy, keep=keep))
    return runs, reports, everything


def _finish(run: Run, runs: Sequence[Run], reports: Sequence[dict], everything: FilmSet) -> dict:
    """Evaluates all films and writes the results."""
    config = run.config
    tested = everything.select([id_ for fold in runs for id_ in fold.split.test])
    found, probabilities, anatomy = _predict(runs, everything)
    report = {
        "films": len(tested),
        "seconds": round(sum(each["seconds"] for each in reports), 1),
        **_evaluate(tested.cropped(), found, probabilities, config.data.view),
        "folds": [
            {
                "run": str(fold.path.relative_to(run.path)),
                **{name: each[name] for name in ("best_epoch", "seconds")},
                "dice": each["dice"]["cleaned"],
            }
            for fold, each in zip(runs, reports, strict=True)
        ],
    }
    write_json(run.report_path, report)
    write_text(run.card_path, cross_validation_card(run, report))
    _show_worst(run.path / "samples", tested.cropped(), found["cleaned"])
    with atomic_path(run.masks_path) as temporary:
        np.savez_compressed(
            temporary,
            ids=np.array(tested.names),
            label_maps=found["cleaned"],
            anatomy=anatomy,
            corners=tested.corners,
            fingerprints=np.array(fingerprints(tested)),
        )
    return report


def _require_same(run: Run, films: FilmSet) -> None:
    """Keeps in ``films.json`` what stands for the films when a run begins, and refuses others when it goes on."""
    path, now = run.path / "films.json", fingerprint(films)
    if not path.exists():
        run.write_json(path.name, now)
    elif _read(path) != now:
        raise DataError(
            f"{run.path}: expected the films and masks that it began with, received: others under the same names; "
            "put them back, or start another run"
        )


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, received: a broken file; start another run") from error


def _folds(config: CrossValidationConfig, films: Sequence[Film]) -> list[Split]:
    return split_folds(films, config.folds, config.data.validation, config.data.split_seed)


def _fold_runs(run: Run, config: CrossValidationConfig, films: Sequence[Film]) -> list[Run]:
    """The run of each fold; those that are not there yet are made."""
    settings = UNetConfig(**{field.name: getattr(config, field.name) for field in dataclasses.fields(UNetConfig)})
    begun = [Run.open(path) for path in run_folders(run.path, "train-unet")]
    by_split, splits = {fold.split: fold for fold in begun}, _folds(config, films)
    if by_split.keys() - set(splits):
        raise DataError(
            f"{run.path}: expected the patients and tissues that it dealt the folds by, received: others; "
            "put them back, or start another run"
        )
    return [by_split.get(split) or Run.create(run.path, settings, split, run.data, films=films) for split in splits]


Maps = dict[str, np.ndarray]
"""Maps of every film, fold by fold, for both ways in which it can come."""


def _predict(runs: Sequence[Run], films: FilmSet) -> tuple[Maps, Maps, np.ndarray]:
    """Label maps, probabilities of a lesion, and the anatomy without lesions of every film."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in BACKGROUNDS}
    probabilities: dict[str, list[np.ndarray]] = {name: [] for name in BACKGROUNDS}
    anatomy = []
    for run in runs:
        unet, test = load_network(run.model_path), films.select(run.split.test)
        for name, keep_background in BACKGROUNDS.items():
            pictures = test.cropped().pictures(keep_background)
            found[name].append(predict_label_maps(unet, pictures))
            probabilities[name].append(lesion_probabilities(unet, pictures))
        pictures = test.pictures(run.config.data.keep_background)
        anatomy.append(predict_label_maps(unet, pictures, lesions=False))
    of_films = [{name: np.concatenate(parts) for name, parts in maps.items()} for maps in (found, probabilities)]
    return of_films[0], of_films[1], np.concatenate(anatomy)


def _evaluate(films: FilmSet, found: Maps, probabilities: Maps, view: str) -> dict[str, Any]:
    tissues = sorted({tissue for tissue in films.tissues if tissue})
    report: dict[str, Any] = {
        "dice": {name: estimate_dice(films, label_maps) for name, label_maps in found.items()},
        "tissue": {
            tissue: _of_rows(films, found["cleaned"], [each == tissue for each in films.tissues]) for tissue in tissues
        },
        "clear": _of_rows(films, found["cleaned"], films.confidences >= DOUBTFUL),
        "lesions": {name: estimate_lesions(films, found[name], probabilities[name]) for name in found},
    }
    if view == "roi":
        report["disc"] = {name: estimate_against_disc(films, label_maps) for name, label_maps in found.items()}
    return report


def _of_rows(films: FilmSet, found: np.ndarray, chosen: Sequence[bool] | np.ndarray) -> dict[str, Estimate]:
    rows = np.flatnonzero(chosen)
    return estimate_dice(films.select(list(dict.fromkeys(films.ids[row] for row in rows))), found[rows])


def _show_worst(folder: Path, films: FilmSet, found: np.ndarray, count: int = 8) -> None:
    """Draws for each region the pictures with the lowest Dice, the worst on top."""
    for region, values in region_dice(films.label_maps, found).items():
        worst = [row for row in np.argsort(values, kind="stable")[:count] if np.isfinite(values[row])]
        if worst:
            save_picture(
                folder / f"{region}.png", comparison_rows(films.images[worst], films.label_maps[worst], found[worst])
            )
