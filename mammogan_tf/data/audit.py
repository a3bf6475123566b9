"""Looks through a data set, film by film, and says what is there and what is wrong with it."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mammogan_tf.config import CLASSES, LABELS, LESION, NORMAL, DataConfig
from mammogan_tf.console import Progress
from mammogan_tf.data import folder, mias
from mammogan_tf.data.anatomy import DOUBTFUL
from mammogan_tf.data.cache import prepare_films, read_metadata
from mammogan_tf.data.film import SIDES, TISSUES, Film
from mammogan_tf.data.inspection import Finding, inspect_films
from mammogan_tf.data.sources import holds_folder
from mammogan_tf.errors import DataError

__all__ = ["audit", "format_audit"]

SHOWN = 12
"""Findings of one sort that :func:`format_audit` prints."""

MAX_FILMS = 16
"""Films of one patient, four examinations, above which all films may have been given the same *Patient ID*."""


def audit(root: str | os.PathLike[str], progress: Progress | None = None) -> dict[str, Any]:
    """Decodes every film, checks it against what explains it, and goes on where one is corrupt.

    Returns plain JSON types:
        ``images``, ``patients``: counts;
        ``labels``, ``tissue``: films per label and per tissue letter;
        ``corrupt``: ``{"file", "why"}`` of unreadable films, masks, rows, lines of ``Info.txt``, and of masks without a film;
        ``duplicates``: groups of files with identical pixels;
        ``suspect_pictures``: ``{"id", "why"}`` of films that look like negatives, or whose DICOM file tells of no mammogram;
        ``missing``: ``{"id", "why"}`` of films without a record and the reverse;
        ``doubtful_masks``: ``{"id", "why"}`` of films whose automatic mask is worth a look, the most doubtful first.

    For mini-MIAS also:
        ``records``, ``lesion_circles``, ``images_with_circles``: counts;
        ``mixed_counted_as_malignant``: ids of films with a benign and a malignant lesion;
        ``without_coordinates``: ids of films with a lesion that is not located;
        ``suspect_circles``: ``{"id", "why"}`` of circles that lie off the breast or partly so.

    For a folder data set also:
        ``name``: that its ids begin with;
        ``sizes``, ``sides``: films of each size (``"480x960"``) and of each side of the chest wall, where known;
        ``masks``: films with a drawn mask, and ``classes``: of these, how many show each class;
        ``suspect_labels``: ``{"id", "why"}`` of films whose label contradicts the mask, or whose mask has no tissue;
        ``suspect_sides``: ``{"id", "why"}`` of films whose chest wall is found on another side than the table or DICOM says;
        ``suspect_patients``: ``{"id", "why"}`` of patients with more than :data:`MAX_FILMS` films, or of nobody named.

    Raises:
        DataError: there is no such folder, or nothing in it explains its films.
    """
    return _audit_folder(Path(root), progress) if holds_folder(root) else _audit_mias(root, progress)


def _audit_mias(root: str | os.PathLike[str], progress: Progress | None) -> dict[str, Any]:
    place = mias.find_root(root)
    corrupt: list[dict[str, str]] = []
    unreadable: set[str] = set()
    records = list(_readable_records(place / "Info.txt", corrupt, unreadable))
    groups, images = mias.group_records(records), mias.find_images(place)
    findings = inspect_films(
        images, lambda film: mias.build_film(images[film], groups[film]) if film in groups else None, progress
    )
    corrupt += [{"file": found.path.name, "why": _reason(found.broken)} for found in findings if found.broken]
    missing = [(film, "no such file, but a record in Info.txt") for film in groups.keys() - images.keys()]
    missing += [(film, "no record in Info.txt") for film in images.keys() - groups.keys() - unreadable]
    films = [found.film for found in findings if found.film]
    severities: dict[str, set[int]] = defaultdict(set)
    for record in records:
        severities[record.film].add(record.label)
    return {
        **_common(findings, missing),
        "corrupt": corrupt,
        "records": len(records),
        "lesion_circles": sum(len(film.lesions) for film in films),
        "images_with_circles": sum(bool(film.lesions) for film in films),
        "mixed_counted_as_malignant": sorted(film for film, found in severities.items() if len(found - {NORMAL}) > 1),
        "without_coordinates": sorted({r.film for r in records if r.label != NORMAL and r.circle is None}),
        "suspect_circles": _doubts(findings),
    }


def _readable_records(info: Path, corrupt: list[dict[str, str]], unreadable: set[str]) -> Iterator[mias.Record]:
    """The records that make sense; the others go to ``corrupt``, and their films to ``unreadable``."""
    try:
        lines = mias.read_info(info)
    except DataError as error:
        lines = []
        corrupt.append({"file": info.name, "why": _reason(error)})
    for number, text in lines:
        where = f"{info.name} line {number}"
        try:
            yield mias.parse_record(text, where)
        except DataError as error:
            corrupt.append({"file": where, "why": _reason(error)})
            unreadable.add(text.split()[0])


def _audit_folder(root: Path, progress: Progress | None) -> dict[str, Any]:
    opened = folder.open_folder(root)
    findings = inspect_films(opened.images, lambda film: folder.build_film(opened, film), progress, doubt_sides=True)
    stray = folder.find_stray_masks(opened)
    missing = [
        (film, "no such file, but a row in the table") for film in (opened.rows or {}).keys() - opened.images.keys()
    ]
    films = [found.film for found in findings if found.film]
    sides = Counter(film.side for film in films)
    shown = Counter(name for found in findings for name in found.classes)
    return {
        **_common(findings, missing),
        "corrupt": [
            {"file": _where(error, root), "why": _reason(error)}
            for error in [*(found.broken for found in findings if found.broken), *map(folder.without_film, stray)]
        ],
        "name": opened.name,
        "sizes": dict(Counter(f"{found.size[1]}x{found.size[0]}" for found in findings if found.size).most_common()),
        "sides": {side: sides[side] for side in SIDES},
        "masks": sum(film.drawn is not None for film in films),
        "classes": {name: shown[name] for name in (*CLASSES, "automatic") if shown[name]},
        "suspect_labels": _doubts(findings)
        + (_without_lesion(findings) if LESION in dict(opened.classes).values() else []),
        "suspect_sides": _turned(findings),
        "suspect_patients": _suspect_patients(opened, films),
    }


def _common(findings: list[Finding], missing: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What is told of every data set."""
    films = [found.film for found in findings if found.film]
    labels, tissues = Counter(film.label for film in films), Counter(film.tissue for film in films)
    groups: dict[str, list[str]] = defaultdict(list)
    for found in findings:
        if found.digest:
            groups[found.digest].append(found.path.name)
    return {
        "images": len(findings),
        "patients": len({film.patient for film in films}),
        "labels": {name: labels[number] for number, name in enumerate(LABELS)},
        "tissue": {letter: tissues[letter] for letter in TISSUES},
        "suspect_pictures": [
            {"id": found.film.id, "why": why} for found in findings if found.film for why in found.unlike
        ],
        "duplicates": [sorted(names) for names in groups.values() if len(names) > 1],
        "missing": [{"id": film, "why": why} for film, why in sorted(missing)],
        "doubtful_masks": _doubtful([found.film for found in findings if found.film and not found.broken]),
    }


