"""The pectoral muscle of a mediolateral oblique mammogram: a straight-line search and a minimum-cost path."""

import numpy as np
from scipy import ndimage

__all__ = ["find_pectoral"]

ANGLES = np.deg2rad(np.arange(6, 62, 2))
"""Angles of the muscle's edge from the vertical that the search covers."""

SAMPLES = 72
"""Points along a candidate line."""

NARROW = 16
"""Pixels; an outline narrower than this shows no muscle."""

MIN_SCORE = 0.45
"""Below this edge strength no muscle is drawn. Hand-drawn muscles of 33 DDSM films score 0.55 to 1.0; on mini-MIAS what
scores less is mostly skin or a fold."""

MAX_SHARE = 0.5
"""The muscle fills at most this share of the outline: a larger "muscle" is the breast, bounded by its skin."""


def find_pectoral(grey: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Pectoral muscle as bool [H, W]; all False where no convincing edge is found.

    Every straight line that cuts the top left corner is scored by the edge strength along it (bright on the corner's
    side) times a mild preference for long lines; around the best one, the path of least cost follows the edge.

    Args:
        grey: float [H, W] in 0-255, chest wall on the left at column 0, blurred film edge trimmed.
        outline: bool [H, W], breast with muscle.
    """
    if min(grey.shape) < NARROW:
        return np.zeros(grey.shape, bool)
    depth = ndimage.distance_transform_edt(np.pad(outline, ((1, 1), (1, 0)), mode="edge"))[1:-1, 1:]
    smooth = ndimage.gaussian_filter(grey, 1.0, mode="nearest")
    down, across = _edges(smooth, 2.0)
    down, across = (np.where(depth > 5, g, 0) for g in (down, across))
    column, angle, score = _best_line(down, across, MAX_SHARE * outline.sum())
    if score < MIN_SCORE:
        return np.zeros(grey.shape, bool)
    return _follow_edge(smooth, depth, column, angle) & outline


def _edges(grey: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Intensity gradient (down, across) in units of the local contrast: about one across an ideal step."""
    down = ndimage.gaussian_filter(grey, sigma, order=(1, 0), mode="nearest")
    across = ndimage.gaussian_filter(grey, sigma, order=(0, 1), mode="nearest")
    mean = ndimage.uniform_filter(grey, 15, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(grey**2, 15, mode="nearest") - mean**2, 0))
    scale = 5.0 / (spread + 4.0)
    return down * scale, across * scale


def _best_line(down: np.ndarray, across: np.ndarray, max_area: float) -> tuple[float, float, float]:
    """The line from (row 0, ``column``) at ``angle`` from the vertical towards the left edge, and its score."""
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
    return float(columns[best[0], 0, 0]), float(ANGLES[best[1]]), float(score[best])


def _follow_edge(grey: np.ndarray, depth: np.ndarray, column: float, angle: float, reach: int = 14) -> np.ndarray:
    """Everything on the corner's side of the best path within ``reach`` pixels of the line, by dynamic programming."""
    height, width = grey.shape
    length = min(column / np.sin(angle), (height - 1) / np.cos(angle))
    t = np.arange(-reach, length + reach)[:, None]
    n = np.arange(-reach, reach + 1)[None, :]
    rows = t * np.cos(angle) + n * np.sin(angle)
    cols = column - t * np.sin(angle) + n * np.cos(angle)
    strip = ndimage.map_coordinates(grey, [rows, cols], order=1, mode="nearest")
    deep = ndimage.map_coordinates(depth, [rows, cols], order=1, mode="nearest") > 3
    edge = -ndimage.gaussian_filter(strip, (2.0, 1.5), order=(0, 1), mode="nearest") * deep
    inside = (rows >= 0) & (cols >= 0)
    edge = np.clip(edge / (np.percentile(edge[inside], 95) + 1e-3), 0, 1.5) * inside
    path = _cheapest_path(1.5 - edge + 0.3 * (n / reach) ** 2)
    y, x = np.mgrid[:height, :width]
    along = y * np.cos(angle) - (x - column) * np.sin(angle)
    beside = y * np.sin(angle) + (x - column) * np.cos(angle)
    offset = np.interp(along, t[:, 0], path - reach)
    return beside < offset


def _cheapest_path(cost: np.ndarray, turn: float = 0.25) -> np.ndarray:
    """Column of each row on the path of least total cost that moves at most one column a row."""
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
