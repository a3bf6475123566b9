"""Both clients, the blocking one and that for asyncio, against live servers."""

import asyncio
import io
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import suppress

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from mammogan_tf.errors import ServingError
from mammogan_tf.serving import questions, servable
from mammogan_tf.serving.aio import AsyncMammoganClient
from mammogan_tf.serving.channel import OPTIONS
from mammogan_tf.serving.client import MammoganClient, tls_credentials
from mammogan_tf.serving.server import Server


class Waiting:
    """The client for asyncio, behind the methods of the other."""

    def __init__(self, *arguments, **options):
        async def connect():
            return AsyncMammoganClient(*arguments, **options)

        self.loop = asyncio.new_event_loop()
        self.client = self.loop.run_until_complete(connect())

    def __getattr__(self, name):
        return lambda *arguments: self.loop.run_until_complete(getattr(self.client, name)(*arguments))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


@pytest.fixture(params=[MammoganClient, Waiting], ids=["blocking", "asyncio"])
def connect(request):
    return request.param


@pytest.fixture(scope="module")
def server(everything):
    with Server(everything, port=0, poll_seconds=3600) as server:
        yield server


@pytest.fixture
def client(server, connect):
    with connect(server.address) as client:
        yield client


@pytest.fixture
def serve_predict():
    """Serves a function of request and context as Predict; returns its address."""
    servers = []

    def serve(predict, credentials=None):
        servicer = type("Servicer", (prediction_service_pb2_grpc.PredictionServiceServicer,), {})()
        servicer.Predict = predict
        server = grpc.server(futures.ThreadPoolExecutor(2))
        servers.append(server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
        place = "127.0.0.1:0"
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
        server.start()
        return f"127.0.0.1:{port}"

    yield serve
    for server in servers:
        server.stop(None)


def test_segment_gives_the_live_output(client, live_unet, films):
    answer = client.segment(films)
    expected = live_unet(films[..., None], training=False).numpy()
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(answer.label_map, expected.argmax(-1))
    assert answer.label_map.dtype == np.uint8


def test_segment_takes_png_files(client, drawn_films):
    answer = client.segment(drawn_films)
    assert answer.label_map.shape == (3, 16, 16)
    np.testing.assert_array_equal(answer.probabilities.argmax(-1), answer.label_map)


def test_generate_is_in_range_and_repeats(client, condition):
    images = client.generate(*condition)
    assert images.shape == condition[1].shape
    assert 0 <= images.min() <= images.max() <= 1
    np.testing.assert_array_equal(images, client.generate(*condition))


def test_generate_asks_for_a_version(client, condition):
    np.testing.assert_array_equal(client.generate(*condition, 1), client.generate(*condition))
    says = r"expected generator/2, received: NOT_FOUND: .*2\)?; a newer version .* in Python ask for one .* client\.status\(\)"
    with pytest.raises(ServingError, match=says):
        client.generate(*condition, 2)


def test_segment_and_synthesize_ask_for_a_version(client, films, drawn_films):
    np.testing.assert_array_equal(client.segment(films, 1).label_map, client.segment(films).label_map)
    assert client.synthesize(drawn_films, [1, 2, 3], None, 1).image.shape == (3, 16, 16)
    with pytest.raises(ServingError, match="expected unet/2, received: NOT_FOUND"):
        client.segment(films, 2)
    with pytest.raises(ServingError, match="expected synthesize/2, received: NOT_FOUND"):
        client.synthesize(drawn_films, [1, 2, 3], None, 2)


def test_synthesize_gives_label_maps_and_films(client, drawn_films):
    answer = client.synthesize(drawn_films, [1, 2, 3])
    assert answer.label_map.shape == answer.image.shape == (3, 16, 16)
    assert answer.label_map.max() < 4
    for png, image in zip(answer.png, answer.image, strict=True):
        with Image.open(io.BytesIO(png)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.rint(image * 255))


def test_synthesize_paints_lesions(client, drawn_films):
    answer = client.synthesize(drawn_films[:2], [1, 2], [(0.5, 0.5, 0.1)] * 2)
    assert (answer.label_map[:, 7:9, 7:9] == 4).all()


def test_large_batches_travel_in_chunks(client, films, monkeypatch):
    whole = client.segment(films)
    monkeypatch.setattr(questions, "CHUNK_EXAMPLES", 2)
    assert len(list(questions.chunks(questions.segment(films).costs))) == 2
    np.testing.assert_allclose(client.segment(films).probabilities, whole.probabilities, atol=1e-6)


@pytest.mark.parametrize("limited", ["the server", "gRPC"])
def test_films_whose_answers_are_too_large_for_a_message_go_in_smaller_pieces(
    server, connect, drawn_films, monkeypatch, limited
):
    film = 16 * 16 * (4 * 5 + 4)  # Bytes of probabilities and classes; on the wire the classes take one each.
    pngs, passes, call = [*drawn_films, *drawn_films, *drawn_films[:2]], [], servable._Signature.call
    with connect(server.address) as client:
        whole = client.segment(pngs)
        if limited == "the server":
            monkeypatch.setattr(servable, "MESSAGE_LIMIT", 2.5 * film)
    if limited == "gRPC":
        options = [*OPTIONS[1:], ("grpc.max_receive_message_length", int(2.5 * film))]
        monkeypatch.setattr("mammogan_tf.serving.channel.OPTIONS", options)
    monkeypatch.setattr(servable._Signature, "call", lambda self, *given: (passes.append(1), call(self, *given))[1])
    with connect(server.address) as client:
        np.testing.assert_allclose(client.segment(pngs).probabilities, whole.probabilities, atol=1e-6)
        assert len(passes) == 1 + 1 + 4, "8 films and 4 are too many; then all go in twos"
        monkeypatch.setattr(servable, "MESSAGE_LIMIT", film / 2)
        with pytest.raises(ServingError, match=r"expected an answer of at most|larger than max") as refused:
            client.segment(pngs[:2])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_answers_above_the_limit_of_grpc_are_read(connect, serve_predict, pem, tls):
    """Which is 4 MB, but where a client sets another."""
    probabilities = np.random.default_rng(0).random((1, 512, 512, 5), np.float32)

    def predict(request, context):
        response = predict_pb2.PredictResponse()
        for name in request.output_filter:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(probabilities if name == "probabilities" else [0]))
        return response

    key, certificate = (pem / f"server.{kind}" for kind in ("key", "pem"))
    known = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]) if tls else None
    address = serve_predict(predict, known)
    with connect(address, credentials=tls_credentials(pem / "ca.pem") if tls else None) as client:
        np.testing.assert_array_equal(client.segment([b"png"]).probabilities, probabilities)


