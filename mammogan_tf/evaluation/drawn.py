"""Masks found by a method against masks drawn by hand: Dice by region, the worst films, and which method is better."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mammogan_tf.arrays import to_float
from mammogan_tf.config import ADIPOSE, FIBROGLANDULAR, LESION, PECTORAL
from mammogan_tf.console import Progress
from mammogan_tf.data.film import AUTOMATIC, Film, read_grey
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.label_maps import overlay, shrink_label_map
from mammogan_tf.data.preparation import outline_film, paint_lesions, prepare
from mammogan_tf.files import write_text
from mammogan_tf.metrics.intervals import Estimate, bootstrap
from mammogan_tf.metrics.segmentation import REGIONS, dice
from mammogan_tf.pictures import save_picture, tile

__all__ = ["AUTOMATIC_METHOD", "compare_with_drawn", "differences", "format_comparison", "summarise"]

AUTOMATIC_METHOD = "automatic"
WORST = 5

DRAWN_REGIONS = {"breast with pectoral": (ADIPOSE, FIBROGLANDULAR, PECTORAL, LESION), **REGIONS}

TISSUE = {ADIPOSE, FIBROGLANDULAR}

NEEDED = {
    "breast with pectoral": (TISSUE,),
    "breast": (TISSUE, {PECTORAL}),
    "pectoral": ({PECTORAL},),
    "dense": ({FIBROGLANDULAR},),
}
"""Sets of classes that each must have one drawn: a breast outlined with its muscle is no breast alone."""


def compare_with_drawn(
    films: Sequence[Film],
    size: int,
    out: Path,
    segmenters: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Dice of the automatic anatomy, and of segmenters, with the masks drawn on films, all at ``size`` x ``size`` pixels.

    A film is scored on the regions that its data set's classes draw and that its drawn mask holds: by the same for every method.
    A region that is found where none is drawn does not count, but that a muscle in excess takes from the breast. A film whose
    drawn mask leaves pixels to the automatic anatomy is scored on its lesions alone, and the automatic anatomy, which knows no
    lesions, not by them. Where tissue was drawn beyond the automatic outline, the square of the drawn mask shows more of the film
    than a method would get, and what a segmenter finds there does not count for it.

    Args:
        films: films with a drawn mask; others are left out.
        size: of the masks that are compared.
        out: folder for ``drawn.csv`` and for ``worst/ID.png``: film, drawn mask, found masks.
        segmenters: by name; float32 [N, S, S] in [0, 1], films as they are, to label maps uint8 [N, S, S].
        progress: called with (films done, films).

    Returns:
        A row for each film, method and region that were scored: columns ``film``, ``patient``, ``method``, ``region``,
        ``dice``.
    """
    films = [film for film in films if film.drawn is not None]
    drawn = load_films(films, size, progress=progress)
    plain = load_films([dataclasses.replace(film, drawn=None) for film in films], size)
    raw = to_float(drawn.raw)
    automatic, seen = plain.label_maps, np.ones(drawn.label_maps.shape, bool)
    for row in np.flatnonzero((plain.raw != drawn.raw).any(axis=(1, 2))):
        automatic[row], seen[row] = _in_drawn_square(films[row], size)
    found = {AUTOMATIC_METHOD: automatic}
    found |= {name: segment(raw) * seen for name, segment in (segmenters or {}).items()}
    holds = {
        region: np.any(np.isin(drawn.label_maps, classes), axis=(1, 2)) for region, classes in DRAWN_REGIONS.items()
    }
    rows = [
        (film.id, film.patient, method, region, float(value))
        for method, label_maps in found.items()
        for region, classes in DRAWN_REGIONS.items()
        for film, held, value in zip(films, holds[region], dice(drawn.label_maps, label_maps, classes), strict=True)
        if held and _is_scored(film, method, region)
    ]
    table = pd.DataFrame(rows, columns=["film", "patient", "method", "region", "dice"])
    write_text(out / "drawn.csv", table.round(4).to_csv(index=False))
    names = {film for films_ in worst(table).values() for film in films_}
    for film in films:
        if film.id not in names:
            (out / "worst" / f"{film.id}.png").unlink(missing_ok=True)  # Of an earlier comparison.
    for name in sorted(names):
        index = drawn.ids.index(name)
        pictures = [overlay(drawn.raw[index], label_maps[index]) for label_maps in (drawn.label_maps, *found.values())]
        save_picture(out / "worst" / f"{name}.png", tile([[drawn.raw[index], *pictures]]))
    return table


