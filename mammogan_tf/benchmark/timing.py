"""Measurements that compare: taken in turns (A B A B ...), so that whatever else the machine does hits all alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["in_turns", "spread", "timed"]


def in_turns(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Takes each measure once a round, after one round that does not count: float64 [rounds] of each, by name."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds + 1):
        for name, measure in measures.items():
            values[name].append(measure())
    return {name: np.array(found[1:]) for name, found in values.items()}


def timed(action: Callable[[], object], calls: int) -> Callable[[], float]:
    """A measure: the median seconds of some calls in a row."""

    def measure() -> float:
        seconds = []
        for _ in range(calls):
            begin = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - begin)
        return float(np.median(seconds))

    return measure


def spread(values: np.ndarray) -> dict[str, Any]:
    """``median``, ``p10`` and ``p90`` of [N] measurements, and ``n``."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return {"median": float(middle), "p10": float(low), "p90": float(high), "n": len(values)}