def test_pieces_answered_by_different_versions_are_refused(connect, serve_predict, films, monkeypatch):
    numbers = iter([1, 1, 2])

    def predict(request, context):
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = next(numbers)
        for name in request.output_filter:
            response.outputs[name].CopyFrom(request.inputs["image"])
        return response

    monkeypatch.setattr(questions, "CHUNK_EXAMPLES", 1)
    says = "unet: expected answers of one version, received: 1 and 2; ask again"
    with connect(serve_predict(predict)) as client, pytest.raises(ServingError, match=says):
        client.segment(films)


def test_many_at_once(server, films):
    async def ask_all():
        async with AsyncMammoganClient(server.address) as client:
            return await asyncio.gather(*(client.segment(films[n % 3 : n % 3 + 1]) for n in range(12)))

    answers = asyncio.run(ask_all())
    for n, answer in enumerate(answers):
        np.testing.assert_allclose(answer.probabilities, answers[n % 3].probabilities, atol=1e-6)


def test_status_lists_the_models_that_are_there(client):
    version = {"version": 1, "state": "AVAILABLE", "error": ""}
    assert client.status() == {"unet": [version], "generator": [version], "synthesize": [version]}
    assert client.status(["absent"]) == {}


def test_a_refusal_carries_the_servers_reason(client, condition, drawn_films):
    seeds, label_maps, labels = condition
    with pytest.raises(ServingError, match="INVALID_ARGUMENT: label_map: expected values 0-4") as refused:
        client.generate(seeds, label_maps + 1, labels)
    assert "\n" not in str(refused.value)
    with pytest.raises(ServingError, match=r"image: expected shape \[\?,16,16,1\], received: \[1,8,8,1\]"):
        client.segment(np.zeros((1, 8, 8)))
    with pytest.raises(ServingError, match="INVALID_ARGUMENT: lesion: expected values 0-1"):
        client.synthesize(drawn_films, [1, 2, 3], [(0.5, 0.5, 2)] * 3)
    with pytest.raises(ServingError, match=r"lesion: expected a place on the breast, received: \[0.5 0.5 0.125\]$"):
        client.synthesize(drawn_films[2:], [1], [(0.5, 0.5, 0.125)])  # A black film.


def test_a_server_that_is_not_there_is_one_line(connect, films):
    with connect("127.0.0.1:9") as client, pytest.raises(ServingError, match="mammogan-tf serve"):
        client.segment(films)


@pytest.fixture
def bare_proxy(monkeypatch):
    """Names port 9, where nothing listens, as the HTTP proxy for every host."""
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_reached_past_the_proxy(server, connect, bare_proxy, films, host):
    with connect(f"{host}:{server.port}") as client:
        assert client.segment(films).label_map.shape == films.shape


def test_a_server_elsewhere_is_reached_through_the_proxy(connect, bare_proxy, films):
    with connect("models.invalid:8500", 5) as client, pytest.raises(ServingError, match="no connection"):
        client.segment(films)  # The proxy is not there; without one it would be a name that is not found.


