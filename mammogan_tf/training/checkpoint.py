"""Checkpoints of *everything*: weights, optimizers, averages, random states, step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

__all__ = ["Checkpoints"]


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
        self._manager.save(checkpoint_number=step)

    def restore(self) -> bool:
        """Restores the newest checkpoint into the variables; False where there is none."""
        path = self._manager.latest_checkpoint
        if path is None:
            return False
        self._state.restore(path).assert_consumed()
        return True
