"""The figures of the report, as PNG bytes (matplotlib without a display)."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mammogan_tf.metrics.features import power_spectrum
from mammogan_tf.metrics.intervals import Estimate
from mammogan_tf.metrics.memorisation import nearest
from mammogan_tf.metrics.segmentation import REGIONS

__all__ = ["closest_pairs", "obedience_bars", "similarity_bars", "spectra"]

SYNTHETIC, REAL, CONTROL = "#d55e00", "#0072b2", "#999999"
"""Colour-blind safe (Okabe and Ito), told apart in greyscale print too."""


def obedience_bars(measures: Mapping[str, Estimate]) -> bytes:
    """Dice of each region: synthetic, ceiling and control, with intervals."""
    groups = {region: measures[f"dice_{region}"] for region in REGIONS}
    series = (
        ("synthetic", SYNTHETIC, list(groups.values())),
        ("real (ceiling)", REAL, [group["ceiling"] for group in groups.values()]),
        ("shuffled masks (control)", CONTROL, [group["control"] for group in groups.values()]),
    )
    figure, axes = _canvas(6.4, 3.2)
    for place, (label, colour, estimates) in enumerate(series):
        _bars(axes, np.arange(len(groups)) + (place - 1) * 0.27, estimates, colour, label)
    axes.set(xticks=range(len(groups)), xticklabels=list(groups), ylim=(0, 1), ylabel="Dice")
    _legend_above(axes, 3)
    return _png(figure)


def similarity_bars(similarity: Mapping[str, Estimate], diversity: Mapping[str, Estimate]) -> bytes:
    """SSIM of all the pairs, synthetic and real, on one axis."""
    rows = (
        ("synthetic / its own film", SYNTHETIC, similarity["ssim_own_film"]),
        ("real / other patient, same tissue", REAL, similarity["ssim_own_film"]["floor"]),
        ("real / other breast", REAL, similarity["ssim_left_right"]),
        ("synthetic / synthetic, same mask", SYNTHETIC, diversity["ssim_same_mask"]),
        ("synthetic / synthetic, other patient", SYNTHETIC, diversity["ssim_across_masks"]),
        ("real / real, other patient", REAL, diversity["ssim_across_masks"]["floor"]),
    )
    figure, axes = _canvas(6.4, 2.8)
    for place, (_, colour, estimate) in enumerate(rows):
        if "value" in estimate:
            axes.plot([estimate["low"], estimate["high"]], [place, place], color=colour, linewidth=2)
            axes.plot(estimate["value"], place, "o" if colour == REAL else "D", color=colour)
    axes.set(yticks=range(len(rows)), yticklabels=[name for name, _, _ in rows], xlabel="SSIM", ylim=(5.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    return _png(figure)


def spectra(real: np.ndarray, synthetic: np.ndarray) -> bytes:
    """Radially averaged power spectra of real [N, S, S] and synthetic [M, S, S] images: median, and 10 to 90 %."""
    figure, axes = _canvas(6.4, 3.2)
    for label, colour, style, images in (("real", REAL, "-", real), ("synthetic", SYNTHETIC, "--", synthetic)):
        power = np.array([power_spectrum(image) for image in images]) + 1e-12
        frequency = np.arange(1, power.shape[1] + 1)
        low, median, high = np.percentile(power, [10, 50, 90], axis=0)
        axes.fill_between(frequency, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(frequency, median, style, color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="cycles per image width", ylabel="power")
    _legend_above(axes, 2)
    return _png(figure)


def closest_pairs(real: np.ndarray, synthetic: np.ndarray, train_images: np.ndarray, count: int = 8) -> bytes:
    """The synthetic images most suspect of being copies, each above its nearest training film.

    Suspect is what lies nearer to a training film than the real film of its mask does: small breasts are near to one
    another in any case. One image for each real film [N, S, S] out of its synthetic ones [N, K, S, S].
    """
    distances, indices = nearest(synthetic.reshape(-1, *synthetic.shape[2:]), train_images)
    distances, indices = (values.reshape(synthetic.shape[:2]) for values in (distances, indices))
    ratios = distances.min(axis=1) / np.maximum(nearest(real, train_images)[0], 1e-9)
    order = ratios.argsort(kind="stable")[:count]
    figure = Figure(figsize=(1.0 * len(order) + 0.6, 2.5), layout="constrained")
    grid = figure.subplots(2, len(order), squeeze=False)
    for column, film in enumerate(order):
        suspect = distances[film].argmin()
        grid[0, column].set_title(f"{ratios[film]:.2f}", fontsize=8)
        for row, image in enumerate((synthetic[film, suspect], train_images[indices[film, suspect]])):
            grid[row, column].imshow(image, cmap="gray", vmin=0, vmax=1)
            grid[row, column].set(xticks=[], yticks=[])
    grid[0, 0].set_ylabel("synthetic", fontsize=8)
    grid[1, 0].set_ylabel("training film", fontsize=8)
    return _png(figure)


def _canvas(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bars(axes: Any, places: np.ndarray, estimates: list[Estimate], colour: str, label: str) -> None:
    shown = [(place, e) for place, e in zip(places, estimates, strict=True) if "value" in e]
    if not shown:
        return
    values = np.array([[e["value"], e["value"] - e["low"], e["high"] - e["value"]] for _, e in shown])
    errors = np.clip(values[:, 1:].T, 0, None)
    axes.bar([place for place, _ in shown], values[:, 0], 0.25, yerr=errors, color=colour, label=label, capsize=2)


def _legend_above(axes: Any, columns: int) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False, fontsize=9)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with matplotlib.rc_context({"savefig.dpi": 160}):
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
