"""A folder of films of one's own: ``images/``, drawn masks in ``labels/``, and a ``dataset.json`` that explains them.

All of its names may be left out; ``classes`` is needed where there are ``labels/``::

    {
        "name": "ddsm",
        "classes": {"64": "background", "128": "adipose", "192": "fibroglandular", "255": "pectoral"},
        "table": "films.csv",
        "columns": {"film": "file", "patient": "case", "side": "wall", "label": "pathology", "tissue": "density"}
    }
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammogan_tf.config import CLASSES, LABELS
from mammogan_tf.data.dicom import DICOM_SUFFIXES, digest_patient, is_dicom
from mammogan_tf.data.film import AUTOMATIC, SIDES, TISSUES, DrawnMask, Film, read_origin, read_size
from mammogan_tf.data.film_table import COLUMNS, compose, fault, read_table
from mammogan_tf.errors import DataError
from mammogan_tf.files import read_json

__all__ = [
    "DESCRIPTION",
    "EXAMPLE",
    "SUFFIXES",
    "Folder",
    "build_film",
    "build_films",
    "find_stray_masks",
    "name_film",
    "open_folder",
    "without_film",
]

DESCRIPTION = "dataset.json"
EXAMPLE = '{"name": "my-films", "classes": {"0": "automatic", "255": "lesion"}}'
MAX_NAME = 100
SUFFIXES = (*DICOM_SUFFIXES, ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")

OF_A_SYSTEM = (".", "thumbs.db", "desktop.ini")
"""How names of files begin that macOS and Windows put into folders of pictures."""

CLASS_NUMBERS = {**{name: number for number, name in enumerate(CLASSES)}, "automatic": AUTOMATIC}


Origin = tuple[str | None, str | None]
"""Patient, as a digest, and side of the chest wall; None where a file is silent."""


@dataclass(frozen=True)
class Folder:
    """A folder data set. ``images``, ``masks`` and ``rows`` are by film: the name of its file without its suffix.

    ``classes`` pairs grey values of masks with classes 0-4 or ``AUTOMATIC``; ``rows`` is None where there is no table,
    and a row holds what the table says under the names of ``COLUMNS``. ``origins`` are patient and side as the
    DICOM files say, by film; those that cannot be read are left out. ``patients`` are those whom DICOM files name, here or
    in data sets that are loaded together with this one: the table may name them too.
    """

    name: str
    classes: tuple[tuple[int, int], ...]
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    rows: Mapping[str, Mapping[str, str]] | None
    origins: Mapping[str, Origin]
    patients: frozenset[str]


def build_films(folder: Folder) -> list[Film]:
    """All films of a folder data set, in the order of their file names. Pixels are not decoded.

    Ids and patients begin with the name of the data set, which is the folder's own where ``dataset.json`` gives none. What
    the table leaves open comes from the tags of a DICOM file; a patient whom these name is the same in every data set.
    Without either, each film is a patient of its own, its side is found in the picture, and its label is normal.

    Raises:
        DataError: a mask without its film, or as :func:`build_film` does.
    """
    for path in find_stray_masks(folder):
        raise without_film(path)
    return [build_film(folder, film) for film in sorted(folder.images)]


def open_folder(root: Path) -> Folder:
    """Reads ``dataset.json`` and the table, and lists the files.

    Raises:
        DataError: one of them is missing or makes no sense, or two files are of the same film.
    """
    where = root / DESCRIPTION
    described = _read_description(where)
    labels = root / "labels"
    if labels.is_dir() and "classes" not in described:
        raise fault(where, "classes of the grey values in labels/", "labels/ alone", f"write it as {EXAMPLE}")
    if "classes" in described and not labels.is_dir():
        advice = "make it, or take classes out"
        raise fault(where, "labels/ beside images/, as classes says", "no such folder", advice)
    images = _list_films(root / "images", f"an image ({', '.join(SUFFIXES)})")
    if not images:
        raise fault(root / "images", f"films ({', '.join(SUFFIXES)})", "none", "put them there")
    table = described.get("table")
    if "columns" in described and not table:
        raise fault(where, "a table with the columns", "no table", "name its CSV file")
    origins = _read_origins(images)
    return Folder(
        name=described["name"],
        classes=tuple((int(grey), CLASS_NUMBERS[kind]) for grey, kind in described.get("classes", {}).items()),
        images=images,
        masks=_list_films(labels, "a mask of a film, best as PNG") if labels.is_dir() else {},
        rows=read_table(root / table, described.get("columns", {}), images) if table else None,
        origins=origins,
        patients=frozenset(patient for patient, _ in origins.values() if patient),
    )


def find_stray_masks(folder: Folder) -> list[Path]:
    """Masks that belong to no film."""
    return sorted(folder.masks[film] for film in folder.masks.keys() - folder.images.keys())


def without_film(mask: Path) -> DataError:
    """What is wrong with such a mask."""
    return fault(mask, "a film of the same name", "none", "rename it as its film or remove it")


def build_film(folder: Folder, film: str) -> Film:
    """One film of a folder data set.

    Raises:
        DataError: no row in the table, or one that makes no sense; a file that is no image; a mask in DICOM or of another
            size.
    """
    path, mask = folder.images[film], folder.masks.get(film)
    if folder.rows is not None and film not in folder.rows:
        raise fault(path, "a row in the table of dataset.json", "none", "add it or remove the film")
    row = folder.rows[film] if folder.rows else {}
    size = read_size(path)
    if mask and is_dicom(mask):
        raise fault(mask, "a mask (PNG, TIFF or PGM)", "DICOM", "save it as PNG")
    if mask and read_size(mask) != size:
        expected, received = (f"{width}x{height}" for height, width in (size, read_size(mask)))
        raise fault(mask, f"{expected} pixels as its film has", received, "draw it on the film")
    tagged, side = folder.origins.get(film) or read_origin(path)  # Which says why it cannot be read.
    named = row.get("patient")
    digest = digest_patient(named) if named else tagged
    return Film(
        id=f"{folder.name}-{film}",
        path=path,
        patient=digest if digest and digest in folder.patients else f"{folder.name}-{named or film}",
        label=LABELS.index(_choice(path, row, "label", LABELS) or "normal"),
        side=_choice(path, row, "side", SIDES) or side,
        tissue=_choice(path, row, "tissue", TISSUES),
        drawn=DrawnMask(mask, folder.classes) if mask else None,
    )


def name_film(path: Path) -> str:
    """What a film is called: its file's name without its suffix, which begins with a letter. A DICOM file 1.2.3.4 has none.

    Letters are composed, whichever way the system spells them.
    """
    return compose(path.stem if path.suffix[1:2].isalpha() else path.name)


def _choice(path: Path, row: Mapping[str, str], column: str, allowed: tuple[str, ...]) -> str | None:
    """What a row says in a column, spelt as in ``allowed``; None where it says nothing."""
    text = row.get(column)
    if not text:
        return None
    for value in allowed:
        if value.lower() == text.lower():
            return value
    raise fault(path, f"{', '.join(allowed)} or nothing as its {column} in the table", text, "correct the table")


def _list_films(folder: Path, expected: str) -> dict[str, Path]:
    """Visible files by film, but for those that a system puts there."""
    if not folder.is_dir():
        raise fault(folder, "a folder of films beside dataset.json", "no such folder", "make it")
    films: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if not path.name.lower().startswith(OF_A_SYSTEM)):
        if not path.is_file() or not (path.suffix.lower() in SUFFIXES or _may_be_dicom(path)):
            raise fault(path, expected, "something else", f"move it out of {folder.name}/")
        film = name_film(path)
        if not _is_safe(film):
            raise fault(folder, "names that every system can hold", ascii(film), "rename it")
        if film in films:
            raise fault(path, f"one file called {film}", f"{films[film].name} as well", "rename or remove one")
        films[film] = path
    return films


def _may_be_dicom(path: Path) -> bool:
    """Whether it is DICOM, or what cannot be read: who reads the film says why."""
    try:
        return is_dicom(path)
    except DataError:
        return True


def _read_origins(images: Mapping[str, Path]) -> dict[str, Origin]:
    origins = {}
    for film, path in images.items():
        with suppress(DataError):
            origins[film] = read_origin(path)
    return origins


def _is_safe(name: Any) -> bool:
    """Whether a text can be part of a file's name on every system."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME
        and name.isprintable()
        and not re.search(r'[<>:"/\\|?*]', name)
    )


