"""Serves exported models over gRPC: ``tensorflow_model_server`` where installed, or an embedded server of its API."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.servable import MESSAGE_LIMIT
from mammogan_tf.serving.services import ModelService, PredictionService
from mammogan_tf.serving.versions import Library

__all__ = ["ENGINES", "Server", "serve"]

ENGINES = ("auto", "tensorflow_model_server", "embedded")
BINARY = "tensorflow_model_server"
POLL_SECONDS = 1.0
DRAIN_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Server:
    """The embedded server: a context manager that serves from entry to exit.

    >>> with Server("saved_models", port=0) as server:  # doctest: +SKIP
    ...     MammoganClient(server.address).status()

    ``models`` is the folder of ``<model>/<version>/`` exports, looked at again each ``poll_seconds``; port 0 takes a
    free port.
    """

    def __init__(
        self,
        models: str | os.PathLike[str] = "saved_models",
        host: str = "127.0.0.1",
        port: int = 8500,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.library = Library(Path(models))
        self.host, self.port, self.poll_seconds = host, port, poll_seconds
        self._ending = threading.Event()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Loads the newest version of every model and begins to answer.

        Raises:
            ServingError: nothing to serve, or the address is taken.
        """
        _require_free_address(self.host, self.port)
        self.library.refresh()
        if not self.library.available():
            raise _nothing_to_serve(self.library)
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(max_workers=max(8, 2 * (os.cpu_count() or 1)), thread_name_prefix="request"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self.library), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self.library), self._grpc)
        try:
            self.port = self._grpc.add_insecure_port(self.address)
        except RuntimeError as error:
            raise _address_taken(self.host, self.port, "in use") from error
        self._grpc.start()
        threading.Thread(target=self._follow, name="follow-versions", daemon=True).start()

    def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Takes no more requests and waits up to ``grace`` seconds for those that run."""
        self._ending.set()
        self._grpc.stop(grace).wait()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _follow(self) -> None:
        while not self._ending.wait(self.poll_seconds):
            try:
                self.library.refresh()
            except Exception:
                logger.exception("looking for new versions failed; trying again")


def serve(
    models: str | os.PathLike[str] = "saved_models", host: str = "127.0.0.1", port: int = 8500, engine: str = "auto"
) -> None:
    """Serves a folder of exports until SIGTERM or Ctrl-C, then drains.

    ``engine`` ``auto`` takes ``tensorflow_model_server`` where it is installed, else the embedded server.

    Raises:
        ServingError: nothing to serve, the address is taken, or the engine is not installed.
    """
    if engine not in ENGINES:
        raise ServingError(f"engine: expected {' | '.join(ENGINES)}, received: {engine}")
    binary = shutil.which(BINARY)
    if engine == BINARY and not binary:
        raise ServingError(f"{BINARY}: expected it on the PATH, received: nothing; install it or use --engine embedded")
    with _console_log(), _until_told_to_end() as ending:
        if binary and engine != "embedded":
            _run_binary(binary, Path(models), host, port, ending)
            return
        with Server(models, host, port) as server:
            names = ", ".join(f"{name} {version}" for name, version in server.library.available().items())
            print(f"Serving {names} on {server.address} (embedded); Ctrl-C ends", flush=True)
            ending.wait()
            print("Ending: answering the requests that run", flush=True)


def _run_binary(binary: str, models: Path, host: str, port: int, ending: threading.Event) -> None:
    """Runs TensorFlow Serving on the models found now; it has no option but to listen on every interface."""
    names = sorted(path.name for path in models.glob("*") if any(path.glob("[0-9]*/saved_model.pb")))
    if not names:
        raise _nothing_to_serve(Library(models))
    _require_free_address("0.0.0.0", port)
    if host != "0.0.0.0":
        logger.warning("%s listens on every interface, not only on %s; --engine embedded does not", BINARY, host)
    config = ModelServerConfig()
    for name in names:
        path = str((models / name).resolve())
        config.model_config_list.config.add(name=name, base_path=path, model_platform="tensorflow")
    with tempfile.NamedTemporaryFile("w", suffix=".config") as file:
        file.write(text_format.MessageToString(config))
        file.flush()
        command = [binary, f"--port={port}", f"--model_config_file={file.name}", "--file_system_poll_wait_seconds=1"]
        process = subprocess.Popen([*command, "--grpc_channel_arguments=grpc.so_reuseport=0"])
        print(f"Serving {', '.join(names)} on 0.0.0.0:{port} ({BINARY}); Ctrl-C ends", flush=True)
        while process.poll() is None and not ending.wait(0.2):
            pass
        process.terminate()
        status = process.wait()
    if not ending.is_set():
        raise ServingError(f"{BINARY}: expected it to serve, received: exit status {status}; its output above says why")


def _nothing_to_serve(library: Library) -> ServingError:
    names = [path.name for path in library.root.iterdir()] if library.root.is_dir() else []
    errors = [f"{name} {v.number}: {v.error}" for name in sorted(names) for v in library.versions(name) if v.error]
    return ServingError(
        f"{library.root}: expected exported models in <model>/<version>/, received: {'; '.join(errors) or 'none'}; "
        "run mammogan-tf export RUN"
    )


def _require_free_address(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _address_taken(host, port, error.strerror) from error


def _address_taken(host: str, port: int, reason: str | None) -> ServingError:
    return ServingError(
        f"{host}:{port}: expected a free address of this machine, received: {reason}; choose another with --port"
    )


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


@contextmanager
def _console_log() -> Iterator[None]:
    """Shows what this package logs while it serves."""
    package, handler = logging.getLogger("mammogan_tf.serving"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, propagate = package.level, package.propagate
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        package.propagate = propagate
