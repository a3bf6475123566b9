"""The kinds of figure that the report has, as PNG bytes (matplotlib without a display)."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mammogan_tf.metrics.features import power_spectrum
from mammogan_tf.metrics.intervals import Estimate

__all__ = ["gallery", "grouped_bars", "histograms", "intervals", "scatter", "spectra"]

COLOURS = {"synthetic": "#d55e00", "real": "#0072b2", "control": "#999999"}
"""Colours of the kinds of data: colour-blind safe (Okabe and Ito), told apart in greyscale print too."""

MARKERS = {"synthetic": "D", "real": "o", "control": "x"}

CYCLE = ("#56b4e9", "#0072b2", "#003f66", "#e69f00", "#d55e00", "#999999")
"""Colours of series that are no kinds of data."""


def grouped_bars(groups: Sequence[str], series: Mapping[str, Sequence[Estimate]], label: str) -> bytes:
    """A group of bars with intervals for each name; a series has one estimate a group. Missing ones leave a gap."""
    figure, axes = _canvas(6.4, 3.2)
    width = 0.8 / len(series)
    for place, (name, estimates) in enumerate(series.items()):
        shown = [(group, e) for group, e in enumerate(estimates) if "value" in e]
        if shown:
            values = np.array([[e["value"], e["value"] - e["low"], e["high"] - e["value"]] for _, e in shown])
            places = [group + (place - (len(series) - 1) / 2) * width for group, _ in shown]
            colour = COLOURS.get(name.partition(" ")[0], CYCLE[place % len(CYCLE)])
            errors = np.clip(values[:, 1:].T, 0, None)
            axes.bar(places, values[:, 0], 0.93 * width, yerr=errors, color=colour, label=name, capsize=2)
    axes.set(xticks=range(len(groups)), xticklabels=list(groups), ylim=(0, 1), ylabel=label)
    _legend_above(axes, min(len(series), 3))
    return _png(figure)


def intervals(rows: Sequence[tuple[str, str, Estimate]], label: str, line: float | None = None) -> bytes:
    """A row with a point and an interval for each (name, kind, estimate); a vertical ``line`` to compare with."""
    figure, axes = _canvas(6.4, 1.0 + 0.3 * len(rows))
    for place, (_, kind, estimate) in enumerate(rows):
        if "value" in estimate:
            axes.plot([estimate["low"], estimate["high"]], [place, place], color=COLOURS[kind], linewidth=2)
            axes.plot(estimate["value"], place, MARKERS[kind], color=COLOURS[kind])
    if line is not None:
        axes.axvline(line, color="black", linewidth=0.8, linestyle=":")
    names = [name for name, _, _ in rows]
    axes.set(yticks=range(len(rows)), yticklabels=names, xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    return _png(figure)


def histograms(values: Mapping[str, np.ndarray], label: str, bins: int = 40) -> bytes:
    """Outlines of the distributions of each kind, on common bins, with equal areas; none of a kind without values."""
    values = {kind: each for kind, each in values.items() if np.size(each)}
    figure, axes = _canvas(6.4, 2.8)
    edges = np.histogram_bin_edges(np.concatenate([np.ravel(each) for each in values.values()]), bins)
    for kind, each in values.items():
        style = "--" if kind == "synthetic" else "-"
        axes.hist(
            np.ravel(each),
            edges,
            density=True,
            histtype="step",
            color=COLOURS[kind.partition(" ")[0]],
            label=kind,
            linestyle=style,
            linewidth=1.6,
        )
    axes.set(xlabel=label, yticks=[], ylabel="share")
    _legend_above(axes, len(values))
    return _png(figure)


def scatter(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], across: str, up: str) -> bytes:
    """Points (x, y) of each kind in a panel for each name, with the diagonal on which both agree."""
    figure = Figure(figsize=(6.4, 0.8 + 6.4 / len(panels)), layout="constrained")
    for axes, (name, kinds) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        limit = max([0.01, *(np.max(values) for pair in kinds.values() for values in pair if len(values))]) * 1.05
        axes.plot([0, limit], [0, limit], color="black", linewidth=0.8, linestyle=":")
        for kind, (x, y) in kinds.items():
            axes.plot(x, y, MARKERS[kind], color=COLOURS[kind], label=kind, markersize=3, alpha=0.7)
        axes.set(title=name, xlim=(0, limit), ylim=(0, limit), xlabel=across, aspect="equal")
        axes.locator_params(nbins=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
    figure.axes[0].set_ylabel(up)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return _png(figure)


def spectra(real: np.ndarray, synthetic: np.ndarray) -> bytes:
    """Radially averaged power spectra of real [N, S, S] and synthetic [M, S, S] images: median, and 10 to 90 %."""
    figure, axes = _canvas(6.4, 3.2)
    for kind, style, images in (("real", "-", real), ("synthetic", "--", synthetic)):
        power = np.array([power_spectrum(image) for image in images]) + 1e-12
        frequency = np.arange(1, power.shape[1] + 1)
        low, median, high = np.percentile(power, [10, 50, 90], axis=0)
        axes.fill_between(frequency, low, high, color=COLOURS[kind], alpha=0.2, linewidth=0)
        axes.plot(frequency, median, style, color=COLOURS[kind], label=kind)
    axes.set(xscale="log", yscale="log", xlabel="cycles per image width", ylabel="power")
    _legend_above(axes, 2)
    return _png(figure)


def gallery(rows: Mapping[str, np.ndarray], titles: Sequence[str]) -> bytes:
    """Rows of images [P, S, S] in [0, 1] with a name each; ``titles`` stand above the columns."""
    figure = Figure(figsize=(1.0 * len(titles) + 0.6, 0.3 + 1.1 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes_of_row, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_of_row, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        axes_of_row[0].set_ylabel(name, fontsize=8)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8, parse_math=False)
    return _png(figure)


def _canvas(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend_above(axes: Any, columns: int) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False, fontsize=9)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with matplotlib.rc_context({"savefig.dpi": 160}):
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
