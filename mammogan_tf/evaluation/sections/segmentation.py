"""How well does the U-Net segment films of unseen patients?"""

from collections.abc import Callable, Iterator

import numpy as np

from mammogan_tf.config import LABELS, LESION
from mammogan_tf.data.film import TISSUES
from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.estimates import bootstrap_patients
from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.sections.section import Measure, Measures, Picture, Section
from mammogan_tf.metrics.detection import LESION_IOU, free_response
from mammogan_tf.metrics.intervals import Estimate, ratio_of_means
from mammogan_tf.metrics.segmentation import REGIONS, dice, hd95, iou, precision, sensitivity, where_asked

__all__ = ["AGREEMENT", "BY_CLASS"]

SCORES: dict[str, tuple[Callable, str]] = {
    "dice": (dice, "Dice"),
    "iou": (iou, "IoU"),
    "hd95": (hd95, "HD95, pixels"),
    "sensitivity": (sensitivity, "sensitivity"),
    "precision": (precision, "precision"),
}

DETECTION = {
    "lesions_found": (f"Lesions found (IoU {LESION_IOU})", "sensitivity"),
    "false_positives": ("False positives per film", "false_positives_per_image"),
    "clear_films_with_false_positives": (
        "Films without a lesion in which one is found",
        "clear_images_with_false_positives",
    ),
}
"""For each measure its title, and which of :meth:`FreeResponse.ratios` it is."""

BY_CLASS_DETECTION = {name: DETECTION[name] for name in ("lesions_found", "false_positives")}

GROUPS = {f"tissue_{tissue}": f"tissue {tissue}" for tissue in TISSUES} | {label: label for label in LABELS}


def _agreement(evidence: Evidence) -> dict[str, Estimate]:
    """Agreement on films whose mask holds the region: regions in excess do not count, but lesions in excess do, below."""
    truth, found = evidence.segmentation.truth, evidence.segmentation.found
    patients, seed = evidence.real.patients, evidence.seed
    other = evidence.someone_else(patients)
    report: dict[str, Estimate] = {}
    for region, classes in REGIONS.items():
        for name, (score, _) in SCORES.items():
            values, control = (where_asked(score, truth, maps, classes) for maps in (found, found[other]))
            report[f"{name}_{region}"] = {
                **bootstrap_patients(values, patients, seed=seed),
                "control": bootstrap_patients(control, patients, seed=seed),
            }
    if evidence.segmentation.disc is not None:
        disc = np.broadcast_to(evidence.segmentation.disc, truth.shape)
        of_disc = where_asked(dice, truth, disc, LESION)
        report["dice_lesion_disc"] = bootstrap_patients(of_disc, patients, seed=seed)
    ratios, controls = (free_response(truth, maps).ratios() for maps in (found, found[other]))
    for name, (_, ratio) in DETECTION.items():
        report[name] = {
            **_rate(ratios[ratio], patients, seed),
            "control": _rate(controls[ratio], patients, seed),
        }
    return report


def _rate(counts: np.ndarray, patients: np.ndarray, seed: int) -> Estimate:
    """The first of two counts over the second, on the films that have any of the second."""
    counted = counts[:, 1] > 0
    return bootstrap_patients(counts[counted], patients[counted], ratio_of_means, seed)


def _by_class(evidence: Evidence) -> dict[str, Estimate]:
    real, truth, found = evidence.real, evidence.segmentation.truth, evidence.segmentation.found
    ratios, seed = free_response(truth, found).ratios(), evidence.seed
    report = {}
    for name, members in _members(real.tissues, real.labels):
        patients = real.patients[members]
        for region, classes in REGIONS.items():
            values = where_asked(dice, truth, found, classes)
            report[f"dice_{region}_{name}"] = bootstrap_patients(values[members], patients, seed=seed)
        for key, (_, ratio) in BY_CLASS_DETECTION.items():
            report[f"{key}_{name}"] = _rate(ratios[ratio][members], patients, seed)
    return report


def _members(tissues: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for tissue in TISSUES:
        yield f"tissue_{tissue}", tissues == tissue
    for number, label in enumerate(LABELS):
        yield label, labels == number


def _draw_by_class(evidence: Evidence, measures: Measures) -> list[Picture]:
    series = {name: [measures[f"dice_{region}_{key}"] for region in REGIONS] for key, name in GROUPS.items()}
    caption = (
        "Dice of each region by tissue (F fatty, G fatty-glandular, D dense-glandular) and by label, with 95 % "
        "intervals over patients. Classes of few patients have wide intervals: where they overlap, no difference is shown."
    )
    return [Picture("by_class", figures.grouped_bars(list(REGIONS), series, "Dice"), caption)]


AGREEMENT = Section(
    key="segmentation",
    title="How well does the U-Net segment films of unseen patients?",
    meaning="Agreement of the U-Net's label maps with the masks of the test films: the automatic anatomy and the annotated "
    "lesions, or masks drawn by hand where there are any. A film counts for the regions that its mask has. HD95 is the "
    "95th percentile of the distances between the two outlines; a missed region counts as the image's diagonal. A lesion counts "
    f"as found from an IoU of {LESION_IOU}. The control compares with the label map of another patient's film.",
    caution="The automatic anatomy is not a radiologist's reading, and circles are larger than lesions. The breast fills much "
    "of every film, so even the control is high: read the distance to it.",
    measures=(
        *(
            Measure(
                f"{name}_{region}",
                f"{region.capitalize()}: {title}",
                "lower is better" if name == "hd95" else "1 is best",
                control="another patient's",
            )
            for region in REGIONS
            for name, (_, title) in SCORES.items()
        ),
        Measure(
            "dice_lesion_disc",
            "Lesion: Dice of a constant disc in the middle",
            "a network that does not beat it has learned nothing",
        ),
        *(
            Measure(name, title, "1 is best" if name == "lesions_found" else "0 is best", control="another patient's")
            for name, (title, _) in DETECTION.items()
        ),
    ),
    compute=_agreement,
    draw=lambda evidence, measures: [],
)

BY_CLASS = Section(
    key="segmentation_by_class",
    title="Does this hold for dense breasts and for malignant films?",
    meaning="Dice and detection of the section above, separately for each tissue class and each label.",
    caution="Each class has few patients, as the intervals show. Differences between classes may come from the automatic "
    "anatomy, which is itself worse on dense breasts.",
    measures=tuple(
        Measure(f"dice_{region}_{key}", f"{region.capitalize()}, {name}: Dice", "compare within the region")
        for region in REGIONS
        for key, name in GROUPS.items()
    )
    + tuple(
        Measure(f"{measure}_{key}", f"{title}, {name}", "compare the classes")
        for measure, (title, _) in BY_CLASS_DETECTION.items()
        for key, name in GROUPS.items()
    ),
    compute=_by_class,
    draw=_draw_by_class,
)
