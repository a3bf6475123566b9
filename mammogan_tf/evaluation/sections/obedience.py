"""Do the images follow their masks?"""

from collections.abc import Callable

import numpy as np

from mammogan_tf.data.label_maps import has_lesion
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import bootstrap_auc, bootstrap_patients, bootstrap_two_samples
from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.metrics.intervals import Estimate, not_computed
from mammogan_tf.metrics.lesions import control_contrast, lesion_contrast
from mammogan_tf.metrics.segmentation import REGIONS, dice, where_asked

__all__ = ["OBEDIENCE"]

MIN_CEILING = 0.3
"""Dice on real films below which the evaluation U-Net says nothing about a region."""

PLACES = 5
"""Random places for each lesion, with which it is compared."""

NO_MASKS = "no masks came with the images"

Contrasts = tuple[np.ndarray, np.ndarray]
"""Contrasts [L], and the patient of each [L]."""


def _compute(evidence: Evidence) -> dict[str, Estimate]:
    if evidence.synthetic.masks is None:
        return {measure.key: not_computed(NO_MASKS) for measure in OBEDIENCE.measures}
    return _dice(evidence) | _lesions(evidence)


def _dice(evidence: Evidence) -> dict[str, Estimate]:
    real, synthetic, seed = evidence.real, evidence.synthetic, evidence.seed
    masks = _masks(evidence)
    several = len(np.unique(synthetic.patients)) > 1
    shuffled = masks[evidence.someone_else(synthetic.patients)] if several else None
    report = {}
    for region, classes in REGIONS.items():
        value, control = (
            not_computed("masks of one patient only")
            if asked is None
            else bootstrap_patients(where_asked(dice, asked, evidence.found, classes), synthetic.patients, seed=seed)
            for asked in (masks, shuffled)
        )
        on_real = where_asked(dice, real.masks, evidence.found_real, classes)
        ceiling = bootstrap_patients(on_real, real.patients, seed=seed)
        report[f"dice_{region}"] = value | {"ceiling": ceiling, "control": control}
        if ceiling.get("value", 1) < MIN_CEILING:
            note = f"the evaluation U-Net reaches only {ceiling['value']:.2f} on real films, so this value says little"
            report[f"dice_{region}"]["note"] = note
    return report


def _lesions(evidence: Evidence) -> dict[str, Estimate]:
    real, synthetic, seed = evidence.real, evidence.synthetic, evidence.seed
    masks = _masks(evidence)
    made = _contrasts(synthetic.images, masks, synthetic.patients, lesion_contrast)
    at_random = _contrasts(synthetic.images, masks, synthetic.patients, _elsewhere(seed))
    on_real = _contrasts(real.images, real.masks, real.patients, lesion_contrast)
    real_at_random = _contrasts(real.images, real.masks, real.patients, _elsewhere(seed))
    clear, clear_real = (~has_lesion(maps) for maps in (masks, real.masks))
    false, false_real = (has_lesion(maps) for maps in (evidence.found, evidence.found_real))
    return {
        "lesion_contrast": bootstrap_patients(*made, seed=seed)
        | {"ceiling": bootstrap_patients(*on_real, seed=seed), "control": bootstrap_patients(*at_random, seed=seed)},
        "lesion_contrast_to_real": bootstrap_two_samples(made[0], on_real[0], made[1], on_real[1], _ratio, seed),
        "lesion_auc": _told_apart(at_random, made, seed) | {"ceiling": _told_apart(real_at_random, on_real, seed)},
        "lesion_false_alarms": bootstrap_patients(np.where(clear, false, np.nan), synthetic.patients, seed=seed)
        | {"floor": bootstrap_patients(np.where(clear_real, false_real, np.nan), real.patients, seed=seed)},
    }


def _masks(evidence: Evidence) -> np.ndarray:
    assert evidence.synthetic.masks is not None
    return evidence.synthetic.masks


