"""Prepared films, each made once: in parallel, in a cache that is addressed by content."""

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mammogan_tf.console import Progress
from mammogan_tf.data.film import Film
from mammogan_tf.data.preparation import canvas_size, prepare
from mammogan_tf.environment import usable_cores
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path

__all__ = ["CachedMetadata", "cache_folder", "prepare_films", "read_metadata", "read_pixels"]

PREPARE_VERSION = 10
"""Part of every cache key: raise it whenever the pixels that ``preparation.prepare`` returns change."""

FEW_FILMS = 8
"""Fewer films than this are prepared in this process: starting workers would take longer."""

KEY = "mammogan-tf"
"""Where a cached PNG holds its :class:`CachedMetadata`."""

Task = tuple[Film, Path]


class CachedMetadata(NamedTuple):
    """What the cache says of a film in words: fields of :class:`~mammogan_tf.data.preparation.Prepared`."""

    labels: tuple[int, ...]
    corners: tuple[tuple[int, int], ...]
    confidence: float


def prepare_films(
    films: Sequence[Film],
    size: int,
    view: str = "whole",
    lesions: str = "circle",
    variants: int = 0,
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[Path]:
    """Prepares films, or finds them prepared: one file a film, for :func:`read_metadata` and :func:`read_pixels`.

    The cache lies in :func:`cache_folder`; broken entries are made again.

    Args:
        films: the films.
        size: S, in pixels.
        view: one of ``config.VIEWS``.
        lesions: one of ``config.LESION_OUTLINES``.
        variants: of each whole film, beside it.
        progress: called with (films done, films).
        workers: processes; the number of usable cores where None.

    Raises:
        DataError: a film cannot be read, or the cache cannot be written.
    """
    options = {"size": size, "view": view, "lesions": lesions, "variants": variants}
    entries = [_path(film, options) for film in films]
    canvas = canvas_size(size, view)
    missing = [(film, entry) for film, entry in zip(films, entries, strict=True) if not _is_whole(entry, canvas)]
    done = len(films) - len(missing)
    if progress is not None and done:
        progress(done, len(films))
    for finished in _prepare_missing(missing, options, workers or usable_cores()):
        if progress is not None:
            progress(done + finished, len(films))
    return entries


def cache_folder() -> Path:
    """``$MAMMOGAN_CACHE``, else ``~/.cache/mammogan-tf``.

    Raises:
        DataError: there is neither, as in a container whose user has no home.
    """
    try:
        return Path(os.environ.get("MAMMOGAN_CACHE") or "~/.cache/mammogan-tf").expanduser()
    except RuntimeError as error:
        raise DataError("cache: expected a home folder, received: none; set MAMMOGAN_CACHE to a folder") from error


def read_metadata(path: Path) -> CachedMetadata:
    """The words of a file that :func:`prepare_films` returned; its pixels are not decoded."""
    with Image.open(path) as image:
        labels, corners, confidence = json.loads(image.info[KEY])
    return CachedMetadata(tuple(labels), tuple((row, column) for row, column in corners), confidence)


def read_pixels(path: Path) -> np.ndarray:
    """The pixels of such a file, uint8 [K, C, C, 3]: image, film and label map of each window."""
    with Image.open(path) as image:
        rows = np.asarray(image)
    side = rows.shape[1]
    return rows[: len(rows) // side * side].reshape(-1, side, side, 3)


def _path(film: Film, options: dict) -> Path:
    """Where the prepared film lies: named by everything that its pixels depend on."""
    key = hashlib.sha256(_content(film.path))
    if film.drawn is not None:
        key.update(_content(film.drawn.path) + repr(film.drawn.classes).encode())
    drawn_at_random = film.id if options["view"] == "roi" or options["variants"] else None
    key.update(repr((PREPARE_VERSION, options, film.side, film.lesions, film.label, drawn_at_random)).encode())
    return cache_folder() / "prepared" / f"{key.hexdigest()}.png"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected an image file, received: {error.strerror or error}") from error


def _is_whole(entry: Path, canvas: int) -> bool:
    try:
        with Image.open(entry) as image:
            image.verify()  # Its checksums, which loading passes over; after that it has to be opened anew.
        with Image.open(entry) as image:
            image.load()
            return image.mode == "RGB" and image.width == canvas and KEY in image.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _store(task: Task, options: dict) -> None:
    film, entry = task
    prepared = prepare(film, **options)
    layers = np.stack([prepared.images, prepared.raw, prepared.label_maps], axis=-1)
    rows = layers.reshape(-1, *layers.shape[2:])
    if not len(rows):
        rows = np.zeros((1, *rows.shape[1:]), np.uint8)  # No window; but a PNG has a row.
    notes = PngInfo()
    notes.add_text(KEY, json.dumps(CachedMetadata(prepared.labels, prepared.corners, prepared.confidence)))
    try:
        with atomic_path(entry) as temporary:
            Image.fromarray(rows).save(temporary, format="PNG", pnginfo=notes)
    except OSError as error:
        place = "free some space or set MAMMOGAN_CACHE to another folder"
        raise DataError(f"{entry.parent}: expected a folder to write to, received: {error}; {place}") from error


def _prepare_missing(tasks: Sequence[Task], options: dict, workers: int) -> Iterator[int]:
    """Stores every task and counts along: 1, 2, ...

    Where workers cannot start (the program is typed in, or has no ``if __name__ == "__main__"``) or are killed, the rest
    is done in this process.
    """
    done = 0
    if workers > 1 and len(tasks) >= FEW_FILMS:
        with suppress(BrokenProcessPool):
            for done in _store_in_pool(tasks, options, workers):
                yield done
    for count, task in enumerate(tasks[done:], start=done + 1):
        _store(task, options)
        yield count


def _store_in_pool(tasks: Sequence[Task], options: dict, workers: int) -> Iterator[int]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=spawn)
    try:
        with _interrupts_held_back():
            results = pool.map(partial(_store, options=options), tasks)
        for done, _ in enumerate(results, start=1):
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C waits until the end of the block, and never reaches the processes that start in it: they inherit the mask."""
    resource_tracker.ensure_running()  # Its start, due with the first process, would end the blocking.
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
