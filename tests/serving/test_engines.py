import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.engines import serve
from mammogan_tf.serving.model_server import run_model_server
from mammogan_tf.serving.settings import ServerSettings


def test_nothing_to_serve_is_one_line(tmp_path):
    with pytest.raises(ServingError, match=r"<model>/<version>/, received: none; run mammogan-tf export"):
        serve(tmp_path / "absent", port=0)
    (tmp_path / "unet" / "1").mkdir(parents=True)
    with pytest.raises(ServingError, match=r"received: unet 1: .*saved_model\.pb"):
        serve(tmp_path, port=0)


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_gets_no_model_without_a_version(models, capfd):
    (models / "unet" / "1").rename(models / "unet" / "1.bak")
    with pytest.raises(ServingError, match="<model>/<version>/, received: none; run mammogan-tf export"):
        serve(models, port=18500)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("203.0.113.1", "203.0.113.1:18500: .* choose another with --host"),
        ("nohost.invalid", "nohost.invalid:18500: .* choose another with --host"),
    ],
)
def test_an_address_of_another_machine_is_one_line(models, host, says):
    with pytest.raises(ServingError, match=says):
        serve(models, engine="embedded", host=host, port=18500)


def test_an_engine_that_is_not_there_is_one_line(models, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServingError, match="expected it on the PATH"):
        serve(models, engine="tensorflow_model_server")
    with pytest.raises(ServingError, match="received: torchserve"):
        serve(models, engine="torchserve")


@pytest.fixture
def binary(tmp_path, monkeypatch):
    """Stands in for ``tensorflow_model_server``: shows its flags and the files that they name."""
    binary = tmp_path / "tensorflow_model_server"
    show = 'for flag in "$@"; do case $flag in --*_file=*) cat "${flag#*=}";; esac; done'
    binary.write_text(f'#!/bin/sh\necho "$@"\n{show}\nexit 3\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return binary


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_gets_its_flags(models, capfd):
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=18500, max_batch_size=1)
    output = capfd.readouterr()
    assert "--port=18500" in output.out
    assert "--enable_grpc_healthcheck_service=true" in output.out
    assert f",grpc.max_receive_message_length={64 * 2**20} " in output.out
    assert f'base_path: "{models / "unet"}"' in output.out
    assert 'name: "unet"' in output.out
    assert "listens on every interface" in output.err
    assert not any(flag in output.out for flag in ("--enable_batching", "--ssl_config_file", "--rest_api_port"))


@pytest.mark.usefixtures("binary")
@pytest.mark.parametrize(("seconds", "whole"), [(0.1, 1), (2.6, 3)])
def test_tensorflow_model_server_looks_for_versions_after_whole_seconds(models, capfd, seconds, whole):
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=0, poll_seconds=seconds)
    assert f"--file_system_poll_wait_seconds={whole} " in capfd.readouterr().out


def test_the_end_ends_tensorflow_model_server_too(models, binary):
    binary.write_text("#!/bin/sh\nexec sleep 20\n")
    ending = threading.Event()
    ending.set()
    begin = time.monotonic()
    run_model_server(str(binary), models, ServerSettings(port=0), ending)
    assert time.monotonic() - begin < 10


def test_tensorflow_model_server_does_not_outlive_a_launcher_that_fails(models, binary, tmp_path, monkeypatch):
    binary.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 20\n")

    def fail(*text, **options):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", fail)
    with pytest.raises(BrokenPipeError):
        run_model_server(str(binary), models, ServerSettings(port=0), threading.Event())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_binary_of_another_machine_is_one_line(models, binary):
    binary.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(ServingError, match="expected a program that runs here, received: Exec format error"):
        serve(models, port=0)


@pytest.mark.usefixtures("binary")
def test_a_port_of_the_metrics_that_is_taken_is_one_line(models):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"0.0.0.0:{port}: expected a free address .* with --metrics-port"):
            serve(models, port=0, metrics_port=port)


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_gets_a_free_port_for_0(models, capfd):
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=0, metrics_port=0)
    output = capfd.readouterr().out
    ports = dict(re.findall(r"--(port|rest_api_port)=([1-9]\d*)", output))
    assert ports.keys() == {"port", "rest_api_port"}
    assert f"Metrics on http://0.0.0.0:{ports['rest_api_port']}/metrics" in output


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_takes_requests_as_large_as_a_pass(models, capfd):
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=18500, max_batch_size=5000)
    output = capfd.readouterr().out
    assert "\nmax_execution_batch_size { value: 5000 }" in output
    assert "max_batch_size { value: 5000 }\nmax_exec" in output


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_measures_as_told_and_says_what_else_its_port_does(models, capfd):
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=18500, metrics_port=19100)
    output = capfd.readouterr()
    assert "--rest_api_port=19100" in output.out
    assert 'path: "/metrics"' in output.out
    assert "also answers requests over HTTP on port 19100" in output.err


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_opens_no_port_beside_tls(models, monkeypatch):
    monkeypatch.setattr(ServerSettings, "pem", (b"CERTIFICATE", b"KEY", None))
    with pytest.raises(
        ServingError, match=r"--metrics-port: expected none with TLS, received: 19100; .* take --engine embedded"
    ):
        serve(models, port=18500, metrics_port=19100)


@pytest.mark.usefixtures("binary")
def test_tensorflow_model_server_batches_and_encrypts_as_told(models, capfd, monkeypatch):
    pem = (b"CERTIFICATE\n", b"KEY", b"AUTHORITY")
    monkeypatch.setattr(ServerSettings, "pem", pem)
    with pytest.raises(ServingError, match="exit status 3"):
        serve(models, port=18500, max_batch_size=8, batch_timeout_ms=1.5, max_queue=9)
    output = capfd.readouterr().out
    for expected in (
        "--enable_batching=true",
        "\nmax_execution_batch_size { value: 8 }",
        "max_batch_size { value: 4096 }",
        "batch_timeout_micros { value: 1500 }",
        "max_enqueued_batches { value: 512 }",
        'server_cert: "CERTIFICATE\\n"',
        'server_key: "KEY"',
        'custom_ca: "AUTHORITY"',
        "client_verify: true",
    ):
        assert expected in output


def test_sigterm_drains_and_ends_well(models, films):
    slow = tf.io.encode_png(tf.zeros([4096, 4096, 1], tf.uint8)).numpy()
    code = f"from mammogan_tf.serving.engines import serve; serve({str(models)!r}, port=0, engine='embedded')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("Serving unet 1 on 127.0.0.1:")
        address = line.split(" on ")[1].split()[0]
        answers = []
        with MammoganClient(address) as client:
            client.segment(films)
            asker = threading.Thread(target=lambda: answers.append(client.segment([slow] * 8)))
            asker.start()
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            asker.join()
        assert len(answers[0].label_map) == 8
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
