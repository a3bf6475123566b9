"""Splits by patient, so that the two breasts of one patient never stand on both sides."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mammogan_tf.config import LABELS
from mammogan_tf.data.film import Film
from mammogan_tf.errors import DataError

__all__ = ["Split", "split_patients"]

SEVERITY = tuple(LABELS.index(label) for label in ("malignant", "benign", "normal"))
"""Labels of a film, worst first: a patient counts as her worst film."""


@dataclass(frozen=True)
class Split:
    """Film ids of the training, validation and test patients, each in ascending order."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """The split as plain JSON types."""
        return {name: list(ids) for name, ids in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Split":
        """The split that :meth:`to_dict` turned into ``values``.

        Raises:
            DataError: a part is missing or no list of ids, or an id is in two parts.
        """
        names = [part.name for part in fields(cls)]
        if set(values) != set(names) or not all(isinstance(values[name], list) for name in names):
            raise DataError(
                f"split: expected lists named {', '.join(names)}, received: {', '.join(values)}; split again"
            )
        ids = [film for name in names for film in values[name]]
        if len(set(ids)) != len(ids):
            raise DataError("split: expected each film in one part, received: a film in two; split again")
        return cls(**{name: tuple(values[name]) for name in names})


def split_patients(films: Iterable[Film], validation: float = 0.10, test: float = 0.15, seed: int = 0) -> Split:
    """Splits films by patient, stratified by the patient's worst label and her tissue.

    The patients queue up stratum by stratum, and each goes to the part that lags furthest behind its share so far.
    Shares are thus kept over all, and to within two patients in any stratum. Within a stratum the order is that of a
    hash of seed and patient: the split does not depend on the order of the films or on a library's generator.

    Args:
        validation: share of the patients, at least one of them.
        test: share of the patients, at least one of them.
        seed: another seed, another split.

    Raises:
        DataError: fewer than three patients, or too few to leave one for training.
    """
    groups: dict[str, list[Film]] = {}
    for film in sorted(films, key=lambda film: film.id):
        groups.setdefault(film.patient, []).append(film)
    sizes = _part_sizes(len(groups), validation, test)
    parts: dict[str, list[str]] = {name: [] for name in sizes}
    taken = dict.fromkeys(sizes, 0)
    queue = sorted(groups, key=lambda patient: (_stratum(groups[patient]), _rank(seed, patient)))
    for place, patient in enumerate(queue, start=1):
        part = max(sizes, key=lambda name: sizes[name] * place / len(queue) - taken[name])
        taken[part] += 1
        parts[part] += [film.id for film in groups[patient]]
    return Split(**{name: tuple(sorted(ids)) for name, ids in parts.items()})


def _part_sizes(patients: int, validation: float, test: float) -> dict[str, int]:
    sizes = {"validation": max(1, round(validation * patients)), "test": max(1, round(test * patients))}
    train = patients - sum(sizes.values())
    if train < 1:
        raise DataError(
            f"split: expected patients for training, validation and test, received: {patients} with shares "
            f"{validation} and {test}; add films or lower the shares"
        )
    return {"train": train, **sizes}


def _stratum(films: list[Film]) -> tuple[int, str]:
    severity = min(SEVERITY.index(film.label) for film in films)
    return severity, min(film.tissue or "" for film in films)


def _rank(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()
