"""Sets of images that the report must see through, and the table of what it says of them.

``python -m tests.evaluation.controls RUN REPORT`` judges them on the films of a train-gan run, with the judge that
``mammogan-tf evaluate --gan RUN --out REPORT`` has trained, and prints the table of docs/report.md.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.judge import Measured, judge
from mammogan_tf.evaluation.sections.memorisation import judge_memorisation
from tests.toy_films import with_images

__all__ = ["CONTROLS", "judge_controls", "table"]

SHOWN = {
    "fidelity": ("ssim_own_film",),
    "diversity": ("ssim_across_masks", "ssim_same_mask", "recall_texture", "coverage_texture"),
    "distribution": ("fine_texture", "kid_texture", "kid_segmenter", "classifier_auc_texture"),
    "obedience": ("dice_breast", "dice_dense", "lesion_contrast_to_real"),
    "memorisation": ("neighbour_ratio_pixels", "near_pixels"),
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
    """The synthetic images of other patients' masks: half of the patients further on."""
    return np.roll(evidence.synthetic.images, len(evidence.synthetic) // 2, axis=0)


def one_repeated(evidence: Evidence) -> np.ndarray:
    return np.repeat(evidence.synthetic.images[:1], len(evidence.synthetic), axis=0)


CONTROLS: dict[str, Callable[[Evidence], np.ndarray]] = {
    "as generated": lambda evidence: evidence.synthetic.images,
    "real": real,
    "real, blurred": blurred,
    "real, noisy": noisy,
    "real, patches shuffled": patch_shuffled,
    "training films": training_films,
    "masks swapped": masks_swapped,
    "one image repeated": one_repeated,
}


def judge_controls(evidence: Evidence) -> dict[str, tuple[Measured, bool]]:
    """By name: all measures, and whether the test of memorisation is passed."""
    found = {}
    for name, control in CONTROLS.items():
        changed = with_images(evidence, control(evidence))
        measured = judge(changed)
        found[name] = measured, judge_memorisation(changed, measured["memorisation"])["passed"]
    return found


def table(found: dict[str, tuple[Measured, bool]]) -> str:
    """A Markdown table: a row for each measure, a column for each control."""
    lines = [f"| measure | {' | '.join(found)} |", "| --- |" + " --- |" * len(found)]
    for section, keys in SHOWN.items():
        for key in keys:
            cells = [measured[section][key].get("value", float("nan")) for measured, _ in found.values()]
            lines.append(f"| {section}: {key} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return "\n".join([*lines, f"| memorisation | {' | '.join('PASS' if ok else 'FAIL' for _, ok in found.values())} |"])


def main(run: Path, report: Path) -> None:
    from mammogan_tf.console import Console
    from mammogan_tf.data.sources import load_all
    from mammogan_tf.evaluation.report import gather
    from mammogan_tf.training.run import Run

    opened = Run.open(run)
    print(table(judge_controls(gather(opened, load_all(opened.data), report, count=100, console=Console()))))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
