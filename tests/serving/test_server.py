import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from mammogan_tf.errors import ServingError
from mammogan_tf.serving import servable
from mammogan_tf.serving.channel import OPTIONS
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.server import DRAIN_SECONDS, Server
from mammogan_tf.serving.versions import ModelManager


def wait_until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_swapping_versions_drops_no_request(models, add_version, films, live_unet):
    expected = live_unet(films[..., None], training=False).numpy()
    failures, answers, ending = [], [], threading.Event()

    def ask(address):
        with MammoganClient(address) as client:
            while not ending.is_set():
                try:
                    answers.append(np.abs(client.segment(films).probabilities - expected).max())
                except ServingError as error:
                    failures.append(error)

    with Server(models, port=0, poll_seconds=0.1) as server:
        askers = [threading.Thread(target=ask, args=(server.address,)) for _ in range(3)]
        for asker in askers:
            asker.start()
        for number in (2, 3):
            add_version(number)
            wait_until(lambda number=number: server.manager.available()["unet"] == number)
        ending.set()
        for asker in askers:
            asker.join()
    assert not failures
    assert len(answers) > 10
    assert max(answers) < 1e-5


def test_requests_are_answered_while_a_version_loads(models, films, monkeypatch):
    loading, loaded = threading.Event(), threading.Event()

    def slowly():
        loading.set()
        loaded.wait(10)

    with Server(models, port=0, poll_seconds=0.05) as server, MammoganClient(server.address, timeout=5) as client:
        monkeypatch.setattr(server.manager, "refresh", slowly)
        assert loading.wait(10)
        assert client.segment(films).label_map.shape == films.shape
        loaded.set()


def test_looks_for_versions_that_fail_are_followed_by_others_as_often_as_set(models, monkeypatch, caplog):
    looks = []

    def fail():
        looks.append(1)
        raise OSError("gone")

    with Server(models, port=0, poll_seconds=0.05) as server:
        monkeypatch.setattr(server.manager, "refresh", fail)
        wait_until(lambda: len(looks) >= 10, seconds=5)
    assert "looking for new versions failed; trying again" in caplog.messages


def test_a_request_over_the_four_megabytes_of_grpc_is_answered(models):
    film = tf.random.stateless_uniform([2048, 2048, 1], (0, 0), 0, 256, tf.int32)
    png = tf.io.encode_png(tf.cast(film, tf.uint8), compression=0).numpy()
    assert len(png) > 4 * 2**20
    with Server(models, port=0) as server, MammoganClient(server.address) as client:
        assert client.segment([png]).label_map.shape == (1, 16, 16)


def test_a_folder_that_tensorflow_takes_for_a_pattern(models, films, live_unet):
    folder = models.rename(models.with_name("models [1]"))
    with Server(folder, port=0) as server, MammoganClient(server.address) as client:
        answer = client.segment(films).probabilities
    np.testing.assert_allclose(answer, live_unet(films[..., None], training=False), atol=1e-5)


def error_codes(channel, version):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "unet", "version": {"value": version}})
    answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    return [status.status.error_code for status in answer.model_version_status]


def test_a_corrupt_version_is_shown_in_the_status_and_the_old_one_serves(models, films):
    with Server(models, port=0, poll_seconds=0.1) as server, MammoganClient(server.address) as client:
        (models / "unet" / "2").mkdir()
        wait_until(lambda: len(client.status()["unet"]) == 2)
        wait_until(lambda: client.status()["unet"][0]["state"] == "END")
        new, old = client.status()["unet"]
        assert (new["version"], old["version"], old["state"]) == (2, 1, "AVAILABLE")
        assert "saved_model.pb" in new["error"]
        with grpc.insecure_channel(server.address) as channel:
            assert error_codes(channel, 2) == [grpc.StatusCode.UNKNOWN.value[0]]
            assert error_codes(channel, 1) == [grpc.StatusCode.OK.value[0]]
        assert client.segment(films).label_map.shape == films.shape


def test_reloading_the_configuration_serves_what_it_lists(models):
    with Server(models, port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        def reload(*configs):
            request = model_management_pb2.ReloadConfigRequest()
            for config in configs:
                request.config.model_config_list.config.add(**config)
            return stub.HandleReloadConfigRequest(request)

        reload({"name": "unet", "base_path": str(models / "unet"), "model_platform": "tensorflow"})
        assert server.manager.available() == {"unet": 1}
        wrong = [{"base_path": "unet"}, {"name": "x", "base_path": "/"}, {"name": "x", "base_path": "../x"}]
        wrong += [{"name": "x\0y"}, {"name": "x", "base_path": "x\0y"}, {"name": "x", "base_path": "x/\0/y"}]
        twice = [{"name": "unet"}, {"name": "unet"}]
        for configs in [*([config] for config in wrong), [{"name": "unet", "model_platform": "pytorch"}], twice]:
            with pytest.raises(grpc.RpcError) as refused:
                reload(*configs)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as refused:
            stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert server.manager.available() == {"unet": 1}
        with pytest.raises(grpc.RpcError) as refused:
            reload({"name": "unet", "version_labels": {"canary": 2}})
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.RpcError) as refused:
            reload({"name": "absent"})
        assert refused.value.code() == grpc.StatusCode.UNKNOWN


