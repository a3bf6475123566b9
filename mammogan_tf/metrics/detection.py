"""Lesions found and missed, and false alarms: the free-response view of segmentation (SciPy)."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import label, maximum

from mammogan_tf.config import LESION
from mammogan_tf.errors import DataError
from mammogan_tf.validated import require

__all__ = ["LESION_IOU", "FreeResponse", "components", "free_response"]

LESION_IOU = 0.1
"""Overlap from which on a lesion counts as found; low, because circles drawn by hand are generous."""

MISSED = -np.inf


@dataclass(frozen=True)
class FreeResponse:
    """Which lesions of N images were found, and where something was found that is none (:func:`free_response`).

    ``lesion_images`` int [L]: the image of each lesion; ``lesion_scores`` float [L]: the best score among what found it,
    -inf if it was missed. ``false_images`` int [F] and ``false_scores`` float [F]: the same of each false positive.
    Shares and rates are nan where there is nothing to divide by.
    """

    images: int
    lesion_images: np.ndarray
    lesion_scores: np.ndarray
    false_images: np.ndarray
    false_scores: np.ndarray

    @property
    def lesions(self) -> int:
        return len(self.lesion_images)

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that were found."""
        return _share((self.lesion_scores > MISSED).sum(), self.lesions)

    @property
    def false_positives_per_image(self) -> float:
        """False positives over *all* images, with and without lesions."""
        return _share(len(self.false_images), self.images)

    @property
    def per_image(self) -> np.ndarray:
        """int [N, 3]: lesions, lesions found and false positives of each image, to resample images or patients."""
        found = self.lesion_images[self.lesion_scores > MISSED]
        of_image = (
            np.bincount(where, minlength=self.images) for where in (self.lesion_images, found, self.false_images)
        )
        return np.stack(list(of_image), axis=1)

    def ratios(self) -> dict[str, np.ndarray]:
        """For each figure what is divided by what, image by image, to resample images or patients: float [N, 2].

        ``sensitivity``, ``false_positives_per_image``, and among the images without a lesion the share with at least one
        false positive, 1 - specificity: ``clear_images_with_false_positives``.
        """
        lesions, found, false = self.per_image.T
        clear = lesions == 0
        ratios = {
            "sensitivity": (found, lesions),
            "false_positives_per_image": (false, np.ones_like(false)),
            "clear_images_with_false_positives": (clear & (false > 0), clear),
        }
        return {name: np.stack(ratio, axis=1).astype(float) for name, ratio in ratios.items()}

    def curve(self) -> np.ndarray:
        """The FROC curve (Bunch et al. 1978): float [T, 3], a row for each threshold on the score, highest first.

        Threshold, false positives per image, sensitivity: of what scores the threshold or more.
        """
        found = self.lesion_scores[self.lesion_scores > MISSED]
        thresholds = np.unique(np.concatenate([found, self.false_scores]))[::-1]
        rows = [
            (t, _share((self.false_scores >= t).sum(), self.images), _share((found >= t).sum(), self.lesions))
            for t in thresholds
        ]
        return np.array(rows).reshape(-1, 3)

    def at(self, rate: float) -> "FreeResponse":
        """What scores above the lowest threshold that leaves at most ``rate`` false positives per image.

        Raises:
            ConfigError: a ``rate`` below 0, or one that is not finite.
        """
        require(0 <= rate < np.inf, "rate", "a finite number of 0 or more", rate)
        allowed = int(rate * self.images + 1e-9)  # 0.29 x 100 is a little less than 29.
        threshold = max(np.sort(self.false_scores)[::-1][allowed : allowed + 1], default=MISSED)
        kept = self.false_scores > threshold
        return replace(
            self,
            lesion_scores=np.where(self.lesion_scores > threshold, self.lesion_scores, MISSED),
            false_images=self.false_images[kept],
            false_scores=self.false_scores[kept],
        )


def free_response(
    truth: np.ndarray, found: np.ndarray, scores: np.ndarray | None = None, iou: float = LESION_IOU
) -> FreeResponse:
    """Compares the lesions of two stacks of label maps, one by one.

    A lesion is a connected component of class 4 (8 neighbours). A lesion of ``truth`` is found if *some* lesion of
    ``found`` overlaps it with an intersection over union of ``iou`` or more; one of ``found`` that finds none is a false
    positive. Several that find the same lesion are no false positives; one may find several lesions.

    Args:
        truth: integer label maps [N, H, W].
        found: integer label maps of the same shape.
        scores: float [N, H, W], for example the probability of a lesion: what is found scores its highest pixel, for
            :meth:`FreeResponse.curve`; all finite. Without it everything found scores 1.
        iou: in (0, 1].

    Raises:
        ConfigError: another ``iou``.
        DataError: the shapes differ, or a score is not finite.
    """
    require(0 < iou <= 1, "iou", "a number above 0, at most 1", iou)
    truth, found = np.asarray(truth), np.asarray(found)
    scores = np.ones(found.shape) if scores is None else np.asarray(scores, np.float64)
    if truth.ndim != 3 or truth.shape != found.shape or truth.shape != scores.shape:
        raise DataError(
            f"label maps: expected stacks [N, H, W] of one shape, received: {truth.shape}, {found.shape}, "
            f"scores {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise DataError("scores: expected finite numbers, received: others; give probabilities, not their logarithms")
    lesion_scores, false_scores = [], []
    for maps in zip(truth, found, scores, strict=True):
        of_lesions, of_none = _compare(*maps, iou)
        lesion_scores.append(of_lesions)
        false_scores.append(of_none)
    return FreeResponse(len(truth), *_flat(lesion_scores), *_flat(false_scores))


def components(label_map: np.ndarray) -> tuple[np.ndarray, int]:
    """The lesions of a label map [H, W], numbered from 1: int [H, W], 0 elsewhere; and how many there are."""
    return label(np.asarray(label_map) == LESION, structure=np.ones((3, 3)))


def _compare(truth: np.ndarray, found: np.ndarray, scores: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the lesions of one image and of its false positives."""
    (lesions, lesion_count), (candidates, candidate_count) = components(truth), components(found)
    shape = (lesion_count + 1, candidate_count + 1)
    both = np.bincount(np.ravel(lesions * shape[1] + candidates), minlength=shape[0] * shape[1]).reshape(shape)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    hits = (both >= iou * either - 1e-9)[1:, 1:]  # 0.55 x 100 is a little more than 55.
    candidate_scores = np.reshape(maximum(scores, candidates, np.arange(1, shape[1])), -1)
    best = np.where(hits, candidate_scores, MISSED).max(axis=1, initial=MISSED)
    return best, candidate_scores[~hits.any(axis=0)]


def _flat(of_images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The image of each value, and the values."""
    counts = [len(values) for values in of_images]
    return np.repeat(np.arange(len(counts)), counts), np.concatenate([np.empty(0), *of_images])


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
