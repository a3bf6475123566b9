"""How the clients reach a server: limits, retries, TLS, and failures in one line."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammogan_tf.errors import ServingError

if TYPE_CHECKING:
    import grpc

__all__ = ["MESSAGE_LIMIT", "OPTIONS", "explain", "tls_credentials"]

MESSAGE_LIMIT = 64 * 2**20

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
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
]


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
        ServingError: a file cannot be read, or only one of certificate and key is given.
    """
    import grpc

    if (certificate is None) != (key is None):
        received = "only the key" if certificate is None else "only the certificate"
        raise ServingError(f"TLS: expected a certificate and its key, received: {received}; give both or none")
    return grpc.ssl_channel_credentials(_read_pem(ca), _read_pem(key), _read_pem(certificate))


def explain(error: Any, address: str, timeout: float) -> ServingError:
    """A ``grpc.RpcError`` in one line."""
    code, details = error.code().name, " ".join((error.details() or "no reason").split())
    if code == "UNAVAILABLE" and "handshake" in details.lower():
        return ServingError(f"{address}: expected a server with TLS and a certificate to trust, received: {details}")
    if code == "UNAVAILABLE" and "connect" in details.lower():
        return ServingError(
            f"{address}: expected a model server, received: no connection; start one with mammogan-tf serve"
        )
    if code == "DEADLINE_EXCEEDED":
        return ServingError(
            f"{address}: expected an answer within {timeout:g} s, received: none; raise the timeout or send fewer films"
        )
    return ServingError(f"{address}: expected an answer, received: {code}: {details}")


def _read_pem(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"{path}: expected a PEM file, received: {error.strerror or error}") from error
    if b"-----BEGIN" not in content:
        raise ServingError(f"{path}: expected a PEM file, received: other content")
    return content
