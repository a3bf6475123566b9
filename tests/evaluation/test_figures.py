import io

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.evaluation import figures

ESTIMATE = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 40, "patients": 20}
MISSING = {"not computed": "needs 3 patients or more, found 1"}
RANDOM = np.random.default_rng(0)


def regions(estimate: dict) -> dict:
    return {
        f"dice_{region}": estimate | {"ceiling": estimate, "control": estimate}
        for region in ("breast", "pectoral", "dense", "lesion")
    }


def similarity(estimate: dict) -> tuple[dict, dict]:
    both = estimate | {"floor": estimate}
    return {"ssim_own_film": both, "ssim_left_right": estimate}, {"ssim_same_mask": both, "ssim_across_masks": both}


@pytest.mark.parametrize("estimate", [ESTIMATE, MISSING])
def test_bars_with_and_without_numbers(estimate):
    for png in (figures.obedience_bars(regions(estimate)), figures.similarity_bars(*similarity(estimate))):
        assert Image.open(io.BytesIO(png)).width > 600


@pytest.mark.parametrize("count", [1, 20])
def test_pictures_of_images(count):
    real, synthetic, train = (RANDOM.random(shape) for shape in ((count, 16, 16), (count, 3, 16, 16), (5, 16, 16)))
    for png in (figures.spectra(real, synthetic[:, 0]), figures.closest_pairs(real, synthetic, train)):
        assert Image.open(io.BytesIO(png)).format == "PNG"


def test_black_images_have_a_spectrum_to_draw():
    assert figures.spectra(np.zeros((2, 16, 16)), np.zeros((2, 16, 16)))
