"""Sets of images that the report must see through, and the table of what it says of them.

``python -m tests.evaluation.controls DATA FOLDER`` evaluates them on the films of mini-MIAS, split by default, and prints the
table of docs/report.md. It trains an evaluation U-Net in FOLDER, shorter than the report's.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from mammogan_tf.config import DataConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.sources import load_all
from mammogan_tf.data.splits import split_patients
from mammogan_tf.evaluation.encoders import segmenter_space
from mammogan_tf.evaluation.evidence import Evidence, Segmentation, SyntheticFilms
from mammogan_tf.evaluation.measuring import Measured, measure
from mammogan_tf.evaluation.reference import prepare_reference, real_films
from mammogan_tf.evaluation.sections.memorisation import memorisation_verdict
from mammogan_tf.evaluation.spaces import texture_space
from mammogan_tf.inference import load_segmenter
from tests.toy_films import with_images

__all__ = ["CONTROLS", "SHOWN", "evaluate_controls", "table"]

EVALUATOR_EPOCHS = 4

SHOWN = {
    "fidelity": ("ssim_own_film", "ms_ssim_own_film"),
    "diversity": (
        "ssim_across_masks",
        "precision_texture",
        "recall_texture",
        "density_texture",
        "coverage_texture",
    ),
    "distribution": (
        "fine_texture",
        "kid_texture",
        "kid_segmenter",
        "floor_over_fid_texture",
        "radiomics_frechet",
        "classifier_auc_texture",
        "classifier_auc_segmenter",
    ),
    "obedience": ("dice_breast", "dice_pectoral", "dice_dense", "lesion_contrast", "lesion_auc"),
    "memorisation": (
        "neighbour_ratio_pixels",
        "near_pixels",
        "neighbour_ratio_texture",
        "near_texture",
    ),
}


def real(evidence: Evidence) -> np.ndarray:
    """Each film stands in for the images of its own mask."""
    assert evidence.synthetic.films is not None
    return evidence.real.images[evidence.synthetic.films]


def blurred(evidence: Evidence) -> np.ndarray:
    return gaussian_filter(real(evidence), (0, 1, 1))


def noisy(evidence: Evidence) -> np.ndarray:
    images = real(evidence)
    return np.clip(images + np.random.default_rng(0).normal(0, 0.08, images.shape), 0, 1) * (images > 0)


def patch_shuffled(evidence: Evidence) -> np.ndarray:
    """An eighth of the side is a patch; all images are shuffled alike."""
    images = real(evidence)
    count, side = len(images), images.shape[1] // 8
    patches = images.reshape(count, 8, side, 8, side).transpose(0, 1, 3, 2, 4).reshape(count, 64, side, side)
    patches = patches[:, np.random.default_rng(0).permutation(64)]
    return patches.reshape(count, 8, 8, side, side).transpose(0, 1, 3, 2, 4).reshape(images.shape)


def training_films(evidence: Evidence) -> np.ndarray:
    return evidence.train.images[np.arange(len(evidence.synthetic)) % len(evidence.train)]


def masks_swapped(evidence: Evidence) -> np.ndarray:
    """The films of other patients' masks: half of the patients further on."""
    return np.roll(real(evidence), len(evidence.synthetic) // 2, axis=0)


def one_repeated(evidence: Evidence) -> np.ndarray:
    return np.repeat(real(evidence)[:1], len(evidence.synthetic), axis=0)


CONTROLS: dict[str, Callable[[Evidence], np.ndarray]] = {
    "real": real,
    "blurred": blurred,
    "noisy": noisy,
    "patches shuffled": patch_shuffled,
    "training films": training_films,
    "masks swapped": masks_swapped,
    "one repeated": one_repeated,
}
"""What is done to the unseen films, which then stand in for synthetic images."""


def evaluate_controls(evidence: Evidence) -> dict[str, tuple[Measured, bool]]:
    """By name: all measures, and whether the test of memorisation is passed."""
    found = {}
    for name, control in CONTROLS.items():
        changed = with_images(evidence, control(evidence))
        measured = measure(changed)
        found[name] = measured, memorisation_verdict(changed, measured["memorisation"])["passed"]
    return found


def table(found: dict[str, tuple[Measured, bool]]) -> str:
    """A Markdown table: a row for each measure, a column for each control."""
    lines = [f"| measure | {' | '.join(found)} |", "| --- |" + " --- |" * len(found)]
    for section, keys in SHOWN.items():
        for key in keys:
            cells = [measured[section][key].get("value", float("nan")) for measured, _ in found.values()]
            lines.append(f"| {section}: {key} | {' | '.join(f'{cell:.3g}' for cell in cells)} |")
    verdicts = ("pass" if passed else "**fail**" for _, passed in found.values())
    return "\n".join([*lines, f"| memorisation: verdict | {' | '.join(verdicts)} |"])


def films_as_synthetic(data: Path, folder: Path) -> Evidence:
    """The unseen films of a data set in the place of synthetic images, one for each mask."""
    films, config, console = load_all([data]), DataConfig(), Console()
    split = split_patients(films, config.validation, config.test, config.split_seed)
    reference = prepare_reference(films, config, split, [data], folder, UNetConfig(epochs=EVALUATOR_EPOCHS), console)
    train, unseen = (real_films(part, films, config.view) for part in (reference.training, reference.test))
    segment, each = load_segmenter(reference.evaluator.path), np.arange(len(unseen))
    return Evidence(
        real=unseen,
        train=train,
        synthetic=SyntheticFilms(unseen.images, unseen.masks, each, unseen.patients, (each,)),
        segmenter=segment,
        spaces={
            "texture": texture_space(console),
            "segmenter": segmenter_space(reference.evaluator.model_path, console),
        },
        segmentation=Segmentation("the evaluation U-Net", unseen.masks, segment(unseen.images)),
    )


if __name__ == "__main__":
    print(table(evaluate_controls(films_as_synthetic(*map(Path, sys.argv[1:])))))
