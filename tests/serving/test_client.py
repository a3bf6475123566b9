"""What both clients, the blocking one and that for asyncio, ask live servers, and make of the answers."""

import asyncio
import io
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.errors import ServingError
from mammogan_tf.serving import predict_requests, servable
from mammogan_tf.serving.aio import AT_ONCE, AsyncMammoganClient
from mammogan_tf.serving.channel import OPTIONS
from mammogan_tf.serving.client import tls_credentials
from mammogan_tf.serving.server import Server


@pytest.fixture(scope="module")
def server(everything):
    with Server(everything, port=0, poll_seconds=3600) as server:
        yield server


@pytest.fixture
def client(server, connect):
    with connect(server.address) as client:
        yield client


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
    monkeypatch.setattr(predict_requests, "CHUNK_EXAMPLES", 2)
    assert len(list(predict_requests.chunks(predict_requests.segment(films).costs))) == 2
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

    monkeypatch.setattr(predict_requests, "CHUNK_EXAMPLES", 1)
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


def test_no_more_at_once_than_the_server_lets_wait():
    under_way, most = 0, 0

    async def method(request, timeout):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        raise NotImplementedError

    async def ask_all():
        async with AsyncMammoganClient() as client:
            client._prediction = SimpleNamespace(Predict=method)
            asked = [client.segment([b"film"]) for _ in range(3 * AT_ONCE)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(answer) for answer in answers} == {NotImplementedError}

    asyncio.run(ask_all())
    assert most == AT_ONCE


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
