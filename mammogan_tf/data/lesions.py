"""An automatic outline of a lesion inside its circle: the likeliest smooth boundary in polar coordinates.

mini-MIAS gives circles that hold more than the lesion. Seen from the circle's centre, a lesion's boundary is one
distance for each direction (polar boundaries of masses: Timp and Karssemeijer, Med. Phys. 31, 2004). These distances
form a hidden Markov chain around the circle. Before the film is looked at, they scatter smoothly around
:data:`USUAL_REACH`; the film speaks for a distance where brightness falls outwards and where the pixels within look
like the lesion and those beyond like its surroundings (Chan and Vese, IEEE Trans. Image Process. 10, 2001). The
forward-backward recursion (Rabiner, Proc. IEEE 77, 1989) gives each direction's distribution, whose median is drawn:
the boundary follows the film where there is an edge, and the usual circle where there is none.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.draw import polygon
from skimage.transform import warp_polar

from mammogan_tf.data.film import Lesion

__all__ = ["FARTHEST", "USUAL_REACH", "LesionOutline", "refine_lesion"]

USUAL_REACH = 0.76
"""Distance from the circle's centre to the lesion's boundary, in radii, where nothing else is known. A disc of this reach
fills 0.58 of the circle, and is the concentric disc that agrees best with outlines whose IoU with the circle is 0.55."""

TRUST = {"CIRC": 1.0, "MISC": 1.0, "ARCH": 0.0}
USUAL_TRUST = 0.5
"""How far an outline follows the boundary found, by class of lesion; what is left follows the usual disc. Readers take
an unknown share of spicules and halo to the lesion, and a distorted architecture has no boundary. Chosen on phantoms,
where the lesion holds its spicules too: following all the way is worse than the disc for SPIC, ASYM and CALC, half-way
is better, and ARCH is best left to the disc."""

SCATTER = 0.11
"""Standard deviation of the boundary's distance, in radii, before the film is looked at."""

CORRELATION_ANGLE = 25.0
"""Degrees over which the correlation of the distances falls to 1/e."""

FARTHEST = 1.1
"""The outline leaves the circle by at most a tenth of its radius."""

MARGIN = 1.05
"""Readers outline what they see of a lesion, a little outside the steepest fall in brightness."""

EDGE_WEIGHT = 0.5
REGION_WEIGHT = 0.7
"""Weights of the two kinds of evidence in the log likelihood; neighbouring pixels are far from independent."""

MIN_CONTRAST = 1.0
"""Lesion minus surroundings, in standard deviations within either, below which the usual disc is drawn. Circles put at
random on normal tissue of mini-MIAS stay below it three times in four, and pure noise always."""

DIRECTIONS = 72
STEPS = 50
"""Samples of brightness along one radius."""

VIEW = 1.5
"""Radii around the centre that are looked at."""

BLUR = 0.03
"""Scale of the edges looked for, in radii."""

OUTER_SPREAD = 40.0
"""Degrees over which the brightness of the surroundings is averaged; they differ from side to side."""

WORKING_RADIUS = 40
"""Pixels; larger circles are shrunk by a whole factor first."""

DISTANCES = np.arange(round(VIEW * STEPS)) / STEPS
CANDIDATES = slice(round(0.2 * STEPS), round(FARTHEST * STEPS) + 1)
"""The distances that a boundary may have, as a slice of :data:`DISTANCES`."""


@dataclass(frozen=True)
class LesionOutline:
    """``mask``: bool [H, W], the lesion on the film; ``refined``: it follows the film, not just the circle."""

    mask: np.ndarray
    refined: bool


def refine_lesion(grey: np.ndarray, lesion: Lesion, breast: np.ndarray) -> LesionOutline:
    """Outlines a lesion inside its circle.

    The outline stays within :data:`FARTHEST` radii of the centre and within the breast. Where the lesion does not
    stand out (:data:`MIN_CONTRAST`) or its class has no boundary (:data:`TRUST`), it is the disc of
    :data:`USUAL_REACH`, within the breast; a circle wholly off the breast is kept as it is.

    Args:
        grey: uint8 [H, W], the film.
        lesion: its circle, in pixels of the film; it may reach over the film's edge.
        breast: bool [H, W], breast with muscle.
    """
    circle = _paint(np.ones(DIRECTIONS), lesion, breast.shape)
    if not (circle & breast).any():
        return LesionOutline(circle, refined=False)
    found, contrast = _find_boundary(*_polar_view(grey, lesion, breast))
    trust = TRUST.get(lesion.kind, USUAL_TRUST) if contrast >= MIN_CONTRAST else 0.0
    mask = _paint(trust * found + (1 - trust) * USUAL_REACH, lesion, breast.shape) & breast
    return LesionOutline(mask, trust > 0) if mask.any() else LesionOutline(circle & breast, refined=False)


def _paint(reach: np.ndarray, lesion: Lesion, shape: tuple[int, ...]) -> np.ndarray:
    """The inside of a boundary, ``reach`` radii [DIRECTIONS] from the centre, as bool [H, W]."""
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    distance = reach * max(lesion.radius, 1)
    mask = np.zeros(shape, bool)
    mask[polygon(lesion.row + distance * np.sin(angles), lesion.column + distance * np.cos(angles), shape)] = True
    return mask


