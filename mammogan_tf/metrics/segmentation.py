"""Agreement of two label maps, region by region (NumPy and SciPy)."""

from collections.abc import Callable, Collection

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from mammogan_tf.config import ADIPOSE, FIBROGLANDULAR, LESION, PECTORAL
from mammogan_tf.errors import DataError

__all__ = ["REGIONS", "by_region", "dice", "hd95", "iou", "precision", "region_dice", "sensitivity", "where_asked"]

Classes = int | Collection[int]

Measure = Callable[[np.ndarray, np.ndarray, Classes], np.ndarray]

REGIONS: dict[str, tuple[int, ...]] = {
    "breast": (ADIPOSE, FIBROGLANDULAR, LESION),
    "pectoral": (PECTORAL,),
    "dense": (FIBROGLANDULAR,),
    "lesion": (LESION,),
}
"""The regions that are scored, and the classes of a label map that make them up: a lesion counts as breast, too."""


def dice(truth: np.ndarray, found: np.ndarray, classes: Classes) -> np.ndarray:
    """Dice coefficient of one region, image by image: 2 |A and B| / (|A| + |B|) (Dice 1945).

    Args:
        truth: integer label maps [..., H, W].
        found: integer label maps of the same shape.
        classes: the class, or the classes that together make up the region.

    Returns:
        float64 [...] in [0, 1]; **nan, "no value", where the region is in neither map**. A region that is in one map
        only scores 0. Averages must leave the nans out (``np.nanmean``) and say how many images remain.

    Raises:
        DataError: the two shapes differ.
    """
    both, in_truth, in_found = _areas(truth, found, classes)
    return _ratio(2 * both, in_truth + in_found)


def iou(truth: np.ndarray, found: np.ndarray, classes: Classes) -> np.ndarray:
    """Intersection over union |A and B| / |A or B| (Jaccard 1912); shapes, nans and errors as in :func:`dice`."""
    both, in_truth, in_found = _areas(truth, found, classes)
    return _ratio(both, in_truth + in_found - both)


def sensitivity(truth: np.ndarray, found: np.ndarray, classes: Classes) -> np.ndarray:
    """Share of the true region that was found, |A and B| / |A|: shapes and errors as in :func:`dice`.

    nan where the truth lacks the region.
    """
    both, in_truth, _ = _areas(truth, found, classes)
    return _ratio(both, in_truth)


def precision(truth: np.ndarray, found: np.ndarray, classes: Classes) -> np.ndarray:
    """Share of the region found that is true, |A and B| / |B|: shapes and errors as in :func:`dice`.

    nan where nothing was found: sensitivity says whether that was right.
    """
    both, _, in_found = _areas(truth, found, classes)
    return _ratio(both, in_found)


def hd95(truth: np.ndarray, found: np.ndarray, classes: Classes) -> np.ndarray:
    """Hausdorff distance at the 95th percentile, in pixels (Huttenlocher et al. 1993, equation 6, both ways).

    The larger of two percentiles: of the distances from the outline of one region to that of the other, and back. An
    outline is made of the pixels of the region with one of their four neighbours outside it, or outside the image.

    Args:
        truth: integer label maps [..., H, W].
        found: integer label maps of the same shape.
        classes: the class, or the classes that together make up the region.

    Returns:
        float64 [...], 0 or more; **nan where the region is in neither map; the diagonal of the image where it is in
        one map only**, so that an average cannot be improved by finding nothing.

    Raises:
        DataError: the two shapes differ.
    """
    a, b = _regions(truth, found, classes)
    pairs = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
    return np.array([_hd95(*pair) for pair in pairs]).reshape(a.shape[:-2])


def where_asked(measure: Measure, truth: np.ndarray, found: np.ndarray, classes: Classes) -> np.ndarray:
    """A measure of one region, image by image; nan where ``truth`` has none of it, whatever is found."""
    in_truth, _ = _regions(truth, found, classes)
    return np.where(in_truth.any(axis=(-2, -1)), measure(truth, found, classes), np.nan)


def by_region(measure: Measure, truth: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """A measure of this module for every one of the :data:`REGIONS`."""
    return {name: measure(truth, found, classes) for name, classes in REGIONS.items()}


def region_dice(truth: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """:func:`dice` of every one of the :data:`REGIONS`."""
    return by_region(dice, truth, found)


def _regions(truth: np.ndarray, found: np.ndarray, classes: Classes) -> tuple[np.ndarray, np.ndarray]:
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape or truth.ndim < 2:
        raise DataError(
            f"label maps: expected two [..., H, W] of the same shape, received: {truth.shape} and {found.shape}"
        )
    members = list(classes) if isinstance(classes, Collection) else [classes]
    return np.isin(truth, members), np.isin(found, members)


def _areas(truth: np.ndarray, found: np.ndarray, classes: Classes) -> tuple[np.ndarray, ...]:
    a, b = _regions(truth, found, classes)
    return tuple(region.sum(axis=(-2, -1)) for region in (a & b, a, b))


def _hd95(truth: np.ndarray, found: np.ndarray) -> float:
    if not (truth.any() and found.any()):
        return float(np.hypot(*truth.shape)) if truth.any() or found.any() else float("nan")
    outlines = [region & ~binary_erosion(region) for region in (truth, found)]
    to_truth, to_found = (distance_transform_edt(~outline) for outline in outlines)
    return float(max(np.percentile(to_found[outlines[0]], 95), np.percentile(to_truth[outlines[1]], 95)))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0)
