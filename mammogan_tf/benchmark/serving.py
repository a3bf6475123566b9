"""What serving costs: the embedded server against the same SavedModel called in process, in one run."""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mammogan_tf.benchmark.machine import measured_on
from mammogan_tf.benchmark.timing import in_turns, spread, timed
from mammogan_tf.console import Progress, suppress_stderr
from mammogan_tf.errors import MammoganError, ModelError
from mammogan_tf.inference.exports import open_export
from mammogan_tf.serving.aio import AsyncMammoganClient
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.server import Server
from mammogan_tf.validated import require

__all__ = ["CLIENTS", "MANY_CLIENTS", "benchmark_serving", "format_serving"]

MODELS = ("unet", "generator")

CALLS = 20
"""Of one kind in a row, when latency is measured."""

CLIENTS, BATCH = 8, 8
"""Of the throughput: how many clients at once, and films in a request."""

MANY_CLIENTS = 32
"""Of the gain by batching: clients at once, one film in a request."""

SPAWN = multiprocessing.get_context("spawn")

Inputs = dict[str, np.ndarray]


def benchmark_serving(
    models: Path, rounds: int = 10, seconds: float = 2.0, progress: Progress | None = None
) -> dict[str, Any]:
    """Measures the newest exported ``unet`` and ``generator`` below ``models``; server and clients are processes apart.

    Args:
        models: a folder of exports.
        rounds: measurements of each kind, taken in turns.
        seconds: that each measurement of throughput takes.
        progress: called with (measurements done, measurements).

    Returns:
        Plain JSON types. ``added_latency_ms``: what the server adds at the median to one film in process;
        ``throughput_ratio``: films a second of :data:`CLIENTS` clients at batch 8 over those in process at batch 8;
        ``batching_gain``: films a second of :data:`MANY_CLIENTS` clients at batch 1 over those of a server that handles
        them one by one. Each is that of the model that comes off worst; ``models`` has all, with their spread, and beside
        the gain its ceiling: films a second in process at batch :data:`MANY_CLIENTS` over those at batch 1.

    Raises:
        ConfigError: another time than 0.1 s to an hour.
        ModelError: a model is missing.
        ServingError: nothing can be served.
    """
    require(0.1 <= seconds <= 3600, "seconds", "0.1 to 3600", seconds)
    found = {}
    with ExitStack() as stack:
        address = stack.enter_context(_served(models, {}))
        local = {name: _in_process(models, name) for name in MODELS}  # A missing one is said before any is measured.
        one_by_one = stack.enter_context(_served(models, {"max_batch_size": 1, "max_queue": 4 * MANY_CLIENTS}))
        crowd = stack.enter_context(_crowd())
        for done, name in enumerate(MODELS, start=1):
            found[name] = _measure(name, *local[name], address, one_by_one, crowd, rounds, seconds)
            if progress:
                progress(done, len(MODELS))
    return {
        "added_latency_ms": max(model["added_latency_ms"]["median"] for model in found.values()),
        "throughput_ratio": min(model["throughput_ratio"]["median"] for model in found.values()),
        "batching_gain": min(model["batching_gain"]["median"] for model in found.values()),
        "models": found,
        **measured_on(),
    }


