"""What a measurement was taken on: figures of other machines, versions or oneDNN settings do not compare."""

import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import tensorflow as tf

from mammogan_tf.environment import versions

__all__ = ["measured_on"]


def measured_on() -> dict[str, Any]:
    """``device`` (the first GPU, else the processor), ``cores`` by this process's affinity, ``TF_ENABLE_ONEDNN_OPTS`` and
    ``versions``.
    """
    return {
        "device": _device(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "versions": versions("mammogan-tf", "tensorflow", "keras", "grpcio", "torch"),
    }


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    with suppress(OSError):  # Linux alone has it.
        if named := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return named[1]
    return platform.processor() or platform.machine()
