"""Checkpoints of *everything*: weights, optimizers, averages, random states, step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import tensorflow as tf

from mammogan_tf.errors import ModelError

__all__ = ["Checkpoints", "compute_in_float32", "load_network"]


class Checkpoints:
    """Numbered checkpoints of a list of variables below ``directory``; the newest ``keep`` stay.

    TensorFlow's manager names a checkpoint as the latest only once it is wholly on disk, so a killed run finds the one
    before. ``variables`` are Keras or TensorFlow variables in an order that depends on the configuration alone.
    """

    def __init__(self, directory: str | Path, variables: Sequence[Any], keep: int = 2) -> None:
        state = tf.train.Checkpoint(
            state=[variable.value if isinstance(variable, keras.Variable) else variable for variable in variables]
        )
        self._state = state
        self._manager = tf.train.CheckpointManager(state, str(directory), max_to_keep=keep, checkpoint_name="step")

    def save(self, step: int) -> None:
        """Writes a checkpoint, unless the newest is of this step.

        Raises:
            ModelError: it cannot be written; those before it stay as they are.
        """
        if (self._manager.latest_checkpoint or "").endswith(f"step-{step}"):
            return
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).partition(" [Op:")[0].rpartition("; ")[2]
            raise ModelError(
                f"{self._manager.directory}: expected room for a checkpoint, received: {reason}; "
                "free some space, then go on with --resume"
            ) from error

    def restore(self) -> bool:
        """Restores the newest checkpoint into the variables; False where there is none.

        Raises:
            ModelError: it is broken, or of another configuration.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return False
        try:
            self._state.restore(path).assert_consumed()
        except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
            raise ModelError(
                f"{path}: expected a checkpoint of this run, received: {_first_line(error)}; start another run"
            ) from error
        return True


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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
