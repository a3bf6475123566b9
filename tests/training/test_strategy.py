import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, UNetConfig
from mammogan_tf.errors import ConfigError
from mammogan_tf.training import strategy
from mammogan_tf.training.strategy import (
    choose_precision,
    make_strategy,
    require_divisible,
    set_up_device,
    with_loss_scaling,
)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_precision_that_is_asked_for_is_taken(precision):
    assert choose_precision(precision) == precision
    assert set_up_device(precision, 0, False) == precision
    assert keras.config.dtype_policy().name == precision


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        (None, "float32"),
        ((9, 0), "mixed_bfloat16"),
        ((8, 0), "mixed_bfloat16"),
        ((7, 5), "mixed_float16"),
        ((6, 1), "float32"),
    ],
)
def test_auto_follows_the_device(monkeypatch, capability, expected):
    gpus = [] if capability is None else ["a GPU"]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert choose_precision("auto") == expected


@pytest.mark.parametrize(
    ("name", "gpus", "machines", "expected"),
    [
        ("auto", 0, 1, "one"),
        ("auto", 1, 1, "one"),
        ("auto", 2, 1, ["GPU:0", "GPU:1"]),
        ("auto", 2, 2, "all machines"),
        ("one", 2, 2, "one"),
        ("mirrored", 2, 2, ["GPU:0", "GPU:1"]),
        ("mirrored", 0, 1, ["CPU:0"]),
        ("multiworker", 0, 1, "all machines"),
    ],
)
def test_which_devices_train(monkeypatch, name, gpus, machines, expected):
    cluster = {"worker": [f"host{number}:2222" for number in range(machines)]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
    there = {
        "GPU": [SimpleNamespace(name=f"GPU:{number}") for number in range(gpus)],
        "CPU": [SimpleNamespace(name="CPU:0")],
    }
    for kind in ("physical", "logical"):
        monkeypatch.setattr(tf.config, f"list_{kind}_devices", there.get)
    monkeypatch.setattr(strategy, "wait_for_all", lambda console: None)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: "one")
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: devices)
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "all machines")
    assert make_strategy(name) == expected


def test_devices_that_cannot_share_a_batch_are_refused():
    two = SimpleNamespace(num_replicas_in_sync=2)
    for config in (UNetConfig, GANConfig):
        require_divisible(config(batch_size=6), two)
        with pytest.raises(ConfigError, match="batch_size: expected a multiple of the 2 devices, received: 3"):
            require_divisible(config(batch_size=3), two)
    require_divisible(GANConfig(batch_size=8, energy_weight=1.0), two)
    with pytest.raises(ConfigError, match="batch_size: expected an even number for each device"):
        require_divisible(GANConfig(batch_size=6, energy_weight=1.0), two)


def test_the_seed_decides_the_first_weights():
    kernels = []
    for seed in (1, 1, 2):
        set_up_device("float32", seed, False)
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        kernels.append(layer.kernel.numpy())
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def test_determinism_on_request(monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    set_up_device("float32", 0, False)
    assert not asked
    set_up_device("float32", 0, True)
    assert asked


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_only_float16_is_scaled(precision):
    set_up_device(precision, 0, False)
    optimizer = keras.optimizers.Adam()
    result = with_loss_scaling(optimizer)
    if precision == "mixed_float16":
        assert isinstance(result, keras.optimizers.LossScaleOptimizer)
        assert result.inner_optimizer is optimizer
    else:
        assert result is optimizer


def test_a_strategy_that_there_is_not():
    with pytest.raises(
        ConfigError, match=r"strategy: expected auto \| one \| mirrored \| multiworker, received: miror"
    ):
        make_strategy("miror")
