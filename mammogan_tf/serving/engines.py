"""``serve``: ``tensorflow_model_server`` where it is installed, else the embedded server, until told to end."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.log import json_log
from mammogan_tf.serving.model_server import BINARY, run_model_server
from mammogan_tf.serving.server import Server, bracketed
from mammogan_tf.serving.settings import ServerSettings

__all__ = ["ENGINES", "serve"]

ENGINES = ("auto", BINARY, "embedded")


def serve(models: str | os.PathLike[str] = "saved_models", engine: str = "auto", **settings: Any) -> None:
    """Serves a folder of exports until SIGTERM or Ctrl-C. The embedded server then answers the requests that run;
    ``tensorflow_model_server`` handles no signals (tensorflow/serving issue 1853), and breaks them off.

    ``engine`` ``auto`` takes ``tensorflow_model_server`` where it is installed, else the embedded server; ``settings`` are
    the fields of :class:`ServerSettings`.

    Raises:
        ServingError: nothing to serve, an address is taken, PEM files do not fit, or the engine is not installed.
    """
    if engine not in ENGINES:
        raise ServingError(f"engine: expected {' | '.join(ENGINES)}, received: {engine}")
    binary = shutil.which(BINARY)
    if engine == BINARY and not binary:
        raise ServingError(f"{BINARY}: expected it on the PATH, received: nothing; install it or use --engine embedded")
    with json_log(), _until_told_to_end() as ending:
        if binary and engine != "embedded":
            run_model_server(binary, Path(models), ServerSettings(**settings), ending)
            return
        with Server(models, **settings) as server:
            names = ", ".join(f"{name} {version}" for name, version in server.manager.available().items())
            print(f"Serving {names} on {server.address} (embedded); Ctrl-C ends", flush=True)
            if server.metrics_port is not None:
                print(f"Metrics on http://{bracketed(server.settings.host)}:{server.metrics_port}/metrics", flush=True)
            while not ending.wait(0.5):  # Without a timeout, a signal that comes just before the wait is lost.
                pass
            print("Ending: answering the requests that run", flush=True)


@contextmanager
def _until_told_to_end() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or Ctrl-C sets; a second one ends the process as usual."""
    ending = threading.Event()
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, frame: object) -> None:
        ending.set()
        _restore()

    def _restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    for number in usual:
        signal.signal(number, end)
    try:
        yield ending
    finally:
        _restore()
