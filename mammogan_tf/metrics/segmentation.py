"""Overlap of two label maps, region by region (NumPy only)."""

from collections.abc import Collection

import numpy as np

from mammogan_tf.errors import DataError

__all__ = ["REGIONS", "dice", "iou", "region_dice", "region_iou"]

REGIONS: dict[str, tuple[int, ...]] = {"breast": (1, 2, 4), "pectoral": (3,), "dense": (2,), "lesion": (4,)}
"""What is judged, and the classes of a label map that make it up: a lesion lies in the breast and counts as breast."""


def dice(truth: np.ndarray, found: np.ndarray, classes: int | Collection[int]) -> np.ndarray:
    """Dice coefficient of one region, image by image: 2 |A and B| / (|A| + |B|) (Dice 1945).

    Args:
        truth: integer label maps [..., H, W].
        found: integer label maps of the same shape.
        classes: the class, or the classes that together make up the region.

    Returns:
        float64 [...] in [0, 1]; **nan, "not judged", where the region is in neither map**. A region that is in one map
        only scores 0. Averages must leave the nans out (``np.nanmean``) and say how many images remain.

    Raises:
        DataError: the two shapes differ.
    """
    both, in_truth, in_found = _areas(truth, found, classes)
    return _ratio(2 * both, in_truth + in_found)


def iou(truth: np.ndarray, found: np.ndarray, classes: int | Collection[int]) -> np.ndarray:
    """Intersection over union |A and B| / |A or B| (Jaccard 1912); shapes, nans and errors as in :func:`dice`."""
    both, in_truth, in_found = _areas(truth, found, classes)
    return _ratio(both, in_truth + in_found - both)


def region_dice(truth: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """:func:`dice` of every one of the :data:`REGIONS`."""
    return {name: dice(truth, found, classes) for name, classes in REGIONS.items()}


def region_iou(truth: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """:func:`iou` of every one of the :data:`REGIONS`."""
    return {name: iou(truth, found, classes) for name, classes in REGIONS.items()}


def _areas(truth: np.ndarray, found: np.ndarray, classes: int | Collection[int]) -> tuple[np.ndarray, ...]:
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise DataError(f"label maps: expected two of the same shape, received: {truth.shape} and {found.shape}")
    members = [classes] if isinstance(classes, int) else list(classes)
    a, b = np.isin(truth, members), np.isin(found, members)
    return tuple(region.sum(axis=(-2, -1)) for region in (a & b, a, b))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0)
