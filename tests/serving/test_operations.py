"""What an operator of the embedded server relies on: health, reflection, TLS, metrics, log and deadlines."""

import asyncio
import io
import json
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving import prometheus
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.log import JsonFormatter, json_log
from mammogan_tf.serving.servable import Servable
from mammogan_tf.serving.server import Server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported, port=0, poll_seconds=3600, metrics_port=0) as server:
        yield server


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def film_request(size=16, count=1) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=["label_map"])
    request.model_spec.name = "unet"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(np.full((count, size, size, 1), 0.25, np.float32)))
    return request


def predict(channel, request, **options):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, **options)


def health(channel, service):
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service)).status


def test_health_is_told_for_the_server_and_each_model(channel):
    assert [health(channel, name) for name in ("", "unet", "generator")] == [SERVING] * 3
    with pytest.raises(grpc.RpcError) as unknown:
        health(channel, "absent")
    assert unknown.value.code().name == "NOT_FOUND"


def test_a_model_that_is_retired_is_not_serving_and_a_watcher_does_not_hold_up_the_end(exported):
    with Server(exported, port=0) as server, grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="generator"))
        assert next(watch).status == SERVING
        request = model_management_pb2.ReloadConfigRequest()
        request.config.model_config_list.config.add(name="unet")
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request)
        assert next(watch).status == NOT_SERVING
        assert health(channel, "generator") == NOT_SERVING
        other = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="unet"))
        assert next(other).status == SERVING
        ending = threading.Thread(target=server.stop)
        ending.start()
        assert next(other).status == NOT_SERVING
        ending.join(timeout=10)
        assert not ending.is_alive()
        assert not [thread for thread in threading.enumerate() if thread is server._thread]
        server.stop = lambda: None


def test_without_a_model_the_server_is_not_serving(models):
    def reload(version):
        policy = {"specific": {"versions": [version]}}
        request = model_management_pb2.ReloadConfigRequest()
        request.config.model_config_list.config.add(name="unet", model_version_policy=policy)
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request)

    with Server(models, port=0) as server, grpc.insecure_channel(server.address) as channel:
        for version, status in ((99, NOT_SERVING), (1, SERVING)):
            reload(version)
            assert [health(channel, name) for name in ("", "unet")] == [status] * 2


def test_a_server_is_not_serving_before_it_has_all_models_and_then_as_long_as_it_has_one(models):
    def look():
        server.manager.refresh()
        asyncio.run_coroutine_threadsafe(server._health.refresh(), server._loop).result()
        return [health(channel, name) for name in ("", "unet", "other")]

    broken = shutil.copytree(models / "unet" / "1", models / "other" / "1") / "saved_model.pb"
    graph = broken.read_bytes()
    broken.write_bytes(b"nonsense")
    with Server(models, port=0, poll_seconds=99) as server, grpc.insecure_channel(server.address) as channel:
        assert look() == [NOT_SERVING, SERVING, NOT_SERVING]
        models.rename(models.with_name("away"))
        assert look() == [NOT_SERVING, SERVING, NOT_SERVING]
        models.with_name("away").rename(models)
        broken.write_bytes(graph)
        assert look() == [SERVING] * 3
        shutil.rmtree(models / "other" / "1")
        assert look() == [SERVING, SERVING, NOT_SERVING]


def test_reflection_lists_the_services(channel):
    services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert services >= {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
    }


def test_reflection_knows_the_services_where_nothing_but_the_server_is_imported():
    code = (
        "from google.protobuf import descriptor_pool; from mammogan_tf.serving.server import SERVICES\n"
        "for name in SERVICES: descriptor_pool.Default().FindServiceByName(name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_count_requests_batches_and_versions(server, channel):
    predict(channel, film_request(count=3))
    wrong = film_request(size=8)
    with pytest.raises(grpc.RpcError):
        predict(channel, wrong)
    wrong.model_spec.name = "invented by a client"
    with pytest.raises(grpc.RpcError):
        predict(channel, wrong)
    with pytest.raises(grpc.RpcError):
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify(ClassificationRequest())
    last = 'mammogan_requests_total{method="Classify",model="",status="UNIMPLEMENTED"}'
    values: dict[str, str] = {}
    until = time.monotonic() + 10
    while last not in values and time.monotonic() < until:  # A request is counted after its answer.
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as response:
            lines = response.read().decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values[last]) == 1
    assert float(values['mammogan_requests_total{method="Predict",model="",status="NOT_FOUND"}']) == 1
    assert float(values['mammogan_requests_total{method="Predict",model="unet",status="OK"}']) >= 1
    assert float(values['mammogan_requests_total{method="Predict",model="unet",status="INVALID_ARGUMENT"}']) == 1
    assert float(values['mammogan_request_seconds_count{method="Predict",model="unet"}']) >= 2
    assert float(values['mammogan_batch_examples_sum{model="unet"}']) >= 3
    assert float(values['mammogan_model_loaded{model="unet",version="1"}']) == 1
    assert float(values["mammogan_queue_requests"]) == 0
    assert "invented" not in "".join(lines)


