"""Processes that train together, on one machine or several: the ``workers`` of ``TF_CONFIG``."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from mammogan_tf.environment import PACKAGES, versions
from mammogan_tf.errors import ConfigError, ModelError, first_line
from mammogan_tf.files import locked
from mammogan_tf.training.run import Run

__all__ = [
    "WORKER_LOST",
    "any_worker",
    "broadcast_from_chief",
    "cluster",
    "is_chief",
    "num_workers",
    "own_task",
    "require_same",
    "shared_run",
    "writable_run",
]

KINDS = ("chief", "worker")
"""Of tasks, as TensorFlow names those that train."""

WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""What TensorFlow raises where another process no longer answers."""


def cluster() -> dict[str, str]:
    """By name, such as ``worker 0``, the addresses of the tasks of ``TF_CONFIG``; none without it. The first is the chief.

    Raises:
        ConfigError: it is no JSON of this kind, or names an address twice, tasks that do not train, or none that is this one.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        config = json.loads(text)
        kinds = dict(config["cluster"])
        tasks = {f"{kind} {n}": address for kind in KINDS for n, address in enumerate(kinds.get(kind, ()))}
        own = _name_of_task(config)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"TF_CONFIG: expected JSON with cluster and task, received: {' '.join(text.split())[:80]}"
        ) from error
    if others := [kind for kind, addresses in kinds.items() if addresses and kind not in KINDS]:
        raise ConfigError(f"TF_CONFIG: expected a cluster of {' and '.join(KINDS)}, received: {', '.join(others)}")
    if not all(isinstance(addresses, list) for addresses in kinds.values()) or not all(
        map(_is_address, tasks.values())
    ):
        received = json.dumps(kinds)[:80]
        raise ConfigError(f"TF_CONFIG: expected lists of addresses such as host:2222, received: {received}")
    if len({*tasks.values()}) < len(tasks) or "chief 1" in tasks:
        raise ConfigError(
            f"TF_CONFIG: expected an address for each task and one chief at most, received: {json.dumps(kinds)[:80]}"
        )
    if own not in tasks:
        raise ConfigError(f"TF_CONFIG: expected a task of its cluster ({', '.join(tasks)}), received: {own}")
    return tasks


def own_task() -> str:
    """The name of this process in :func:`cluster`, where ``TF_CONFIG`` names one."""
    return _name_of_task(json.loads(os.environ["TF_CONFIG"]))


def _name_of_task(config: Mapping[str, Any]) -> str:
    return f"{config['task']['type']} {config['task']['index']}"


def _is_address(value: Any) -> bool:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    try:
        host.encode("idna")
    except UnicodeError:  # An empty or a long part between two dots.
        return False
    return bool(host) and re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 65536


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Number of processes that train together."""
    return len(cluster()) if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run."""
    if num_workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    return f"{resolver.task_type} {resolver.task_id}" == next(iter(cluster()))


def broadcast_from_chief(strategy: tf.distribute.Strategy, value: float) -> float:
    """The chief's value, in every worker. Every worker must call it at the same point."""
    return _sum(strategy, value if is_chief(strategy) else 0.0)


def any_worker(strategy: tf.distribute.Strategy, holds: bool) -> bool:
    """Whether something holds in any worker. Every worker must call it at the same point."""
    return _sum(strategy, float(holds)) > 0


def _sum(strategy: tf.distribute.Strategy, value: float) -> float:
    if num_workers(strategy) == 1:
        return value
    local = strategy.num_replicas_in_sync // num_workers(strategy)
    return float(_sum_over_replicas(strategy, tf.constant(value, tf.float64))) / local


@tf.function
def _sum_over_replicas(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, args=(value,)), axis=None)


