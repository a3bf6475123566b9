"""What every section of the report is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from mammogan_tf.evaluation.evidence import Evidence
from mammogan_tf.metrics.intervals import Estimate, Reference

__all__ = ["REFERENCES", "Measure", "Measures", "Picture", "Section"]

Measures = Mapping[str, Estimate]

REFERENCES: tuple[Reference, ...] = get_args(Reference)
"""All of them."""


@dataclass(frozen=True)
class Measure:
    """One row of a table: its key in ``report.json``, its title, how to read it, and what it is compared with.

    ``floor`` and ``ceiling`` are the same measure on real films, ``control`` where it must fail: here in words.
    """

    key: str
    title: str
    reading: str
    floor: str = ""
    ceiling: str = ""
    control: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: PNG bytes, what it shows, and when not to trust it."""

    name: str
    png: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of the report.

    ``key`` names it in ``report.json``; ``meaning`` and ``caution`` say what it shows and when not to trust it.
    ``compute`` gives an estimate for each of the ``measures`` that apply to the evidence, ``draw`` the figures of them.
    """

    key: str
    title: str
    meaning: str
    caution: str
    measures: tuple[Measure, ...]
    compute: Callable[[Evidence], dict[str, Estimate]]
    draw: Callable[[Evidence, Measures], list[Picture]]
