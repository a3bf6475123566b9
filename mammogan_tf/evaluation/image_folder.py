"""Synthetic images that somebody else made: a folder of image files, and perhaps one of masks."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mammogan_tf.arrays import to_float
from mammogan_tf.config import is_size
from mammogan_tf.data.film import read_grey
from mammogan_tf.data.label_maps import read_label_map
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.evidence import RealFilms, SyntheticFilms
from mammogan_tf.files import visible_pngs

__all__ = ["read_images", "synthetic_films"]

Images = tuple[np.ndarray, np.ndarray | None]


def read_images(images: Path, masks: Path | None = None) -> Images:
    """PNGs of one size, float32 [M, S, S] in [0, 1], and the masks of the same names, uint8 [M, S, S].

    Raises:
        DataError: fewer than two images, images of several sizes, not square, of a side that is no power of two or below 16, or
            of 16 bits, a mask missing or of another size.
    """
    files = visible_pngs(images)
    if len(files) < 2:
        raise DataError(f"{images}: expected two PNGs or more, received: {len(files)}; choose their folder")
    read = [_read_8_bit(file) for file in files]
    for file, image in zip(files, read, strict=True):
        if image.shape != read[0].shape or image.shape[0] != image.shape[1]:
            raise DataError(
                f"{file}: expected square images of one size, received: {image.shape} beside {read[0].shape}; "
                "resize them"
            )
    side = len(read[0])
    if not is_size(side):
        raise DataError(f"{images}: expected images of 16, 32, 64 ... pixels, received: {side}; resize them")
    if masks is None:
        return to_float(np.stack(read)), None
    label_maps = []
    for file in files:
        label_map = read_label_map(masks / file.name)
        if label_map.shape != read[0].shape:
            raise DataError(
                f"{masks / file.name}: expected a mask of {read[0].shape} pixels as its image has, "
                f"received: {label_map.shape}; give each image the mask of its size"
            )
        label_maps.append(label_map)
    return to_float(np.stack(read)), np.stack(label_maps)


def _read_8_bit(file: Path) -> np.ndarray:
    """As :func:`read_grey`, which stretches images of 16 bits one by one: their grey levels would not compare."""
    grey = read_grey(file)
    with Image.open(file) as image:
        if image.mode.startswith("I"):
            raise DataError(f"{file}: expected 8 bits, received: 16; convert all images alike")
    return grey


def synthetic_films(images: np.ndarray, masks: np.ndarray | None, real: RealFilms, seed: int = 0) -> SyntheticFilms:
    """Images of unknown origin, with the unseen patients that they are counted with, and in sets.

    Masks that are those of unseen films tie their images to these and their patients; where several films have one mask, as
    windows of one class do, its images are dealt to them in turn. Other masks, and images without masks, say nothing of
    patients: they are dealt out at random, so that what is resampled is a mask with all its images, or a single image.
    ``films`` are known where all images are tied. The images of a film, or of another mask, are spread evenly over the sets;
    where each is alone, those of a patient.
    """
    random = np.random.default_rng(seed)
    count = len(images)
    kind, film = np.arange(count), np.full(count, -1)
    if masks is not None:
        kind = np.unique(masks.reshape(count, -1), axis=0, return_inverse=True)[1].ravel()
        films_of: dict[bytes, list[int]] = {}
        for number, mask in enumerate(real.masks):
            films_of.setdefault(mask.tobytes(), []).append(number)
        turns = {content: itertools.cycle(alike) for content, alike in films_of.items()}
        film = np.array([next(turns.get(mask.tobytes(), itertools.repeat(-1))) for mask in masks])
    tied, names = film >= 0, np.unique(real.patients)
    patients, loose = real.patients[film], np.unique(kind[~tied])
    dealt = names[random.permutation(len(loose)) % len(names)]
    patients[~tied] = dealt[np.searchsorted(loose, kind[~tied])]
    groups = patients if len(loose) == count else np.where(tied, film, len(real) + kind)
    order, size = _spread(groups, random), min(len(real), count)
    sets = tuple(order[start : start + size] for start in range(0, count - size + 1, size))
    return SyntheticFilms(images, masks, film if tied.all() else None, patients, sets)


def _spread(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An order at random of images, of ``groups`` [M], in which those of a group are evenly far apart.

    Of N groups of one size each N images in order are one of each group.
    """
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = random.permutation(len(groups))
    before: defaultdict[int, Iterator[int]] = defaultdict(itertools.count)
    ranks = np.array([next(before[group]) for group in groups[order]])
    return order[np.argsort((ranks + random.random(len(order))) / sizes[groups[order]])]