def require_same(strategy: tf.distribute.Strategy, trained_with: Mapping[str, Any]) -> None:
    """Refuses workers that would not train the same. Every worker must call it at the same point in :func:`writable_run`.

    Args:
        trained_with: by name what has to be the same in all of them, as JSON, beside the versions of the packages.

    Raises:
        ModelError: something is not, in every process.
    """
    if num_workers(strategy) == 1:
        return
    for name, value in {"versions": versions(*PACKAGES), **trained_with}.items():
        if _differs(strategy, json.dumps(value, sort_keys=True).encode()):
            raise ModelError(
                f"{name}: expected the same in all workers, received: {value} here, another in some; "
                "give all of them the same command, data and versions"
            )


def _differs(strategy: tf.distribute.Strategy, value: bytes) -> bool:
    """Whether the value of some process is not the chief's."""
    digest = int.from_bytes(hashlib.sha256(value).digest()[:6], "big")  # It fits into a float64.
    return any_worker(strategy, int(broadcast_from_chief(strategy, digest)) != digest)


@contextmanager
def writable_run(run: Run, strategy: tf.distribute.Strategy) -> Iterator[Run]:
    """The run directory that this worker writes to: the run itself on the chief, a temporary folder on the others.

    A block that succeeds waits for the other workers, so that none exits before all have finished.

    Raises:
        ModelError: another process trains this run, or another worker is gone.
    """
    with _explain_lost_worker(strategy, f"start all of them again with --resume {run.path}"):
        if is_chief(strategy):
            taken = ModelError(
                f"{run.path}: expected that nothing else trains this run, received: another process; wait for its end"
            )
            with locked(run.path, taken):
                yield run
        else:
            with tempfile.TemporaryDirectory(prefix="mammogan-worker-") as folder:
                yield Run(Path(folder), run.command, run.config, run.split, run.data)
        any_worker(strategy, False)


def shared_run(
    strategy: tf.distribute.Strategy, resumed: Run | None, create: Callable[[], Run], directory: Path
) -> Run:
    """The run that all workers train: the one to resume, or the one that the chief makes below a directory they share.

    Raises:
        ModelError: the workers were told to resume different runs, the chief could not make one, another lies in its place
            where a worker looks for it, or another worker is gone.
    """
    if num_workers(strategy) == 1:
        return resumed or create()
    with _explain_lost_worker(strategy, "start all of them again"):
        if _differs(strategy, _identity(resumed) if resumed else b""):
            raise ModelError(
                f"--resume: expected the same run in all workers, received: {resumed.path if resumed else 'none'} here; "
                "give all of them that of the chief"
            )
        run = resumed or _create_on_chief(strategy, create, directory)
        if _differs(strategy, _identity(run)):
            raise ModelError(
                f"{run.path}: expected the run that the chief made, received: another in some workers; "
                "give all of them a --workdir on storage that they share"
            )
    return run


def _create_on_chief(strategy: tf.distribute.Strategy, create: Callable[[], Run], directory: Path) -> Run:
    """The run that the chief creates; it broadcasts its number to the other workers."""
    if is_chief(strategy):
        number = 0
        try:
            run = create()
            number = int(run.path.name)
            return run
        finally:
            broadcast_from_chief(strategy, number)
    number = int(broadcast_from_chief(strategy, 0))
    if not number:
        raise ModelError("expected a run that the chief made, received: none; see what the chief says")
    return Run.open(directory / f"{number:05d}")


def _identity(run: Run) -> bytes:
    """What differs from run to run: its name, and what it began with."""
    name = run.path.resolve().name.encode()
    return name + b"".join((run.path / file).read_bytes() for file in ("config.json", "split.json"))


@contextmanager
def _explain_lost_worker(strategy: tf.distribute.Strategy, advice: str) -> Iterator[None]:
    """Says in one line that another worker is gone, or what else keeps them from going on together."""
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        what = f"one of them is gone ({type(error).__name__})" if isinstance(error, WORKER_LOST) else first_line(error)
        raise ModelError(f"expected {num_workers(strategy)} workers, received: {what}; {advice}") from error
