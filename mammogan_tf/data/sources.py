"""Films from wherever they come: mini-MIAS or its like, folders of one's own, or several of these together."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mammogan_tf.data.film import Film
from mammogan_tf.data.folder import DESCRIPTION, EXAMPLE, SUFFIXES, build_films, open_folder
from mammogan_tf.data.mias import PLACES, find_images, load_mias
from mammogan_tf.errors import DataError

__all__ = ["find_data", "holds_folder", "load_all", "load_data"]


def find_data(paths: Sequence[str | os.PathLike[str]] = ()) -> tuple[Path, ...]:
    """The places of films: ``paths``, else ``$MAMMOGAN_DATA``, else ``data/mias``."""
    return tuple(map(Path, paths)) or (Path(os.environ.get("MAMMOGAN_DATA") or "data/mias").expanduser(),)


def holds_folder(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder data set; what is not is to be read as mini-MIAS.

    Raises:
        DataError: it holds images, and neither a ``dataset.json`` nor an ``Info.txt`` that explains them.
    """
    root = Path(path)
    if (root / DESCRIPTION).is_file():
        return True
    if find_images(root) or any((root / place / "Info.txt").is_file() for place in PLACES):
        return False
    for place in (root / "images", root):
        images = sorted(file for file in place.glob("*") if file.suffix.lower() in SUFFIXES)
        if images:
            raise DataError(
                f"{root}: expected {DESCRIPTION} or the Info.txt of mini-MIAS, received: images such as {images[0].name} "
                f"alone; put films into {root / 'images'}, drawn masks into {root / 'labels'}, and write "
                f"{root / DESCRIPTION}: {EXAMPLE}; without masks {{}} will do"
            )
    return False


def load_data(path: str | os.PathLike[str]) -> list[Film]:
    """The films of one data set, as :func:`load_all` reads it."""
    return load_all([path])


def load_all(paths: Sequence[str | os.PathLike[str]]) -> list[Film]:
    """The films of several data sets, one after the other, by :func:`build_films` or :func:`load_mias`.

    Raises:
        DataError: as these and :func:`open_folder` do, a folder holds images that nothing explains, or two data sets have
            films of the same id.
    """
    folders = {path: open_folder(path) for path in map(Path, paths) if holds_folder(path)}
    patients = frozenset(patient for folder in folders.values() for patient in folder.patients)
    films: list[Film] = []
    sources: dict[str, Path] = {}
    for path in map(Path, paths):
        folder = folders.get(path)
        for film in build_films(replace(folder, patients=patients)) if folder else load_mias(path):
            if film.id in sources:
                raise DataError(
                    f"{path}: expected films that no other data set has, received: {film.id}, as in {sources[film.id]}; "
                    f'give each {DESCRIPTION} a "name" of its own, or leave one of the two out'
                )
            sources[film.id] = path
            films.append(film)
    return films
