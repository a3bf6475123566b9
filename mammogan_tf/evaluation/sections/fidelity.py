"""How similar is a synthetic image to the real film of the same mask?"""

from collections.abc import Callable

import numpy as np

from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import bootstrap_patients
from mammogan_tf.evaluation.evidence import Evidence, RealFilms
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.metrics.intervals import Estimate, not_computed
from mammogan_tf.metrics.similarity import ms_ssim, sample_pairs, ssim

__all__ = ["FIDELITY", "MAX_PAIRS", "NO_FILMS", "left_right", "other_patient"]

MAX_PAIRS = 500
"""Pairs of films drawn for a pairwise SSIM."""

SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"ssim": ssim, "ms_ssim": ms_ssim}
TITLES = {"ssim": "SSIM", "ms_ssim": "MS-SSIM"}

NO_FILMS = "not every image is known to have the mask of an unseen film"


def _compute(evidence: Evidence) -> dict[str, Estimate]:
    real, synthetic, seed = evidence.real, evidence.synthetic, evidence.seed
    report = {}
    for name, similarity in SIMILARITIES.items():
        if synthetic.films is None:
            own = not_computed(NO_FILMS)
        else:
            values = similarity(real.images[synthetic.films], synthetic.images)
            own = bootstrap_patients(values, synthetic.patients, seed=seed)
        same_tissue = (real.tissues[:, None] == real.tissues) & (real.tissues != "")
        floor = _of_pairs(real, same_tissue & other_patient(real), similarity, seed)
        report[f"{name}_own_film"] = own | {"floor": floor}
        report[f"{name}_left_right"] = left_right(real, seed, similarity)
    return report


def left_right(
    real: RealFilms, seed: int, similarity: Callable[[np.ndarray, np.ndarray], np.ndarray] = ssim
) -> Estimate:
    """Similarity of the two breasts of a patient."""
    known = (real.sides[:, None] != "") & (real.sides != "")
    return _of_pairs(real, known & (real.sides[:, None] != real.sides) & ~other_patient(real), similarity, seed)


def other_patient(films: RealFilms) -> np.ndarray:
    """Which films are of different patients: bool [N, N]."""
    return films.patients[:, None] != films.patients


def _of_pairs(
    real: RealFilms, allowed: np.ndarray, similarity: Callable[[np.ndarray, np.ndarray], np.ndarray], seed: int
) -> Estimate:
    pairs = sample_pairs(allowed, MAX_PAIRS, seed)
    if not len(pairs):
        return not_computed("no such pair of real test films")
    first, second = real.images[pairs].swapaxes(0, 1)
    return bootstrap_patients(similarity(first, second), real.patients[pairs], seed=seed)


def _draw(evidence: Evidence, measures: Measures) -> list[Picture]:
    rows = [
        (f"{TITLES[name]}, {what}", kind, estimate)
        for name in SIMILARITIES
        for what, kind, estimate in (
            ("synthetic / real of the same mask", "synthetic", measures[f"{name}_own_film"]),
            ("real / other patient, same tissue", "real", measures[f"{name}_own_film"]["floor"]),
            ("real / other breast", "real", measures[f"{name}_left_right"]),
        )
    ]
    caption = (
        "Similarity of pairs with 95 % intervals over patients. The distance from real pairs to 1 is no room for improvement: "
        "an image at 1 would be the film itself."
    )
    return [Picture("similarity", figures.intervals(rows, "similarity"), caption)]


FIDELITY = Section(
    key="fidelity",
    title="How similar is a synthetic image to the real film of the same mask?",
    meaning="SSIM and multi-scale SSIM (MS-SSIM) of each synthetic image with the real film whose mask it was made from. "
    "References are pairs of real films: of different patients with the same tissue class, and the two breasts of a patient.",
    caution="SSIM rewards smoothness, and the black around the breast, which the mask gives away: a blurred image can score "
    "higher than a sharp one. A value above the floor means that the mask carried anatomy over, not that texture is right. "
    "MS-SSIM has as many scales as the size allows, so values at different sizes do not compare.",
    measures=tuple(
        measure
        for name, title in TITLES.items()
        for measure in (
            Measure(
                f"{name}_own_film",
                f"{title} with the real film of the same mask",
                "above the floor: the mask carries anatomy over",
                floor="real, other patient of the same tissue",
            ),
            Measure(f"{name}_left_right", f"{title} of left and right breast (real)", "how alike two breasts are"),
        )
    ),
    compute=_compute,
    draw=_draw,
)
