"""How the clients reach a server: limits, retries, TLS, and failures in one line."""

import json
import os
import re
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.pem import require_pem

if TYPE_CHECKING:
    import grpc

__all__ = [
    "ADDRESS",
    "MAX_SECONDS",
    "MESSAGE_LIMIT",
    "OPTIONS",
    "SECONDS",
    "channel_options",
    "closed",
    "explain",
    "is_too_large",
    "require_timeout",
    "tls_credentials",
]

MESSAGE_LIMIT = 64 * 2**20
"""Largest message in bytes, and largest tensor that a request may unfold to."""

ADDRESS, SECONDS = "127.0.0.1:8500", 30.0
"""Where a client looks for a server, and how long it waits for an answer, unless told."""

MAX_SECONDS = 86_400

RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
"""gRPC's own retries (proposal A6): it allows five attempts at most, and no later than the deadline."""

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{"name": [{}], "retryPolicy": RETRIES}],
}
"""For every method; a name with several addresses (``dns:///host:port``) is asked at all of them in turn."""

OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.per_rpc_retry_buffer_size", MESSAGE_LIMIT),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),  # By itself two minutes, for which a server that is back would be missed.
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
]

THIS_MACHINE = re.compile(r"(^|[:/])(localhost|127(\.\d+){3}|0\.0\.0\.0|\[::1?\])(:\d+)?$", re.IGNORECASE)
"""The end of an address on this machine, with any scheme before it (``dns:///localhost:8500``)."""

PORT = re.compile(r":\d+$|^unix")
"""What names a port; an address without one gRPC asks at 443. A socket has none."""

NO_CONNECTION = ("failed to connect to remote host", "connect failed")
"""How gRPC says that nothing listens at a port, and at a socket of Unix."""

TOO_LARGE = ("expected an answer of at most", "larger than max")
"""How the embedded server and gRPC say that a message is over the limit."""


def channel_options(address: str) -> list[tuple[str, Any]]:
    """For a channel to ``address``: one to this machine goes through no HTTP proxy, also where ``no_proxy`` forgets it."""
    return [*OPTIONS, ("grpc.enable_http_proxy", int(not THIS_MACHINE.search(address)))]


def tls_credentials(
    ca: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> "grpc.ChannelCredentials":
    """Credentials for a server with TLS, from PEM files.

    Args:
        ca: the authorities to trust; those that gRPC comes with where None.
        certificate: the client's own, for a server that asks for one (mutual TLS).
        key: of that certificate.

    Raises:
        ServingError: a file is not what it should be, or only one of certificate and key is given.
    """
    import grpc

    if (certificate is None) != (key is None):
        received = "only the key" if certificate is None else "only the certificate"
        raise ServingError(f"TLS: expected a certificate and its key, received: {received}; give both or none")
    require_pem(ca, certificate, key)
    return grpc.ssl_channel_credentials(*(path and Path(path).read_bytes() for path in (ca, key, certificate)))


def require_timeout(seconds: float) -> None:
    """Raises ServingError for a time that gRPC does not take."""
    if not (isinstance(seconds, Real) and 0 < seconds <= MAX_SECONDS):
        raise ServingError(f"timeout: expected more than 0 s, {MAX_SECONDS} s at most, received: {seconds} s")


def is_too_large(error: Any) -> bool:
    """Whether a ``grpc.RpcError`` says that a message, most likely the answer, is over the limit of a server or of gRPC."""
    return error.code().name == "RESOURCE_EXHAUSTED" and any(words in (error.details() or "") for words in TOO_LARGE)


def closed(address: str) -> ServingError:
    """What to raise where a client is asked after its end."""
    return ServingError(f"{address}: expected an open client, received: a closed one; make another")


def explain(error: Any, address: str, timeout: float, asked: str = "") -> ServingError:
    """A ``grpc.RpcError`` in one line; ``asked`` is the model and version that a request insisted on, if any."""
    code, details = error.code().name, " ".join((error.details() or "no reason").split())
    trouble = details.partition("last error: ")[2]  # With a connection.
    if code == "UNAVAILABLE" and "HTTP proxy" in details:
        return ServingError(
            f"{address}: expected a model server, received: {trouble or details}; "
            "where it is reached without the proxy, add its host to the environment variable no_proxy"
        )
    if code == "UNAVAILABLE" and any(word in details.lower() for word in ("handshake", "verification")):
        return ServingError(f"{address}: expected a server with TLS and a certificate to trust, received: {details}")
    if code == "UNAVAILABLE" and any(words in trouble.lower() for words in NO_CONNECTION):
        advice = "start one with mammogan-tf serve" if PORT.search(address) else f"name its port, as in {address}:8500"
        return ServingError(f"{address}: expected a model server, received: no connection; {advice}")
    if code == "UNAVAILABLE" and trouble:
        return ServingError(
            f"{address}: expected a model server, received: {trouble}; "
            "for one with TLS give its authority (--tls-ca), and for one that asks for a certificate your own "
            "(--tls-cert, --tls-key); in Python, tls_credentials takes all three"
        )
    if code == "NOT_FOUND" and asked:
        return ServingError(
            f"{address}: expected {asked}, received: {code}: {details}; "
            "a newer version may have taken its place: on the command line ask again, into a new folder; "
            "in Python ask for one that is AVAILABLE in client.status()"
        )
    if code == "DEADLINE_EXCEEDED":
        return ServingError(
            f"{address}: expected an answer within {timeout:g} s, received: none; "
            "raise the timeout, send fewer films, or check the address"
        )
    return ServingError(f"{address}: expected an answer, received: {code}: {details}")
