"""The embedded server: exported models over gRPC, through the public API of TensorFlow Serving."""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.batching import Batcher
from mammogan_tf.serving.channel import MESSAGE_LIMIT
from mammogan_tf.serving.decoding import DecodingInterceptor
from mammogan_tf.serving.health import SERVICE_NAME, Health
from mammogan_tf.serving.prometheus import Metrics
from mammogan_tf.serving.services import ModelService, PredictionService
from mammogan_tf.serving.settings import ServerSettings
from mammogan_tf.serving.versions import ModelManager

__all__ = ["Server", "bracketed", "nothing_to_serve", "require_free_address"]

DRAIN_SECONDS = 30.0
LINGER_SECONDS = 1.0
OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.keepalive_time_ms", 30_000),  # A client that has stopped is let go, with the answers that wait for it.
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Proxies may ask as often as they usually do whether it is there: gRPC would cut them off for more than one ping in 5 min.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A client looks for servers when it connects anew: so those that have been added get some of the load.
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
]

SERVICES = [
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    SERVICE_NAME,
    reflection.SERVICE_NAME,
]
"""What reflection describes: it knows a service only where its module is imported, and the stubs do not import it."""

logger = logging.getLogger(__name__)


class Server:
    """A context manager that serves from entry to exit.

    >>> with Server("saved_models", port=0) as server:  # doctest: +SKIP
    ...     MammoganClient(server.address).status()

    ``models`` is the folder of ``<model>/<version>/`` exports, the rest are the fields of :class:`ServerSettings`. An
    event loop in a thread of its own speaks to the clients; models run, and new versions load, in threads beside it.
    """

    def __init__(self, models: str | os.PathLike[str] = "saved_models", **settings: Any) -> None:
        self.settings = ServerSettings(**settings)
        self.manager = ModelManager(Path(models))
        self.metrics = Metrics(self.manager)
        self.port, self.metrics_port = self.settings.port, self.settings.metrics_port
        self._close_metrics: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        return f"{bracketed(self.settings.host)}:{self.port}"

    def start(self) -> None:
        """Loads the newest version of every model and begins to answer.

        Raises:
            ServingError: nothing to serve, or an address is taken.
        """
        require_free_address(self.settings.host, self.port)
        self.manager.refresh()
        if not self.manager.available():
            raise nothing_to_serve(self.manager)
        if self.metrics_port is not None:
            try:
                self.metrics_port, self._close_metrics = self.metrics.expose(self.settings.host, self.metrics_port)
            except OSError as error:
                raise _address_taken(self.settings.host, self.metrics_port, error.strerror, "--metrics-port") from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serving")
        self._thread.start()
        try:
            self._run(self._open())
        except BaseException:
            self._end()
            raise

    def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Takes no more requests and waits up to ``grace`` seconds for those that run."""
        try:
            self._run(self._drain(grace))
        except BaseException:  # A second Ctrl-C.
            self._run(self._break_off())
            raise
        finally:
            self._end()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result()
        except BaseException:
            future.cancel()  # Where this thread was interrupted, the work would go on.
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._close_metrics()

    async def _open(self) -> None:
        settings, metrics = self.settings, self.metrics
        self._ending = asyncio.Event()
        self._executor = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pass")
        self._batcher = Batcher(
            self._executor,
            settings.max_batch_size,
            settings.batch_timeout_ms / 1000,
            settings.max_queue,
            lambda model, examples: metrics.examples.labels(model).observe(examples),
        )
        metrics.queue.set_function(lambda: self._batcher.waiting)
        self._health = Health(self.manager)
        await self._health.refresh()
        self._grpc = grpc.aio.server(interceptors=[DecodingInterceptor()], options=OPTIONS)
        prediction = PredictionService(self.manager, metrics, self._batcher)
        model = ModelService(self.manager, metrics, self._health)
        self._services = (prediction, model)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection(SERVICES, self._grpc)
        try:
            self.port = self._bind()
        except RuntimeError as error:
            require_free_address(settings.host, self.port)
            if settings.tls_cert is None:
                raise _address_taken(settings.host, self.port, "in use") from error
            raise ServingError(
                f"{settings.tls_cert}: expected a certificate that gRPC takes, received: another; "
                "make one with RSA or P-256"
            ) from error
        await self._grpc.start()
        self._following = asyncio.create_task(self._follow())

    def _bind(self) -> int:
        pem = self.settings.pem
        if pem is None:
            return self._grpc.add_insecure_port(self.address)
        certificate, key, authority = pem
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, authority is not None)
        return self._grpc.add_secure_port(self.address, credentials)

    async def _follow(self) -> None:
        """Looks for new versions until the server ends."""
        while not self._ending.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self.settings.poll_seconds)
                return
            try:
                await asyncio.to_thread(self.manager.refresh)
                await self._health.refresh()
            except Exception:
                logger.exception("looking for new versions failed; trying again")

    @property
    def _busy(self) -> bool:
        """Whether a pass, a request or the sending of an answer is under way."""
        return self._batcher.busy or any(service.running for service in self._services)

    async def _drain(self, grace: float) -> None:
        await self._health.enter_graceful_shutdown()
        self._ending.set()
        self.manager.load_no_more()
        self._batcher.drain()
        stopping = asyncio.create_task(self._grpc.stop(grace))
        while self._busy and not stopping.done():
            await asyncio.sleep(0.02)
        await self._grpc.stop(LINGER_SECONDS)  # Watchers of the health would stay for all of the grace.
        await stopping
        await self._following
        await self._loop.shutdown_default_executor()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _break_off(self) -> None:
        """Cancels all that runs; a pass ends with what it computes at the moment."""
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._grpc.stop(0)
        self._executor.shutdown(wait=False, cancel_futures=True)


def bracketed(host: str) -> str:
    """``::1`` as ``[::1]``, which a port can follow; other hosts as they are."""
    return f"[{host}]" if ":" in host else host


def nothing_to_serve(manager: ModelManager) -> ServingError:
    """What to say when a folder holds no model that can be served, and why."""
    names = [path.name for path in manager.folders()]
    errors = [f"{name} {v.number}: {v.error}" for name in names for v in manager.versions(name) if v.error]
    return ServingError(
        f"{manager.root}: expected exported models in <model>/<version>/, received: {'; '.join(errors) or 'none'}; "
        "run mammogan-tf export RUN"
    )


def require_free_address(host: str, port: int, option: str = "--port") -> None:
    """Raises ServingError where something else listens, or the address is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # A name that no host can have is a UnicodeError.
        taken = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
        reason = getattr(error, "strerror", None) or str(error)
        raise _address_taken(host, port, reason, option if taken else "--host") from error


def _address_taken(host: str, port: int, reason: str | None, option: str = "--port") -> ServingError:
    return ServingError(
        f"{bracketed(host)}:{port}: expected a free address of this machine, received: {reason}; choose another with {option}"
    )
