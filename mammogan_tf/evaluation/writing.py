"""The files of a report."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from mammogan_tf.console import Console
from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.measuring import Measured, draw
from mammogan_tf.evaluation.page import render_page
from mammogan_tf.evaluation.sections import REFERENCES
from mammogan_tf.evaluation.sheet import comparison_sheet
from mammogan_tf.evaluation.words import render_card, render_markdown
from mammogan_tf.files import read_json, write_json, write_text
from mammogan_tf.training.card import gan_card, with_measured
from mammogan_tf.training.run import Run, patient_digits

__all__ = ["FORMAT", "PATIENTS", "REPORT", "digest", "write_card", "write_report"]

FORMAT = 6
"""Number of the form of ``report.json``: to be raised where a reader of the form before would go wrong."""

REPORT = "report.json"
PATIENTS = "patients.json"
"""The file with what each value would be ``without`` each patient or block of them, under digits in place of their names,
and with the :func:`digest` of the ``report`` that these values belong to."""

SHEET_ROWS = 16


def write_report(report: dict[str, Any], evidence: Evidence, out: Path) -> None:
    """Writes all files of a report, ``report.json`` last: where that is, the report is whole.

    Takes the values without each patient, or block of them, out of ``report``.
    """
    pictures = draw(evidence, report["measures"])
    without = _take_out(report["measures"])
    (out / REPORT).unlink(missing_ok=True)
    write_text(out / "report.html", render_page(report, _sheet(evidence, out), pictures))
    write_text(out / "report.md", render_markdown(report))
    write_json(out / PATIENTS, {"report": digest(report), "without": without})
    write_json(out / REPORT, report)


def digest(report: dict[str, Any]) -> str:
    """Digits that differ where the content of two reports does."""
    return hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()


def _take_out(measures: Measured) -> dict[str, dict[str, dict[str, float]]]:
    without: dict[str, dict[str, dict[str, float]]] = {}
    for section, estimates in measures.items():
        without[section] = {}
        for key, estimate in estimates.items():
            if "without" in estimate:
                values = estimate.pop("without")
                without[section][key] = {patient_digits(name): value for name, value in values.items()}
            for kind in REFERENCES:
                estimate.get(kind, {}).pop("without", None)
    return without


def _sheet(evidence: Evidence, out: Path) -> bytes:
    """Mask, real film and synthetic image, drawn at random; real films that have no relation where images are not tied."""
    real, synthetic, random = evidence.real, evidence.synthetic, np.random.default_rng(evidence.seed)
    rows = random.permutation(synthetic.sets[0])[:SHEET_ROWS]
    if synthetic.films is not None:
        rows = np.sort(rows)
        films, title = synthetic.films[rows], "its real film"
    else:
        films, title = random.permutation(len(real))[: len(rows)], "some real film"
    masks = real.masks[films] if synthetic.masks is None else synthetic.masks[rows]
    titles = ("mask" if synthetic.masks is not None else "mask of the film", title, "synthetic")
    path = comparison_sheet(masks, real.images[films], synthetic.images[rows], out / "sheet.png", titles)
    return path.read_bytes()


def write_card(run: Run, report: dict[str, Any], console: Console) -> None:
    """Writes what was measured into the run's model card; all else there stays."""
    try:
        card = run.card_path.read_text() if run.card_path.exists() else gan_card(run, read_json(run.report_path))
        write_text(run.card_path, with_measured(card, render_card(report)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        console.line(f"{run.path}: the model card stays as it was ({error})")