def _read_description(path: Path) -> dict[str, Any]:
    """``dataset.json``, checked, with a name in any case."""
    try:
        described = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise fault(path, f"JSON such as {EXAMPLE}", error, "correct it") from error
    if not isinstance(described, dict):
        raise fault(path, f"an object such as {EXAMPLE}", described, "correct it")
    described = {"name": path.parent.resolve().name, **described}
    checks = {
        "name": (_is_safe, f'a text of up to {MAX_NAME} printable characters without < > : " / \\ | ? *'),
        "classes": (_are_classes, f"grey values 0-255, each with one of {', '.join(CLASS_NUMBERS)}"),
        "table": (lambda value: isinstance(value, str), "the name of a CSV file"),
        "columns": (_are_columns, f"headings of the table for {', '.join(COLUMNS)}"),
    }
    for name, value in described.items():
        if name not in checks:
            raise fault(path, f"the names {', '.join(checks)}", name, "correct it")
        holds, expected = checks[name]
        if not holds(value):
            raise fault(path, f"{name}: {expected}", value, f"write it as in {EXAMPLE}")
    return described


def _are_classes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        re.fullmatch(r"0|[1-9]\d{0,2}", grey) and int(grey) < 256 and isinstance(kind, str) and kind in CLASS_NUMBERS
        for grey, kind in value.items()
    )


def _are_columns(value: Any) -> bool:
    return isinstance(value, dict) and all(
        column in COLUMNS and isinstance(heading, str) for column, heading in value.items()
    )
