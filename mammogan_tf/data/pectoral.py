"""The pectoral muscle of a mediolateral oblique mammogram: a straight-line search and a minimum-cost path."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

__all__ = ["find_pectoral"]

ANGLES = np.deg2rad(np.arange(6, 62, 2))
"""Angles of the muscle's edge from the vertical that the search covers."""

SAMPLES = 72
"""Points along a candidate line."""

NARROW = 16
"""Pixels; an outline narrower than this shows no muscle."""

MIN_SCORE = 0.38
"""Below this edge strength no muscle is drawn. Hand-drawn muscles of 33 DDSM films score 0.55 to 1.0, the faint ones of
mini-MIAS from 0.41, and films without one up to 0.34."""

MAX_SHARE = 0.5
"""The muscle fills at most this share of the outline: a larger "muscle" is the breast, bounded by its skin."""

TIP = 0.1
"""Share of the muscle's height that is left out at its lower end: it thins out there, and people stop drawing."""

STIFFNESS = 0.05
"""How much the curve through the muscle's edge resists bending, beside the edge's own weight."""


class Line(NamedTuple):
    """From (row 0, ``column``) at ``angle`` (radians) from the vertical towards the left edge; ``score``: see
    :func:`find_pectoral`."""

    column: float
    angle: float
    score: float


class Search(NamedTuple):
    """How a path along the edge is sought: ``reach`` pixels to either side, intensity blurred by ``blur`` (along,
    across), straying to the limit at cost ``stray``, a sideways step at cost ``turn``."""

    reach: int
    blur: tuple[float, float]
    stray: float
    turn: float


WIDE = Search(14, (4.0, 2.5), 0.3, 0.25)
CLOSE = Search(8, (2.0, 1.5), 1.0, 0.5)


def find_pectoral(grey: np.ndarray, outline: np.ndarray) -> tuple[np.ndarray, float]:
    """Pectoral muscle as bool [H, W], all False where no convincing edge is found; and how clear the case is, in [0, 1].

    Every straight line that cuts the top left corner is scored by the edge strength along it (bright on the corner's
    side) times a mild preference for long lines; around the best one, the path of least cost follows the edge.

    A muscle is clear where its border is a sharp edge for the contrast around it and runs near the straight line (the
    mean edge strength along it, times the intersection over union with the line's corner). Where none is drawn, the
    case is the clearer the less of an edge was seen.

    Args:
        grey: float [H, W] in 0-255, chest wall on the left at column 0, blurred film edge trimmed.
        outline: bool [H, W], breast with muscle.
    """
    nothing = np.zeros(grey.shape, bool)
    if min(grey.shape) < NARROW:
        return nothing, 0.0
    depth = ndimage.distance_transform_edt(np.pad(outline, ((1, 1), (1, 0)), mode="edge"))[1:-1, 1:]
    smooth = ndimage.gaussian_filter(grey, 1.0, mode="nearest")
    down, across = _edges(smooth, 2.0)
    down, across = (np.where(depth > 5, g, 0) for g in (down, across))
    line = _best_line(down, across, MAX_SHARE * outline.sum())
    if line.score < MIN_SCORE:
        return nothing, 1 - line.score
    muscle = _inside_edge(smooth, depth, line) & outline
    reach = np.flatnonzero(muscle.any(axis=1))
    if reach.size == 0:
        return nothing, 0.0
    muscle[round((1 - TIP) * (reach[-1] + 1)) :] = False
    strength = -(across * np.cos(line.angle) + down * np.sin(line.angle))
    return muscle, _sharpness(muscle & (depth > 5), strength) * _straightness(muscle, outline, line)


def _sharpness(muscle: np.ndarray, strength: np.ndarray) -> float:
    border = muscle & ~ndimage.binary_erosion(muscle, border_value=1)
    return float(np.clip(strength[border], 0, 1).mean()) if border.any() else 0.0


def _straightness(muscle: np.ndarray, outline: np.ndarray, line: Line) -> float:
    down, across = np.indices(muscle.shape)
    corner = outline & (across < line.column - down * np.tan(line.angle))
    return float((muscle & corner).sum() / (muscle | corner).sum())


