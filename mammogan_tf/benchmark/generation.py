"""What is lost between the network and PNGs on disk."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mammogan_tf.benchmark.machine import measured_on
from mammogan_tf.benchmark.timing import in_turns, spread
from mammogan_tf.inference.generate import generate_folder
from mammogan_tf.inference.mask_sets import masks_of_model
from mammogan_tf.inference.models import BATCH, load_generator

__all__ = ["benchmark_generation", "format_generation"]


def benchmark_generation(model: Path, count: int = 256, rounds: int = 10) -> dict[str, Any]:
    """Measures ``generate`` against the bare forward pass of the same films, in turns.

    Args:
        model: a ``train-gan`` run or an exported generator.
        count: films of a measurement.
        rounds: measurements of each kind.

    Returns:
        Plain JSON types: films a second ``written`` (film and mask as PNGs, manifest) and ``bare``, and ``generate_ratio``
        of the two.

    Raises:
        ModelError: there is no such model.
        DataError: it carries no masks.
    """
    generator = load_generator(model)
    masks = masks_of_model(generator)
    rows = np.arange(count) % len(masks.names)
    inputs = np.arange(count), masks.label_maps[rows], masks.labels[rows]

    def rate(action: Callable[[], object]) -> float:
        begin = time.perf_counter()
        action()
        return count / (time.perf_counter() - begin)

    def written() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return rate(lambda: generate_folder(generator, masks, count, Path(folder)))

    rates = in_turns({"bare": lambda: rate(lambda: generator(*inputs)), "written": written}, rounds)
    return {
        "count": count,
        "batch": BATCH,
        "size": generator.size,
        "films_per_s": {name: spread(values) for name, values in rates.items()},
        "generate_ratio": spread(rates["written"] / rates["bare"]),
        **measured_on(),
    }


def format_generation(result: dict[str, Any]) -> str:
    """The figures as a table for a terminal."""
    rows = {
        "films a second, bare": result["films_per_s"]["bare"],
        "films a second, as PNGs": result["films_per_s"]["written"],
        "ratio": result["generate_ratio"],
    }
    return "\n".join(
        f"{title:28}{one['median']:9.2f} [{one['p10']:.2f}, {one['p90']:.2f}]" for title, one in rows.items()
    )