def _polar_view(grey: np.ndarray, lesion: Lesion, breast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed brightness around the lesion, float [DIRECTIONS, DISTANCES], and where it is breast, bool.

    What is not breast takes the brightness of the nearest breast, so that the skin makes no edge.
    """
    half = int(VIEW * lesion.radius) + 4
    factor = max(1, int(lesion.radius / WORKING_RADIUS))
    row, column = round(lesion.row), round(lesion.column)
    frame = (column - half, row - half, column + half + 1, row + half + 1)
    brightness, share = (
        np.asarray(Image.fromarray(picture).crop(frame).convert("F").reduce(factor))
        for picture in (grey, breast.astype(np.uint8))
    )
    visible = share >= min(0.6, share.max())
    nearest = ndimage.distance_transform_edt(~visible, return_distances=False, return_indices=True)
    radius = lesion.radius / factor
    smooth = ndimage.gaussian_filter(brightness[tuple(nearest)], max(BLUR * radius, 0.5), mode="nearest")
    centre = tuple((half + 0.5 + off) / factor - 0.5 for off in (lesion.row - row, lesion.column - column))
    view = {"center": centre, "radius": VIEW * radius, "output_shape": (DIRECTIONS, DISTANCES.size)}
    return warp_polar(smooth, mode="edge", **view), warp_polar(visible.astype(float), **view) > 0.5


def _find_boundary(brightness: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, float]:
    """The boundary's distance in each direction, in radii [DIRECTIONS], and the lesion's contrast.

    Lesion and surroundings are first taken to be the middle and what lies beyond the circle, then what the boundary
    found so far says.
    """
    edges = EDGE_WEIGHT * _edge_evidence(brightness, visible)
    area = visible * DISTANCES
    lesion, surroundings = area * (DISTANCES < 0.55), area * (DISTANCES > 1)
    for _ in range(3):
        regions, contrast = _region_evidence(brightness, visible, lesion, surroundings)
        chances = _forward_backward(edges + REGION_WEIGHT * regions)
        beyond = np.zeros(brightness.shape)
        beyond[:, CANDIDATES] = np.cumsum(chances, axis=1) - chances / 2
        beyond[:, CANDIDATES.stop :] = 1
        lesion, surroundings = area * (1 - beyond), area * beyond * (DISTANCES < 1.4)
    median = np.array([np.interp(0.5, row[CANDIDATES], DISTANCES[CANDIDATES]) for row in beyond])
    return np.minimum(MARGIN * median, FARTHEST), contrast


def _edge_evidence(brightness: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Outward fall in brightness in units of its usual size, about -2 to 3, [DIRECTIONS, CANDIDATES]."""
    fall = -STEPS * ndimage.gaussian_filter1d(brightness, BLUR * STEPS, axis=1, order=1, mode="nearest")
    fall = ndimage.gaussian_filter1d(fall, 6 / 360 * DIRECTIONS, axis=0, mode="wrap") * visible
    usual = np.sqrt(np.mean(fall[:, (DISTANCES > 0.2) & (DISTANCES < 1.4)] ** 2)) + 4
    return np.clip(fall[:, CANDIDATES] / usual, -2, 3)


def _region_evidence(
    brightness: np.ndarray, visible: np.ndarray, lesion: np.ndarray, surroundings: np.ndarray
) -> tuple[np.ndarray, float]:
    """Log likelihood that all pixels within are lesion, against surroundings, [DIRECTIONS, CANDIDATES]; the contrast.

    Both are normal, of one variance; the surroundings' mean differs by direction. Where they are the brighter ones,
    nothing is concluded. ``lesion`` and ``surroundings`` are weights like ``brightness``.
    """
    smooth = {"sigma": OUTER_SPREAD / 360 * DIRECTIONS, "mode": "wrap"}
    total = ndimage.gaussian_filter1d((surroundings * brightness).sum(axis=1), **smooth)
    weight = ndimage.gaussian_filter1d(surroundings.sum(axis=1), **smooth)
    inner = np.sum(lesion * brightness) / max(lesion.sum(), 1e-6)
    outer = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), inner)[:, None]
    squares = lesion * (brightness - inner) ** 2 + surroundings * (brightness - outer) ** 2
    variance = squares.sum() / max((lesion + surroundings).sum(), 1e-6) + 9
    gap = np.maximum(inner - outer, 0)
    ratio = np.clip(gap * (brightness - (inner + outer) / 2) / variance, -2, 2) * visible
    evidence = np.cumsum(ratio * DISTANCES, axis=1) / STEPS
    return evidence[:, CANDIDATES], float(gap.mean() / np.sqrt(variance))


def _forward_backward(evidence: np.ndarray) -> np.ndarray:
    """Chance of each distance in each direction, [DIRECTIONS, CANDIDATES], rows that sum to one.

    Neighbouring distances follow a stationary first-order autoregression. The chain is closed into a circle by
    going around it twice.
    """
    distance = DISTANCES[CANDIDATES]
    memory = np.exp(-360 / DIRECTIONS / CORRELATION_ANGLE)
    expected = USUAL_REACH + memory * (distance[:, None] - USUAL_REACH)
    step = np.exp(-0.5 * ((distance - expected) / SCATTER) ** 2 / (1 - memory**2))
    step /= step.sum(axis=1, keepdims=True)
    likelihood = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    ahead, behind = np.empty_like(likelihood), np.empty_like(likelihood)
    before = after = np.full(distance.size, 1 / distance.size)
    for lap_step in range(2 * DIRECTIONS):
        here = lap_step % DIRECTIONS
        before = (before @ step) * likelihood[here]
        before /= before.sum()
        ahead[here] = before
        behind[-1 - here] = after
        after = step @ (after * likelihood[-1 - here])
        after /= after.sum()
    chances = ahead * behind
    return chances / chances.sum(axis=1, keepdims=True)