def _edges(grey: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Intensity gradient (down, across) in units of the local contrast: about one across an ideal step."""
    down = ndimage.gaussian_filter(grey, sigma, order=(1, 0), mode="nearest")
    across = ndimage.gaussian_filter(grey, sigma, order=(0, 1), mode="nearest")
    mean = ndimage.uniform_filter(grey, 15, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(grey**2, 15, mode="nearest") - mean**2, 0))
    scale = 5.0 / (spread + 4.0)
    return down * scale, across * scale


def _best_line(down: np.ndarray, across: np.ndarray, max_area: float) -> Line:
    height, width = down.shape
    columns = np.arange(6.0, width - 2, 2)[:, None, None]
    angles = ANGLES[None, :, None]
    length = np.minimum(columns / np.sin(angles), (height - 1) / np.cos(angles))
    t = np.linspace(0.04, 0.96, SAMPLES) * length
    rows = np.rint(t * np.cos(angles)).astype(int)
    cols = np.rint(columns - t * np.sin(angles)).astype(int)
    inward = -(across[rows, cols] * np.cos(angles) + down[rows, cols] * np.sin(angles))
    strength = np.clip(inward, -1, 1).mean(axis=-1)
    length, angles = length[..., 0], angles[..., 0]
    score = strength * np.minimum(1, length / (0.5 * height)) ** 0.5
    area = (columns[..., 0] - length * np.sin(angles) / 2) * length * np.cos(angles)
    score[(length < 0.12 * height) | (area > max_area)] = 0
    best = np.unravel_index(score.argmax(), score.shape)
    return Line(float(columns[best[0], 0, 0]), float(ANGLES[best[1]]), float(score[best]))


def _inside_edge(grey: np.ndarray, depth: np.ndarray, line: Line) -> np.ndarray:
    """Everything on the corner's side of the edge near the line: a wide search, a smooth curve through what it found
    where the edge is strong, and a close search about that curve.
    """
    height, width = grey.shape
    length = min(line.column / np.sin(line.angle), (height - 1) / np.cos(line.angle))
    along = np.arange(-WIDE.reach, length + WIDE.reach)
    offset, strength = _follow(grey, depth, line, along, np.zeros(along.size), WIDE)
    offset, _ = _follow(grey, depth, line, along, _smooth_curve(along, offset, strength), CLOSE)
    down, across = np.mgrid[:height, :width]
    position = down * np.cos(line.angle) - (across - line.column) * np.sin(line.angle)
    beside = down * np.sin(line.angle) + (across - line.column) * np.cos(line.angle)
    return beside < np.interp(position, along, offset)


def _follow(
    grey: np.ndarray, depth: np.ndarray, line: Line, along: np.ndarray, curve: np.ndarray, search: Search
) -> tuple[np.ndarray, np.ndarray]:
    """Offset from the line, and edge strength, of the cheapest path about ``curve`` (offsets at ``along``)."""
    beside = np.arange(-search.reach, search.reach + 1)
    t, n = along[:, None], curve[:, None] + beside
    rows = t * np.cos(line.angle) + n * np.sin(line.angle)
    cols = line.column - t * np.sin(line.angle) + n * np.cos(line.angle)
    strip = ndimage.map_coordinates(grey, [rows, cols], order=1, mode="nearest")
    deep = ndimage.map_coordinates(depth, [rows, cols], order=1, mode="nearest") > 3
    edge = -ndimage.gaussian_filter(strip, search.blur, order=(0, 1), mode="nearest") * deep
    inside = (rows >= 0) & (cols >= 0)
    edge = np.clip(edge / (np.percentile(edge[inside], 95) + 1e-3), 0, 1.5) * inside
    path = _cheapest_path(1.5 - edge + search.stray * (beside / search.reach) ** 2, search.turn)
    return curve + beside[path], edge[np.arange(along.size), path]


def _smooth_curve(along: np.ndarray, offset: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Least-squares parabola, weighted by the squared strength of the edge, its curvature held back (ridge)."""
    x = np.linspace(-1, 1, along.size)
    powers = np.stack([np.ones_like(x), x, x**2])
    weight = strength**2 + 1e-6
    ridge = STIFFNESS * weight.sum() * np.diag([0.0, 0.0, 1.0])
    return np.linalg.solve((powers * weight) @ powers.T + ridge, (powers * weight) @ offset) @ powers


def _cheapest_path(cost: np.ndarray, turn: float) -> np.ndarray:
    """Column of each row on the path of least total cost that moves at most one column a row, at cost ``turn``."""
    total = cost[0].copy()
    steps = np.empty(cost.shape, np.int8)
    for row, here in enumerate(cost):
        stay = total
        left = np.concatenate([[np.inf], total[:-1]]) + turn
        right = np.concatenate([total[1:], [np.inf]]) + turn
        options = np.stack([left, stay, right])
        choice = options.argmin(axis=0)
        steps[row] = choice - 1
        total = here + options[choice, np.arange(here.size)]
    path = np.empty(len(cost), int)
    path[-1] = total.argmin()
    for row in range(len(cost) - 1, 0, -1):
        path[row - 1] = path[row] + steps[row, path[row]]
    return path
