"""Several reports side by side, and what they differ by."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from mammogan_tf.errors import DataError
from mammogan_tf.evaluation.sections import SECTIONS
from mammogan_tf.evaluation.words import format_estimate, format_verdict
from mammogan_tf.evaluation.writing import FORMAT, PATIENTS, REPORT, digest
from mammogan_tf.files import read_json, write_text
from mammogan_tf.metrics.intervals import Estimate, half_width, not_computed
from mammogan_tf.training.run import Run, is_run

__all__ = ["Reported", "compare", "difference", "find_report", "read_report"]

Types = dict[str, type | tuple[type, ...]]

# What :func:`compare` reads, and its types: of a report, of its verdict, of an estimate, and of one that was not computed.
READ: Types = {"size": int, "view": str, "segmented_by": str, "evaluator": str, "memorisation": dict, "measures": dict}
VERDICT: Types = {"passed": bool, "checked": list, "reasons": list}
ESTIMATE: Types = {"value": (int, float), "low": (int, float), "high": (int, float), "n": int, "patients": int}
NOT_COMPUTED: Types = {"not computed": str}


@dataclass(frozen=True)
class Reported:
    """A report, where it came from, and its values without each patient or block of them (empty where that is not known)."""

    name: str
    report: dict[str, Any]
    without: dict[str, dict[str, dict[str, float]]]

    def estimate(self, section: str, key: str) -> Estimate:
        return self.report["measures"].get(section, {}).get(key, not_computed("not in this report"))


def find_report(path: Path) -> Path:
    """The report that a path means: itself, the one in this folder, or the newest in a folder inside it (of a run).

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return path
    inside = sorted(path.glob(f"*/{REPORT}"), key=lambda file: file.stat().st_mtime, reverse=True)
    own = [] if is_run(path) else [path / REPORT]  # A run has a report of its training.
    for file in (*own, *inside):
        if file.exists():
            return file
    raise DataError(
        f"{path}: expected a report, a folder that holds one, or a run with one inside it, received: none of these; "
        "write one with mammogan-tf evaluate"
    )


def read_report(path: Path) -> Reported:
    """The report at a path, by :func:`find_report`.

    Raises:
        DataError: there is none, it is broken, of another version, or of another generator than the run has by now.
    """
    file = find_report(path)
    try:
        report = read_json(file)
        if not isinstance(report, dict) or not {"format", "measures"} <= report.keys():
            raise ValueError("other JSON")
        if report["format"] != FORMAT:
            raise DataError(
                f"{file}: expected a report of format {FORMAT}, received: {report['format']}; write it again"
            )
        _require_content(report)
        patients = file.with_name(PATIENTS)
        kept = read_json(patients) if patients.exists() else {}
        if not isinstance(kept, dict) or not isinstance(kept.get("without", {}), dict):
            raise ValueError(f"other JSON in {PATIENTS}")
    except ValueError as error:
        raise DataError(f"{file}: expected a report, received: a broken file ({error}); write it again") from error
    if is_run(path):
        _require_of_its_generator(path, file, report)
    return Reported(str(path), report, kept.get("without", {}) if kept.get("report") == digest(report) else {})


def _require_content(report: dict[str, Any]) -> None:
    """Raises ValueError where something that :func:`compare` reads is missing."""
    _require_types("report", report, READ)
    _require_types("memorisation", report["memorisation"], VERDICT)
    for section, estimates in report["measures"].items():
        _require_types("measures", report["measures"], {section: dict})
        for key, estimate in estimates.items():
            _require_types(section, estimates, {key: dict})
            _require_types(f"{section}, {key}", estimate, ESTIMATE if "value" in estimate else NOT_COMPUTED)


def _require_types(where: str, found: dict[str, Any], types: Types) -> None:
    for key, kind in types.items():
        if not isinstance(found.get(key), kind):
            raise ValueError(f"{where}: {key} is missing, or of another type")


def _require_of_its_generator(run: Path, file: Path, report: dict[str, Any]) -> None:
    """Refuses a report on the generator that a run had before it was resumed."""
    kept, evaluated = Run.open(run).ended_with.get("best_step"), report.get("step")
    if kept != evaluated:
        raise DataError(
            f"{file}: expected a report of the run's generator, of step {kept}, received: one of step {evaluated}; "
            f"write it again with mammogan-tf evaluate --gan {shlex.quote(str(run))}"
        )


