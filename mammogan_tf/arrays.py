"""Numbers from callers, as arrays of the type that networks take."""

from typing import Any

import numpy as np

__all__ = ["require_films", "to_float", "to_numbers"]


def to_numbers(what: str, values: Any, kind: type[np.number], error: type[Exception]) -> np.ndarray:
    """``values`` as an array of a type; raises ``error`` for a single number, and where an integer would be another."""
    try:
        given = np.asarray(values)
        with np.errstate(invalid="ignore"):
            numbers = given.astype(kind, copy=False)
        if numbers.ndim == 0:
            raise ValueError("one alone")
        if issubclass(kind, np.integer) and (changed := numbers != given).any():
            raise ValueError(given[changed][0])
    except (OverflowError, TypeError, ValueError) as problem:
        raise error(f"{what}: expected numbers that {kind.__name__} holds, received: {str(problem)[:100]}") from problem
    return numbers


def to_float(images: np.ndarray) -> np.ndarray:
    """Bytes, uint8 of any shape, to float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def require_films(films: np.ndarray, error: type[Exception]) -> None:
    """Raises ``error`` unless all values lie in [0, 1]; a NaN does not."""
    if films.size and not (films.min() >= 0 and films.max() <= 1):
        received = f"{films.min():.9g} to {films.max():.9g}"
        raise error(f"films: expected values in [0, 1], received: {received}; divide bytes by 255")