def _doubtful(films: list[Film]) -> list[dict[str, str]]:
    """Films whose automatic mask is worth a look, the most doubtful first."""
    paths = prepare_films(films, DataConfig.size)  # Training finds them done.
    confidences = [read_metadata(path).confidence for path in paths]
    ranked = sorted(zip(confidences, [film.id for film in films], strict=True))
    return [{"id": film, "why": f"confidence {value:.2f}"} for value, film in ranked if value < DOUBTFUL]


def _doubts(findings: list[Finding]) -> list[dict[str, str]]:
    return [{"id": found.film.id, "why": why} for found in findings if found.film for why in found.doubts]


def _without_lesion(findings: list[Finding]) -> list[dict[str, str]]:
    """Films whose label asks for a lesion where none is drawn, in a data set that draws some."""
    return [
        {"id": found.film.id, "why": f"the label is {LABELS[found.film.label]}, but no lesion is drawn"}
        for found in findings
        if found.film and not found.broken and LABELS[found.film.label] != "normal" and "lesion" not in found.classes
    ]


def _suspect_patients(opened: folder.Folder, films: list[Film]) -> list[dict[str, str]]:
    rows = (opened.rows or {}).values()
    if not (opened.patients or any(row.get("patient") for row in rows)):
        return [
            {
                "id": opened.name,
                "why": "nobody is named: each film counts as a patient of its own; name them in the table",
            }
        ]
    return [
        {"id": patient, "why": f"{count} films: if they are of several patients, name these in the table"}
        for patient, count in Counter(film.patient for film in films).most_common()
        if count > MAX_FILMS
    ]


