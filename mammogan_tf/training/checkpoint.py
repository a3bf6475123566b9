"""Checkpoints of *everything*: weights, optimizers, averages, random states, step."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import tensorflow as tf

import mammogan_tf.models.blocks  # noqa: F401 - Keras reads a network once its layers are known.
from mammogan_tf.config import KEEP
from mammogan_tf.console import Console
from mammogan_tf.errors import ConfigError, ModelError, first_line, reason_of_tensorflow
from mammogan_tf.files import plain_path, read_json, write_json
from mammogan_tf.training.workers import WORKER_LOST

__all__ = ["Checkpoints", "compute_in_float32", "load_network", "newest_checkpoint"]


class Checkpoints:
    """Checkpoints ``step-<n>`` of a list of variables below ``directory``; the newest ``keep`` stay.

    A checkpoint is a folder that gets its name once it is wholly on disk, so a run that is killed while it writes one
    finds the one before.

    Args:
        directory: where they are.
        variables: Keras or TensorFlow variables, in an order that depends on the configuration alone.
        run_settings: the hyper-parameters, the precision, and what stands for the films; a checkpoint keeps them.
        keep: how many stay.
        console: is told of broken ones.
        write_directory: where they are written; ``directory``, but for the workers that must take part and write nothing.
    """

    def __init__(
        self,
        directory: Path,
        variables: Sequence[Any],
        run_settings: Mapping[str, Any],
        keep: int = KEEP,
        console: Console | None = None,
        write_directory: Path | None = None,
    ) -> None:
        self._state = tf.train.Checkpoint(
            state=[variable.value if isinstance(variable, keras.Variable) else variable for variable in variables]
        )
        self._from, self._to = directory, write_directory or directory
        self._began_with, self._keep, self._console = _plain(run_settings), keep, console or Console(quiet=True)
        self._step: int | None = None

    def save(self, step: int) -> None:
        """Writes a checkpoint, unless the last that was written or restored is of this step.

        Raises:
            ModelError: it cannot be written; those before it stay as they are.
        """
        if step == self._step:
            return
        try:
            self._write(self._to / f"step-{step}")
        except WORKER_LOST:  # It holds sums over all workers.
            raise
        except (OSError, tf.errors.OpError) as error:
            raise ModelError(
                f"{self._to}: expected room for a checkpoint, received: {reason_of_tensorflow(error)}; "
                "free some space, then go on with --resume"
            ) from error
        self._step = step
        paths = _checkpoints(self._to)
        later = [path for path in paths if _step_of(path) > step]  # Broken ones, which were passed over.
        for path in [*later, *paths[len(later) :][self._keep :]]:
            shutil.rmtree(path, ignore_errors=True)

    def _write(self, path: Path) -> None:
        self._to.mkdir(parents=True, exist_ok=True)
        for remains in self._to.glob(".step-*"):  # of a run that was killed
            shutil.rmtree(remains)
        temporary = self._to / f".{path.name}-{secrets.token_hex(8)}"
        try:
            temporary.mkdir()
            self._state.write(str(temporary / "state"))
            write_json(temporary / "config.json", self._began_with)
            for file in temporary.iterdir():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            shutil.rmtree(path, ignore_errors=True)  # A broken one, which was passed over.
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def restore(self, finished: bool = False) -> bool:
        """Restores the newest checkpoint that is whole into the variables; False where there is none.

        Raises:
            ConfigError: the hyper-parameters, the precision or the films are others than the checkpoint was made with.
            ModelError: all are broken, or of another version, or there is none of a run that is ``finished``: its results
                would be replaced.
        """
        paths = _checkpoints(self._from)
        reasons = []
        for path in paths:
            try:
                self._read(path)
            except (AssertionError, IndexError, ValueError, OSError, tf.errors.OpError) as error:
                reasons.append(first_line(error))
                continue
            for broken, reason in zip(paths, reasons, strict=False):
                self._console.line(f"{broken} is broken ({reason}): going on from {path.name}")
            self._step = _step_of(path)
            return True
        if paths:
            raise ModelError(
                f"{paths[0]}: expected a checkpoint of this run, received: {reasons[0]}; start another run"
            )
        if finished:
            raise ModelError(
                f"{self._from}: expected the checkpoints of this finished run, received: none; start another run"
            )
        return False

    def _read(self, path: Path) -> None:
        made_with = read_json(path / "config.json")
        if not isinstance(made_with, dict):
            raise ValueError(f"no hyper-parameters in config.json: {made_with}")
        now_with = self._began_with
        changed = sorted(name for name in {*made_with, *now_with} if made_with.get(name) != now_with.get(name))
        if changed:
            before, now = (
                ", ".join(f"{name} {values.get(name)}" for name in changed) for values in (made_with, now_with)
            )
            advice = "go on where the device is like the first" if changed == ["policy"] else "put them back"
            raise ConfigError(
                f"{path}: expected what the run began with, {before}, received: {now}; {advice}, or start another run"
            )
        with plain_path(path) as plain:
            self._state.read(str(plain / "state")).assert_consumed()


def newest_checkpoint(directory: Path) -> Path | None:
    """The prefix under which TensorFlow reads the newest checkpoint below a directory, or None."""
    return next((path / "state" for path in _checkpoints(directory)), None)


def _checkpoints(directory: Path) -> list[Path]:
    """Newest first; what else lies there, such as a copy of one, is none."""
    paths = (path for path in directory.glob("step-*") if re.fullmatch("step-[0-9]+", path.name))
    return sorted(paths, key=_step_of, reverse=True)


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as JSON gives them back, those of the data by their own names."""
    values = json.loads(json.dumps(config))
    data = values.pop("data", {})
    return {**values, **data}


def load_network(path: Path) -> keras.Model:
    """The network in a ``.keras`` file, set to compute in float32 whatever precision it was trained with.

    In bfloat16 the pixels of a film would depend on the size of its batch.

    Raises:
        ModelError: the file is missing or broken.
    """
    try:
        network = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        received = "a broken file" if path.exists() else "nothing there"
        raise ModelError(f"{path}: expected a trained network, received: {received}; repeat the training") from error
    return compute_in_float32(network)


def compute_in_float32(network: keras.Model) -> keras.Model:
    """Sets every layer of a network to float32, in place, and returns it."""
    for layer in network.layers:
        layer.dtype_policy = "float32"
    return network
