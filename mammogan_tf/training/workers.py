"""Processes that train together, on one machine or several: the ``workers`` of ``TF_CONFIG``."""

import hashlib
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
    with _all_there(strategy, f"start all of them again with --resume {run.path}"):
        if is_chief(strategy):
            taken = ModelError(
                f"{run.path}: expected that nothing else trains this run, received: another process; wait for its end"
            )
            with locked(run.path, taken):
                yield run
        else:
            with tempfile.TemporaryDirectory(prefix="mammogan-worker-") as folder:
                yield Run(Path(folder), run.command, run.config, run.split, run.data)


def one_run(strategy: tf.distribute.Strategy, resumed: Run | None, create: Callable[[], Run], directory: Path) -> Run:
    """The run that all workers train: the one to resume, or the one that the chief makes below a directory they share.

    Raises:
        ModelError: the workers were told to resume different runs, the chief could not make one, or another worker is gone.
    """
    if workers(strategy) == 1:
        return resumed or create()
    with _all_there(strategy, "start all of them again"):
        own = _digest(resumed) if resumed else 0
        if int(from_chief(strategy, own)) != own:
            raise ModelError(
                f"--resume: expected the run of the chief, received: {resumed.path if resumed else 'none'}"
            )
        if resumed:
            return resumed
        if is_chief(strategy):
            number = 0
            try:
                run = create()
                number = int(run.path.name)
                return run
            finally:
                from_chief(strategy, number)
        number = int(from_chief(strategy, 0))
        if not number:
            raise ModelError("expected a run that the chief made, received: none; see what the chief says")
        return Run.open(directory / f"{number:05d}")


def _digest(run: Run) -> int:
    """A number that differs from run to run, and fits into a float64: of its name, and of what it began with."""
    began_with = run.path.resolve().name.encode() + (run.path / "config.json").read_bytes()
    return int.from_bytes(hashlib.sha256(began_with).digest()[:6], "big")


@contextmanager
def _all_there(strategy: tf.distribute.Strategy, advice: str) -> Iterator[None]:
    """Says in one line that another worker is gone."""
    try:
        yield
    except tf.errors.OpError as error:
        if workers(strategy) == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        raise ModelError(
            f"expected {workers(strategy)} workers, received: one of them is gone ({type(error).__name__}); {advice}"
        ) from error
