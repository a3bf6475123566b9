"""What a measurement was taken on: figures of other machines, versions or oneDNN settings do not compare."""

import os
from typing import Any

import tensorflow as tf

from mammogan_tf.environment import processor, usable_cores, versions

__all__ = ["measured_on"]


def measured_on() -> dict[str, Any]:
    """``device`` (the first GPU, else the processor), ``cores`` by this process's affinity, ``TF_ENABLE_ONEDNN_OPTS`` and
    ``versions``.
    """
    return {
        "device": _device(),
        "cores": usable_cores(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "versions": versions("mammogan-tf", "tensorflow", "keras", "grpcio", "torch"),
    }


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else processor()
