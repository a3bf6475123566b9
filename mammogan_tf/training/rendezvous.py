"""Waits for the other processes that train together, before TensorFlow does, which no signal ends then."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mammogan_tf.console import Console
from mammogan_tf.errors import ModelError
from mammogan_tf.training.workers import cluster, own_task

__all__ = ["wait_for_all"]

PAUSE = 1.0
"""Seconds between two looks at the others."""


def wait_for_all(console: Console) -> None:
    """Listens at the own address of ``TF_CONFIG`` until somebody listens at each of the others, all at once.

    The console hears of who is missing.

    Raises:
        ConfigError: ``TF_CONFIG`` is broken.
        ModelError: another program has the port.
    """
    others = cluster()
    own = others.pop(own_task())
    told = None
    with _listening(own) as listener:
        while missing := [address for address in others.values() if not _listens(address)]:
            if missing != told:
                console.line(f"waiting for the other workers of TF_CONFIG: {', '.join(missing)}")
            told = missing
            time.sleep(PAUSE)
            _hang_up(listener)


@contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        listener = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise ModelError(
            f"TF_CONFIG: expected a free port for {address}, received: {error.strerror}; end what has it, or name another"
        ) from error
    with listener:
        listener.setblocking(False)
        yield listener


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), timeout=PAUSE).close()
        return True
    return False


def _hang_up(listener: socket.socket) -> None:
    """Takes the calls of the others, who only want to know that somebody is there, so that there is room for more."""
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
