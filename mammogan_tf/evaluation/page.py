"""The report as one self-contained HTML page, for a screen, a phone and print."""

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

from mammogan_tf.config import CLASSES
from mammogan_tf.data.label_maps import PALETTE
from mammogan_tf.evaluation.measures import REFERENCES, SECTIONS, Measure, Section
from mammogan_tf.metrics.intervals import Estimate

__all__ = ["format_estimate", "render_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; color: #111 }
h1 { font-size: 1.5rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
img { max-width: 100%; height: auto; display: block; margin: 1rem auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid #ccc }
td { font-variant-numeric: tabular-nums } small, .note { color: #555 } .note { font-size: .9rem }
.warning { border-left: 4px solid #d55e00; padding-left: .8rem } .swatch { padding: 0 .6em; border: 1px solid #999 }
@media print {
  body { max-width: none; font-size: 11pt } h2, tr, img { break-inside: avoid } h2 { break-after: avoid }
}
"""

SHEET = "sheet"

FIGURES = {
    "similarity": ("bars", "SSIM of synthetic and of real pairs, with 95 % intervals."),
    "obedience": ("obedience", "Dice by region: synthetic, ceiling and control, with 95 % intervals."),
    "distribution": (
        "spectra",
        "Radially averaged power spectrum: median and the middle 80 % of images. Synthetic below real on the right "
        "means missing fine texture, a peak means a grid. Films of few patients give a ragged band.",
    ),
    "memorisation": (
        "closest",
        "The synthetic images most suspect of being copies, above their nearest training film, with their distance to it "
        "over that of the real film of the same mask. The same outline is no copy; the same texture is.",
    ),
}
"""For each section its figure and the caption."""


def render_page(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The HTML of a report.

    Args:
        report: what :func:`mammogan_tf.evaluation.report.evaluate` returns.
        pictures: PNG bytes by name: ``sheet``, and those of :data:`FIGURES`.
    """
    body = [_heading(report), _sheet(pictures[SHEET])]
    body += [_section(section, report["measures"][section.key], pictures) for section in SECTIONS]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Synthetic mammograms: evaluation</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def format_estimate(estimate: Estimate) -> str:
    """``0.713 [0.688, 0.740]``, or ``not computed: why``."""
    if "not computed" in estimate:
        return f"not computed: {estimate['not computed']}"
    value, low, high = (
        f"{estimate[name]:.3f}" if abs(estimate[name]) < 100 else f"{estimate[name]:.3g}"
        for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def _heading(report: Mapping[str, Any]) -> str:
    films, synthetic = report["films"], report["synthetic"]
    return (
        "<h1>Synthetic mammograms: evaluation</h1>\n"
        '<p class="warning">For research and teaching. Never for diagnosis.</p>\n'
        f"<p>{synthetic['images']} synthetic images of {report['size']} x {report['size']} pixels, "
        f"{synthetic['per_mask']} from the mask of each of {films['test']} films of {films['test_patients']} patients "
        f"that no network was trained on. Generator <code>{escape(report['run'])}</code>, trained on {films['train']} "
        f"films, masks from: {escape(report['masks'])}. Seed {synthetic['seed']}.</p>\n"
        '<p class="note">Every value is followed by its 95 % interval over patients; where several images belong to '
        "a film, they count as one, by their mean. With few patients such intervals are too narrow.</p>"
    )


def _sheet(picture: bytes) -> str:
    colours = zip(CLASSES, PALETTE.tolist(), strict=True)
    swatches = " &nbsp; ".join(
        f'<span class="swatch" style="background: rgb({red} {green} {blue})"></span> {name}'
        for name, (red, green, blue) in colours
    )
    return (
        f"<h2>Masks, their real films, and synthetic images</h2>\n{_image(picture, 'Comparison sheet')}\n"
        f'<p class="note">{swatches}</p>\n'
        '<p class="note">Test films and noise drawn at random by the seed, not by taste. Small pictures forgive: '
        "missing texture shows only when they are enlarged.</p>"
    )


def _section(section: Section, measures: Mapping[str, Estimate], pictures: Mapping[str, bytes]) -> str:
    rows = "\n".join(_row(measure, measures[measure.key]) for measure in section.measures)
    html = (
        f"<h2>{escape(section.title)}</h2>\n<p>{escape(section.meaning)}</p>\n"
        '<div class="scroll"><table>\n<tr><th>measure</th><th>value</th><th>beside it</th><th>n</th></tr>\n'
        f"{rows}\n</table></div>\n"
    )
    if section.key in FIGURES:
        name, caption = FIGURES[section.key]
        html += f'{_image(pictures[name], caption)}\n<p class="note">{escape(caption)}</p>\n'
    return html + f'<p class="note"><b>When not to trust it:</b> {escape(section.caution)}</p>'


def _row(measure: Measure, estimate: Estimate) -> str:
    beside = "<br>".join(
        f"{escape(title)}: {format_estimate(estimate[key])}" for key, title in REFERENCES.items() if key in estimate
    )
    return (
        f"<tr><td>{escape(measure.title)}<br><small>{escape(measure.reading)}</small></td>"
        f"<td>{escape(format_estimate(estimate))}</td><td>{beside}</td><td>{estimate.get('n', '')}</td></tr>"
    )


def _image(picture: bytes, description: str) -> str:
    data = base64.b64encode(picture).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'
