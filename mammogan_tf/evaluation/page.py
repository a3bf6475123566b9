"""The report as one self-contained HTML page, for a screen, a phone and print."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from mammogan_tf.config import CLASSES
from mammogan_tf.data.label_maps import PALETTE
from mammogan_tf.evaluation.sections import SECTIONS, Measure, Picture, Section
from mammogan_tf.evaluation.words import (
    DIAGNOSIS,
    describe,
    format_estimate,
    format_references,
    format_verdict,
    headlines,
    shown,
)
from mammogan_tf.metrics.intervals import Estimate

__all__ = ["render_page"]

INTERVAL = re.compile(r"\[[^\]]+, [^\]]+\]")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; color: #111 }
h1 { font-size: 1.5rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
img { max-width: 100%; height: auto; display: block; margin: 1rem auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid #ccc }
td { font-variant-numeric: tabular-nums } small, .note { color: #555 } .note { font-size: .9rem }
.warning { border-left: 4px solid #d55e00; padding-left: .8rem } .swatch { padding: 0 .6em; border: 1px solid #999 }
.interval, .class { white-space: nowrap }
@media screen and (max-width: 36rem) {
  tr, td { display: block } tr { border-bottom: 1px solid #ccc; padding: .4rem 0 } tr:first-child { display: none }
  td { border: 0; padding: 0 } td:last-child:not(:empty)::before { content: "n = " }
}
@media print {
  body { max-width: none; font-size: 11pt } h2, tr, img { break-inside: avoid } h2 { break-after: avoid }
}
"""


def render_page(report: Mapping[str, Any], sheet: bytes, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The HTML of a report.

    Args:
        report: what :func:`mammogan_tf.evaluation.report.evaluate` returns.
        sheet: PNG bytes of the comparison sheet.
        pictures: the figures of each section.
    """
    measures = report["measures"]
    body = [_heading(report), _sheet(sheet), _summary(report)]
    for section in SECTIONS:
        if measures.get(section.key):
            extra = _verdict(report) if section.key == "memorisation" else ""
            body.append(_section(section, measures[section.key], extra, pictures.get(section.key, ())))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Synthetic mammograms: evaluation</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _heading(report: Mapping[str, Any]) -> str:
    return (
        "<h1>Synthetic mammograms: evaluation</h1>\n"
        f'<p class="warning">{DIAGNOSIS}</p>\n'
        f"<p><code>{escape(report['model'])}</code>: {escape(describe(report))}</p>\n"
        f"<p>Memorisation: <b>{escape(format_verdict(report))}</b></p>\n"
        '<p class="note">Every value is followed by its 95 % interval over patients, since two films, or two synthetic '
        "images, of one patient are not independent. With few patients such intervals are too narrow. One of no width means "
        "that nothing varied, not that nothing is uncertain. n is the number of films, images, or pairs of them.</p>"
    )


def _sheet(picture: bytes) -> str:
    colours = zip(CLASSES, PALETTE.tolist(), strict=True)
    swatches = " &nbsp; ".join(
        f'<span class="class"><span class="swatch" style="background: rgb({red} {green} {blue})"></span> {name}</span>'
        for name, (red, green, blue) in colours
    )
    return (
        f"<h2>Masks, real films, and synthetic images</h2>\n{_image(picture, 'Comparison sheet')}\n"
        f'<p class="note">{swatches}</p>\n'
        '<p class="note">The test films and their images are drawn at random by the seed. Missing texture shows only when '
        "they are enlarged.</p>"
    )


def _verdict(report: Mapping[str, Any]) -> str:
    rule = escape(report["memorisation"]["rule"])
    return f'<p class="warning"><b>{escape(format_verdict(report))}</b><br><small>{rule}</small></p>\n'


def _summary(report: Mapping[str, Any]) -> str:
    return f"<h2>Summary</h2>\n{_table((measure, estimate) for _, measure, estimate in headlines(report))}"


def _section(section: Section, measures: Mapping[str, Estimate], extra: str, pictures: Sequence[Picture]) -> str:
    figures = "\n".join(
        f'{_image(picture.png, picture.caption)}\n<p class="note">{escape(picture.caption)}</p>' for picture in pictures
    )
    return (
        f"<h2>{escape(section.title)}</h2>\n<p>{escape(section.meaning)}</p>\n{extra}"
        f"{_table(shown(section, measures))}\n{figures}\n"
        f'<p class="note"><b>Limits:</b> {escape(section.caution)}</p>'
    )


def _table(rows: Iterable[tuple[Measure, Estimate]]) -> str:
    body = "\n".join(_row(measure, estimate) for measure, estimate in rows)
    head = "<tr><th>measure</th><th>value</th><th>reference</th><th>n</th></tr>"
    return f'<div class="scroll"><table>\n{head}\n{body}\n</table></div>'


def _row(measure: Measure, estimate: Estimate) -> str:
    compared = "<br>".join(map(_unbroken, format_references(measure, estimate)))
    return (
        f"<tr><td>{escape(measure.title)}<br><small>{escape(measure.reading)}</small></td>"
        f"<td>{_unbroken(format_estimate(estimate))}</td><td>{compared}</td><td>{estimate.get('n', '')}</td></tr>"
    )


def _unbroken(text: str) -> str:
    """With no line break inside an interval."""
    return INTERVAL.sub(r'<span class="interval">\g<0></span>', escape(text))


def _image(picture: bytes, description: str) -> str:
    data = base64.b64encode(picture).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'
