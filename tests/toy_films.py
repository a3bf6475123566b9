"""Drawn films, a generator that draws such films from masks, and a segmenter that reads their grey levels."""

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from mammogan_tf.console import Console
from mammogan_tf.evaluation.evidence import Evidence, RealFilms, Segmentation, SyntheticFilms, synthesise
from mammogan_tf.evaluation.spaces import FeatureSpace, texture_space

__all__ = ["PATIENTS", "SIZE", "draw_films", "evidence_of", "generate", "segment", "with_images"]

SIZE = 32

PATIENTS = 20
"""Of whom the unseen films of the shared evidence are, two of each."""

GREY = np.array([0.0, 0.3, 0.5, 0.7, 0.9])


def label_map(patient: int) -> np.ndarray:
    """Half an ellipse with muscle, a dense patch and, for one patient in two, a lesion; every patient's is her own."""
    random = np.random.default_rng(patient)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    middle, reach = random.uniform(12, 20), random.uniform(16, 28)
    result = ((rows - middle) ** 2 / 12**2 + columns**2 / reach**2 < 1).astype(np.uint8)
    result[(result > 0) & (abs(rows - middle - 2) < 5) & (abs(columns - reach / 2) < 4)] = 2
    result[(rows + columns) < random.uniform(6, 12)] = 3
    if patient % 2:
        result[(rows - middle - 2) ** 2 + (columns - reach / 2) ** 2 < 6] = 4
    return result


def render(seed: int, mask: np.ndarray) -> np.ndarray:
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=mask.shape), 1)
    return np.where(mask > 0, np.clip(GREY[mask] + 0.15 * texture, 0, 1), 0)


def generate(seeds: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A perfect generator: other films of the same anatomies."""
    return np.array([render(seed, mask) for seed, mask in zip(seeds, masks, strict=True)])


def segment(images: np.ndarray) -> np.ndarray:
    """An ideal evaluation U-Net, but for noise."""
    return np.abs(gaussian_filter(images, (0, 0.5, 0.5))[..., None] - GREY).argmin(axis=-1).astype(np.uint8)


def draw_films(patients: range, seed: int) -> RealFilms:
    """Two films of each patient."""
    numbers = np.repeat(patients, 2)
    masks = np.array([label_map(int(patient)) for patient in numbers])
    return RealFilms(
        images=generate(seed + np.arange(len(masks)), masks, numbers).astype(np.float32),
        masks=masks,
        labels=np.where(numbers % 2, numbers // 2 % 2, 2),
        names=np.array([f"film{number}" for number in range(len(masks))]),
        patients=numbers.astype(str),
        sides=np.array(["left", "right"] * len(patients)),
        tissues=np.array(list("FFGGDD") * len(patients))[: len(masks)],
    )


def evidence_of(real: RealFilms, train: RealFilms, synthetic: SyntheticFilms | None = None) -> Evidence:
    """Two images of each mask by :func:`generate`, unless others are given; neither critic nor use."""

    def encode(images: np.ndarray) -> np.ndarray:
        """Means of the four quarters: 4 features, which say where the breast is."""
        half = SIZE // 2
        return images.reshape(-1, 2, half, 2, half).mean(axis=(2, 4)).reshape(-1, 4)

    console = Console(quiet=True)
    return Evidence(
        real=real,
        train=train,
        synthetic=synthetic or synthesise(real, generate, per_mask=2),
        segmenter=segment,
        spaces={"texture": texture_space(console), "segmenter": FeatureSpace("quarters", encode, console)},
        segmentation=Segmentation("an ideal one", real.masks, segment(real.images)),
    )


def with_images(evidence: Evidence, images: np.ndarray) -> Evidence:
    """The same evidence with other synthetic images [M, S, S] of the same masks."""
    synthetic = dataclasses.replace(evidence.synthetic, images=images.astype(np.float32))
    return dataclasses.replace(evidence, synthetic=synthetic)