def _in_drawn_square(film: Film, size: int) -> tuple[np.ndarray, np.ndarray]:
    """In the square of the drawn mask: the automatic label map, uint8 [S, S], and what its own square shows, bool [S, S]."""
    automatic, own, _ = outline_film(read_grey(film.path), film.side)
    square = prepare(film, size).geometry.to_square
    label_map = shrink_label_map(square(paint_lesions(automatic, film.lesions)), size)
    seen = shrink_label_map(square(own.to_film(np.ones((size, size), np.uint8))), size)
    return label_map, seen > 0


def _is_scored(film: Film, method: str, region: str) -> bool:
    drawn = {number for _, number in film.drawn.classes} if film.drawn else set()
    if region == "lesion":
        return LESION in drawn and method != AUTOMATIC_METHOD
    return AUTOMATIC not in drawn and all(drawn & classes for classes in NEEDED[region])


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and region: ``films``, ``mean``, ``median``, ``p10``, and the ``worst`` films by name."""
    groups = table.groupby(["method", "region"], sort=False)["dice"]
    columns = {"films": groups.size(), "mean": groups.mean(), "median": groups.median(), "p10": groups.quantile(0.1)}
    summary = pd.DataFrame(columns)
    summary["worst"] = pd.Series({key: ", ".join(names) for key, names in worst(table).items()})
    return summary


def worst(table: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """The films with the lowest Dice, worst first, by method and region."""
    groups = table.sort_values("dice", kind="stable").groupby(["method", "region"], sort=False)
    return {(str(method), str(region)): group["film"].head(WORST).tolist() for (method, region), group in groups}


def differences(table: pd.DataFrame, method: str) -> dict[str, Estimate]:
    """By region, how much higher the Dice of ``method`` is than that of the automatic anatomy, on the same films."""
    estimates = {}
    for region, group in table.groupby("region", sort=False):
        pairs = group.pivot(index=["film", "patient"], columns="method", values="dice")
        if {method, AUTOMATIC_METHOD} <= set(pairs.columns):
            difference = (pairs[method] - pairs[AUTOMATIC_METHOD]).to_numpy()
            estimates[str(region)] = bootstrap(difference, pairs.index.get_level_values("patient").to_numpy())
    return estimates


def format_comparison(table: pd.DataFrame) -> str:
    """:func:`summarise` and, for each segmenter, :func:`differences`, as text for a terminal."""
    if table.empty:
        return "no drawn mask outlines a region to compare with: what is left to the automatic anatomy cannot test it"
    lines = [f"{'Dice with drawn masks':<32}{'mean':>7}{'median':>8}{'p10':>7}{'films':>7}   worst"]
    for row in summarise(table).reset_index(names=["method", "region"]).itertuples():
        figures = f"{row.mean:7.3f}{row.median:8.3f}{row.p10:7.3f}{row.films:7d}"
        lines.append(f"  {row.method:<9} {row.region:<20}{figures}   {row.worst}")
    for method in table["method"].unique():
        for region, estimate in differences(table, method).items() if method != AUTOMATIC_METHOD else ():
            lines.append(f"  {method} - {AUTOMATIC_METHOD}, {region:<20} {_in_words(estimate, method)}")
    return "\n".join(lines)


def _in_words(estimate: Estimate, method: str) -> str:
    if "value" not in estimate:
        return f"not computed: {estimate['not computed']}"
    better = method if estimate["low"] > 0 else AUTOMATIC_METHOD if estimate["high"] < 0 else "neither"
    return f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]: {better} is better"
