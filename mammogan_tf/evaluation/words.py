"""The report in words: for a terminal, for a repository, for a model card."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mammogan_tf.evaluation.sections import REFERENCES, SECTIONS, Measure, Section
from mammogan_tf.metrics.intervals import Estimate

__all__ = [
    "DIAGNOSIS",
    "HEADLINES",
    "describe",
    "format_estimate",
    "format_references",
    "format_verdict",
    "headlines",
    "in_words",
    "render_card",
    "render_markdown",
    "shown",
]

HEADLINES = {
    "fidelity": ("ssim_own_film",),
    "diversity": ("ssim_across_masks", "ssim_same_mask", "spread_over_error", "recall_texture", "coverage_texture"),
    "distribution": ("fine_texture", "spectrum_deviation", "kid_texture", "kid_segmenter", "classifier_auc_texture"),
    "obedience": ("dice_breast", "dice_pectoral", "dice_dense", "dice_lesion", "lesion_contrast_to_real"),
    "memorisation": ("neighbour_ratio_pixels", "neighbour_ratio_segmenter", "membership_auc"),
    "downstream": (
        "auc_real",
        "auc_augmented_gain",
        "auc_equal_gain",
        "auc_pretrained_gain",
        "dice_real",
        "dice_augmented_gain",
        "dice_equal_gain",
        "dice_pretrained_gain",
    ),
}
"""The measures of the summary, the model card and the terminal, by section."""

DIAGNOSIS = "For research and teaching. Never for diagnosis."


def format_estimate(estimate: Estimate) -> str:
    """``0.713 [0.688, 0.740]``, or ``not computed: why``."""
    if "not computed" in estimate:
        return f"not computed: {estimate['not computed']}"
    value, low, high = (
        f"{estimate[name]:.3f}" if abs(estimate[name]) < 100 else f"{estimate[name]:.3g}"
        for name in ("value", "low", "high")
    )
    return f"{value.replace('-0.000', '0.000')} [{low}, {high}]"  # The sign of a bound says on which side of 0 it lies.


def format_references(measure: Measure, estimate: Estimate) -> list[str]:
    """The floor, ceiling and control that a value is compared with, in words, and the note that goes with it."""
    found = [
        f"{kind} ({getattr(measure, kind) or 'real films'}): {format_estimate(estimate[kind])}"
        for kind in REFERENCES
        if kind in estimate
    ]
    return found + ([estimate["note"]] if "note" in estimate else [])


def shown(section: Section, measures: Mapping[str, Estimate]) -> list[tuple[Measure, Estimate]]:
    """The rows of a section that a report has."""
    return [(measure, measures[measure.key]) for measure in section.measures if measure.key in measures]


def describe(report: Mapping[str, Any]) -> str:
    """What was evaluated, in a few sentences."""
    films, synthetic = report["films"], report["synthetic"]
    made, unseen, known = "from the masks of", "that no network was trained on", ""
    pictures = "films" if report["view"] == "whole" else "windows"
    generator = "" if report["step"] is None else f" Generator of step {report['step']}."
    if report["masks"] == "cross-validation":
        unseen = "that neither the GAN nor the evaluation U-Net was trained on"
        known = " The networks that drew the masks of the training films were trained on the test films, too."
    if report["kind"] == "images":
        made, unseen = "compared with", "that the evaluation U-Net was not trained on"
        known = " What the maker of the images was trained on is not known."
        if not synthetic["tied"]:
            known += (
                " The images are not all tied to the test films by their masks: where a section says that both share "
                "their masks, they do not, and a set is as many images as there are films; ceilings are those of the test "
                "films' masks."
            )
        if synthetic["masks_of_training"]:
            known += (
                f" {synthetic['masks_of_training']} of {synthetic['images']} masks are those of training films: by the "
                "mask alone distances to these are smaller, and the verdict is worse."
            )
    return (
        f"{synthetic['images']} synthetic images of {report['size']} x {report['size']} pixels ({report['view']} view) "
        f"{made} {films['test']} test {pictures} of {films['test_patients']} patients {unseen}. "
        f"Training {pictures}: {films['train']}.{known}{generator} Masks: {report['masks']}. "
        f"Segmentation: {report['segmented_by']}. Seed {synthetic['seed']}."
    )


def format_verdict(report: Mapping[str, Any]) -> str:
    """``PASS (by what)`` or ``FAIL: why``, of memorisation."""
    found = report["memorisation"]
    return f"PASS ({', '.join(found['checked'])})" if found["passed"] else f"FAIL: {'; '.join(found['reasons'])}"


def in_words(report: Mapping[str, Any]) -> Iterable[str]:
    """The headlines, line by line."""
    for section, measure, estimate in headlines(report):
        compared = "   ".join(f"{kind} {format_estimate(estimate[kind])}" for kind in REFERENCES if kind in estimate)
        yield f"{section.key:14} {measure.key:26} {format_estimate(estimate)}   {compared}".rstrip()
    yield f"memorisation   {format_verdict(report)}"


def render_card(report: Mapping[str, Any]) -> str:
    """The section "Measured" of a model card."""
    return "\n".join(
        [
            "## Measured",
            "",
            f"{describe(report)} 95 % intervals over patients.",
            "",
            *_summary(report),
            "",
            f"Memorisation: **{format_verdict(report)}**. {report['memorisation']['rule']}",
        ]
    )


def render_markdown(report: Mapping[str, Any]) -> str:
    """The whole report without its figures."""
    lines = [
        "# Synthetic mammograms: evaluation",
        "",
        f"**{DIAGNOSIS}**",
        "",
        f"`{report['model']}`: {describe(report)}",
    ]
    lines += ["Every value is followed by its 95 % interval over patients.", "", "## Summary", "", *_summary(report)]
    lines += ["", f"Memorisation: **{format_verdict(report)}**."]
    for section in SECTIONS:
        rows = [_row(*pair) for pair in shown(section, report["measures"].get(section.key, {}))]
        if rows:
            lines += ["", f"## {section.title}", "", section.meaning, "", *_table(rows)]
            if section.key == "memorisation":
                lines += ["", f"**{format_verdict(report)}.** {report['memorisation']['rule']}"]
            lines += ["", f"Limits: {section.caution}"]
    return "\n".join(lines) + "\n"


def headlines(report: Mapping[str, Any]) -> Iterable[tuple[Section, Measure, Estimate]]:
    """The :data:`HEADLINES` that a report has, in its order, with the section before their titles."""
    for section in SECTIONS:
        for measure, estimate in shown(section, report["measures"].get(section.key, {})):
            if measure.key in HEADLINES.get(section.key, ()):
                yield section, replace(measure, title=f"{section.key}: {measure.title}"), estimate


def _summary(report: Mapping[str, Any]) -> list[str]:
    return _table([_row(measure, estimate) for _, measure, estimate in headlines(report)])


def _row(measure: Measure, estimate: Estimate) -> str:
    cells = [
        measure.title,
        format_estimate(estimate),
        "; ".join(format_references(measure, estimate)),
        str(estimate.get("n", "")),
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _table(rows: list[str]) -> list[str]:
    return ["| measure | value | reference | n |", "| --- | --- | --- | --- |", *rows]
