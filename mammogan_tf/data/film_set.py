"""Prepared films in memory, with what is known about each."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np

from mammogan_tf.config import LABELS
from mammogan_tf.console import Console, Progress
from mammogan_tf.data.cache import prepare_films, read_metadata, read_pixels
from mammogan_tf.data.film import Film
from mammogan_tf.data.preparation import canvas_size
from mammogan_tf.data.windows import has_window
from mammogan_tf.errors import DataError

__all__ = ["FilmSet", "load_films"]

LAYERS = ("images", "raw", "label_maps")

MEMORY_LIMIT = 2**31
"""Bytes of decoded films that are kept in memory; a larger set lies in a file that is mapped into memory."""

SLICE = 512
"""Pictures that are changed at a time."""


@dataclass(frozen=True)
class FilmSet:
    """N pictures for networks of side ``size``: one of each film and of its variants, or in the roi view of its windows.

    ``images`` with a black background, ``raw`` films as they are and ``label_maps`` are uint8 [N, C, C], where C is ``size``
    or, before :meth:`cropped`, larger in the roi view. ``labels`` int32 [N] say what the picture shows, ``ids`` from which
    film it is, and ``names`` tell the pictures of a film apart: the id, with a number where it has several, also where only
    some of them were chosen. ``corners`` int [N, 2] (row, column) are where the picture of side ``size`` begins, and
    ``confidences`` float32 [N] in [0, 1] say how far its mask is to be trusted. ``unplaced`` are ids of films that have no
    picture.
    """

    images: np.ndarray
    raw: np.ndarray
    label_maps: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    tissues: tuple[str | None, ...]
    size: int
    corners: np.ndarray
    confidences: np.ndarray
    unplaced: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    def pictures(self, keep_background: bool) -> np.ndarray:
        """The films with their markers and strips, or with a black background."""
        return self.raw if keep_background else self.images

    def select(self, ids: Sequence[str]) -> "FilmSet":
        """The pictures of the films with these ids, in this order.

        Raises:
            DataError: an id is not among the films.
        """
        places: dict[str, list[int]] = {id_: [] for id_ in self.unplaced}
        for index, id_ in enumerate(self.ids):
            places.setdefault(id_, []).append(index)
        missing = [id_ for id_ in ids if id_ not in places]
        if missing:
            raise DataError(
                f"films: expected those of the run's split, received: a folder without {', '.join(missing[:5])}; "
                "give the data back as it was (a folder that was renamed, with its old name as name in dataset.json), "
                "or start another run"
            )
        return self._rows(list(chain.from_iterable(places[id_] for id_ in ids)))

    def confident(self, least: float) -> "FilmSet":
        """The pictures whose mask has this confidence or more.

        Raises:
            DataError: there are none.
        """
        rows = np.flatnonzero(self.confidences >= least)
        if not len(rows):
            best = f"{self.confidences.max():.2f} at best" if len(self) else "no films"
            raise DataError(f"min_mask_confidence: expected films of {least} or more, received: {best}; lower it")
        return self._rows(rows.tolist())

    def of_labels(self, names: Sequence[str]) -> "FilmSet":
        """The pictures that show one of these labels; a window shows its own lesion, whatever else its film has."""
        chosen = self._rows([row for row, label in enumerate(self.labels) if LABELS[label] in names])
        return replace(chosen, unplaced=self.unplaced | {*self.ids} - {*chosen.ids})

    def tell_unplaced(self, console: Console) -> None:
        """Says how many films have no picture, where there are such."""
        if self.unplaced:
            films = len(self.unplaced | {*self.ids})
            console.line(f"{len(self.unplaced)} of {films} films have no window: their lesions are at no known place")

    def spaced(self, most: int) -> "FilmSet":
        """About ``most`` pictures, or all where they are fewer: those of every k-th patient."""
        kept = set(list(dict.fromkeys(self.patients))[:: max(1, -(-len(self) // most))])
        return self._rows([row for row, patient in enumerate(self.patients) if patient in kept])

    def cropped(self) -> "FilmSet":
        """The pictures of side ``size``, each cut out at its own corner."""
        pictures = self._cut(range(len(self)), self.corners, self.size)
        return replace(self, corners=np.zeros_like(self.corners), **pictures)

    def in_slices(self, change: Callable[["FilmSet"], "FilmSet"]) -> "FilmSet":
        """The pictures as ``change`` makes them, which gets some of them at a time: all might not fit into memory."""
        changed = dict(zip(LAYERS, _allocate((len(LAYERS), *self.images.shape)), strict=True))
        for begin in range(0, len(self), SLICE):
            rows = slice(begin, min(begin + SLICE, len(self)))
            part = change(self._rows([*range(rows.start, rows.stop)]))
            for name, pictures in changed.items():
                pictures[rows] = getattr(part, name)
        return replace(self, **changed)

    def _rows(self, rows: list[int]) -> "FilmSet":
        chosen = self._cut(rows, np.zeros((len(rows), 2), np.int64), self.images.shape[-1])
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in chosen:
                continue
            if isinstance(value, np.ndarray):
                chosen[field.name] = value[np.array(rows, np.int64)]
            elif isinstance(value, tuple):
                chosen[field.name] = tuple(value[row] for row in rows)
        return replace(self, **chosen)

    def _cut(self, rows: Sequence[int], corners: np.ndarray, side: int) -> dict[str, Any]:
        """These rows, cut out at their corners; in memory, or in a file where they are many."""
        taken = dict(zip(LAYERS, _allocate((len(LAYERS), len(rows), side, side)), strict=True))
        for name, pictures in taken.items():
            whole = getattr(self, name)
            for place, (row, (top, left)) in enumerate(zip(rows, corners, strict=True)):
                pictures[place] = whole[row, top : top + side, left : left + side]
        return taken


def load_films(
    films: Sequence[Film],
    size: int,
    view: str = "whole",
    lesions: str = "circle",
    variants: int = 0,
    progress: Progress | None = None,
) -> FilmSet:
    """Prepares the films, or takes them from the cache, and decodes them in parallel.

    Args:
        films: the films; in the roi view those with a lesion at an unknown place have no picture.
        size: S, in pixels.
        view: one of ``config.VIEWS``.
        lesions: one of ``config.LESION_OUTLINES``.
        variants: pictures of each whole film beside it, moved at random (:mod:`mammogan_tf.data.variants`).
        progress: called with (films done, films).

    Raises:
        DataError: a film cannot be read, or there is no room for what is prepared.
    """
    placed = [film for film in films if view == "whole" or has_window(film)]
    paths = prepare_films(placed, size, view, lesions, variants, progress)
    canvas = canvas_size(size, view)
    with ThreadPoolExecutor() as pool:
        notes = list(pool.map(read_metadata, paths))
        owners = [film for film, note in zip(placed, notes, strict=True) for _ in note.labels]
        pixels = _allocate((len(LAYERS), len(owners), canvas, canvas))
        starts = accumulate([len(note.labels) for note in notes], initial=0)

        def decode(start: int, path: Path) -> None:
            layers = read_pixels(path)
            pixels[:, start : start + len(layers)] = np.moveaxis(layers, -1, 0)

        list(pool.map(decode, starts, paths))
    images, raw, label_maps = pixels
    return FilmSet(
        images=images,
        raw=raw,
        label_maps=label_maps,
        labels=np.array([label for note in notes for label in note.labels], np.int32),
        ids=tuple(film.id for film in owners),
        names=_numbered([film.id for film in owners]),
        patients=tuple(film.patient for film in owners),
        tissues=tuple(film.tissue for film in owners),
        size=size,
        corners=np.array([corner for note in notes for corner in note.corners], np.int64).reshape(-1, 2),
        confidences=np.array([note.confidence for note in notes for _ in note.labels], np.float32),
        unplaced=frozenset(film.id for film in films) - {film.id for film in owners},
    )


def _numbered(ids: Sequence[str]) -> tuple[str, ...]:
    total, seen = Counter(ids), Counter[str]()
    names = []
    for id_ in ids:
        if total[id_] == 1:
            names.append(id_)
            continue
        seen[id_] += 1
        while f"{id_}-{seen[id_]}" in total:  # Another film has this name.
            seen[id_] += 1
        names.append(f"{id_}-{seen[id_]}")
    return tuple(names)


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64))
    if size <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    try:
        with tempfile.TemporaryFile(prefix="mammogan-tf-") as file:
            if hasattr(os, "posix_fallocate"):  # Not on macOS. Else a full disk ends the process later.
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        place = tempfile.tempdir or "the folder for temporary files"  # Of which there is none on a disk that is full.
        raise DataError(
            f"{place}: expected {size / 1e9:.1f} GB for the films, received: {error.strerror or error}; "
            "free some space or set TMPDIR to another folder"
        ) from error
