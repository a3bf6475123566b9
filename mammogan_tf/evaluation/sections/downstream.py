"""Does training with the synthetic images help?"""

from dataclasses import dataclass

import numpy as np

from mammogan_tf.config import BENIGN, MALIGNANT
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import bootstrap_pairs, bootstrap_patients
from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.metrics.intervals import Estimate, half_width, not_computed

__all__ = ["ARMS", "DOWNSTREAM", "Arm"]


@dataclass(frozen=True)
class Arm:
    """What the networks of an arm are trained on.

    ``synthetic``: synthetic images for each real film; ``real``: with the real films or without them; ``augment``: change
    the films at random; ``pretrain``: the synthetic images for half of the updates, then the real films alone.
    """

    title: str
    synthetic: float = 0.0
    real: bool = True
    augment: bool = False
    pretrain: bool = False


ARMS = {
    "real": Arm("real films"),
    "augmented": Arm("real films with classic augmentation", augment=True),
    "half": Arm("real films and half as many synthetic", synthetic=0.5),
    "equal": Arm("real films and as many synthetic", synthetic=1.0),
    "double": Arm("real films and twice as many synthetic", synthetic=2.0),
    "synthetic": Arm("synthetic images only, twice as many", synthetic=2.0, real=False),
    "pretrained": Arm("half of the updates on synthetic, then real films", synthetic=2.0, pretrain=True),
}
"""All are compared with the first."""

BASE = "real"


def _compute(evidence: Evidence) -> dict[str, Estimate]:
    """Means over the seeds; where the report left this out, nothing."""
    if evidence.downstream is None:
        return {}
    if not evidence.downstream:
        return {measure.key: not_computed("no training film has a lesion") for measure in DOWNSTREAM.measures}
    return _classifier(evidence) | _segmenter(evidence)


def _by_arm(evidence: Evidence, name: str) -> dict[str, np.ndarray]:
    """Values [seeds, N] of each arm."""
    return {
        arm: np.array([getattr(each, name) for each in evidence.downstream or () if each.arm == arm]) for arm in ARMS
    }


def _classifier(evidence: Evidence) -> dict[str, Estimate]:
    benign, malignant = (np.flatnonzero(evidence.real.labels == label) for label in (BENIGN, MALIGNANT))
    patients = evidence.real.patients[benign], evidence.real.patients[malignant]
    above = {
        arm: (np.sign(scores[:, None, malignant] - scores[:, benign, None]) + 1) / 2
        for arm, scores in _by_arm(evidence, "malignant").items()
    }
    report = {}
    for arm, wins in above.items():
        value = bootstrap_pairs(wins.mean(axis=0), *patients, seed=evidence.seed)
        report[f"auc_{arm}"] = _over_seeds(value, wins)
        if arm != BASE:
            gains = wins - above[BASE]
            gain = bootstrap_pairs(gains.mean(axis=0), *patients, seed=evidence.seed)
            report[f"auc_{arm}_gain"] = _over_seeds(gain, gains, -1.0)
    return report


def _segmenter(evidence: Evidence) -> dict[str, Estimate]:
    values, patients, seed = _by_arm(evidence, "dice"), evidence.real.patients, evidence.seed
    has_lesion = np.isfinite(list(values.values())).all(axis=(0, 1))
    report = {}
    for arm, of_films in values.items():
        value = bootstrap_patients(of_films.mean(axis=0), patients, seed=seed)
        report[f"dice_{arm}"] = _over_seeds(value, of_films[:, has_lesion])
        if arm != BASE:
            gains = of_films - values[BASE]
            gain = bootstrap_patients(gains.mean(axis=0), patients, seed=seed)
            report[f"dice_{arm}_gain"] = _over_seeds(gain, gains[:, has_lesion], -1.0)
    return report


def _over_seeds(estimate: Estimate, values: np.ndarray, least: float = 0.0) -> Estimate:
    """With the error of the mean over seeds in its interval, of ``values`` [seeds, ...]: another seed, another network.

    Patients and seeds are independent, so that their errors add as squares. Of seeds the jackknife over patients knows nothing.
    ``least`` is the least that the value can be; 1 is the most.
    """
    if "value" not in estimate:
        return estimate
    of_seeds, value = values.reshape(len(values), -1).mean(axis=1), estimate["value"]
    count = len(of_seeds)
    reach = half_width(count) * of_seeds.std(ddof=1) / np.sqrt(count) if count > 1 else 0.0
    estimate.pop("without", None)
    return estimate | {
        "low": max(least, value - float(np.hypot(value - estimate["low"], reach))),
        "high": min(1.0, value + float(np.hypot(estimate["high"] - value, reach))),
        "note": f"{count} seeds: {of_seeds.min():.3f} to {of_seeds.max():.3f}",
    }


def _draw(evidence: Evidence, measures: Measures) -> list[Picture]:
    if not evidence.downstream:
        return []
    pictures = []
    for score, name in (("auc", "AUC of benign or malignant"), ("dice", "Dice of the lesions")):
        rows = [(arm.title, _kind(arm), measures[f"{score}_{key}"]) for key, arm in ARMS.items()]
        caption = (
            f"{name} on unseen films by what the network was trained on; means over the seeds with 95 % intervals over "
            "patients and seeds. Overlapping intervals do not mean that arms are equal: read the paired gains."
        )
        picture = figures.intervals(rows, name, 0.5 if score == "auc" else None)
        pictures.append(Picture(f"downstream_{score}", picture, caption))
    return pictures


def _kind(arm: Arm) -> str:
    return "synthetic" if arm.synthetic else "real"


def _measures(score: str, title: str) -> tuple[Measure, ...]:
    rows = []
    for key, arm in ARMS.items():
        rows.append(Measure(f"{score}_{key}", f"{title}, {arm.title}", "higher is better"))
        if key != BASE:
            reading = "an interval that includes 0 shows no gain"
            rows.append(Measure(f"{score}_{key}_gain", f"{title}, {arm.title}: gain over real films", reading))
    return tuple(rows)


DOWNSTREAM = Section(
    key="downstream",
    title="Does training with the synthetic images help?",
    meaning="A small classifier (benign or malignant) and a small segmenter of lesions are trained on the training films that "
    "have a lesion, on synthetic images made from their masks and labels, or on both, and tested on films of unseen patients. "
    "All arms have the same networks, the same number of updates and the same seeds. Gains are paired: same films, same seeds. "
    "Intervals are over patients and seeds.",
    caution="The recipe is small and fixed, so its values do not show what is possible. Few test patients have a lesion. All "
    "gains are over the same networks of real films. What helps a weak network may not help a good one. A null result is a "
    "result.",
    measures=_measures("auc", "Malignant: AUC") + _measures("dice", "Lesion: Dice"),
    compute=_compute,
    draw=_draw,
)
