import io
import warnings

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.evaluation import figures
from mammogan_tf.metrics.features import power_spectrum

ESTIMATE = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 40, "patients": 20}
MISSING = {"not computed": "needs 3 patients or more, found 1"}
RANDOM = np.random.default_rng(0)


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize("estimate", [ESTIMATE, MISSING])
def test_estimates_with_and_without_numbers(estimate):
    bars = figures.grouped_bars(
        ["breast", "lesion"], {"synthetic": [estimate, MISSING], "other": [estimate] * 2}, "Dice"
    )
    rows = figures.intervals([("synthetic", "synthetic", estimate), ("real", "real", MISSING)], "SSIM", line=0.5)
    assert size(bars)[0] > 600
    assert size(rows)[0] > 600


@pytest.fixture
def axes(monkeypatch):
    """The axes of a figure, in place of its bytes."""
    monkeypatch.setattr(figures, "_png", lambda figure: figure.axes[0])


def test_an_interval_reaches_from_end_to_end(axes):
    interval, point = figures.intervals([("synthetic", "synthetic", ESTIMATE)], "SSIM").lines
    assert interval.get_xdata().tolist() == [ESTIMATE["low"], ESTIMATE["high"]]
    assert point.get_xdata().tolist() == [ESTIMATE["value"]]


def test_spectra_are_those_of_their_kind(axes):
    images = {"real": RANDOM.random((5, 16, 16)), "synthetic": RANDOM.random((5, 16, 16)) / 2}
    lines = {line.get_label(): line.get_ydata() for line in figures.spectra(**images).lines}
    assert set(lines) == set(images)
    for kind, stack in images.items():
        np.testing.assert_allclose(lines[kind], np.median([power_spectrum(image) for image in stack], axis=0))


@pytest.mark.parametrize("count", [1, 20])
def test_pictures_of_images(count):
    real, synthetic = RANDOM.random((5, 16, 16)), RANDOM.random((count, 16, 16))
    assert size(figures.spectra(real, synthetic))
    width, _ = size(figures.gallery({"a": synthetic, "b": synthetic}, ["title"] * count))
    assert width > 80 * count


def test_a_film_s_name_is_no_formula():
    assert figures.gallery({"a": RANDOM.random((1, 16, 16))}, ["0.5\nfilm$_$1"])


def test_values_of_each_kind():
    real, synthetic = RANDOM.random(30), RANDOM.random(50)
    assert size(figures.histograms({"real": real, "synthetic": synthetic}, "distance"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy's, of black images alone.
        assert size(figures.histograms({"real": real, "synthetic": np.empty(0)}, "grey level"))
    panel = {"real": (real, real), "synthetic": (synthetic, synthetic / 2)}
    empty = {"real": (np.empty(0), np.empty(0))}
    assert size(figures.scatter({"breast": panel, "lesion": empty}, "asked", "found"))


def test_black_images_have_a_spectrum_to_draw():
    assert figures.spectra(np.zeros((2, 16, 16)), np.zeros((2, 16, 16)))
