"""Does the generator copy its training films?"""

from typing import Any

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import bootstrap_auc, bootstrap_two_samples
from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.evaluation.spaces import SPACES
from mammogan_tf.metrics.intervals import Estimate, not_computed
from mammogan_tf.metrics.memorisation import (
    MAX_MEMBERSHIP,
    MAX_NEAR,
    MIN_RATIO,
    RULE,
    closeness,
    closest_pairs,
    near_copies,
    verdict,
)

__all__ = ["MEMORISATION", "masks_of_training", "memorisation_verdict"]

CRITIC_BATCH = 16
PAIRS = 10


def _compute(evidence: Evidence) -> dict[str, Estimate]:
    patients, seed = (evidence.synthetic.patients, evidence.real.patients), evidence.seed
    report = {}
    for space, neighbours in evidence.neighbours.items():
        for name, statistic in (("neighbour_ratio", _ratio), ("near", _near)):
            found = bootstrap_two_samples(neighbours.made, neighbours.unseen, *patients, statistic, seed)
            found.pop("without", None)  # Of medians and percentiles a jackknife knows no error.
            report[f"{name}_{space}"] = found
    return report | {"membership_auc": _membership(evidence)}


def _ratio(made: np.ndarray, unseen: np.ndarray) -> float:
    return closeness(made, unseen).ratio


def _near(made: np.ndarray, unseen: np.ndarray) -> float:
    return closeness(made, unseen).near


def _membership(evidence: Evidence) -> Estimate:
    if evidence.critic is None:
        return not_computed("needs the critic of the run that made the images (critic.keras)")
    scores = _critic_scores(evidence)
    count = len(evidence.train)
    patients = evidence.real.patients, evidence.train.patients
    return bootstrap_auc(scores[count:], scores[:count], *patients, seed=evidence.seed)


def _critic_scores(evidence: Evidence) -> np.ndarray:
    """Scores of training films, then unseen films: the white-box attack of Hayes et al. 2019 (section 4.1).

    Scored in mixed batches, because the critic sees how a batch scatters.
    """
    assert evidence.critic is not None
    images, masks, labels = (
        np.concatenate([getattr(films, name) for films in (evidence.train, evidence.real)])
        for name in ("images", "masks", "labels")
    )
    order = np.random.default_rng(evidence.seed).permutation(len(images))
    scores = np.empty(len(images))
    for start in range(0, len(order), CRITIC_BATCH):
        rows = np.take(order, range(start, start + CRITIC_BATCH), mode="wrap")
        scores[rows] = evidence.critic(images[rows], masks[rows], labels[rows])
    return scores


def masks_of_training(evidence: Evidence) -> int:
    """How many images have the mask of a training film that is no unseen film's: by that alone they come nearer to it."""
    asked = [] if evidence.synthetic.masks is None else [mask.tobytes() for mask in evidence.synthetic.masks]
    train, unseen = ({mask.tobytes() for mask in films.masks} for films in (evidence.train, evidence.real))
    return sum(mask in train and mask not in unseen for mask in asked)


def memorisation_verdict(evidence: Evidence, measures: Measures) -> dict[str, Any]:
    """``{"passed", "rule", "checked", "reasons"}``: by the rule of :mod:`mammogan_tf.metrics.memorisation`.

    Fewer images than unseen films, or images of one or two patients, show nothing, and so do not pass; nor does what could
    not be computed.
    """
    spaces = {space: closeness(found.made, found.unseen) for space, found in evidence.neighbours.items()}
    membership = measures["membership_auc"].get("value", None if evidence.critic is None else float("nan"))
    reasons = list(verdict(spaces, membership, near_copies(*evidence.distance_ratios)).reasons)
    if reasons and (count := masks_of_training(evidence)):
        reasons.append(
            f"{count} of {len(evidence.synthetic)} masks are those of training films, which lowers distances"
        )
    reasons += [f"{space}: no distances could be computed" for space in evidence.spaces if space not in spaces]
    try:
        evidence.require_comparable(sets=1)
    except DataError as error:
        reasons.append(f"too few to pass: {error}")
    checked = [*spaces, *(["membership"] if membership is not None else [])]
    return {"passed": not reasons, "rule": RULE, "checked": checked, "reasons": reasons}


def _draw(evidence: Evidence, measures: Measures) -> list[Picture]:
    pixels = evidence.neighbours["pixels"]
    histogram = figures.histograms(
        {"real (unseen)": pixels.unseen, "synthetic": pixels.made}, "distance to the nearest training film"
    )
    return [
        Picture(
            "neighbours",
            histogram,
            "Root-mean-square difference to the nearest training film, in grey levels from 0 to 1. A peak at the far "
            "left means copies. Smooth images lie further left than real ones without being copies.",
        ),
        Picture(
            "closest",
            _closest(evidence),
            "The synthetic images most likely to be copies, one for each patient, above their nearest training film. The "
            "number is the distance between them relative to that of the real film of the same mask (to the median of "
            "unseen films where there is none). The same outline is no copy; the same texture is. Mirrored copies are not "
            "searched for.",
        ),
    ]


def _closest(evidence: Evidence) -> bytes:
    pixels, synthetic = evidence.neighbours["pixels"], evidence.synthetic
    scale = np.median(pixels.unseen) if synthetic.films is None else pixels.unseen[synthetic.films]
    ratios = pixels.made / np.maximum(scale, 1e-9)
    of_patient = [np.flatnonzero(synthetic.patients == patient) for patient in np.unique(synthetic.patients)]
    suspects = np.array([rows[ratios[rows].argmin()] for rows in of_patient])
    pairs = closest_pairs(ratios[suspects], pixels.nearest[suspects], PAIRS)
    shown, films = suspects[pairs[:, 0]], pairs[:, 1]
    titles = [f"{ratio:.2f}\n{name}" for ratio, name in zip(ratios[shown], evidence.train.names[films], strict=True)]
    rows = {"synthetic": synthetic.images[shown], "training film": evidence.train.images[films]}
    return figures.gallery(rows, titles)


MEMORISATION = Section(
    key="memorisation",
    title="Does the generator copy its training films?",
    meaning="Distance of each synthetic image to its nearest training film, in pixels and in features, compared with real films "
    "of unseen patients: the ratio of the medians, and the share of images that are nearer than the nearest 5 % of the unseen "
    "films. Membership is how well the critic's score distinguishes training films from unseen ones.",
    caution="A ratio well below 1 means copies, or images smoother than real ones, which lowers every distance: look at the "
    "closest pairs. A pass does not prove privacy: copies that are mirrored, moved, or of parts of films are not searched for.",
    measures=(
        *(
            measure
            for space, name in {"pixels": "pixels", **SPACES}.items()
            for measure in (
                Measure(
                    f"neighbour_ratio_{space}",
                    f"Distance to the nearest training film, {name}: ratio to unseen films",
                    f"1 is expected, {MIN_RATIO} or more passes",
                ),
                Measure(
                    f"near_{space}",
                    f"Share nearer than the nearest 5 % of unseen films, {name}",
                    f"0.05 to 0.07 is expected, {MAX_NEAR} or less passes",
                ),
            )
        ),
        Measure(
            "membership_auc",
            "Training against unseen films by the critic's score: AUC",
            f"0.5 is best, {MAX_MEMBERSHIP} or less passes",
        ),
    ),
    compute=_compute,
    draw=_draw,
)
