"""Every measure of a set of synthetic mammograms, beside the same measure on real films. Arrays in, numbers out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.distribution import frechet_distance, kid, standardise
from mammogan_tf.metrics.features import texture_features
from mammogan_tf.metrics.intervals import (
    MIN_PATIENTS,
    Estimate,
    bootstrap,
    jackknife,
    not_computed,
    ratio_of_means,
)
from mammogan_tf.metrics.memorisation import median_ratio, nearest
from mammogan_tf.metrics.segmentation import REGIONS, dice
from mammogan_tf.metrics.similarity import pairwise_ssim, sample_pairs, ssim

__all__ = ["MAX_PAIRS", "UnseenFilms", "judge", "synthesise"]

MAX_PAIRS = 500
"""Pairs of films drawn for a pairwise SSIM."""

LOWEST_CEILING = 0.3
"""Dice on real films below which the segmenter is no judge of a region."""

BATCH = 64

Progress = Callable[[int, int], None]
Generator = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Segmenter = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class UnseenFilms:
    """Real films of patients that no network was trained on, and the masks that synthetic images are asked for.

    ``images`` float32 [N, S, S] in [0, 1], chest wall on one side; ``masks`` uint8 [N, S, S]; ``labels`` int [N];
    ``patients``, ``sides`` and ``tissues`` str [N], empty where unknown.
    """

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    sides: np.ndarray
    tissues: np.ndarray

    def __post_init__(self) -> None:
        count = len(np.unique(self.patients))
        if count < MIN_PATIENTS:
            raise DataError(
                f"evaluate: expected test films of {MIN_PATIENTS} patients or more, received: {count}; "
                "train with a larger test share or on more films"
            )
        if self.images.shape != self.masks.shape:
            raise DataError(
                f"evaluate: expected a mask of its size for every film, "
                f"received: {self.images.shape} and {self.masks.shape}"
            )


def synthesise(
    films: UnseenFilms, generator: Generator, per_mask: int, seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """Synthetic images from the mask and the label of each film: float32 [N, ``per_mask``, S, S] in [0, 1].

    Every image has a noise seed of its own, drawn from ``seed``.

    Args:
        generator: takes seeds int64 [B], masks uint8 [B, S, S] and labels int [B]; gives images [B, S, S] in [0, 1].
    """
    masks = np.repeat(films.masks, per_mask, axis=0)
    labels = np.repeat(films.labels, per_mask)
    seeds = np.random.default_rng(seed).choice(2**31, size=len(masks), replace=False).astype(np.int64)
    images = []
    for start in range(0, len(masks), BATCH):
        batch = slice(start, start + BATCH)
        images.append(generator(seeds[batch], masks[batch], labels[batch]))
        if progress:
            progress(min(start + BATCH, len(masks)), len(masks))
    return np.concatenate(images).reshape(len(films.images), per_mask, *films.images.shape[1:])


def judge(
    films: UnseenFilms,
    synthetic: np.ndarray,
    train_images: np.ndarray,
    segmenter: Segmenter,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Estimate]]:
    """All measures, by section.

    Args:
        films: the real films [N] that the masks come from.
        synthetic: float [N, K, S, S] in [0, 1], K >= 2 images of each film's mask (:func:`synthesise`).
        train_images: float [M, S, S], the real films that the generator was trained on.
        segmenter: images [B, S, S] to label maps uint8 [B, S, S]; trained apart from whatever made the masks.
        seed: for drawn pairs, shuffled masks and bootstrap samples.
        progress: called with (sections done, sections).

    Raises:
        DataError: the arrays do not fit together.
    """
    if synthetic.ndim != 4 or synthetic.shape[0] != len(films.images) or synthetic.shape[1] < 2:
        raise DataError(
            f"synthetic images: expected [{len(films.images)}, 2 or more, S, S], received: {synthetic.shape}"
        )
    sections: dict[str, Callable[[], dict[str, Estimate]]] = {
        "similarity": lambda: _similarity(films, synthetic, seed),
        "diversity": lambda: _diversity(films, synthetic, seed),
        "obedience": lambda: _obedience(films, synthetic, segmenter, seed),
        "distribution": lambda: _distribution(films, synthetic, train_images),
        "memorisation": lambda: _memorisation(films, synthetic, train_images, seed),
    }
    report = {}
    for name, measure in sections.items():
        report[name] = measure()
        if progress:
            progress(len(report), len(sections))
    return report


def _similarity(films: UnseenFilms, synthetic: np.ndarray, seed: int) -> dict[str, Estimate]:
    own = np.mean([ssim(films.images, synthetic[:, index]) for index in range(synthetic.shape[1])], axis=0)
    estimate = bootstrap(own, films.patients, seed=seed)
    same_tissue = (films.tissues[:, None] == films.tissues) & (films.tissues != "")
    floor = _pairs(films, films.images, same_tissue & _other_patient(films), seed)
    return {"ssim_own_film": estimate | {"floor": floor}, "ssim_left_right": _left_right(films, seed)}


def _diversity(films: UnseenFilms, synthetic: np.ndarray, seed: int) -> dict[str, Estimate]:
    pairs = sample_pairs(_other_patient(films), MAX_PAIRS, seed)
    patients = films.patients[pairs]
    across = np.stack([pairwise_ssim(images, pairs) for images in (synthetic[:, 0], films.images)], axis=1)
    halves = synthetic.shape[1] // 2
    within = ssim(synthetic[:, 0 : 2 * halves : 2], synthetic[:, 1 : 2 * halves : 2])
    return {
        "ssim_across_masks": bootstrap(across[:, 0], patients, seed=seed)
        | {"floor": bootstrap(across[:, 1], patients, seed=seed)},
        "ssim_across_masks_to_real": bootstrap(across, patients, ratio_of_means, seed=seed),
        "ssim_same_mask": bootstrap(within.mean(axis=1), films.patients, seed=seed)
        | {"floor": _left_right(films, seed)},
    }


def _obedience(films: UnseenFilms, synthetic: np.ndarray, segmenter: Segmenter, seed: int) -> dict[str, Estimate]:
    found = segmenter(synthetic.reshape(-1, *synthetic.shape[2:])).reshape(synthetic.shape)
    found_real = segmenter(films.images)
    shuffled = films.masks[_someone_else(films, seed)]
    report = {}
    for region, classes in REGIONS.items():
        asked = _dice_where_asked(films.masks, found, classes)
        ceiling = _dice_where_asked(films.masks, found_real[:, None], classes)
        control = _dice_where_asked(shuffled, found, classes)
        report[f"dice_{region}"] = {
            **bootstrap(asked, films.patients, seed=seed),
            "ceiling": bootstrap(ceiling, films.patients, seed=seed),
            "control": bootstrap(control, films.patients, seed=seed),
        }
        report[f"dice_{region}_to_ceiling"] = _share(asked, ceiling, films, seed)
    return report


def _share(asked: np.ndarray, ceiling: np.ndarray, films: UnseenFilms, seed: int) -> Estimate:
    judged = ceiling[~np.isnan(ceiling)]
    if judged.size and judged.mean() < LOWEST_CEILING:
        return not_computed(f"the segmenter that judges reaches {judged.mean():.2f} on real films")
    return bootstrap(np.stack([asked, ceiling], axis=1), films.patients, ratio_of_means, seed=seed)


def _distribution(films: UnseenFilms, synthetic: np.ndarray, train_images: np.ndarray) -> dict[str, Estimate]:
    """Training films are the reference of both: the test films give the floor, and both sets share their anatomy."""
    count, per_mask = synthetic.shape[:2]
    made = texture_features(synthetic.reshape(-1, *synthetic.shape[2:]))
    reference, real, made = standardise(texture_features(train_images), texture_features(films.images), made)
    made = made.reshape(count, per_mask, -1)

    def to_synthetic(distance: Callable[[np.ndarray, np.ndarray], float], chosen: np.ndarray) -> float:
        return float(np.mean([distance(reference, made[chosen, index]) for index in range(per_mask)]))

    def floor_over_fid(chosen: np.ndarray) -> float:
        return frechet_distance(reference, real[chosen]) / to_synthetic(frechet_distance, chosen)

    report = {
        "kid_texture": jackknife(lambda chosen: to_synthetic(kid, chosen), films.patients)
        | {"floor": jackknife(lambda chosen: kid(reference, real[chosen]), films.patients)}
    }
    features = reference.shape[1]
    if min(count, len(reference)) > features:
        report["floor_over_fid_texture"] = jackknife(floor_over_fid, films.patients)
    else:
        why = f"needs more films than the {features} features, found {count} test and {len(reference)} training films"
        report["floor_over_fid_texture"] = not_computed(why)
    return report


def _memorisation(
    films: UnseenFilms, synthetic: np.ndarray, train_images: np.ndarray, seed: int
) -> dict[str, Estimate]:
    made = nearest(synthetic.reshape(-1, *synthetic.shape[2:]), train_images)[0].reshape(synthetic.shape[:2])
    unseen = nearest(films.images, train_images)[0]

    def ratio(rows: np.ndarray, weights: np.ndarray) -> float:
        rows = np.repeat(rows, weights, axis=0)
        return median_ratio(rows[:, 1:], rows[:, 0])

    rows = np.column_stack([unseen, made])
    return {"neighbour_ratio": bootstrap(rows, films.patients, ratio, seed=seed)}


def _dice_where_asked(masks: np.ndarray, found: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """Mean Dice over the images of each mask [N]; nan where the mask does not ask for the region."""
    masks = np.broadcast_to(masks[:, None], found.shape)
    asked = np.isin(masks[:, 0], classes).any(axis=(1, 2))
    return np.where(asked, np.nan_to_num(dice(masks, found, classes)).mean(axis=1), np.nan)


def _pairs(films: UnseenFilms, images: np.ndarray, allowed: np.ndarray, seed: int) -> Estimate:
    pairs = sample_pairs(allowed, MAX_PAIRS, seed)
    if not len(pairs):
        return not_computed("no such pair of real test films")
    return bootstrap(pairwise_ssim(images, pairs), films.patients[pairs], seed=seed)


def _left_right(films: UnseenFilms, seed: int) -> Estimate:
    known = (films.sides[:, None] != "") & (films.sides != "")
    return _pairs(films, films.images, known & (films.sides[:, None] != films.sides) & ~_other_patient(films), seed)


def _other_patient(films: UnseenFilms) -> np.ndarray:
    return films.patients[:, None] != films.patients


def _someone_else(films: UnseenFilms, seed: int) -> np.ndarray:
    """For each film the index of a film of another patient, drawn at random."""
    random = np.random.default_rng(seed)
    return np.array([random.choice(np.flatnonzero(row)) for row in _other_patient(films)])
