import io
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from PIL import Image
from tensorflow_serving.apis import prediction_service_pb2_grpc

from mammogan_tf.errors import ServingError
from mammogan_tf.serving import client as client_module
from mammogan_tf.serving.client import MammoganClient, _chunks
from mammogan_tf.serving.server import Server


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported, port=0, poll_seconds=3600) as server:
        yield server


@pytest.fixture
def client(server):
    with MammoganClient(server.address) as client:
        yield client


def test_segment_gives_the_live_output(client, live_unet, films):
    answer = client.segment(films)
    expected = live_unet(films[..., None], training=False).numpy()
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(answer.label_map, expected.argmax(-1))
    assert answer.label_map.dtype == np.uint8


def test_segment_takes_png_files(client, films):
    grey = np.rint(films * 255).astype(np.uint8)
    files = []
    for film in grey:
        stream = io.BytesIO()
        Image.fromarray(film).save(stream, "PNG")
        files.append(stream.getvalue())
    from_files, from_array = client.segment(files), client.segment(grey / 255)
    np.testing.assert_allclose(from_files.probabilities, from_array.probabilities, atol=1e-5)


def test_generate_is_in_range_and_repeats(client, condition):
    images = client.generate(*condition)
    assert images.shape == condition[1].shape
    assert 0 <= images.min() <= images.max() <= 1
    np.testing.assert_array_equal(images, client.generate(*condition))


def test_large_batches_travel_in_chunks(client, films, monkeypatch):
    whole = client.segment(films)
    asked = []
    predict = client._predict
    monkeypatch.setattr(client, "_predict", lambda *arguments: asked.append(arguments) or predict(*arguments))
    monkeypatch.setattr(client_module, "CHUNK_EXAMPLES", 2)
    np.testing.assert_allclose(client.segment(films).probabilities, whole.probabilities, atol=1e-6)
    assert len(asked) == 2


def test_chunks_stay_below_the_limit(monkeypatch):
    monkeypatch.setattr(client_module, "CHUNK_BYTES", 10)
    assert list(_chunks([4, 4, 4, 20, 1])) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5)]


def test_status_lists_the_models_that_are_there(client):
    version = {"version": 1, "state": "AVAILABLE", "error": ""}
    assert client.status() == {"unet": [version], "generator": [version]}
    assert client.status(["absent"]) == {}


def test_a_refusal_carries_the_servers_reason(client, condition):
    seeds, label_maps, labels = condition
    with pytest.raises(ServingError, match="INVALID_ARGUMENT: label_map: expected values 0-4") as refused:
        client.generate(seeds, label_maps + 1, labels)
    assert "\n" not in str(refused.value)
    with pytest.raises(ServingError, match=r"image: expected shape \[\?,16,16,1\], received: \[1,8,8,1\]"):
        client.segment(np.zeros((1, 8, 8)))
    with pytest.raises(ServingError, match="3 seeds, 2 label maps, 3 labels"):
        client.generate(seeds, label_maps[:2], labels)
    with pytest.raises(ServingError, match="one film or more"):
        client.segment([])


def test_a_server_that_is_not_there_is_one_line(films):
    with MammoganClient("127.0.0.1:9") as client, pytest.raises(ServingError, match="mammogan-tf serve"):
        client.segment(films)


def test_a_slow_server_is_one_line(films):
    class Slow(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            time.sleep(1)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Slow(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            MammoganClient(f"127.0.0.1:{port}", timeout=0.2) as client,
            pytest.raises(ServingError, match=r"within 0\.2 s"),
        ):
            client.segment(films)
    finally:
        server.stop(None)


def test_a_server_that_comes_back_is_found(exported, films):
    with Server(exported, port=0) as first:
        port = first.port
        client = MammoganClient(first.address)
        client.segment(films)
    again = Server(exported, port=port)
    again.library.refresh()  # So that it starts at once, however slowly models load here.
    starter = threading.Timer(0.3, again.start)
    starter.start()
    try:
        assert client.segment(films).label_map.shape == films.shape
    finally:
        starter.join()
        again.stop()
        client.close()


def test_importing_the_client_imports_neither_tensorflow_nor_grpc():
    code = "import sys, mammogan_tf.serving.client; print({'tensorflow', 'keras', 'grpc'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
