"""TensorFlow as the commands use it: without the lines that it writes before its log level can be set."""

import os
import platform
import sys

from mammogan_tf.console import suppress_stderr

__all__ = ["import_tensorflow"]


def import_tensorflow(*, onednn: bool = False) -> None:
    """Imports TensorFlow once, with standard error closed to it: its first lines, and those of its search for a GPU, obey no
    log level. Of a GPU's memory it then takes what it needs, not all.

    Args:
        onednn: compute with oneDNN on any x86 processor, unless ``TF_ENABLE_ONEDNN_OPTS`` is set. By itself TensorFlow does so
            on those with AVX512-VNNI or the like alone. On others it makes work in batches faster, and films that come
            one by one slower.
    """
    if "tensorflow" in sys.modules:
        return
    # What ends a command comes as an exception, too; other errors in the log are of ways that it goes without.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Or each failed handshake has a line that is no JSON in a server's log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if onednn and platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    with suppress_stderr():
        import tensorflow

        # Its warnings, such as that a fold's network is traced anew, tell of nothing that a user could change.
        tensorflow.get_logger().setLevel("ERROR")
        for gpu in tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.experimental.set_memory_growth(gpu, True)
