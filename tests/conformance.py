"""Checks that every config and every network must pass."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mammogan_tf.validated import from_dict, to_dict

__all__ = ["check_config_round_trip", "check_output_shape", "check_save_and_reload"]


def check_config_round_trip(config: Any) -> None:
    """A config that went through JSON text is the same config."""
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def check_output_shape(model: keras.Model, inputs: Any, expected: Sequence[int]) -> np.ndarray:
    """The network gives finite float32 of the expected shape, without the batch axis as declared; returns it."""
    output = np.asarray(model(inputs, training=False))
    assert output.shape == tuple(expected)
    assert tuple(model.output_shape[1:]) == tuple(expected[1:])
    assert output.dtype == np.float32
    assert np.isfinite(output).all()
    return output


def check_save_and_reload(model: keras.Model, inputs: Any, folder: Path) -> None:
    """A network that was saved and loaded again gives the same output, bit by bit."""
    model.save(folder / "model.keras")
    reloaded = keras.models.load_model(folder / "model.keras", compile=False)
    before, after = (np.asarray(each(inputs, training=False)) for each in (model, reloaded))
    np.testing.assert_array_equal(after, before)