def test_reloading_the_configuration_takes_a_model_that_is_a_link(models, tmp_path):
    (models / "unet").rename(tmp_path / "elsewhere")
    (models / "unet").symlink_to(tmp_path / "elsewhere")
    (models / "sub").mkdir()
    (tmp_path / "other").mkdir()
    (models / "sub" / "link").symlink_to(tmp_path / "other")
    with Server(models, port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        for path in ("", "unet", str(models / "unet"), str(models.resolve() / "unet")):
            request = model_management_pb2.ReloadConfigRequest()
            request.config.model_config_list.config.add(name="unet", base_path=path)
            stub.HandleReloadConfigRequest(request)
            assert server.manager.available() == {"unet": 1}
        for path in ("..", "../elsewhere", "unet/../elsewhere", "sub/link/../elsewhere", str(tmp_path / "elsewhere")):
            request = model_management_pb2.ReloadConfigRequest()
            request.config.model_config_list.config.add(name="unet", base_path=path)
            with pytest.raises(grpc.RpcError) as refused:
                stub.HandleReloadConfigRequest(request)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_end_does_not_wait_for_company(models, films):
    with ThreadPoolExecutor() as pool, Server(models, port=0, batch_timeout_ms=60_000) as server:
        with MammoganClient(server.address) as client:
            answer = pool.submit(client.segment, films)
            wait_until(lambda: server._batcher.waiting)
            begin = time.monotonic()
            server.stop()
            assert answer.result().label_map.shape == films.shape
        assert time.monotonic() - begin < 10
        server.stop = lambda: None


def test_a_port_in_use_is_one_line(models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"127.0.0.1:{port}: .*Address already in use.*--port"):
            Server(models, port=port).start()


def test_two_servers_do_not_share_a_port(models):
    with Server(models, port=0) as first, pytest.raises(ServingError, match="already in use"):
        Server(models, port=first.port).start()


def watch(channel):
    """A stream that goes on until the server ends it."""
    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
    next(stream)
    return stream


def test_a_second_ctrl_c_ends_the_drain(models):
    server = Server(models, port=0)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        _watcher = watch(channel)
        again = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        again.start()
        with pytest.raises(KeyboardInterrupt):
            server.stop()
    assert not server._thread.is_alive()


def test_a_second_ctrl_c_ends_what_is_computed(models, films, monkeypatch, caplog):
    started, call = threading.Event(), servable._Signature.call

    def slowly(self, inputs, outputs):
        started.set()
        time.sleep(0.2)
        return call(self, inputs, outputs)

    server = Server(models, port=0, max_batch_size=1)
    server.start()
    monkeypatch.setattr(servable._Signature, "call", slowly)
    many = np.repeat(films[:1, ..., None], 100, axis=0)
    request = predict_pb2.PredictRequest(output_filter=["label_map"])
    request.model_spec.name = "unet"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(many))
    with grpc.insecure_channel(server.address) as channel:
        _answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(request)
        assert started.wait(10)
        threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            server.stop()
    wait_until(lambda: not any(thread.is_alive() for thread in server._executor._threads), seconds=2)
    ours = ("asyncio", "concurrent.futures", "mammogan_tf")  # gRPC may log what it cancelled.
    assert not [record for record in caplog.records if record.name.startswith(ours)]


def test_a_reload_that_runs_at_the_end_is_answered(models, monkeypatch):
    started, configure = threading.Event(), ModelManager.configure

    def slowly(manager, configs):
        started.set()
        time.sleep(0.5)
        configure(manager, configs)

    monkeypatch.setattr(ModelManager, "configure", slowly)
    monkeypatch.setattr("mammogan_tf.serving.server.LINGER_SECONDS", 0.1)
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="unet")
    with Server(models, port=0) as server, grpc.insecure_channel(server.address) as channel:
        _watcher = watch(channel)
        answer = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest.future(request)
        assert started.wait(10)
        server.stop()
        assert answer.result().HasField("status")
        assert answer.result().status.error_code == 0
        server.stop = lambda: None


@pytest.fixture
def slow_link():
    """Makes a link to a port that holds an answer back past its first 64 KiB; returns its port and two events, of the
    answer held back and of the link free again."""
    held, free = threading.Event(), threading.Event()

    def relay(source, sink, most=None):
        passed = 0
        with suppress(OSError):
            while content := source.recv(2**16):
                passed += len(content)
                if most is not None and passed > most:
                    held.set()
                    free.wait(10)
                sink.sendall(content)

    def link(port):
        near, _ = listener.accept()
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            threading.Thread(target=relay, args=(near, far), daemon=True).start()
            relay(far, near, 2**16)

    def make(port):
        threading.Thread(target=link, args=(port,), daemon=True).start()
        return listener.getsockname()[1], held, free

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield make
    free.set()


def test_the_end_waits_for_an_answer_that_is_slow_to_send(models, slow_link, monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.server.LINGER_SECONDS", 0.1)
    request = predict_pb2.PredictRequest(output_filter=["probabilities"])
    request.model_spec.name = "unet"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(0.5, tf.float32, (4096, 16, 16, 1)))
    server = Server(models, port=0, max_batch_size=512)
    server.start()
    port, held, free = slow_link(server.port)
    graces, stop = [], server._grpc.stop
    monkeypatch.setattr(server._grpc, "stop", lambda grace: graces.append(grace) or stop(grace))
    with ThreadPoolExecutor() as pool, grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        _answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(request)
        assert held.wait(10)
        ending = pool.submit(server.stop)
        time.sleep(0.5)
        so_far = [*graces]
        free.set()
        ending.result()
    assert so_far == [DRAIN_SECONDS], "it is not cut short while an answer is under way"
