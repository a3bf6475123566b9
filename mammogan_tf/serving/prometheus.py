"""What the embedded server counts, for Prometheus."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mammogan_tf.serving.versions import ModelManager

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
EXAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)

SILENCE_SECONDS = 10
"""Seconds after which a silent connection is closed."""


class Metrics:
    """The counters of one server. A model that is not served counts as ``""``, so that clients cannot invent labels."""

    def __init__(self, manager: ModelManager) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "mammogan_requests", "Requests answered.", ["method", "model", "status"], registry=registry
        )
        self.seconds = Histogram(
            "mammogan_request_seconds",
            "From request to answer.",
            ["method", "model"],
            registry=registry,
            buckets=SECONDS,
        )
        self.examples = Histogram(
            "mammogan_batch_examples", "Examples that ran together.", ["model"], registry=registry, buckets=EXAMPLES
        )
        self.queue = Gauge("mammogan_queue_requests", "Requests that wait for a pass.", registry=registry)
        registry.register(_Versions(manager))
        ProcessCollector(registry=registry)

    def expose(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Serves ``/metrics`` over HTTP; returns the port (a free one for 0) and what ends it. Raises OSError."""
        server, thread = start_http_server(port, host, self.registry)
        handle = server.RequestHandlerClass

        def handle_in_time(connection: Any, *arguments: Any) -> Any:
            connection.settimeout(SILENCE_SECONDS)  # Each has a thread.
            with suppress(TimeoutError):
                return handle(connection, *arguments)

        server.RequestHandlerClass = handle_in_time

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, close


class _Versions(Collector):
    """``mammogan_model_loaded{model="unet", version="3"} 1`` for every version that serves."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("mammogan_model_loaded", "Versions that serve.", labels=["model", "version"])
        for model, number in self._manager.serving():
            family.add_metric([model, str(number)], 1)
        yield family
