"""Runs the ``tensorflow_model_server`` binary with the settings of the embedded server, as far as it has them."""

import dataclasses
import json
import logging
import math
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import MESSAGE_LIMIT
from mammogan_tf.serving.servable import MAX_EXAMPLES
from mammogan_tf.serving.server import DRAIN_SECONDS, nothing_to_serve, require_free_address
from mammogan_tf.serving.settings import ServerSettings
from mammogan_tf.serving.versions import ModelManager, version_folders

__all__ = ["BINARY", "run_model_server"]

BINARY = "tensorflow_model_server"

logger = logging.getLogger(__name__)


def run_model_server(binary: str, models: Path, settings: ServerSettings, ending: threading.Event) -> None:
    """Serves the models found now until ``ending`` is set or the binary ends by itself.

    Raises:
        ServingError: metrics beside TLS, as its HTTP port also answers requests and knows no TLS; nothing to serve, the address
            or its metrics' is taken, or the binary does not run or ended.
    """
    if settings.metrics_port is not None and settings.pem is not None:
        raise ServingError(
            f"--metrics-port: expected none with TLS, received: {settings.metrics_port}; {BINARY} answers requests on that port, "
            "too, without TLS: leave it out, or take --engine embedded"
        )
    names = [path.name for path in ModelManager(models).folders() if _has_a_version(path)]
    if not names:
        raise nothing_to_serve(ModelManager(models))
    if settings.port == 0:
        settings = dataclasses.replace(settings, port=_free_port())
    if settings.metrics_port == 0:
        settings = dataclasses.replace(settings, metrics_port=_free_port())
    require_free_address("0.0.0.0", settings.port)
    if settings.metrics_port is not None:  # Without its port it would serve on, and measure nothing.
        require_free_address("0.0.0.0", settings.metrics_port, "--metrics-port")
    if settings.host != "0.0.0.0":  # It has no option but to listen on every interface.
        logger.warning("%s listens on every interface, not only on %s", BINARY, settings.host)
    if settings.metrics_port is not None:
        logger.warning(
            "%s also answers requests over HTTP on port %d, not only for metrics", BINARY, settings.metrics_port
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.Popen([binary, *_flags(Path(folder), models, names, settings)])
        except OSError as error:
            raise ServingError(
                f"{binary}: expected a program that runs here, received: {error.strerror}; install another, or take "
                "--engine embedded"
            ) from error
        try:
            print(f"Serving {', '.join(names)} on 0.0.0.0:{settings.port} ({BINARY}); Ctrl-C ends", flush=True)
            if settings.metrics_port is not None:
                print(f"Metrics on http://0.0.0.0:{settings.metrics_port}/metrics", flush=True)
            while process.poll() is None and not ending.wait(0.2):
                pass
        finally:
            process.terminate()
            try:
                status = process.wait(DRAIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
    if not ending.is_set():
        raise ServingError(f"{BINARY}: expected it to serve, received: exit status {status}; its output above says why")


def _has_a_version(model: Path) -> bool:
    return any((version / "saved_model.pb").exists() for version in (version_folders(model) or {}).values())


def _free_port() -> int:
    """A port that nothing listens on now; the binary takes 0 for none."""
    with socket.create_server(("", 0)) as probe:
        return int(probe.getsockname()[1])


def _flags(folder: Path, models: Path, names: list[str], settings: ServerSettings) -> list[str]:
    """The flags, and in ``folder`` the text-format messages that they name."""
    configs = {"model_config": _models(models, names)}
    flags = [
        f"--port={settings.port}",
        f"--file_system_poll_wait_seconds={max(round(settings.poll_seconds), 1)}",
        f"--grpc_channel_arguments=grpc.so_reuseport=0,grpc.max_receive_message_length={MESSAGE_LIMIT}",
        "--enable_grpc_healthcheck_service=true",
    ]
    if settings.max_batch_size > 1:
        configs["batching_parameters"] = _batching(settings)
        flags.append("--enable_batching=true")
    if settings.metrics_port is not None:
        configs["monitoring_config"] = 'prometheus_config { enable: true path: "/metrics" }'
        flags.append(f"--rest_api_port={settings.metrics_port}")
    if settings.pem is not None:
        configs["ssl_config"] = _ssl(*settings.pem)
    for name, text in configs.items():
        file = folder / f"{name}.config"
        file.touch(mode=0o600)
        file.write_text(text)
        flags.append(f"--{name}_file={file}")
    return flags


def _models(models: Path, names: list[str]) -> str:
    config = ModelServerConfig()
    for name in names:
        path = str((models / name).resolve())
        config.model_config_list.config.add(name=name, base_path=path, model_platform="tensorflow")
    return text_format.MessageToString(config)


def _batching(settings: ServerSettings) -> str:
    """BatchingParameters (session_bundle_config.proto), in which ``max_batch_size`` is the most examples of a *request*.

    A request over the size of a pass is cut up; the queue, which is counted in passes, holds the largest.
    """
    queue = max(settings.max_queue, math.ceil(MAX_EXAMPLES / settings.max_batch_size))
    return f"""max_batch_size {{ value: {max(MAX_EXAMPLES, settings.max_batch_size)} }}
max_execution_batch_size {{ value: {settings.max_batch_size} }}
batch_timeout_micros {{ value: {round(settings.batch_timeout_ms * 1000)} }}
max_enqueued_batches {{ value: {queue} }}
enable_large_batch_splitting {{ value: true }}
"""


def _ssl(certificate: bytes, key: bytes, authority: bytes | None) -> str:
    """SSLConfig (ssl_config.proto): the content of the PEM files; text format quotes and escapes as JSON does."""
    config = {"server_key": key, "server_cert": certificate} | ({"custom_ca": authority} if authority else {})
    lines = [f"{name}: {json.dumps(pem.decode(errors='ignore'))}" for name, pem in config.items()]
    return "\n".join([*lines, f"client_verify: {json.dumps(authority is not None)}", ""])
