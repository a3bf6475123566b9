"""Prepared films and their label maps: made in parallel, cached by content, written out to be looked at."""

import hashlib
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mammogan_tf.data.film import Film
from mammogan_tf.data.label_maps import LESION, PALETTE, overlay, read_label_map, save_label_map, shrink_label_map
from mammogan_tf.data.preparation import Geometry, Prepared, paint_lesions, prepare
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path

__all__ = [
    "LESION",
    "PALETTE",
    "Geometry",
    "Prepared",
    "PreparedArrays",
    "overlay",
    "paint_lesions",
    "prepare",
    "prepare_films",
    "read_label_map",
    "read_prepared",
    "save_label_map",
    "shrink_label_map",
    "write_masks",
]

PREPARE_VERSION = 2
"""Part of every cache key: raise it whenever the pixels that :func:`prepare` returns change."""

FEW_FILMS = 8
"""Fewer films than this are prepared in this process: starting workers would take longer."""

Progress = Callable[[int, int], None]
Task = tuple[Film, Path]


class PreparedArrays(NamedTuple):
    """Many prepared films, uint8 [N, S, S] each."""

    images: np.ndarray
    films: np.ndarray
    label_maps: np.ndarray


def prepare_films(
    films: Sequence[Film], size: int, progress: Progress | None = None, workers: int | None = None
) -> list[Path]:
    """Prepares films, each once: the result is kept in a cache that is addressed by content.

    An entry is an RGB PNG: R the image with its background black, G the film as it is, B the label map. The cache lies
    in ``$MAMMOGAN_CACHE``, else in ``~/.cache/mammogan-tf``; broken entries are made again.

    Args:
        films: the films.
        size: S, in pixels.
        progress: called with (films done, films).
        workers: processes; the number of usable cores where None.

    Raises:
        DataError: a film cannot be read, or the cache cannot be written.
    """
    entries = [_entry(film, size) for film in films]
    missing = [(film, entry) for film, entry in zip(films, entries, strict=True) if not _is_whole(entry, size)]
    done = len(films) - len(missing)
    if progress is not None and done:
        progress(done, len(films))
    for finished in _store_all(missing, size, workers or _usable_cores()):
        if progress is not None:
            progress(done + finished, len(films))
    return entries


def _entry(film: Film, size: int) -> Path:
    """Where the prepared film lies: named by everything that its pixels depend on."""
    try:
        content = film.path.read_bytes()
    except OSError as error:
        raise DataError(f"{film.path}: expected an image file, received: {error.strerror or error}") from error
    key = hashlib.sha256(content)
    key.update(repr((PREPARE_VERSION, size, film.side, film.lesions)).encode())
    cache = Path(os.environ.get("MAMMOGAN_CACHE") or Path.home() / ".cache" / "mammogan-tf")
    return cache / "prepared" / f"{key.hexdigest()}.png"


def _is_whole(entry: Path, size: int) -> bool:
    try:
        with Image.open(entry) as image:
            image.load()
            return image.mode == "RGB" and image.size == (size, size)
    except (OSError, ValueError, SyntaxError):
        return False


def _store(task: Task, size: int) -> None:
    film, entry = task
    prepared = prepare(film, size)
    layers = np.stack([prepared.image, prepared.film, prepared.label_map], axis=-1)
    try:
        with atomic_path(entry) as temporary:
            Image.fromarray(layers).save(temporary, format="PNG")
    except OSError as error:
        place = "free some space or set MAMMOGAN_CACHE to another folder"
        raise DataError(f"{entry.parent}: expected a folder to write to, received: {error}; {place}") from error


def _store_all(tasks: Sequence[Task], size: int, workers: int) -> Iterator[int]:
    """Stores every task and counts along: 1, 2, ...

    Where workers cannot start (the program is typed in, or has no ``if __name__ == "__main__"``) or are killed, the rest
    is done in this process.
    """
    done = 0
    if workers > 1 and len(tasks) >= FEW_FILMS:
        with suppress(BrokenProcessPool):
            for done in _store_in_pool(tasks, size, workers):
                yield done
    for count, task in enumerate(tasks[done:], start=done + 1):
        _store(task, size)
        yield count


def _store_in_pool(tasks: Sequence[Task], size: int, workers: int) -> Iterator[int]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=spawn)
    try:
        with _interrupts_held_back():
            results = pool.map(partial(_store, size=size), tasks)
        for done, _ in enumerate(results, start=1):
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C waits until the end of the block, and never reaches the processes that start in it: they inherit the mask."""
    resource_tracker.ensure_running()  # Its start, due with the first process, would end the blocking.
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


def read_prepared(paths: Sequence[Path]) -> PreparedArrays:
    """Reads what :func:`prepare_films` returned."""
    layers = []
    for path in paths:
        with Image.open(path) as image:
            layers.append(np.asarray(image))
    images, films, label_maps = np.moveaxis(np.stack(layers), -1, 0)
    return PreparedArrays(*(np.ascontiguousarray(part) for part in (images, films, label_maps)))


def write_masks(films: Sequence[Film], out: Path, size: int = 256, progress: Progress | None = None) -> Path:
    """Writes ``masks/ID.png``, ``overlays/ID.png`` and ``contact_sheet.png`` under ``out``; returns the last."""
    out = Path(out)
    arrays = read_prepared(prepare_films(films, size, progress))
    overlays = []
    for film, image, label_map in zip(films, arrays.images, arrays.label_maps, strict=True):
        save_label_map(out / "masks" / f"{film.id}.png", label_map)
        overlays.append(Image.fromarray(overlay(image, label_map)))
        _save(overlays[-1], out / "overlays" / f"{film.id}.png")
    sheet = out / "contact_sheet.png"
    _save(_contact_sheet(overlays, [film.id for film in films]), sheet)
    return sheet


def _contact_sheet(pictures: Sequence[Image.Image], names: Sequence[str], cell: int = 128) -> Image.Image:
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (columns * cell, math.ceil(len(pictures) / columns) * cell))
    pen = ImageDraw.Draw(sheet)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        corner = (index % columns * cell, index // columns * cell)
        sheet.paste(picture.resize((cell - 2, cell - 2), Image.Resampling.LANCZOS), corner)
        pen.text((corner[0] + cell - 4, corner[1] + cell - 4), name, fill="white", anchor="rs")
    return sheet


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