def _contrasts(
    images: np.ndarray, masks: np.ndarray, patients: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Contrasts:
    rows = np.flatnonzero(has_lesion(masks))
    of_image = [measure(images[row], masks[row]) for row in rows]
    values = np.concatenate([np.empty(0), *of_image])
    owners = np.repeat(patients[rows], [len(each) for each in of_image])
    return values[np.isfinite(values)], owners[np.isfinite(values)]


def _elsewhere(seed: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The same places in all images of a mask: the brightness of a place is the anatomy's."""
    seeds = range(PLACES * seed, PLACES * (seed + 1))
    return lambda image, mask: np.concatenate([control_contrast(image, mask, mask, each) for each in seeds])


def _ratio(made: np.ndarray, real: np.ndarray) -> float:
    return float(made.mean() / real.mean()) if real.mean() > 0 else float("nan")


def _told_apart(control: Contrasts, asked: Contrasts, seed: int) -> Estimate:
    return bootstrap_auc(control[0], asked[0], control[1], asked[1], seed=seed)


def _draw(evidence: Evidence, measures: Measures) -> list[Picture]:
    if evidence.synthetic.masks is None:
        return []
    series = {
        "synthetic": [measures[f"dice_{region}"] for region in REGIONS],
        "real (ceiling)": [measures[f"dice_{region}"]["ceiling"] for region in REGIONS],
        "control (masks of other patients)": [measures[f"dice_{region}"]["control"] for region in REGIONS],
    }
    bars = (
        "Dice by region with 95 % intervals over patients. Where the blue bar is low the evaluation U-Net does not find the "
        "region, and where the grey one is high any breast would do."
    )
    areas = (
        "Share of the image that the mask asks for against the share that is found, film by film (synthetic: means over "
        "the images of a mask). On the diagonal the amount is right; it may still be in the wrong place."
    )
    return [
        Picture("obedience", figures.grouped_bars(list(REGIONS), series, "Dice"), bars),
        Picture("areas", figures.scatter(_areas(evidence), "asked", "found"), areas),
    ]


def _areas(evidence: Evidence) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """By region and kind: the share of each image that is asked for, and that is found."""
    masks = _masks(evidence)
    _, first, mask = np.unique(masks.reshape(len(masks), -1), axis=0, return_index=True, return_inverse=True)
    panels = {}
    for region, classes in REGIONS.items():
        asked, found, asked_real, found_real = (
            np.isin(maps, classes).mean(axis=(1, 2))
            for maps in (masks, evidence.found, evidence.real.masks, evidence.found_real)
        )
        mean_found = np.bincount(mask.ravel(), found) / np.bincount(mask.ravel())
        panels[region] = {"real": (asked_real, found_real), "synthetic": (asked[first], mean_found)}
    return panels


OBEDIENCE = Section(
    key="obedience",
    title="Do the images follow their masks?",
    meaning="Dice between the mask that an image was made from and the mask that the evaluation U-Net finds in it, for images "
    "whose mask has the region. This U-Net was trained on real films only. The ceiling is its Dice on the real films of the same "
    "masks; the control compares with the masks of other patients. Lesions are also measured by contrast: the inside of a lesion "
    "against the ring of tissue around it, in standard deviations of the breast, compared with real lesions and with random "
    "places where the mask has none.",
    caution="Where the ceiling is low the evaluation U-Net does not find the region in real films either: lesions are a few "
    "pixels wide on whole films. A generator that cuts the background out of the mask gets the outline of the breast for "
    "nothing, and one that was trained to be read by a U-Net (anatomy loss) is read well by another of the same design. A value "
    "above the ceiling means images that are easier than real ones, not better. Contrast ignores shape and texture, and circles "
    "larger than their lesion dilute it.",
    measures=(
        *(
            Measure(
                f"dice_{region}",
                f"{region.capitalize()}: Dice",
                "near the ceiling and far above the control is good",
                ceiling="real films",
                control="masks of other patients",
            )
            for region in REGIONS
        ),
        Measure(
            "lesion_contrast",
            "Lesions: contrast with the tissue around them",
            "near that of real lesions is good",
            ceiling="real lesions",
            control="random places without a lesion",
        ),
        Measure("lesion_contrast_to_real", "Lesions: contrast relative to real ones", "1: as clear as real lesions"),
        Measure(
            "lesion_auc",
            "Lesions against random places, by contrast: AUC",
            "about 0.5: no lesions were drawn (places differ in brightness, too)",
            ceiling="real lesions",
        ),
        Measure(
            "lesion_false_alarms",
            "Images without a lesion in which one is found",
            "near the floor is good",
            floor="real films",
        ),
    ),
    compute=_compute,
    draw=_draw,
)
