"""The breast and the pectoral muscle together, apart from film labels, bright strips, padding and scanner edges."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

__all__ = ["chest_wall_side", "find_outline", "find_outline_and_steadiness"]

STRIP_GREY = 215
"""Unexposed film and scanner lamps are brighter than this and flat; tissue is seldom both."""

STRIP_FLATNESS = 4.0
"""Largest standard deviation (grey levels, 5x5 pixels) inside a strip."""

STRIP_FILL = 0.85
"""Share of its bounding box that a strip fills: those of mini-MIAS 0.89 or more, but for some ragged ones, and tissue, however
bright, 0.78 at most."""

EDGE_GREY = 40
"""A row of the film that is brighter than this over nine tenths of its width is no tissue on a dark background."""

SKIN_LEVEL = 0.12
"""Grey at the skin line, as a share of the way from the film's background (0) to the median tissue (1); of 0.10, 0.12,
0.15 and 0.20 the best on 33 hand-drawn DDSM films."""


STEADY_LEVEL = 0.20
"""The level to which the skin line is raised to see how far the outline moves."""


def find_outline(grey: np.ndarray, side: str | None = None) -> np.ndarray:
    """Breast with pectoral muscle, as bool [H, W]; all False where the picture holds no tissue.

    Otsu's threshold on log intensity after bright strips are taken off, an opening that cuts labels loose, and the
    largest component (the largest that reaches the chest wall, where ``side`` is known).

    Args:
        grey: float or uint8 [H, W] in 0-255, shrunk to a few hundred pixels.
        side: the edge with the chest wall, ``"left"`` or ``"right"``; None where unknown.
    """
    return find_outline_and_steadiness(grey, side)[0]


def find_outline_and_steadiness(grey: np.ndarray, side: str | None = None) -> tuple[np.ndarray, float]:
    """As :func:`find_outline`, with the share, in [0, 1], of the outline that is left where its threshold is raised to
    ``STEADY_LEVEL``; 0 where the picture holds no tissue.
    """
    grey = np.asarray(grey, np.float32)
    film = _film_frame(grey)
    if side is None:
        side = chest_wall_side(_segment(grey, film, _strips(grey, film, None), None)[0])
    return _segment(grey, film, _strips(grey, film, "right" if side == "left" else "left"), side)


def _segment(grey: np.ndarray, film: np.ndarray, strips: np.ndarray, side: str | None) -> tuple[np.ndarray, float]:
    inside = film & ~strips
    smooth = ndimage.gaussian_filter(grey, 1.0)
    level = _tissue_level(smooth, inside)
    tissue = _open(inside & (level > SKIN_LEVEL), film, max(1, round(max(grey.shape) / 64)))
    outline = ndimage.binary_fill_holes(_largest(tissue, inside, side))
    return outline, float((level[outline] > STEADY_LEVEL).mean()) if outline.any() else 0.0


def _tissue_level(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Otsu's threshold on log intensity parts tissue from background, but lies inside the skin on some scanners and
    outside it on others; the skin is at much the same share of the way between the medians of the two classes, which
    are 0 and 1 here. All zero where there are no two classes.
    """
    values = grey[inside]
    if values.size == 0 or np.ptp(values) < 2:
        return np.zeros(grey.shape, np.float32)
    dark = np.log1p(values) <= threshold_otsu(np.log1p(values))
    background, tissue = np.median(values[dark]), np.median(values[~dark])
    return (grey - background) / (tissue - background)


