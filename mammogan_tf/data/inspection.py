"""Decodes films one by one and notes what each shows, for an audit: what is broken is noted and stops nothing."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mammogan_tf.config import CLASSES, LABELS, LESION
from mammogan_tf.console import Progress
from mammogan_tf.data.dicom import is_dicom, read_dicom_modality
from mammogan_tf.data.film import AUTOMATIC, Film, Lesion, read_drawn_mask, read_grey
from mammogan_tf.data.outline import chest_wall_side, find_outline
from mammogan_tf.errors import DataError

__all__ = ["Finding", "inspect_films"]

INSIDE = 0.9
"""Share of a circle that must lie on the breast: six of mini-MIAS have 0.84 or less, the others 0.95 or more."""

MAX_LESION = 0.5
"""Share of a picture that a mask draws as a lesion, above which the mask may be inverted."""

WHITE, MAX_WHITE = 0.9, 0.3
"""A pixel is white from this share of the brightest one on, and at most this share of a film is white: 0.2 in mini-MIAS, 0.62 in
the median negative."""

MODALITIES = ("MG", "CR", "DX", "RG", "OT")
"""Modalities of mammograms in DICOM: mammography, plates, digital and digitised films, and whatever says nothing."""

OUTLINE_SIZE = 256
"""Longer side of the film, in pixels, on which the breast's outline is found."""


@dataclass(frozen=True)
class Finding:
    """What one film shows: its description, size, a digest of its pixels, drawn classes, doubts, or what broke it.

    ``doubts`` are about what is said of it, ``unlike`` says what speaks against its being a mammogram with a dark background.
    ``side`` is where the chest wall is found in the picture, whatever its description says; None where nobody asks.
    """

    path: Path
    film: Film | None = None
    size: tuple[int, int] | None = None
    digest: str | None = None
    side: str | None = None
    classes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    broken: DataError | None = None


def inspect_films(
    images: Mapping[str, Path],
    build: Callable[[str], Film | None],
    progress: Progress | None = None,
    doubt_sides: bool = False,
) -> list[Finding]:
    """Builds and decodes every film, in the order of their ids, several at a time.

    Args:
        images: files by film.
        build: describes a film, or returns None for one of which nothing is known; it may raise a DataError.
        progress: called with (films done, films).
        doubt_sides: whether to find the chest wall in the pictures of films that are said to have it somewhere.
    """
    films = sorted(images)
    findings = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for finding in pool.map(lambda film: _inspect(images[film], film, build, doubt_sides), films):
            findings.append(finding)
            if progress:
                progress(len(findings), len(films))
    return findings


def _inspect(path: Path, name: str, build: Callable[[str], Film | None], doubt_sides: bool) -> Finding:
    film = None
    try:
        film = build(name)
        grey = read_grey(path)
        drawn = read_drawn_mask(film.drawn, grey.shape) if film and film.drawn else np.empty(0, np.uint8)
        unlike = _unlike_a_mammogram(path, grey)
    except DataError as error:
        return Finding(path, film, broken=error)
    classes = tuple("automatic" if number == AUTOMATIC else CLASSES[number] for number in np.unique(drawn))
    digest = hashlib.sha256(grey.tobytes() + repr(grey.shape).encode()).hexdigest()
    lesion = float((drawn == LESION).mean()) if drawn.size else 0.0
    doubts = _doubts(grey, film, classes, lesion) if film else ()
    side = _find_side(grey) if doubt_sides and film and film.side else None
    return Finding(path, film, grey.shape, digest, side, classes, doubts, unlike)


def _unlike_a_mammogram(path: Path, grey: np.ndarray) -> tuple[str, ...]:
    found = []
    white = float((grey >= WHITE * grey.max()).mean()) if grey.any() else 0.0
    if white > MAX_WHITE:
        found.append(f"{100 * white:.0f} % of it is white: invert it if it is a negative")
    modality = read_dicom_modality(path) if is_dicom(path) else ""
    if modality and modality not in MODALITIES:
        found.append(f"its DICOM file says modality {modality}, where mammograms have MG: leave it out if it is none")
    return tuple(found)


def _doubts(grey: np.ndarray, film: Film, classes: tuple[str, ...], lesion: float) -> tuple[str, ...]:
    """``lesion`` is the share of the picture that is drawn as one."""
    doubts = []
    if lesion > MAX_LESION:
        doubts.append(f"{100 * lesion:.0f} % of the picture is drawn as lesion: the mask may be inverted")
    if "lesion" in classes and LABELS[film.label] == "normal":
        doubts.append("a lesion is drawn, but the label is normal")
    if classes and {*classes} <= {"background", "lesion"}:
        doubts.append("all tissue is drawn as background: map it to automatic")
    for share in _shares_inside(grey, film) if film.lesions else ():
        if share < INSIDE:
            off = f"{100 * (1 - share):.0f} % of the circle lies off the breast"
            doubts.append(off if share else "the circle lies on empty background")
    return tuple(doubts)


def _shares_inside(grey: np.ndarray, film: Film) -> list[float]:
    """Share of each circle of a film, as far as it is in the picture, that lies on the breast."""
    small, step = _shrink(grey)
    breast = find_outline(small, film.side)
    return [_share_inside(breast, lesion, step) for lesion in film.lesions]


def _find_side(grey: np.ndarray) -> str | None:
    """The edge of the picture where the chest wall is found; None where there is no breast."""
    breast = find_outline(_shrink(grey)[0])
    return chest_wall_side(breast) if breast.any() else None


def _shrink(grey: np.ndarray) -> tuple[np.ndarray, float]:
    """A film on which its outline is found, and how many of its pixels are one there."""
    step = max(grey.shape) / OUTLINE_SIZE
    height, width = (max(1, round(extent / step)) for extent in grey.shape)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX)), step


def _share_inside(breast: np.ndarray, lesion: Lesion, step: float) -> float:
    rows, columns = ((np.arange(extent) + 0.5) * step - 0.5 for extent in breast.shape)
    distance = np.hypot(rows[:, None] - lesion.row, columns[None, :] - lesion.column)
    return float(breast[distance <= max(lesion.radius, step)].mean())
