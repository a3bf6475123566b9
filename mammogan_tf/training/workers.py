"""Processes that train together, on one machine or several: the ``workers`` of ``TF_CONFIG``."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.files import locked
from mammogan_tf.training.run import Run

__all__ = ["anywhere", "cluster", "from_chief", "is_chief", "one_run", "own_copy", "workers"]


def cluster() -> list[str]:
    """The tasks that train, such as ``worker 0``, of ``TF_CONFIG``; none without it. The first is the chief."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return []
    try:
        config = json.loads(text)
        tasks = [f"{kind} {n}" for kind in ("chief", "worker") for n, _ in enumerate(config["cluster"].get(kind, ()))]
        own = f"{config['task']['type']} {config['task']['index']}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"TF_CONFIG: expected JSON with cluster and task, received: {text[:80]}") from error
    if own not in tasks:
        raise ConfigError(f"TF_CONFIG: expected a task of its cluster ({', '.join(tasks)}), received: {own}")
    return tasks


def workers(strategy: tf.distribute.Strategy) -> int:
    """Number of processes that train together."""
    return len(cluster()) if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run."""
    if workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    return f"{resolver.task_type} {resolver.task_id}" == cluster()[0]


def from_chief(strategy: tf.distribute.Strategy, value: float) -> float:
    """The chief's value, in every process; all of them have to ask for it at the same place."""
    return _sum(strategy, value if is_chief(strategy) else 0.0)


def anywhere(strategy: tf.distribute.Strategy, holds: bool) -> bool:
    """Whether something holds in any process; all of them have to ask for it at the same place."""
    return _sum(strategy, float(holds)) > 0


def _sum(strategy: tf.distribute.Strategy, value: float) -> float:
    if workers(strategy) == 1:
        return value
    local = strategy.num_replicas_in_sync // workers(strategy)
    return float(_sum_over_replicas(strategy, tf.constant(value, tf.float64))) / local


@tf.function
def _sum_over_replicas(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, args=(value,)), axis=None)


@contextmanager
def own_copy(run: Run, strategy: tf.distribute.Strategy) -> Iterator[Run]:
    """The run as this process writes it: the chief where it is, the others in a folder that is thrown away.

    Raises:
        ModelError: another process trains this run, or another worker is gone.
    """
    try:
        if is_chief(strategy):
            taken = ModelError(
                f"{run.path}: expected that nothing else trains this run, received: another process; wait for its end"
            )
            with locked(run.path, taken):
                yield run
        else:
            with tempfile.TemporaryDirectory(prefix="mammogan-worker-") as folder:
                yield Run(Path(folder), run.command, run.config, run.split, run.data)
    except tf.errors.OpError as error:
        if workers(strategy) == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        raise ModelError(
            f"expected {workers(strategy)} workers, received: one of them is gone ({type(error).__name__}); "
            f"start all of them again with --resume {run.path}"
        ) from error


def one_run(strategy: tf.distribute.Strategy, resumed: Run | None, create: Callable[[], Run], directory: Path) -> Run:
    """The run that all workers train: the one to resume, or the one that the chief makes below a directory they share.

    Raises:
        ModelError: the workers were told to resume different runs.
    """
    if workers(strategy) == 1:
        return resumed or create()
    own = resumed or (create() if is_chief(strategy) else None)
    number = int(from_chief(strategy, int(own.path.name) if own else 0))
    run = own or Run.open(directory / f"{number:05d}")
    if int(run.path.name) != number:
        raise ModelError(f"--resume: expected run {number:05d} as the chief does, received: {run.path}")
    return run
