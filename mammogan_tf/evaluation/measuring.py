"""Every measure of a set of synthetic mammograms, beside the same measure on real films."""

from collections.abc import Callable

from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.evaluation.sections import SECTIONS, Picture
from mammogan_tf.metrics.intervals import Estimate

__all__ = ["Measured", "draw", "measure"]

Measured = dict[str, dict[str, Estimate]]
"""Estimates by section and measure."""


def measure(evidence: Evidence, progress: Callable[[int, int, str], None] | None = None) -> Measured:
    """All measures that apply to the evidence.

    Args:
        evidence: films, images, and the networks that evaluate them.
        progress: called with (sections done, sections, the section that comes).
    """
    report = {}
    for done, section in enumerate(SECTIONS):
        if progress:
            progress(done, len(SECTIONS), section.key)
        report[section.key] = section.compute(evidence)
    if progress:
        progress(len(SECTIONS), len(SECTIONS), "")
    return report


def draw(evidence: Evidence, measured: Measured) -> dict[str, list[Picture]]:
    """The figures of each section."""
    return {section.key: section.draw(evidence, measured[section.key]) for section in SECTIONS}