def test_what_is_no_model_server_is_not_called_absent(connect, films):
    def greet(listener):
        with suppress(OSError):
            while True:
                with listener.accept()[0] as caller:
                    caller.recv(100)
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        with connect(f"127.0.0.1:{port}") as client, pytest.raises(ServingError) as refused:
            client.segment(films)
        listener.shutdown(socket.SHUT_RDWR)
    assert re.search(
        "expected a model server, received: .*HTTP status 400.*; for one with TLS give", str(refused.value)
    )


def test_a_server_with_tls_is_not_called_absent(connect, models, pem, films):
    with Server(models, port=0, tls_cert=pem / "server.pem", tls_key=pem / "server.key") as server:
        says = "expected a model server, received: .*; for one with TLS give its authority"
        with connect(server.address) as client, pytest.raises(ServingError, match=says):
            client.segment(films)


CLOSED = "127.0.0.1:9: expected an open client, received: a closed one; make another"


def test_a_closed_client_is_one_line(connect, films):
    with connect("127.0.0.1:9") as client:
        client.close()
        for ask in (lambda: client.segment(films), client.status):
            with pytest.raises(ServingError) as refused:
                ask()
            assert str(refused.value) == CLOSED


def test_a_client_is_closed_at_the_end_of_its_block():
    with MammoganClient("127.0.0.1:9") as blocking:
        pass
    with pytest.raises(ServingError, match=CLOSED):
        blocking.status()

    async def ask_late():
        async with AsyncMammoganClient("127.0.0.1:9") as client:
            pass
        await client.status()

    with pytest.raises(ServingError, match=CLOSED):
        asyncio.run(ask_late())


def test_a_slow_server_is_one_line(connect, serve_predict, films):
    address = serve_predict(lambda request, context: time.sleep(1))
    with connect(address, timeout=0.2) as client, pytest.raises(ServingError, match=r"within 0\.2 s"):
        client.segment(films)


@pytest.mark.parametrize("seconds", [0, float("nan"), float("inf"), 1e30])
def test_a_timeout_that_is_no_time_is_refused(connect, seconds):
    with pytest.raises(ServingError, match="timeout: expected more than 0 s, 86400 s at most, received: "):
        connect("127.0.0.1:9", seconds)


def test_a_server_that_is_unavailable_is_tried_again(connect, serve_predict):
    tried = []

    def predict(request, context):
        tried.append(time.monotonic())
        if len(tried) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    large = np.zeros((1, 512, 512), np.float32)  # Of itself, gRPC keeps no more than 256 KiB to send again.
    with connect(serve_predict(predict)) as client, pytest.raises(ServingError, match="INTERNAL: broken"):
        client.segment(large)
    assert len(tried) == 3, "twice after UNAVAILABLE, never after another status"


def test_a_server_that_stays_unavailable_is_one_line(connect, serve_predict, films):
    address = serve_predict(lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "queue full"))
    with connect(address) as client, pytest.raises(ServingError, match="received: UNAVAILABLE: queue full"):
        client.segment(films)


def test_servers_at_several_addresses_are_asked_in_turn(connect, serve_predict, films, monkeypatch):
    monkeypatch.setenv("no_grpc_proxy", "*")
    asked = []

    def serve(number):
        def predict(request, context):
            asked.append(number)
            context.abort(grpc.StatusCode.INTERNAL, "asked")

        return serve_predict(predict)

    end = time.monotonic() + 10
    with connect(f"ipv4:{serve(0)},{serve(1)}") as client:
        while {*asked} != {0, 1} and time.monotonic() < end:
            with pytest.raises(ServingError, match="INTERNAL: asked"):
                client.segment(films)
    assert {*asked} == {0, 1}


def test_a_server_that_comes_back_is_found(connect, models, films):
    with Server(models, port=0) as first:
        port = first.port
        client = connect(first.address)
        client.segment(films)
    again = Server(models, port=port)
    again.library.refresh()  # So that it starts at once, however slowly models load here.
    starter = threading.Timer(0.3, again.start)
    starter.start()
    try:
        with client:
            assert client.segment(films).label_map.shape == films.shape
    finally:
        starter.join()
        again.stop()


def test_mutual_tls(connect, models, pem, films):
    with Server(
        models,
        port=0,
        tls_cert=pem / "server.pem",
        tls_key=pem / "server.key",
        tls_client_ca=pem / "ca.pem",
    ) as server:
        known = tls_credentials(pem / "ca.pem", pem / "client.pem", pem / "client.key")
        with connect(server.address, credentials=known) as client:
            assert client.segment(films).label_map.shape == films.shape
        for unknown in (tls_credentials(pem / "ca.pem"), None):
            with connect(server.address, credentials=unknown) as client, pytest.raises(ServingError, match="your own"):
                client.segment(films)


def test_importing_the_clients_imports_neither_tensorflow_nor_grpc():
    code = "import sys, mammogan_tf.serving.client, mammogan_tf.serving.aio; "
    code += "print({'tensorflow', 'keras', 'grpc', 'mammogan_tf.models'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
