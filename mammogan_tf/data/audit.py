"""Looks through a folder in the MIAS layout, film by film, and says what is there and what is wrong with it."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mammogan_tf.config import LABELS
from mammogan_tf.data.film import Film, Lesion, read_grey
from mammogan_tf.data.mias import (
    EXTENT,
    NORMAL,
    TISSUES,
    Record,
    build_film,
    find_images,
    find_root,
    group_records,
    parse_record,
    read_info,
)
from mammogan_tf.data.outline import find_outline
from mammogan_tf.errors import DataError

__all__ = ["audit", "format_audit"]

INSIDE = 0.9
"""Share of a circle that must lie on the breast: six of mini-MIAS have 0.84 or less, the others 0.95 or more."""

SHRINK = 4
"""Film pixels to one pixel of the breast's outline, in each direction."""

SHOWN = 12
"""Findings of one sort that :func:`format_audit` prints."""


@dataclass(frozen=True)
class _Finding:
    """What one film shows: its description, a digest of its pixels, doubts about its circles, or what broke it."""

    name: str
    film: Film | None = None
    digest: str | None = None
    doubts: tuple[str, ...] = ()
    broken: str | None = None


def audit(root: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Decodes every film and checks it against ``Info.txt``; what is corrupt is reported and does not stop it.

    Returns plain JSON types:
        ``images``, ``patients``, ``records``, ``lesion_circles``, ``images_with_circles``: counts;
        ``labels``: films per label, where a film with a benign and a malignant lesion counts as malignant;
        ``mixed_counted_as_malignant``: their ids;
        ``tissue``: films per tissue letter;
        ``without_coordinates``: ids of films with a lesion that is not located;
        ``suspect_circles``: ``{"id", "why"}`` of circles that lie off the breast or partly so;
        ``corrupt``: ``{"file", "why"}`` of unreadable films and lines of ``Info.txt``;
        ``duplicates``: groups of files with identical pixels;
        ``missing``: ``{"id", "why"}`` of films without a record and records without a film.

    Raises:
        DataError: there is no such folder, or no ``Info.txt`` in it.
    """
    folder = find_root(root)
    corrupt: list[dict[str, str]] = []
    unreadable: set[str] = set()
    records = list(_readable_records(folder / "Info.txt", corrupt, unreadable))
    groups, images = group_records(records), find_images(folder)
    findings = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        films = sorted(images)
        results = pool.map(_inspect, [images[film] for film in films], [groups.get(film, []) for film in films])
        for done, finding in enumerate(results, start=1):
            findings.append(finding)
            if progress:
                progress(done, len(films))
    corrupt += [{"file": finding.name, "why": finding.broken} for finding in findings if finding.broken]
    missing = [(film, "no such file, but a record in Info.txt") for film in groups.keys() - images.keys()]
    missing += [(film, "no record in Info.txt") for film in images.keys() - groups.keys() - unreadable]
    return {
        "images": len(images),
        "records": len(records),
        **_describe([finding.film for finding in findings if finding.film], records),
        "suspect_circles": [
            {"id": finding.film.id, "why": why} for finding in findings if finding.film for why in finding.doubts
        ],
        "corrupt": corrupt,
        "duplicates": _duplicates(findings),
        "missing": [{"id": film, "why": why} for film, why in sorted(missing)],
    }


def _readable_records(info: Path, corrupt: list[dict[str, str]], unreadable: set[str]) -> Iterator[Record]:
    """The records that make sense; the others go to ``corrupt``, and their films to ``unreadable``."""
    try:
        lines = read_info(info)
    except DataError as error:
        lines = []
        corrupt.append({"file": info.name, "why": _reason(error)})
    for number, text in lines:
        where = f"{info.name} line {number}"
        try:
            yield parse_record(text, where)
        except DataError as error:
            corrupt.append({"file": where, "why": _reason(error)})
            unreadable.add(text.split()[0])


def _reason(error: DataError) -> str:
    """The error's message without the place at its front."""
    return str(error).partition(": ")[2]


def _inspect(path: Path, records: list[Record]) -> _Finding:
    film = None
    try:
        film = build_film(path, records) if records else None
        grey = read_grey(path)
    except DataError as error:
        return _Finding(path.name, film, broken=_reason(error))
    digest = hashlib.sha256(grey.tobytes() + repr(grey.shape).encode()).hexdigest()
    doubts = _doubts(grey, film) if film and film.lesions else ()
    return _Finding(path.name, film, digest, doubts)


def _doubts(grey: np.ndarray, film: Film) -> tuple[str, ...]:
    small = Image.fromarray(grey).resize((EXTENT // SHRINK, EXTENT // SHRINK), Image.Resampling.BOX)
    breast = find_outline(np.asarray(small), film.side)
    shares = [_share_inside(breast, lesion) for lesion in film.lesions]
    return tuple(
        f"{100 * (1 - share):.0f} % of the circle lies off the breast"
        if share
        else "the circle lies on empty background"
        for share in shares
        if share < INSIDE
    )


def _share_inside(breast: np.ndarray, lesion: Lesion) -> float:
    """Share of the circle, as far as it is in the picture, that lies on the breast."""
    rows, columns = ((np.arange(extent) + 0.5) * SHRINK - 0.5 for extent in breast.shape)
    distance = np.hypot(rows[:, None] - lesion.row, columns[None, :] - lesion.column)
    return float(breast[distance <= max(lesion.radius, SHRINK)].mean())


def _describe(films: list[Film], records: list[Record]) -> dict[str, Any]:
    labels, tissues = Counter(film.label for film in films), Counter(film.tissue for film in films)
    severities: dict[str, set[int]] = defaultdict(set)
    for record in records:
        severities[record.film].add(record.label)
    return {
        "patients": len({film.patient for film in films}),
        "lesion_circles": sum(len(film.lesions) for film in films),
        "images_with_circles": sum(bool(film.lesions) for film in films),
        "labels": {name: labels[number] for number, name in enumerate(LABELS)},
        "mixed_counted_as_malignant": sorted(film for film, found in severities.items() if len(found - {NORMAL}) > 1),
        "tissue": {letter: tissues[letter] for letter in TISSUES},
        "without_coordinates": sorted({r.film for r in records if r.label != NORMAL and r.circle is None}),
    }


def _duplicates(findings: Iterable[_Finding]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.digest:
            groups[finding.digest].append(finding.name)
    return [sorted(names) for names in groups.values() if len(names) > 1]


def format_audit(result: dict[str, Any]) -> str:
    """An audit as a table for a terminal; long lists are cut."""
    labels, tissue = result["labels"], result["tissue"]
    mixed = ", ".join(result["mixed_counted_as_malignant"])
    rows = [
        ("images", f"{result['images']} of {result['patients']} patients"),
        ("records", str(result["records"])),
        ("labels", ", ".join(f"{count} {name}" for name, count in labels.items())),
        ("  benign and malignant", f"{mixed} (counted as malignant)" if mixed else "none"),
        ("tissue", ", ".join(f"{count} {letter}" for letter, count in tissue.items())),
        ("lesion circles", f"{result['lesion_circles']} in {result['images_with_circles']} images"),
        ("without coordinates", ", ".join(result["without_coordinates"]) or "none"),
    ]
    findings = {
        "suspect circles": [f"{entry['id']}: {entry['why']}" for entry in result["suspect_circles"]],
        "corrupt": [f"{entry['file']}: {entry['why']}" for entry in result["corrupt"]],
        "duplicates": [" = ".join(group) for group in result["duplicates"]],
        "missing": [f"{entry['id']}: {entry['why']}" for entry in result["missing"]],
    }
    for name, lines in findings.items():
        shown = lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
        rows.append((name, str(len(lines)) if lines else "none"))
        rows += [("", line) for line in shown]
    return "\n".join(f"{name:<24}{value}" for name, value in rows)
