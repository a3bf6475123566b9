"""Synthetic images that somebody else made: a folder of image files, and perhaps one of masks."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from mammogan_tf.data.film import read_grey
from mammogan_tf.data.label_maps import read_label_map
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.evidence import RealFilms, SyntheticFilms
from mammogan_tf.evaluation.reference import to_float
from mammogan_tf.files import visible_pngs

__all__ = ["read_images", "synthetic_films"]

Images = tuple[np.ndarray, np.ndarray | None]


def read_images(images: Path, masks: Path | None = None) -> Images:
    """PNGs of one size, float32 [M, S, S] in [0, 1], and the masks of the same names, uint8 [M, S, S].

    Raises:
        DataError: fewer than two images, images of several sizes, not square or of 16 bits, a mask missing or of another
            size.
    """
    files = visible_pngs(images)
    if len(files) < 2:
        raise DataError(f"{images}: expected two PNGs or more, received: {len(files)}")
    read = [_read_8_bit(file) for file in files]
    for file, image in zip(files, read, strict=True):
        if image.shape != read[0].shape or image.shape[0] != image.shape[1]:
            raise DataError(
                f"{file}: expected square images of one size, received: {image.shape} beside {read[0].shape}; "
                "resize them"
            )
    if masks is None:
        return to_float(np.stack(read)), None
    label_maps = []
    for file in files:
        label_map = read_label_map(masks / file.name)
        if label_map.shape != read[0].shape:
            raise DataError(
                f"{masks / file.name}: expected a mask of {read[0].shape} pixels as its image has, "
                f"received: {label_map.shape}"
            )
        label_maps.append(label_map)
    return to_float(np.stack(read)), np.stack(label_maps)


def _read_8_bit(file: Path) -> np.ndarray:
    """As :func:`read_grey`, which stretches images of 16 bits one by one: their grey levels could not be judged."""
    grey = read_grey(file)
    with Image.open(file) as image:
        if image.mode.startswith("I"):
            raise DataError(f"{file}: expected 8 bits, received: 16; convert all images alike")
    return grey


def synthetic_films(images: np.ndarray, masks: np.ndarray | None, real: RealFilms, seed: int = 0) -> SyntheticFilms:
    """Images of unknown origin, dealt at random to the unseen patients and to sets.

    Masks that are those of unseen films tie their images to these; where several films have one mask, as windows of one
    class do, its images are dealt to them in turn. Other masks, and images without masks, say nothing of
    patients: they are dealt out, so that what is resampled is a mask with all its images, or a single image.
    """
    random = np.random.default_rng(seed)
    count, films = len(images), None
    if masks is None:
        kind = np.arange(count)
    else:
        kind = np.unique(masks.reshape(count, -1), axis=0, return_inverse=True)[1].ravel()
        films_of: dict[bytes, list[int]] = {}
        for film, mask in enumerate(real.masks):
            films_of.setdefault(mask.tobytes(), []).append(film)
        turns = {content: itertools.cycle(alike) for content, alike in films_of.items()}
        found = [next(turns.get(mask.tobytes(), itertools.repeat(-1))) for mask in masks]
        films = np.array(found) if min(found) >= 0 else None
    if films is None:
        names = np.unique(real.patients)
        patients = names[random.permutation(kind.max() + 1) % len(names)][kind]
    else:
        patients = real.patients[films]
    order, size = random.permutation(count), min(len(real), count)
    sets = tuple(order[start : start + size] for start in range(0, count - size + 1, size))
    return SyntheticFilms(images, masks, films, patients, sets)
