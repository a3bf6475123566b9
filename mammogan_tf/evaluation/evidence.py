"""What the sections of the report look at: real films, synthetic images, and the networks that evaluate them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mammogan_tf.console import Progress
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.spaces import FeatureSpace
from mammogan_tf.metrics.distribution import standardise
from mammogan_tf.metrics.intervals import MIN_PATIENTS
from mammogan_tf.metrics.memorisation import distance_ratio, nearest

__all__ = [
    "DownstreamResult",
    "Evidence",
    "Neighbours",
    "RealFilms",
    "Segmentation",
    "SyntheticFilms",
    "require_patients",
    "synthesise",
]

BATCH = 64

Generate = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Segment = Callable[[np.ndarray], np.ndarray]
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RealFilms:
    """N pictures of real films.

    ``images`` float32 [N, S, S] in [0, 1], chest wall on one side; ``masks`` uint8 [N, S, S], what a generator is asked
    for; ``labels`` int [N] (0-2); ``names``, ``patients``, ``sides`` and ``tissues`` str [N], the last two empty where
    unknown.
    """

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    patients: np.ndarray
    sides: np.ndarray
    tissues: np.ndarray

    def __post_init__(self) -> None:
        if self.images.shape != self.masks.shape:
            raise DataError(
                f"evaluate: expected a mask of its size for every film, "
                f"received: {self.images.shape} and {self.masks.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class SyntheticFilms:
    """M synthetic images.

    ``images`` float32 [M, S, S] in [0, 1]; ``masks`` uint8 [M, S, S], what each was asked for, or None; ``films`` int [M],
    the unseen film whose mask that is, or None; ``patients`` str [M], the patient of that film, and where there is none a
    patient dealt at random, so that images of one mask stay together: what is resampled for an interval. ``sets`` are
    rows of as many images as there are unseen films (fewer where there are not so many), for what depends on their number.
    """

    images: np.ndarray
    masks: np.ndarray | None
    films: np.ndarray | None
    patients: np.ndarray
    sets: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.images)

    def patients_of_sets(self, count: int) -> list[np.ndarray]:
        """The patients of the images in each of the first ``count`` sets."""
        return [self.patients[rows] for rows in self.sets[:count]]


@dataclass(frozen=True)
class Segmentation:
    """Label maps uint8 [N, S, S] that a U-Net ``found`` on the unseen films, and the ``truth``, as it was trained.

    ``disc`` [S, S], of windows: a constant lesion in the middle, where a network that does not beat it has learned nothing.
    """

    network: str
    truth: np.ndarray
    found: np.ndarray
    disc: np.ndarray | None = None


@dataclass(frozen=True)
class Neighbours:
    """Distances to the nearest training film: of synthetic images ``made`` [M], of ``unseen`` films [N].

    ``nearest`` int [M]: which training film that is.
    """

    made: np.ndarray
    unseen: np.ndarray
    nearest: np.ndarray


@dataclass(frozen=True)
class DownstreamResult:
    """What networks that were trained on ``arm`` with ``seed`` make of the unseen films, one value a film.

    ``malignant`` float [N]: score of the classifier, nan where the film is neither benign nor malignant; ``dice`` float
    [N]: of the lesions, nan where the film has none.
    """

    arm: str
    seed: int
    malignant: np.ndarray
    dice: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """All that is known to the report.

    Attributes:
        real: films of patients that no network was trained on.
        train: the films that the generator, or for images from a folder the evaluation U-Net, was trained on.
        synthetic: the images that are evaluated.
        segmenter: the evaluation U-Net, images [B, S, S] to label maps uint8 [B, S, S]; trained apart from what made the masks.
        spaces: images [B, S, S] to features, by name.
        segmentation: label maps that the run's U-Net (or the evaluation U-Net) predicted on the unseen films, with the reference.
        critic: images, masks and labels to scores [B]; None where it was not kept.
        downstream: results of training with synthetic images; empty where that cannot be, None where it was left out.
        seed: for drawn pairs, shuffled masks and bootstrap samples.
    """

    real: RealFilms
    train: RealFilms
    synthetic: SyntheticFilms
    segmenter: Segment
    spaces: Mapping[str, FeatureSpace]
    segmentation: Segmentation
    critic: Score | None = None
    downstream: tuple[DownstreamResult, ...] | None = None
    seed: int = 0
    _scaled: dict[str, list[np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require_patients(self.real.patients)
        shape = self.synthetic.images.shape
        if len(shape) != 3 or shape[0] < 2 or shape[1:] != self.real.images.shape[1:]:
            raise DataError(
                f"synthetic images: expected two or more of {self.real.images.shape[1:]} pixels, received: {shape}"
            )
        low, high = self.synthetic.images.min(), self.synthetic.images.max()
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"synthetic images: expected grey levels in [0, 1], received: {low} to {high}; "
                "did the training of the generator diverge?"
            )

    @cached_property
    def found(self) -> np.ndarray:
        """What the evaluation U-Net finds in the synthetic images: uint8 [M, S, S]."""
        return self.segmenter(self.synthetic.images)

    @cached_property
    def found_real(self) -> np.ndarray:
        """What the evaluation U-Net finds in the unseen films: uint8 [N, S, S]."""
        return self.segmenter(self.real.images)

    @cached_property
    def neighbours(self) -> dict[str, Neighbours]:
        """The nearest training films, in pixels and in the features of each space that can be computed."""
        spaces = {"pixels": [films.images for films in (self.train, self.real, self.synthetic)]}
        for space in self.spaces:
            with suppress(DataError):
                spaces[space] = self.features(space)
        found = {}
        for space, (train, real, made) in spaces.items():
            distances, indices = nearest(made, train)
            found[space] = Neighbours(distances, nearest(real, train)[0], indices)
        return found

    @cached_property
    def distance_ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """In pixels, to training films, patients as groups: of synthetic images [M], and of unseen films [N]."""
        train = self.train
        made, unseen = (
            distance_ratio(films.images, train.images, train.patients) for films in (self.synthetic, self.real)
        )
        return made, unseen

    def features(self, space: str) -> list[np.ndarray]:
        """Features of training films, unseen films and synthetic images, scaled by the training films.

        Raises:
            DataError: no feature of the training films varies.
        """
        if space not in self._scaled:
            sets = (self.train.images, self.real.images, self.synthetic.images)
            self._scaled[space] = standardise(*map(self.spaces[space], sets))
        return self._scaled[space]

    def require_equal_numbers(self) -> None:
        """Raises a DataError where fewer images than unseen films are there: many measures depend on the number."""
        if len(self.synthetic.sets[0]) < len(self.real):
            raise DataError(f"needs as many images as test films, {len(self.real)}, found {len(self.synthetic)}")

    def require_comparable(self, sets: int) -> None:
        """As :meth:`require_equal_numbers`, and where one of the first ``sets`` sets has images of too few patients."""
        self.require_equal_numbers()
        fewest = min(len(np.unique(patients)) for patients in self.synthetic.patients_of_sets(sets))
        if fewest < MIN_PATIENTS:
            raise DataError(f"needs {MIN_PATIENTS} patients or more in each set of images, found {fewest}")

    def someone_else(self, patients: np.ndarray) -> np.ndarray:
        """For each of ``patients`` [K] an entry of another patient, drawn at random: its index, int [K]."""
        random = np.random.default_rng(self.seed)
        others = {patient: np.flatnonzero(patients != patient) for patient in np.unique(patients)}
        return np.array([random.choice(others[patient]) for patient in patients])


def require_patients(patients: Sequence[str] | np.ndarray) -> None:
    """Raises a DataError where test films are of too few patients for any interval."""
    count = len(set(patients))
    if count < MIN_PATIENTS:
        raise DataError(
            f"evaluate: expected test films of {MIN_PATIENTS} patients or more, received: {count}; train on more films"
        )


def synthesise(
    films: RealFilms, generator: Generate, per_mask: int, seed: int = 0, progress: Progress | None = None
) -> SyntheticFilms:
    """``per_mask`` synthetic images from the mask and the label of each film, one after the other.

    Every image has a noise seed of its own, drawn from ``seed``.

    Args:
        generator: takes seeds int64 [B], masks uint8 [B, S, S] and labels int [B]; gives images [B, S, S] in [0, 1].
    """
    rows = np.repeat(np.arange(len(films)), per_mask)
    seeds = np.random.default_rng(seed).choice(2**31, size=len(rows), replace=False).astype(np.int64)
    images = []
    for start in range(0, len(rows), BATCH):
        batch = slice(start, start + BATCH)
        images.append(generator(seeds[batch], films.masks[rows[batch]], films.labels[rows[batch]]))
        if progress:
            progress(min(start + BATCH, len(rows)), len(rows))
    return SyntheticFilms(
        images=np.concatenate(images).astype(np.float32),
        masks=films.masks[rows],
        films=rows,
        patients=films.patients[rows],
        sets=tuple(np.arange(len(rows)).reshape(-1, per_mask).T),
    )
