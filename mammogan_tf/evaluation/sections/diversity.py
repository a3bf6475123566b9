"""Are the synthetic images as varied as real films?"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import bootstrap_patients, computed, jackknife_patients, jackknife_sets
from mammogan_tf.evaluation.evidence import Evidence, SyntheticFilms
from mammogan_tf.evaluation.sections.fidelity import MAX_PAIRS, NO_FILMS, left_right, other_patient
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.evaluation.spaces import SPACES
from mammogan_tf.metrics.distribution import NEIGHBOURS, manifolds
from mammogan_tf.metrics.intervals import Estimate, not_computed, ratio_of_means
from mammogan_tf.metrics.similarity import pairwise_ssim, sample_pairs, ssim

__all__ = ["DIVERSITY"]

MANIFOLD_SETS = 4
"""Sets of synthetic images, of as many as there are unseen films, over which a share is averaged."""

NO_PAIRS = "no two images of one mask"

SHARES = {
    "precision": "share of images that look like training films; low: implausible images",
    "recall": "share of training films that look like images; low: kinds of film are missing",
    "density": "as precision, but outliers weigh less; may exceed 1",
    "coverage": "share of training films with an image nearby; low: kinds of film are missing",
}


def _compute(evidence: Evidence) -> dict[str, Estimate]:
    real, synthetic, seed = evidence.real, evidence.synthetic, evidence.seed
    first = synthetic.sets[0]
    patients = synthetic.patients[first]
    across = _of_pairs(synthetic.images[first], patients, patients[:, None] != patients, seed)
    report = {
        "ssim_across_masks": across | {"floor": _of_pairs(real.images, real.patients, other_patient(real), seed)},
        "ssim_same_mask": _same_mask(synthetic, seed) | {"floor": left_right(real, seed)},
        "spread_over_error": _spread_over_error(evidence),
    }
    for space in evidence.spaces:
        shares = cache(partial(_shares, evidence, space))
        for share in SHARES:
            report[f"{share}_{space}"] = computed(partial(_share, evidence, shares, share))
    return report


def _of_pairs(images: np.ndarray, patients: np.ndarray, allowed: np.ndarray, seed: int) -> Estimate:
    pairs = sample_pairs(allowed, MAX_PAIRS, seed)
    return bootstrap_patients(pairwise_ssim(images, pairs), patients[pairs], seed=seed)


def _same_mask(synthetic: SyntheticFilms, seed: int) -> Estimate:
    """SSIM of two images of each mask: of each film, where masks are those of films."""
    if synthetic.masks is None:
        return not_computed("no masks came with the images")
    mask = synthetic.films
    if mask is None:
        mask = np.unique(synthetic.masks.reshape(len(synthetic), -1), axis=0, return_inverse=True)[1].ravel()
    pairs = _neighbours(mask)
    if not len(pairs):
        return not_computed(NO_PAIRS)
    return bootstrap_patients(pairwise_ssim(synthetic.images, pairs), synthetic.patients[pairs], seed=seed)


def _neighbours(mask: np.ndarray) -> np.ndarray:
    """Pairs of neighbours, int [P, 2], among the images of each mask, by its number: int [M]."""
    of_mask = [np.flatnonzero(mask == number) for number in np.unique(mask)]
    return np.array([pair for rows in of_mask for pair in zip(rows[::2], rows[1::2], strict=False)], int).reshape(-1, 2)


def _spread_over_error(evidence: Evidence) -> Estimate:
    """How much two images of a mask differ, over how much they differ from the real film of that mask.

    With 1 - SSIM for the difference d, ``sum d(x, x') / sum d(x, y)``. Where images of a mask follow the law of the real
    films that could have it, a real film is like one more of them, and both sums are of equal expectation: the spread of an
    ensemble of forecasts against its error (Fortin et al. 2014).
    """
    synthetic = evidence.synthetic
    if synthetic.films is None:
        return not_computed(NO_FILMS)
    pairs = _neighbours(synthetic.films)
    if not len(pairs):
        return not_computed(NO_PAIRS)
    made, own = synthetic.images[pairs], evidence.real.images[synthetic.films[pairs]]
    differences = 1 - np.stack([ssim(made[:, 0], made[:, 1]), ssim(made, own).mean(axis=1)], axis=1)
    return bootstrap_patients(differences, synthetic.patients[pairs[:, 0]], ratio_of_means, evidence.seed)


def _shares(evidence: Evidence, space: str, kept: tuple[str, ...], of_real: bool) -> dict[str, float]:
    """All shares of the patients who are kept: of real films, or the means over sets of synthetic images."""
    train, real, made = evidence.features(space)
    synthetic = evidence.synthetic
    if of_real:
        return vars(manifolds(train, real[np.isin(evidence.real.patients, kept)]))
    sets = [rows[np.isin(synthetic.patients[rows], kept)] for rows in synthetic.sets[:MANIFOLD_SETS]]
    found = [manifolds(train, made[rows]) for rows in sets]
    return {share: float(np.mean([getattr(each, share) for each in found])) for share in SHARES}


def _share(evidence: Evidence, shares: Callable[..., dict[str, float]], share: str) -> Estimate:
    evidence.require_comparable(MANIFOLD_SETS)
    _require_neighbours(evidence.real.patients)
    limits = (0, np.inf if share == "density" else 1.0)
    patients = evidence.synthetic.patients_of_sets(MANIFOLD_SETS)
    value = jackknife_sets(lambda kept: shares(tuple(kept), False)[share], patients, limits)
    return value | {
        "floor": jackknife_patients(lambda kept: shares(tuple(kept), True)[share], evidence.real.patients, limits)
    }


def _require_neighbours(patients: np.ndarray) -> None:
    """A film needs neighbours, whichever of the ``patients`` [N] of the test films is left out."""
    left, most = NEIGHBOURS + 1, int(np.unique(patients, return_counts=True)[1].max())
    if len(patients) < left + most:
        raise DataError(
            f"needs {left + most} test films or more, so that {left} are left without a patient, found {len(patients)}"
        )


def _draw(evidence: Evidence, measures: Measures) -> list[Picture]:
    rows = [
        row
        for key, name in (("ssim_across_masks", "other patients"), ("ssim_same_mask", "one mask; both breasts"))
        for row in (
            (f"synthetic / synthetic, {name}", "synthetic", measures[key]),
            (f"real / real, {name}", "real", measures[key]["floor"]),
        )
    ]
    caption = (
        "SSIM of pairs with 95 % intervals over patients; further left is more diverse. Noise moves pairs to the left, too: "
        "trust this only where the texture distances are good."
    )
    return [Picture("diversity", figures.intervals(rows, "SSIM"), caption)]


DIVERSITY = Section(
    key="diversity",
    title="Are the synthetic images as varied as real films?",
    meaning="Pairwise SSIM among synthetic images; lower is more diverse. Images of masks of different patients are compared "
    "with real films of different patients, and images of one mask with the two breasts of a patient. Two breasts have two "
    "masks, which alone makes them differ. So spread over error divides how much two images of a mask differ by how much they "
    "differ from its real film: 1 is right, below 1 noise changes too little. Precision and density say how many synthetic "
    "images lie among the training films in a feature space, recall and coverage how many training films have synthetic images "
    "around them. Their floor is that of as many real films of unseen patients.",
    caution="Noise makes images differ, too: read this section together with the texture distances. Across masks, different "
    "outlines alone give some diversity. Few images reach few training films, so recall and coverage are low for real films as "
    "well: only the distance to the floor counts.",
    measures=(
        Measure("ssim_across_masks", "SSIM across masks", "near the floor is good", floor="real, other patients"),
        Measure(
            "ssim_same_mask", "SSIM with the same mask", "near 1: noise changes nothing", floor="real, two breasts"
        ),
        Measure(
            "spread_over_error",
            "Spread over error (of 1 - SSIM)",
            "1 is right; below 1: noise changes too little",
        ),
        *(
            Measure(f"{share}_{space}", f"{share.capitalize()}, {name}", reading, floor="unseen real films")
            for space, name in SPACES.items()
            for share, reading in SHARES.items()
        ),
    ),
    compute=_compute,
    draw=_draw,
)
