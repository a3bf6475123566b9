"""Label maps made from others: other anatomies, what lies between two, a lesion put in or taken away (NumPy, SciPy)."""

import numpy as np
from scipy import ndimage

from mammogan_tf.config import LESION
from mammogan_tf.data.label_maps import shrink_label_map
from mammogan_tf.validated import require

__all__ = ["add_lesion", "deform_label_map", "interpolate_label_maps", "remove_lesions"]

ROTATION = 5.0
"""Largest rotation about the middle of the chest wall, in degrees."""

SCALE = 1.1
STRETCH = 1.08
"""Largest factors: of both directions together, and of one against the other."""

SHIFT = 0.04
"""Largest shift along the chest wall, in sides of the map."""

BEND = 0.02
"""Standard deviation of the elastic displacement, in sides of the map (Simard, Steinkraus and Platt 2003)."""

SMOOTHNESS = 0.12
"""Scale over which the elastic displacement changes, in sides of the map."""

FINE = 8
"""Pixels, in each direction, for one of the map while a circle is drawn, before it is shrunk by area."""


def remove_lesions(label_map: np.ndarray) -> np.ndarray:
    """A copy of a label map uint8 [S, S] whose lesions have become the tissue nearest to each of their pixels.

    A lesion that no tissue is left around becomes background.
    """
    lesion, tissue = label_map == LESION, (label_map > 0) & (label_map != LESION)
    if not tissue.any():
        return np.where(lesion, 0, label_map).astype(np.uint8)
    nearest = ndimage.distance_transform_edt(~tissue, return_distances=False, return_indices=True)
    return np.where(lesion, label_map[tuple(nearest)], label_map)


def add_lesion(label_map: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """A copy of a label map uint8 [S, S] with a round lesion, as far as the breast reaches.

    Args:
        label_map: values 0-4.
        x: of the circle's centre, from the left edge, in sides of the map.
        y: from the top.
        radius: in sides of the map; the circle has at least one pixel.

    Raises:
        ConfigError: a centre outside the map, or a radius outside (0, 0.5].
    """
    for name, value in (("x", x), ("y", y)):
        require(0 <= value < 1, f"lesion {name}", "a number in [0, 1)", value)
    require(0 < radius <= 0.5, "lesion radius", "a number above 0, at most 0.5", radius)
    size = len(label_map)
    places = (np.arange(size * FINE) + 0.5) / (size * FINE)
    circle = np.hypot(places[:, None] - y, places[None, :] - x) <= max(radius, 0.71 / (size * FINE))
    lesion = shrink_label_map(np.where(circle, LESION, 0).astype(np.uint8), size) == LESION
    return np.where(lesion & (label_map > 0), LESION, label_map).astype(np.uint8)


def interpolate_label_maps(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """A label map on the way from one to another, uint8 [S, S] each: outlines move, nothing is blended.

    Each pixel gets the class in which it lies deepest, by the signed distance to the outline of each class, averaged over
    both maps (shape-based interpolation, Herman, Zheng and Bucholtz 1992). ``share`` 0 gives the first, 1 the second.
    A class that one map lacks shrinks to nothing half-way, and one that both lack does not come; lesions that do not overlap
    go and come.
    """
    classes = np.union1d(first, second)
    depths = np.empty((2, len(classes), *first.shape))
    for place, value in enumerate(classes):
        masks = first == value, second == value
        deepest = max(_depth(mask, 0.0).max() for mask in masks)
        depths[:, place] = [_depth(mask, deepest) for mask in masks]
    return classes[np.argmax((1 - share) * depths[0] + share * depths[1], axis=0)].astype(np.uint8)


def _depth(mask: np.ndarray, deepest: float) -> np.ndarray:
    """Distance to the outline of a mask, positive inside; of a mask that is empty, as far outside as ``deepest``."""
    if not mask.any():
        return np.full(mask.shape, -deepest)
    if mask.all():
        return np.full(mask.shape, float(len(mask)))
    return ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)


def deform_label_map(label_map: np.ndarray, seed: int) -> np.ndarray:
    """Another anatomy like that of a label map uint8 [S, S]: turned, scaled, stretched, shifted and bent at random.

    What lies at the left edge, the chest wall of a whole film, stays there; tissue that the right edge cuts off goes on there, as
    in windows. Lesions move with the rest; each keeps a pixel at least. The same map and seed give the same anatomy, with lesions
    and without.
    """
    size = len(label_map)
    random = np.random.default_rng([seed, int(np.count_nonzero(label_map))])
    angle, shift = np.radians(random.uniform(-ROTATION, ROTATION)), random.uniform(-SHIFT, SHIFT) * size
    scale, stretch = SCALE ** random.uniform(-1, 1), STRETCH ** random.uniform(-1, 1)
    rows, columns = np.mgrid[:size, :size].astype(float)
    middle = (size - 1) / 2
    down, across = (rows - middle - shift) / (scale * stretch), columns * stretch / scale
    source = np.stack([middle + down * np.cos(angle) - across * np.sin(angle), across * np.cos(angle)])
    bend = random.standard_normal((2, size, size))
    bend = ndimage.gaussian_filter(bend, (0, SMOOTHNESS * size, SMOOTHNESS * size), mode="reflect")
    source += bend / bend.std() * BEND * size
    source[0] = np.clip(source[0], 0, size - 1)  # What reaches beyond the film goes on there.
    cut_off = label_map[:, -1].any()
    source[1] = np.where(columns == 0, 0, np.clip(source[1], 0, size - 1 if cut_off else None))
    varied = ndimage.map_coordinates(label_map, source, order=0, mode="constant", cval=0)
    lesions, count = ndimage.label(label_map == LESION)
    for number in range(1, count + 1):
        if not ndimage.map_coordinates(lesions == number, source, order=0, output=bool).any():
            centre = np.reshape(ndimage.center_of_mass(lesions == number), (2, 1, 1))
            varied.flat[np.argmin(((source - centre) ** 2).sum(axis=0))] = LESION
    return varied
