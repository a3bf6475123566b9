"""How a server listens, batches and secures its port."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.pem import File, require_pem

__all__ = ["MAX_BATCH_TIMEOUT_MS", "ServerSettings"]

MAX_PORT = 65_535

MAX_BATCH_TIMEOUT_MS = 60_000
"""Largest ``batch_timeout_ms``: no client waits longer for company."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of either engine; values that are not acceptable raise ServingError.

    ``host`` is the address to listen on, by default one that this machine alone can reach; port 0 takes a free one. A
    forward pass takes up to ``max_batch_size`` examples, of several requests where more than one waits (1 handles them
    one by one), and starts at the latest ``batch_timeout_ms`` after the first arrived; past ``max_queue`` waiting requests
    more are refused. ``tls_cert`` and ``tls_key`` are PEM files; with ``tls_client_ca`` every client has to show a
    certificate of that authority. ``metrics_port`` serves Prometheus metrics over HTTP, without TLS. Every
    ``poll_seconds`` the server looks for new versions.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    max_batch_size: int = 32
    batch_timeout_ms: float = 0.0
    max_queue: int = 256
    tls_cert: File | None = None
    tls_key: File | None = None
    tls_client_ca: File | None = None
    metrics_port: int | None = None
    poll_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("metrics_port", self.metrics_port)):
            _require(port is None or 0 <= port <= MAX_PORT, name, f"0 to {MAX_PORT}", port)
        _require(self.max_batch_size >= 1, "max_batch_size", "1 or more", self.max_batch_size)
        most = MAX_BATCH_TIMEOUT_MS
        _require(0 <= self.batch_timeout_ms <= most, "batch_timeout_ms", f"0 to {most}", self.batch_timeout_ms)
        _require(self.max_queue >= 1, "max_queue", "1 or more", self.max_queue)
        _require(0 < self.poll_seconds < math.inf, "poll_seconds", "more than 0 and finite", self.poll_seconds)
        _require((self.tls_cert is None) == (self.tls_key is None), "TLS", "a certificate and its key", "one of them")
        _require(bool(self.tls_cert or not self.tls_client_ca), "tls_client_ca", "a server certificate", "none")
        distinct = self.metrics_port in (None, 0) or self.metrics_port != self.port
        _require(distinct, "metrics_port", "another port than that of the requests", self.metrics_port)
        require_pem(self.tls_client_ca, self.tls_cert, self.tls_key)

    @property
    def pem(self) -> tuple[bytes, bytes, bytes | None] | None:
        """Certificate, key and the clients' authority; None without TLS."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        authority = Path(self.tls_client_ca).read_bytes() if self.tls_client_ca else None
        return Path(self.tls_cert).read_bytes(), Path(self.tls_key).read_bytes(), authority


def _require(holds: bool, name: str, expected: str, received: Any) -> None:
    if not holds:
        raise ServingError(f"{name}: expected {expected}, received: {received}")