def _turned(findings: list[Finding]) -> list[dict[str, str]]:
    """Films whose chest wall is found on another side than they are said to have it."""
    return [
        {
            "id": found.film.id,
            "why": f"the chest wall is found on the {found.side}, the table or the DICOM file says {found.film.side}",
        }
        for found in findings
        if found.film and found.side not in (None, found.film.side)
    ]


def _where(error: DataError, root: Path) -> str:
    """The place at the front of an error's message, below ``root``."""
    return str(error).partition(": ")[0].removeprefix(f"{root}{os.sep}")


def _reason(error: DataError) -> str:
    """The error's message without the place at its front."""
    return str(error).partition(": ")[2]


def format_audit(result: dict[str, Any]) -> str:
    """An audit as a table for a terminal; long lists are cut."""
    rows = [("images", f"{result['images']} of {result['patients']} patients")]
    rows += [("records", str(result["records"]))] if "records" in result else []
    rows += [("labels", _counts(result["labels"]))]
    rows += _circle_rows(result) if "records" in result else _mask_rows(result)
    rows += [("tissue", _counts(result["tissue"]))]
    suspect = ("suspect_pictures", "suspect_circles", "suspect_labels", "suspect_sides", "suspect_patients")
    for name in (*suspect, "doubtful_masks", "corrupt", "duplicates", "missing"):
        lines = [_finding_line(entry) for entry in result.get(name, ())]
        if name in result:
            rows.append((name.replace("_", " "), str(len(lines)) if lines else "none"))
        rows += [("", line) for line in lines[:SHOWN]]
        rows += [("", f"and {len(lines) - SHOWN} more")] if len(lines) > SHOWN else []
    return "\n".join(f"{name:<24}{value}" for name, value in rows)


def _circle_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    mixed = ", ".join(result["mixed_counted_as_malignant"])
    return [
        ("  benign and malignant", f"{mixed} (counted as malignant)" if mixed else "none"),
        ("lesion circles", f"{result['lesion_circles']} in {result['images_with_circles']} images"),
        ("without coordinates", ", ".join(result["without_coordinates"]) or "none"),
    ]


def _mask_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    sizes = result["sizes"]
    shown = dict(list(sizes.items())[:SHOWN])
    sides = result["sides"]
    untold = sum(result["labels"].values()) - sum(sides.values())
    return [
        ("sizes", _counts(shown) + (f", and {len(sizes) - SHOWN} more" if len(sizes) > SHOWN else "")),
        ("chest wall", _counts(sides) + (f", {untold} to be found in the picture" if untold else "")),
        ("drawn masks", str(result["masks"])),
        ("  that show", _counts(result["classes"]) or "nothing"),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _finding_line(entry: dict[str, str] | list[str]) -> str:
    return " = ".join(entry) if isinstance(entry, list) else ": ".join(entry.values())
