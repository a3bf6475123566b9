"""The films of a run: those of each part of its split, prepared, and fingerprints of them."""

import hashlib
from collections.abc import Sequence

import numpy as np

from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet, load_films
from mammogan_tf.data.splits import require_disjoint_patients
from mammogan_tf.errors import DataError
from mammogan_tf.training.run import Run

__all__ = ["fingerprint", "fingerprints", "load_split", "mean_grey", "require_pictures"]


def load_split(run: Run, films: Sequence[Film], console: Console | None = None) -> tuple[FilmSet, FilmSet, FilmSet]:
    """The training, validation and test films of a run, prepared as its config says.

    All come with their margin, the training films without those whose masks are less to be trusted than the config asks for.
    Pictures of other labels than the run's are left out. The console hears of the progress, and of films without a window.

    Raises:
        DataError: a film of the split is missing, a patient or a picture has come to be in two parts, or a part has no picture.
    """
    data = run.config.data
    require_disjoint_patients(run.split, films)
    console = console or Console(quiet=True)
    everything = load_films(films, data.size, data.view, data.lesions, progress=console.progress("preparing films"))
    everything.tell_unplaced(console)
    split = run.split
    training, validation, test = (
        everything.select(ids).of_labels(run.labels) for ids in (split.train, split.validation, split.test)
    )
    require_pictures(training=len(training), validation=len(validation), test=len(test))
    _require_seen_once(training=training, validation=validation, test=test)
    return training.confident(data.min_mask_confidence), validation, test


def require_pictures(**counts: int) -> None:
    """Raises DataError where a part of a split, by its name, has no picture."""
    for name, count in counts.items():
        if not count:
            raise DataError(
                f"{name} films: expected normal films, or lesions whose place is known, received: neither; "
                "add some, or train on whole films (--view whole)"
            )


def _require_seen_once(**parts: FilmSet) -> None:
    """Raises DataError where a picture is in two parts of a split: a whole film that two data sets have, each under its own id.

    The windows of such a film differ, since they are drawn by its id. Pictures with nothing on them do not count.
    """
    places: dict[str, tuple[str, str]] = {}
    for part, films in parts.items():
        for picture, name in zip(films.raw, films.names, strict=True):
            if picture.min() == picture.max():
                continue
            other, first = places.setdefault(_digits(picture), (part, name))
            if other != part:
                raise DataError(
                    f"split: expected each film in one part, received: {first} ({other}) with the pixels of {name} ({part}); "
                    "give both the same patient in the tables of their data sets, or leave one of them out"
                )


def fingerprint(*parts: FilmSet) -> str:
    """Digits of a SHA-256 of the films, their masks and their labels."""
    return _digits(*(each for part in parts for each in (part.images, part.raw, part.label_maps, part.labels)))


def mean_grey(films: FilmSet) -> float:
    """Mean grey value of all films, of 255. It differs for other films under the same names, and hardly by rounding."""
    return round(float(films.raw.mean()), 2)


def fingerprints(films: FilmSet) -> list[str]:
    """For each picture digits of a SHA-256 of its film within the crop, so that a margin around it does not count."""
    return [_digits(picture) for picture in films.cropped().raw]


def _digits(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