def chest_wall_side(outline: np.ndarray) -> str:
    """The edge of the picture where the outline's straight border is: it holds more of the tissue's rows."""
    columns = np.flatnonzero(outline.any(axis=0))
    if columns.size == 0:
        return "left"
    first, last = columns[0], columns[-1]
    depth = max(1, (last - first) // 30)
    at_left = outline[:, first : first + depth + 1].any(axis=1).sum()
    at_right = outline[:, last - depth : last + 1].any(axis=1).sum()
    return "left" if at_left >= at_right else "right"


def _film_frame(grey: np.ndarray) -> np.ndarray:
    """The rectangle of the film: without black padding, and without scanner edges lit all the way across."""
    frame = np.zeros(grey.shape, bool)
    rows, columns = (np.flatnonzero((grey > 1.5).mean(axis=axis) > 0.02) for axis in (1, 0))
    if rows.size and columns.size:
        band = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        lit = (band > EDGE_GREY).mean(axis=1) > 0.9
        top, bottom = _edge_rows(lit), _edge_rows(lit[::-1])
        frame[rows[0] + top : rows[-1] + 1 - bottom, columns[0] : columns[-1] + 1] = True
    return frame


def _edge_rows(lit: np.ndarray) -> int:
    """How many rows at the start belong to a lit scanner edge: none where the tissue itself fills the film's width."""
    count = int(np.argmin(lit)) if not lit.all() else lit.size
    return 0 if count > 0.08 * lit.size else count


def _strips(grey: np.ndarray, film: np.ndarray, far: str | None) -> np.ndarray:
    """Bright, flat regions along the edge ``far`` from the chest wall.

    What reaches from edge to edge may be bright tissue, and so may any region but a rectangle where the side is not known.
    """
    mean = ndimage.uniform_filter(grey, 5)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(grey**2, 5) - mean**2, 0))
    flat = film & (grey > STRIP_GREY) & (spread < STRIP_FLATNESS)
    labels, count = ndimage.label(flat)
    strips = np.zeros(grey.shape, bool)
    rows, columns = np.flatnonzero(film.any(axis=1)), np.flatnonzero(film.any(axis=0))
    for index, (down, across) in enumerate(ndimage.find_objects(labels, count), start=1):
        at = {"left": across.start - columns[0] < 6, "right": columns[-1] + 1 - across.stop < 6}
        if far:
            is_strip = at[far] and not all(at.values())
        else:
            is_strip = any(at.values()) and (labels[down, across] == index).mean() > STRIP_FILL
        if is_strip and down.stop - down.start > 0.3 * rows.size:
            strips |= labels == index
    return ndimage.binary_dilation(strips, iterations=5)


def _open(mask: np.ndarray, film: np.ndarray, radius: int) -> np.ndarray:
    """Opening by a disc, through distance maps (fast at any radius).

    The mask goes on beyond the picture's sides, where the chest wall is cut, but not beyond its top and bottom, along which
    thin lines tie labels to the breast. Over padding beside the film it goes on in the upper half, or the muscle would lose
    its corner, but not below, where what is thin along the chest wall is a fold of skin.
    """
    columns = np.flatnonzero(film.any(axis=0))
    wide = mask.copy()
    if columns.size:
        upper = slice(len(mask) // 2)
        for edge, padding in ((columns[0], slice(columns[0])), (columns[-1], slice(columns[-1] + 1, None))):
            wide[upper, padding] = wide[upper, edge, None]
    padded = np.pad(np.pad(wide, ((0, 0), (radius + 1, radius + 1)), mode="edge"), ((radius + 1, radius + 1), (0, 0)))
    core = ndimage.distance_transform_edt(padded) > radius
    opened = ndimage.distance_transform_edt(~core) <= radius
    return opened[radius + 1 : -radius - 1, radius + 1 : -radius - 1] & mask


def _largest(mask: np.ndarray, film: np.ndarray, side: str | None) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    area = np.bincount(labels.ravel(), minlength=count + 1)
    area[0] = 0
    if side is not None:
        columns = np.flatnonzero(film.any(axis=0))
        reach = columns[:4] if side == "left" else columns[-4:]
        touching = np.zeros(count + 1, bool)
        touching[np.unique(labels[:, reach])] = True
        if touching[1:].any():
            area[~touching] = 0
    return labels == area.argmax()
