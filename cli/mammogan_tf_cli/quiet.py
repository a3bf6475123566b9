"""TensorFlow without the lines that it writes before its log level can be set."""

import os
import sys

__all__ = ["import_tensorflow"]


def import_tensorflow() -> None:
    """Imports TensorFlow once, with standard error closed to it: its first lines, and those of its search for a GPU, obey no
    log level. Of a GPU's memory it then takes what it needs, not all."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow

        for gpu in tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.experimental.set_memory_growth(gpu, True)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
