"""Our measures against the reference implementations, on the arrays of ``make_parity_golden.py``.

``python tests/golden/test_parity.py`` prints the table of ``docs/metrics.md``.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mammogan_tf.metrics.distribution import frechet_distance, kid, manifolds
from mammogan_tf.metrics.features import co_occurrence, wavelet_energies
from mammogan_tf.metrics.memorisation import nearest
from mammogan_tf.metrics.segmentation import dice, hd95, iou, precision, sensitivity
from mammogan_tf.metrics.similarity import ms_ssim, ssim
from mammogan_tf.metrics.two_sample import auc, discriminant

Read = Callable[[str], np.ndarray]


class Row(NamedTuple):
    """One comparison: ``tolerance`` bounds the largest absolute difference."""

    measure: str
    reference: str
    ours: np.ndarray
    theirs: np.ndarray
    tolerance: float = 1e-9

    @property
    def difference(self) -> float:
        return float(np.abs(self.ours - self.theirs).max())


def similarity(read: Read) -> Iterator[Row]:
    ours = ssim(read("first") / 255, read("second") / 255)
    yield Row("SSIM, 64 x 64", "scikit-image", ours, read("scikit-image"))
    yield Row("SSIM, 64 x 64", "pytorch-msssim", ours, read("pytorch-msssim"), 1e-6)


def multi_scale_small(read: Read) -> Iterator[Row]:
    ours = ms_ssim(read("first") / 255, read("second") / 255)
    yield Row("MS-SSIM, 64 x 64, 3 scales", "monai", ours, read("monai"), 1e-6)


def multi_scale_large(read: Read) -> Iterator[Row]:
    ours = ms_ssim(read("first") / 255, read("second") / 255)
    yield Row("MS-SSIM, 192 x 192, 5 scales", "pytorch-msssim", ours, read("pytorch-msssim"), 1e-6)


def segmentation(read: Read) -> Iterator[Row]:
    for measure in (dice, iou, hd95, sensitivity, precision):
        ours = np.stack([measure(read("truth"), read("found"), index) for index in range(5)], axis=1)
        name = "HD95, pixels" if measure is hd95 else measure.__name__
        yield Row(f"{name}, 6 maps x 5 classes", "monai", ours, read(measure.__name__), 1e-5)


def distribution(read: Read) -> Iterator[Row]:
    first, second = read("first"), read("second")
    of_subsets = np.array([kid(first[one], second[other]) for one, other in read("subsets")])
    yield Row("FID", "torch-fidelity", np.array(frechet_distance(first, second)), read("fid"), 1e-6)
    yield Row("KID, mean of subsets", "torch-fidelity", of_subsets.mean(), read("kid_mean"))
    yield Row("KID, deviation of subsets", "torch-fidelity", of_subsets.std(), read("kid_deviation"))


def neighbourhoods(read: Read) -> Iterator[Row]:
    found = manifolds(read("first").astype(float), read("second").astype(float), k=5)
    for name in ("precision", "recall", "density", "coverage"):
        yield Row(name, "prdc", np.array(getattr(found, name)), read(name))


def texture(read: Read) -> Iterator[Row]:
    at_distance_1 = co_occurrence(read("image") / 255)[::2]
    names = ("contrast", "homogeneity", "second_moment", "correlation")
    for name, ours in zip(names, at_distance_1, strict=True):
        yield Row(f"co-occurrence, {name.replace('_', ' ')}", "pyradiomics", ours, read(name))


def wavelets(read: Read) -> Iterator[Row]:
    yield Row("Haar energies, 9", "pywavelets", 10 ** wavelet_energies(read("image") / 255), read("energies"))


def classifier(read: Read) -> Iterator[Row]:
    first, second = read("first").astype(float), read("second").astype(float)
    weights, offset = discriminant(first, second)
    scores = np.concatenate([first, second]) @ weights + offset
    yield Row("discriminant, log odds of 160", "scikit-learn", scores, read("scores"))
    for name, given in (("AUC", read("scores")), ("AUC with ties", np.round(read("scores")))):
        theirs = read("auc" if name == "AUC" else "auc_tied")
        yield Row(name, "scikit-learn", np.array(auc(given[: len(first)], given[len(first) :])), theirs)


def neighbours(read: Read) -> Iterator[Row]:
    distances, indices = nearest(read("queries"), read("references"))
    yield Row("nearest neighbour, distance of 30", "scikit-learn", distances, read("distances"))
    yield Row("nearest neighbour, index of 30", "scikit-learn", indices, read("indices"), 0)


PARTS = (
    similarity,
    multi_scale_small,
    multi_scale_large,
    segmentation,
    distribution,
    neighbourhoods,
    texture,
    wavelets,
    classifier,
    neighbours,
)


def rows() -> tuple[list[Row], dict[str, str]]:
    """Every comparison, and the versions of the references."""
    with np.load(Path(__file__).parent / "parity.npz") as stored:
        arrays = dict(stored)

    def reader(part: str) -> Read:
        return lambda name: arrays[f"{part}/{name}"]

    found = [row for part in PARTS for row in part(reader(part.__name__))]
    return found, json.loads(str(arrays["versions"]))


@pytest.mark.parametrize("row", rows()[0], ids=lambda row: f"{row.measure} ({row.reference})")
def test_parity(row):
    assert np.shape(row.ours) == np.shape(row.theirs)
    np.testing.assert_allclose(row.ours, row.theirs, rtol=0, atol=row.tolerance)


def table() -> str:
    """The comparisons in Markdown: means where a measure gives several numbers, and the largest difference of any."""
    found, versions = rows()
    lines = ["| measure | reference | ours | reference's | largest difference |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.measure} | {row.reference} {versions[row.reference]} | {np.mean(row.ours):.9g} "
        f"| {np.mean(row.theirs):.9g} | {row.difference:.0e} |"
        for row in found
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
