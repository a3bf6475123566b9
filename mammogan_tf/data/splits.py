"""Splits by patient, so that the two breasts of one patient never stand on both sides."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any

from mammogan_tf.config import BENIGN, MALIGNANT, NORMAL, CrossValidationConfig, DataConfig
from mammogan_tf.data.film import Film
from mammogan_tf.errors import DataError
from mammogan_tf.validated import require

__all__ = ["Split", "require_disjoint_patients", "split_folds", "split_patients"]

SEVERITY = (MALIGNANT, BENIGN, NORMAL)
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

    def without(self, ids: Iterable[str]) -> "Split":
        """The same parts without these films.

        Raises:
            DataError: a part would be empty.
        """
        left_out = set(ids)
        parts = {
            part.name: tuple(id_ for id_ in getattr(self, part.name) if id_ not in left_out) for part in fields(self)
        }
        empty = [name for name, part in parts.items() if not part]
        if empty:
            raise DataError(f"split: expected films in each part, received: none to {', '.join(empty)}; add films")
        return Split(**parts)

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


def require_disjoint_patients(split: Split, films: Iterable[Film]) -> None:
    """Raises DataError where a patient is in two parts of a split: what is known about the films has changed since."""
    patients = {film.id: film.patient for film in films}
    parts = [{patients[id_] for id_ in part if id_ in patients} for part in (split.train, split.validation, split.test)]
    shared = sorted(patient for patient, count in Counter(chain.from_iterable(parts)).items() if count > 1)
    if shared:
        raise DataError(
            f"split: expected each patient in one part, received: {', '.join(shared[:5])} in two; "
            "the patients of the films have changed since the split was made, train again"
        )


def split_patients(
    films: Iterable[Film],
    validation: float = DataConfig.validation,
    test: float = DataConfig.test,
    seed: int = DataConfig.split_seed,
) -> Split:
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
    patients = _queue(films, seed)
    parts = _deal(patients, _part_sizes(len(patients), validation, test))
    return Split(**{name: _ids(part) for name, part in parts.items()})


def split_folds(
    films: Iterable[Film],
    folds: int = CrossValidationConfig.folds,
    validation: float = DataConfig.validation,
    seed: int = DataConfig.split_seed,
) -> list[Split]:
    """Splits films by patient for cross-validation: every film is tested in one fold; stratified as a single split.

    Args:
        folds: number of folds, 2 or more.
        validation: share of the patients that validates in each fold, at least one of them.
        seed: another seed, other folds.

    Raises:
        ConfigError: fewer than two folds, or a share of the patients that is none.
        DataError: too few patients to test, validate and train in every fold.
    """
    require(folds >= 2, "folds", "2 or more", folds)
    require(0 < validation < 1, "validation", "a share of the patients between 0 and 1", validation)
    patients = _queue(films, seed)
    count = len(patients)
    kept = max(1, round(validation * count))
    if count < folds or count - math.ceil(count / folds) - kept < 1:
        raise DataError(
            f"folds: expected patients to test, validate and train in each of {folds}, received: {count} patients; "
            "add films or take fewer folds"
        )
    held_out = _deal(patients, {str(fold): count // folds + (fold < count % folds) for fold in range(folds)})
    splits = []
    for test in held_out.values():
        rest = [patient for patient in patients if patient not in test]
        parts = _deal(rest, {"train": len(rest) - kept, "validation": kept})
        splits.append(Split(_ids(parts["train"]), _ids(parts["validation"]), _ids(test)))
    return splits


Patient = tuple[Film, ...]


def _queue(films: Iterable[Film], seed: int) -> list[Patient]:
    """The films of each patient, stratum by stratum, in an order that the seed decides within a stratum."""
    groups: dict[str, list[Film]] = {}
    for film in sorted(films, key=lambda film: film.id):
        groups.setdefault(film.patient, []).append(film)
    order = sorted(groups, key=lambda patient: (_stratum(groups[patient]), _rank(seed, patient)))
    return [tuple(groups[patient]) for patient in order]


def _deal(patients: Sequence[Patient], sizes: Mapping[str, int]) -> dict[str, list[Patient]]:
    """Each patient goes to the part that lags furthest behind its share so far."""
    parts: dict[str, list[Patient]] = {name: [] for name in sizes}
    for place, patient in enumerate(patients, start=1):
        part = max(sizes, key=lambda name: sizes[name] * place / len(patients) - len(parts[name]))
        parts[part].append(patient)
    return parts


def _ids(patients: Iterable[Patient]) -> tuple[str, ...]:
    return tuple(sorted(film.id for patient in patients for film in patient))


def _part_sizes(patients: int, validation: float, test: float) -> dict[str, int]:
    sizes = {"validation": max(1, round(validation * patients)), "test": max(1, round(test * patients))}
    train = patients - sum(sizes.values())
    if train < 1:
        raise DataError(
            f"split: expected patients for training, validation and test, received: {patients} with shares "
            f"{validation} and {test}; add films of other patients, or name the patients in the table"
        )
    return {"train": train, **sizes}


def _stratum(films: Sequence[Film]) -> tuple[int, str]:
    severity = min(SEVERITY.index(film.label) for film in films)
    return severity, min(film.tissue or "" for film in films)


def _rank(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()