def difference(first: Reported, other: Reported, section: str, key: str) -> Estimate:
    """``other`` minus ``first``, with a 95 % interval of :func:`half_width` standard errors.

    Where both reports have the values without each patient, or block of patients, and for the same ones, the error is that of
    the paired differences by the jackknife (Efron and Stein 1981). Else the two errors are added as those of independent
    values, which is too wide for the same films and right for others. A measure without such values, such as a median, has
    its error from the longer half of its interval: the other half may end where the measure's scale does.
    """
    a, b = first.estimate(section, key), other.estimate(section, key)
    for reported, estimate in ((first, a), (other, b)):
        if "value" not in estimate:
            return not_computed(f"{reported.name}: {estimate['not computed']}")
    without_a, without_b = (each.without.get(section, {}).get(key, {}) for each in (first, other))
    paired = bool(without_a) and without_a.keys() == without_b.keys()
    if paired:
        error = _jackknife([without_b[name] - without_a[name] for name in without_a])
    else:
        error = math.hypot(_error(a, without_a), _error(b, without_b))
    patients = min(a["patients"], b["patients"])
    blocks = min([patients, *(len(without) for without in (without_a, without_b) if without)])
    value, reach = b["value"] - a["value"], half_width(blocks) * error
    found: Estimate = {
        "value": value,
        "low": value - reach,
        "high": value + reach,
        "n": min(a["n"], b["n"]),
        "patients": patients,
    }
    return found if paired else found | {"note": "unpaired"}


def _error(estimate: Estimate, without: dict[str, float]) -> float:
    """The standard error of an estimate."""
    if without:
        return _jackknife(list(without.values()))
    value = estimate["value"]
    return max(estimate["high"] - value, value - estimate["low"]) / half_width(estimate["patients"])


def _jackknife(without: Sequence[float]) -> float:
    return float(np.sqrt((len(without) - 1) * np.var(without)))


def compare(paths: Sequence[Path], out: Path | None = None) -> str:
    """A Markdown table of all measures: a column for each report, and for each but the first one its difference to the first.

    An asterisk marks a difference whose interval leaves 0 out.

    Args:
        paths: 2 to 26 reports, folders of reports, or runs.
        out: a file to write the table to.

    Raises:
        DataError: too few or too many, one that is no report, or ``out`` is one of them.
    """
    if not 2 <= len(paths) <= len(ascii_uppercase):
        raise DataError(f"compare: expected 2 to {len(ascii_uppercase)} reports, received: {len(paths)}")
    if out and out.resolve() in (find_report(path).resolve() for path in paths):
        raise DataError(
            f"{out}: expected a file of its own for the table, received: one of the reports; choose another"
        )
    reports = [read_report(path) for path in paths]
    first, *others = reports
    heads = [f"{letter}: {each.name}" for letter, each in zip(ascii_uppercase, reports, strict=False)]
    changes = [f"{letter} - A" for letter in ascii_uppercase[1 : len(reports)]]
    lines = [_line(["measure", *heads, *changes]), _line(["---"] * (2 * len(reports)))]
    for section in SECTIONS:
        for measure in section.measures:
            estimates = [each.estimate(section.key, measure.key) for each in reports]
            if any("value" in estimate for estimate in estimates):
                differences = [difference(first, other, section.key, measure.key) for other in others]
                cells = [*map(_short, estimates), *map(_signed, differences)]
                lines.append(_line([f"{section.key}: {measure.title}", *cells]))
    lines.append(
        _line(["memorisation: verdict", *(format_verdict(each.report) for each in reports), *[""] * len(others)])
    )
    text = "\n".join([*lines, "", *_notes(reports)]) + "\n"
    if out:
        write_text(out, text)
    return text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _short(estimate: Estimate) -> str:
    return format_estimate(estimate) if "value" in estimate else "not computed"


def _signed(estimate: Estimate) -> str:
    if "value" not in estimate:
        return ""
    mark = "*" if estimate["low"] > 0 or estimate["high"] < 0 else ""
    sign = "+" if estimate["value"] >= 0 else ""
    return f"{sign}{format_estimate(estimate)}{mark}{' (unpaired)' if 'note' in estimate else ''}"


def _notes(reports: Sequence[Reported]) -> list[str]:
    notes = [
        "95 % intervals over patients; \\* the interval of the difference leaves 0 out, as one in twenty does by chance alone."
    ]
    sizes = {(each.report["size"], each.report["view"]) for each in reports}
    if len(sizes) > 1:
        found = ", ".join(f"{size} pixels ({view})" for size, view in sorted(sizes))
        notes.append(f"The images differ in size or view ({found}): most measures do not compare.")
    networks = sorted({each.report["segmented_by"] for each in reports})
    if len(networks) > 1:
        notes.append(f"Segmentation is that of several networks ({', '.join(networks)}): it does not compare.")
    if len({each.report["evaluator"] for each in reports}) > 1:
        notes.append(
            "The evaluation U-Nets are different networks: the masks that they find, and distances in their features, do not "
            "compare. Reports on the same films and split share one evaluation U-Net where they are made with the same "
            "$MAMMOGAN_CACHE."
        )
    return notes