def test_the_log_has_a_line_for_each_request_and_no_pixels(channel, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with json_log():
        predict(channel, film_request())
        with pytest.raises(grpc.RpcError):
            predict(channel, film_request(size=8))
        health(channel, "")
    good, bad = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {key: good[key] for key in ("level", "event", "method", "model", "version", "status", "batch")} == {
        "level": "info",
        "event": "request",
        "method": "Predict",
        "model": "unet",
        "version": 1,
        "status": "OK",
        "batch": 1,
    }
    assert good["ms"] > 0
    assert bad["status"] == "INVALID_ARGUMENT"
    assert "received: [1,8,8,1]" in bad["reason"]
    assert max(map(len, stream.getvalue().splitlines())) < 400


def test_a_log_line_is_one_line_whatever_is_in_it():
    record = logging.LogRecord("x", logging.ERROR, "", 0, "a\nb %s", ('"',), None)
    record.fields = {"model": "../\x00\n"}
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["event"] == 'a\nb "'


def test_a_request_whose_deadline_passes_in_the_queue_is_never_run(channel, monkeypatch):
    started, gate, passes, answer = threading.Event(), threading.Event(), [], Servable.answer

    def gated(self, jobs, limit):
        started.set()
        assert gate.wait(30)
        passes.append(sum(job.examples for job in jobs))
        return answer(self, jobs, limit)

    monkeypatch.setattr(Servable, "answer", gated)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    try:
        running = stub.Predict.future(film_request(count=1))
        assert started.wait(30)
        cancelled = stub.Predict.future(film_request(count=2))
        # While the first waits, the cancelled one enters the queue; while the second does, it leaves.
        for count in (4, 16):
            with pytest.raises(grpc.RpcError) as late:
                predict(channel, film_request(count=count), timeout=0.5)
            assert late.value.code().name == "DEADLINE_EXCEEDED"
            cancelled.cancel()
        wanted = stub.Predict.future(film_request(count=8))
    finally:
        gate.set()
    assert len(running.result().outputs["label_map"].int_val) == 16 * 16
    assert len(wanted.result().outputs["label_map"].int_val) == 8 * 16 * 16
    assert passes == [1, 8]


def test_it_listens_on_its_host_alone(server):
    for port in (server.port, server.metrics_port):
        socket.create_connection((server.settings.host, port), timeout=5).close()
        with socket.socket() as other:
            other.settimeout(5)
            assert other.connect_ex(("127.0.0.2", port)), "this machine's too, on Linux"


def test_it_listens_on_ipv6(exported):
    try:
        server = Server(exported, host="::1", port=0, poll_seconds=3600)
        server.start()
    except ServingError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        assert server.address.startswith("[::1]:")
        with MammoganClient(server.address) as client:
            assert client.status(["unet"])["unet"][0]["state"] == "AVAILABLE"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Files of an authority, and a certificate for the server and one for a client from it."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("pem")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def new(name, *signed_by):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-out", f"{name}.pem"]
        openssl("req", "-x509", "-days", "1", *key, *subject, *signed_by)

    new("authority")
    for name in ("server", "client"):
        new(name, "-CA", "authority.pem", "-CAkey", "authority.key", "-addext", "basicConstraints=CA:FALSE")
    return folder


def test_tls_asks_clients_for_a_certificate_where_told_to(exported, pem):
    files = {"tls_cert": pem / "server.pem", "tls_key": pem / "server.key", "tls_client_ca": pem / "authority.pem"}
    authority, key, certificate = (pem.joinpath(n).read_bytes() for n in ("authority.pem", "client.key", "client.pem"))
    known, unknown = grpc.ssl_channel_credentials(authority, key, certificate), grpc.ssl_channel_credentials(authority)
    with Server(exported, port=0, poll_seconds=3600, **files) as server:
        address = f"localhost:{server.port}"
        with grpc.secure_channel(address, known) as channel:
            assert health(channel, "") == SERVING
            assert predict(channel, film_request()).outputs
        for channel in (grpc.secure_channel(address, unknown), grpc.insecure_channel(address)):
            with channel, pytest.raises(grpc.RpcError) as refused:
                health(channel, "")
            assert refused.value.code().name == "UNAVAILABLE"


def test_passes_and_queue_are_as_large_and_wait_as_long_as_set(models):
    settings = {"max_batch_size": 2, "batch_timeout_ms": 1000, "max_queue": 1}
    with Server(models, port=0, **settings) as server, grpc.insecure_channel(server.address) as channel:
        begin = time.monotonic()
        waits = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(film_request())
        while server.metrics.registry.get_sample_value("mammogan_queue_requests") != 1:
            assert time.monotonic() < begin + 10, "one is counted as waiting"
        with pytest.raises(grpc.RpcError, match="1 requests wait already"):
            predict(channel, film_request())
        waits.result(timeout=20)
        assert time.monotonic() - begin >= 1
        predict(channel, film_request(count=3))
        assert server.metrics.registry.get_sample_value("mammogan_batch_examples_sum", {"model": "unet"}) == 1 + 2


def test_metrics_end_with_the_server(exported):
    with Server(exported, port=0, metrics_port=0) as server, socket.socket() as reader:
        assert reader.connect_ex(("127.0.0.1", server.metrics_port)) == 0
    with socket.socket() as reader:
        assert reader.connect_ex(("127.0.0.1", server.metrics_port)) != 0


def test_a_connection_that_says_nothing_to_the_metrics_is_closed_without_a_word(exported, monkeypatch, capfd):
    monkeypatch.setattr(prometheus, "SILENCE_SECONDS", 0.2)
    with (
        Server(exported, port=0, metrics_port=0) as server,
        socket.create_connection(("127.0.0.1", server.metrics_port), timeout=10) as silent,
    ):
        assert silent.recv(1) == b""
    assert "Exception" not in capfd.readouterr().err


def test_a_metrics_port_in_use_is_one_line(exported):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"127.0.0.1:{port}: .*choose another with --metrics-port"):
            Server(exported, port=0, metrics_port=port).start()
