"""Is there a lesion where the mask asks for one? Its contrast with the tissue around it (NumPy, SciPy)."""

import zlib

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

from mammogan_tf.config import ADIPOSE, FIBROGLANDULAR, LESION
from mammogan_tf.errors import DataError
from mammogan_tf.metrics.detection import components

__all__ = ["control_contrast", "lesion_contrast"]

TISSUE = (ADIPOSE, FIBROGLANDULAR)
BREAST = (*TISSUE, LESION)


def lesion_contrast(image: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """Mean inside each lesion minus mean of the ring around it, over the breast's standard deviation.

    The ring: as many pixels of breast tissue outside any lesion as the lesion has, those nearest to it (all that are as
    near as the last of them). Bright masses have positive values; a lesion that is not there scatters around
    :func:`control_contrast`. It is no better than the mask: a circle wider than the lesion thins the contrast out.

    Args:
        image: float [H, W]; label_map: integer [H, W], of which the connected components of class 4 are lesions.

    Returns:
        float64 [L], one value a lesion, in the order of :func:`mammogan_tf.metrics.detection.components`; nan where no
        breast tissue surrounds the lesion or the breast is of one grey.

    Raises:
        DataError: the shapes differ.
    """
    _check(image, label_map)
    numbered, count = components(label_map)
    return np.array([_contrast(image, label_map, numbered == number) for number in range(1, count + 1)])


def control_contrast(image: np.ndarray, label_map: np.ndarray, lesions_of: np.ndarray, seed: int = 0) -> np.ndarray:
    """The contrast of :func:`lesion_contrast` at random places of breast tissue where no lesion was asked for.

    Args:
        image: float [H, W]; label_map: integer [H, W].
        lesions_of: label map [H', W'] whose lesions are the shapes: ``label_map`` itself, or, for an image without a
            lesion, the map of one that has.
        seed: the same seed gives the same places for the same label maps, and unrelated ones for others.

    Returns:
        float64 [L], one place for each lesion of ``lesions_of``; nan where its shape fits nowhere.

    Raises:
        DataError: the shapes of image and label map differ.
    """
    _check(image, label_map)
    random = np.random.default_rng(
        [seed, *(zlib.crc32(np.asarray(maps, np.uint8).tobytes()) for maps in (label_map, lesions_of))]
    )
    numbered, count = components(lesions_of)
    boxes = find_objects(numbered, count)
    shapes = [numbered[box] == number for number, box in enumerate(boxes, start=1)]
    places = (_place(shape, np.isin(label_map, TISSUE), random) for shape in shapes)
    return np.array([np.nan if place is None else _contrast(image, label_map, place) for place in places])


def _contrast(image: np.ndarray, label_map: np.ndarray, inside: np.ndarray) -> float:
    around = np.isin(label_map, TISSUE) & ~inside
    breast = image[np.isin(label_map, BREAST)]
    if not around.any() or np.ptp(breast) == 0:
        return float("nan")
    distance = distance_transform_edt(~inside)
    farthest = np.sort(distance[around])[min(inside.sum(), around.sum()) - 1]
    ring = around & (distance <= farthest)
    return float((image[inside].mean() - image[ring].mean()) / breast.std())


def _place(shape: np.ndarray, free: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """A bool map like ``free`` with the shape at a random place wholly inside it; None where it fits nowhere."""
    padded = np.pad(shape, [(0, 1 - length % 2) for length in shape.shape])  # odd: the middle is a pixel
    centres = np.argwhere(binary_erosion(free, padded))
    if not len(centres):
        return None
    place = np.zeros_like(free)
    rows, columns = np.nonzero(padded) + (random.choice(centres) - np.array(padded.shape) // 2)[:, None]
    place[rows, columns] = True
    return place


def _check(image: np.ndarray, label_map: np.ndarray) -> None:
    if image.ndim != 2 or image.shape != label_map.shape:
        raise DataError(
            f"image: expected [H, W] and a label map of its size, received: {image.shape} and {label_map.shape}"
        )