def _measure(
    name: str,
    local: Callable[[Inputs], object],
    size: int,
    address: str,
    one_by_one: str,
    crowd: Executor,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """The figures of one model, from two servers: as it comes, and one that handles requests one by one."""
    single, several, many = (_inputs(name, size, batch) for batch in (1, BATCH, MANY_CLIENTS))

    def rate(server: str, clients: int, batch: int) -> float:
        return crowd.submit(_films_per_second, server, name, clients, batch, size, seconds).result()

    with MammoganClient(address) as client:
        latency = in_turns(
            {
                "in_process": timed(lambda: local(single), CALLS),
                "served": timed(lambda: _ask(client, name, single), CALLS),
                "round_trip": timed(lambda: client.status([name]), CALLS),
            },
            rounds,
        )
    throughput = in_turns(
        {
            "in_process": lambda: _local_rate(local, several, seconds),
            "served": lambda: rate(address, CLIENTS, BATCH),
        },
        rounds,
    )
    batching = in_turns(
        {
            "one_by_one": lambda: rate(one_by_one, MANY_CLIENTS, 1),
            "batched": lambda: rate(address, MANY_CLIENTS, 1),
            "alone": lambda: _local_rate(local, single, seconds),
            "together": lambda: _local_rate(local, many, seconds),
        },
        rounds,
    )
    return {
        "latency_s": {kind: spread(values) for kind, values in latency.items()},
        "added_latency_ms": spread(1000 * (latency["served"] - latency["in_process"])),
        "films_per_s": {kind: spread(values) for kind, values in throughput.items()},
        "throughput_ratio": spread(throughput["served"] / throughput["in_process"]),
        "batching_films_per_s": {kind: spread(values) for kind, values in batching.items()},
        "batching_gain": spread(batching["batched"] / batching["one_by_one"]),
        "batching_ceiling": spread(batching["together"] / batching["alone"]),
    }


def format_serving(result: dict[str, Any]) -> str:
    """The figures as a table for a terminal."""
    lines = [f"{'':34}{'unet':>30}{'generator':>30}"]
    rows = {
        "one film in process, ms": lambda model: _scaled(model["latency_s"]["in_process"], 1000),
        "one film served, ms": lambda model: _scaled(model["latency_s"]["served"], 1000),
        "added, ms": lambda model: model["added_latency_ms"],
        "a call that computes nothing, ms": lambda model: _scaled(model["latency_s"]["round_trip"], 1000),
        "films a second in process": lambda model: model["films_per_s"]["in_process"],
        f"films a second, {CLIENTS} clients": lambda model: model["films_per_s"]["served"],
        "ratio": lambda model: model["throughput_ratio"],
        f"{MANY_CLIENTS} clients one by one, films/s": lambda model: model["batching_films_per_s"]["one_by_one"],
        f"{MANY_CLIENTS} clients batched, films/s": lambda model: model["batching_films_per_s"]["batched"],
        "gain": lambda model: model["batching_gain"],
        f"ceiling, batch {MANY_CLIENTS} to 1 in process": lambda model: model["batching_ceiling"],
    }
    for title, value in rows.items():
        cells = [value(result["models"][name]) for name in MODELS]
        shown = [f"{cell['median']:.2f} [{cell['p10']:.2f}, {cell['p90']:.2f}]" for cell in cells]
        lines.append(f"{title:34}" + "".join(f"{cell:>30}" for cell in shown))
    return "\n".join(lines)


def _scaled(values: dict[str, Any], factor: float) -> dict[str, Any]:
    return {name: factor * value for name, value in values.items() if name != "n"}


def _in_process(models: Path, name: str) -> tuple[Callable[[Inputs], object], int]:
    """The model as a function of NumPy arrays to NumPy arrays, and its size."""
    if not (models / name).is_dir():
        raise ModelError(f"{models / name}: expected an exported {name}, received: none; export one")
    signature, first = {"unet": ("serving_default", "image"), "generator": ("generate_seeded", "seed")}[name]
    export = open_export(models / name, name, signature, first)
    call = export.signature(signature)

    def run(inputs: Inputs) -> object:
        outputs = call(**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    return run, export.contract("size")


def _inputs(name: str, size: int, batch: int) -> Inputs:
    random = np.random.default_rng(0)
    if name == "unet":
        return {"image": random.random((batch, size, size, 1), np.float32)}
    label_map = random.integers(0, 5, (batch, size, size), np.int32)
    return {"seed": np.arange(batch), "label_map": label_map, "label": np.zeros(batch, np.int32)}


def _ask(client: Any, name: str, inputs: Inputs) -> Any:
    """An answer, or with the client for asyncio one to await."""
    if name == "unet":
        return client.segment(inputs["image"][..., 0])
    return client.generate(inputs["seed"], inputs["label_map"], inputs["label"])


def _local_rate(local: Callable[[Inputs], object], inputs: Inputs, seconds: float) -> float:
    batch = len(next(iter(inputs.values())))
    local(inputs)  # TensorFlow prepares for a batch size when it first sees it.
    begin, films = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        local(inputs)
        films += batch
    return films / passed


def _films_per_second(address: str, name: str, clients: int, batch: int, size: int, seconds: float) -> float:
    """What some clients get out of a server, each with one request at a time."""

    inputs = _inputs(name, size, batch)

    async def one(client: AsyncMammoganClient, until: float) -> int:
        films = 0
        while time.perf_counter() < until:
            await _ask(client, name, inputs)
            films += batch
        return films

    async def all_of_them() -> float:
        async with AsyncExitStack() as stack:
            asking = [await stack.enter_async_context(AsyncMammoganClient(address)) for _ in range(clients)]
            await asyncio.gather(*(_ask(client, name, inputs) for client in asking))  # They connect.
            begin = time.perf_counter()
            films = await asyncio.gather(*(one(client, begin + seconds) for client in asking))
            return sum(films) / (time.perf_counter() - begin)

    return asyncio.run(all_of_them())


@contextmanager
def _crowd() -> Iterator[Executor]:
    """A process for the clients."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        with suppress_stderr():
            pool.submit(os.getpid).result()
        yield pool


@contextmanager
def _served(models: Path, settings: dict[str, Any]) -> Iterator[str]:
    """The address of a server in a process of its own."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(models, settings, there), daemon=True)
    with suppress_stderr():
        process.start()
    there.close()
    try:
        answer = here.recv()
        if isinstance(answer, MammoganError):
            raise answer
        yield answer
    finally:
        here.close()
        process.join()


def _serve(models: Path, settings: dict[str, Any], connection: Connection) -> None:
    """Serves until the other end of the connection is closed."""
    try:
        with Server(models, port=0, **settings) as server:
            connection.send(server.address)
            with suppress(EOFError):
                connection.recv()
    except MammoganError as error:
        connection.send(error)
