"""Label maps of films from files."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mammogan_tf.arrays import to_float
from mammogan_tf.config import ANATOMIES, CLASSES, LESION
from mammogan_tf.console import Console
from mammogan_tf.data.anatomy import DOUBTFUL
from mammogan_tf.data.film import read_grey, read_origin
from mammogan_tf.data.folder import name_film
from mammogan_tf.data.label_maps import overlay, save_label_map
from mammogan_tf.data.mask_editing import remove_lesions
from mammogan_tf.data.preparation import Geometry, find_geometry, outline_film, shrink
from mammogan_tf.errors import DataError
from mammogan_tf.files import locked, require_separate_folder, write_text
from mammogan_tf.inference.models import Segmenter
from mammogan_tf.metrics.segmentation import REGIONS
from mammogan_tf.pictures import save_picture

__all__ = ["ReadableFilms", "distinct_names", "film_to_png", "segment_files", "segment_grey"]

AREAS = ["file", *CLASSES, "dense_of_breast", "confidence"]


def segment_files(
    segmenter: Segmenter,
    files: Sequence[Path],
    out: Path,
    console: Console | None = None,
    anatomy: str = ANATOMIES[0],
) -> Path:
    """Writes ``NAME_mask.png`` (index PNG) and ``NAME_overlay.png`` at the film's own size, and ``areas.csv``.

    What earlier calls wrote there stays; a film takes the place of one of the same name.

    Args:
        segmenter: the model.
        files: films of any size and format that :func:`read_grey` reads, with distinct names.
        out: the folder to write to, in which none of the films lies.
        console: is told of the progress, of films whose outline is doubtful, and of those that cannot be read.
        anatomy: as for :func:`segment_grey`.

    Returns:
        ``areas.csv``: for each film the share of its pixels in each class, and ``dense_of_breast``, the dense share of the
        breast's own pixels, whatever lesions are found over them, so that a mass as bright as dense tissue counts as such;
        empty where there is no breast. ``confidence`` says how far to trust where the automatic anatomy finds the breast, by
        which the film is turned and trimmed, in [0, 1]; empty for windows.

    Raises:
        DataError: films cannot be read, and all others are written; before any work, one lies in the folder, two have
            the same name, or the ``areas.csv`` in the folder is something else.
    """
    require_separate_folder(files, out)
    console = console or Console(quiet=True)
    table = out / "areas.csv"
    rows: dict[str, dict[Any, Any]] = {}
    films = ReadableFilms(files, console, "segmenting")
    _read_areas(table)
    try:
        for name, file, grey, side in films:
            below, lesions, confidence = _outline(segmenter, grey, anatomy, side)
            label_map = _with_lesions(below, lesions)
            save_label_map(out / f"{name}_mask.png", label_map, as_its_film=segmenter.view == "whole")
            save_picture(out / f"{name}_overlay.png", overlay(grey, label_map))
            dense, breast = (int(np.isin(below, REGIONS[region]).sum()) for region in ("dense", "breast"))
            areas = np.bincount(label_map.ravel(), minlength=len(CLASSES)) / label_map.size
            shares = dict(zip(CLASSES, areas, strict=True))
            dense_of_breast = dense / breast if breast else None
            rows[name] = {"file": str(file), **shares, "dense_of_breast": dense_of_breast, "confidence": confidence}
            if confidence is not None and confidence < DOUBTFUL:
                console.line(f"{file}: a doubtful outline, confidence {confidence:.2f}; look at {name}_overlay.png")
    finally:
        if rows:
            with locked(out):  # Other calls may write to the folder at the same time.
                rows = _read_areas(table) | rows
                write_text(table, pd.DataFrame(rows.values()).round(6).to_csv(index=False))
    films.require_all()
    return table


class ReadableFilms:
    """Name, file, grey levels and side of films, one after the other; those that cannot be read are left out, and told.

    Args:
        files: films of any size and format that :func:`read_grey` reads.
        console: is told of the progress, and of films that are left out.
        doing: what is done with the films, for the progress.

    Raises:
        DataError: two films have the same name.
    """

    def __init__(self, files: Sequence[Path], console: Console, doing: str) -> None:
        self._films, self._console = dict(zip(distinct_names(files), files, strict=True)), console
        self._doing = doing
        self._left_out: list[DataError] = []

    def __iter__(self) -> Iterator[tuple[str, Path, np.ndarray, str | None]]:
        progress = self._console.progress(self._doing)
        for done, (name, file) in enumerate(self._films.items(), start=1):
            try:
                grey, (_, side) = read_grey(Path(file)), read_origin(Path(file))
            except DataError as error:
                self._left_out.append(error)
                self._console.line(f"left out: {error}")
            else:
                yield name, file, grey, side
            progress(done, len(self._films))

    def require_all(self) -> None:
        """Raises DataError where a film has been left out."""
        if self._left_out:
            count = len(self._films)
            some = f"{len(self._left_out)} of {count} films left out, the first: " if count > 1 else ""
            raise DataError(f"{some}{self._left_out[0]}")


def _read_areas(table: Path) -> dict[str, dict[Any, Any]]:
    """The rows of an ``areas.csv`` by the names of their films; none where there is none.

    Raises:
        DataError: it is no such table.
    """
    if not table.exists():
        return {}
    types: dict[str, type] = dict.fromkeys(AREAS, float) | {"file": str}
    try:
        areas = pd.read_csv(table, dtype=types, keep_default_na=False, na_values={name: [""] for name in AREAS[-2:]})
        if areas.columns.tolist() != AREAS:
            raise ValueError(f"columns {', '.join(areas.columns)}")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{table}: expected the table of an earlier call (columns {', '.join(AREAS)}), "
            f"received: {str(error).strip()}; remove it or choose another folder"
        ) from error
    return {name_film(Path(row["file"])): row for row in areas.to_dict("records")}


def distinct_names(files: Sequence[Path]) -> list[str]:
    """The names of films without folder and suffix, by which their results are called.

    Raises:
        DataError: two have the same name.
    """
    names = [name_film(Path(file)) for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"films: expected distinct names, received: {', '.join(twice)} more than once; rename them")
    return names


def segment_grey(
    segmenter: Segmenter, grey: np.ndarray, anatomy: str = ANATOMIES[0], side: str | None = None
) -> np.ndarray:
    """Label map uint8 [H, W] of one film uint8 [H, W].

    Args:
        segmenter: the model. One of the roi view takes the film for a window, and leaves it as it lies.
        grey: the film, which is turned and trimmed for the model as the training films were.
        anatomy: one of ``config.ANATOMIES``: ``"automatic"``, which films outlined by hand show to be the better one, takes
            from the model the lesions on breast and muscle alone. In a window everything is the model's.
        side: the edge where its chest wall is, ``"left"`` or ``"right"``; found in the picture where None.
    """
    return _with_lesions(*_outline(segmenter, grey, anatomy, side)[:2])


def _outline(
    segmenter: Segmenter, grey: np.ndarray, anatomy: str, side: str | None
) -> tuple[np.ndarray, np.ndarray, float | None]:
    """The anatomy without lesions, uint8 [H, W], where the lesions over it are, bool [H, W], and the confidence."""
    if segmenter.view == "roi":
        found = _ask(segmenter, grey, find_geometry(grey, segmenter.view))
        return remove_lesions(found), found == LESION, None
    automatic, geometry, confidence = outline_film(grey, side)
    found = _ask(segmenter, grey, geometry)
    if anatomy == "unet":
        return remove_lesions(found), found == LESION, confidence
    return automatic, (found == LESION) & (automatic > 0), confidence


def _with_lesions(anatomy: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    return np.where(lesions, LESION, anatomy).astype(np.uint8)


def _ask(segmenter: Segmenter, grey: np.ndarray, geometry: Geometry) -> np.ndarray:
    small = shrink(geometry.to_square(grey), segmenter.size)
    return geometry.to_film(segmenter(to_float(small[None]))[0])


def film_to_png(grey: np.ndarray) -> bytes:
    """A film uint8 [H, W] as the bytes of a PNG, the format in which a server takes it."""
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="PNG")
    return stream.getvalue()
