"""MAMMOGAN_SOAK=600 serves 32 clients for ten minutes, one in eight hostile, with a new version every 20 s."""

import contextlib
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from statistics import median

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.integration.serving_process import SIZE, export_tiny_models, serving

SECONDS = float(os.environ.get("MAMMOGAN_SOAK", "0"))
CLIENTS, HOSTILE_EVERY = 32, 8
NEW_VERSION_SECONDS, CORRUPT_EVERY = 20.0, 4
GROWTH = 0.05

pytestmark = pytest.mark.skipif(not SECONDS, reason="takes minutes: set MAMMOGAN_SOAK to seconds")


def question(client: int) -> predict_pb2.PredictRequest:
    """What a client asks all the time: every client something else, half of them of each model."""
    random = np.random.default_rng(client)
    request = predict_pb2.PredictRequest()
    if client % 2:
        request.model_spec.name, inputs = "unet", {"image": random.random((1, SIZE, SIZE, 1), np.float32)}
    else:
        request.model_spec.name, request.model_spec.signature_name = "generator", "generate_seeded"
        label_map = random.integers(0, 5, (1, SIZE, SIZE), np.int32)
        inputs = {"seed": np.int64([client]), "label_map": label_map, "label": np.int32([client % 3])}
        request.output_filter.append("image")
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def answer_to(request: predict_pb2.PredictRequest, exports: Path) -> np.ndarray:
    """The right answer, from the SavedModel in this process."""
    model = tf.saved_model.load(str(exports / request.model_spec.name / "1"))
    function = model.signatures[request.model_spec.signature_name or "serving_default"]
    inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
    return function(**inputs)[output(request)].numpy()


def output(request: predict_pb2.PredictRequest) -> str:
    return "image" if request.output_filter else "probabilities"


class Tally:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.versions: set[int] = set()
        self.wrong: list[str] = []
        self.refused = 0


def honest(address: str, client: int, right: list[np.ndarray], tally: Tally, ending: threading.Event) -> None:
    """Asks without retries: whatever is not the right answer of the version that answers is written down."""
    request = question(client)
    with grpc.insecure_channel(address, [("client", client)]) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        while not ending.is_set():
            begin = time.monotonic()
            try:
                response = predict_pb2.PredictResponse.FromString(predict(request.SerializeToString(), timeout=30))
            except grpc.RpcError as error:
                tally.wrong.append(f"{error.code().name}: {error.details()}")
                continue
            tally.seconds.append(time.monotonic() - begin)
            version = response.model_spec.version.value
            tally.versions.add(version)
            difference = np.abs(tf.make_ndarray(response.outputs[output(request)]) - right[version % 2]).max()
            if not difference < 1e-4:
                tally.wrong.append(f"off by {difference} in version {version}")


def hostile(address: str, client: int, tally: Tally, ending: threading.Event) -> None:
    random = np.random.default_rng(client)
    honest_bytes = question(client).SerializeToString()
    wrong = question(1)
    wrong.inputs["image"].tensor_shape.dim[0].size = 2**40
    bomb = predict_pb2.PredictRequest()
    bomb.model_spec.name, bomb.model_spec.signature_name = "unet", "segment_png"
    broken = tf.io.encode_png(np.zeros((2000, 2000, 1), np.uint8)).numpy()[:-30]
    bomb.inputs["png"].CopyFrom(tf.make_tensor_proto(np.array([broken] * 4, object)))
    host, port = address.rsplit(":", 1)
    with grpc.insecure_channel(address, [("client", client)]) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        while not ending.is_set():
            messages = [random.bytes(300), honest_bytes[: random.integers(5, 60)], bytes(2**20)]
            messages += [wrong.SerializeToString(), bomb.SerializeToString()]
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + random.bytes(100))
            predict.future(honest_bytes, timeout=30).cancel()
            for message in messages:
                try:
                    predict(message, timeout=30)
                    tally.wrong.append("an answer to a hostile request")
                except grpc.RpcError as error:
                    tally.refused += 1
                    if error.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN"):
                        tally.wrong.append(f"hostile: {error.code().name}")
            ending.wait(0.05)


def publish(exports: Path, models: Path, number: int, corrupt: bool) -> None:
    """A new version of both models, in one step each; versions that no server loads any more go."""
    for model in ("unet", "generator"):
        hidden = models / model / f".{number}"
        shutil.copytree(exports / model / "1", hidden)
        if corrupt:
            (hidden / "saved_model.pb").write_bytes((hidden / "saved_model.pb").read_bytes()[:1000])
        hidden.rename(models / model / str(number))
        for old in range(max(1, number - 8), number - 4):
            shutil.rmtree(models / model / str(old), ignore_errors=True)


def test_soak(tmp_path):
    exports = []
    for parity in range(2):
        keras.utils.set_random_seed(parity)
        exports.append(export_tiny_models(tmp_path / f"exports{parity}"))
    models, ending, tallies = tmp_path / "models", threading.Event(), [Tally() for _ in range(CLIENTS)]
    publish(exports[1], models, 1, corrupt=False)
    right = [[answer_to(question(client), folder) for folder in exports] for client in range(CLIENTS)]
    with serving(models, tmp_path / "log") as served:
        threads = [
            threading.Thread(target=hostile, args=(served.address, client, tallies[client], ending))
            if client % HOSTILE_EVERY == 0
            else threading.Thread(target=honest, args=(served.address, client, right[client], tallies[client], ending))
            for client in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        begin, number, memory = time.monotonic(), 1, []
        while (passed := time.monotonic() - begin) < SECONDS:
            if passed > number * NEW_VERSION_SECONDS:
                number += 1
                publish(exports[number % 2], models, number, corrupt=number % CORRUPT_EVERY == 0)
            memory.append(served.megabytes())
            time.sleep(0.5)
        ending.set()
        for thread in threads:
            thread.join()
        log = served.log.read_text()
    report(tallies, memory, number)
    assert not [wrong for tally in tallies for wrong in tally.wrong]
    good = {version for version in range(1, number) if version % CORRUPT_EVERY}
    assert set.union(*(tally.versions for tally in tallies)) >= good
    assert log.count("cannot be served") >= number // CORRUPT_EVERY
    assert "Traceback" not in log
    assert growth(memory) < GROWTH


def growth(memory: list[float]) -> float:
    """From the second fifth, after the warm-up, to the last."""
    fifth = len(memory) // 5
    return median(memory[-fifth:]) / median(memory[fifth : 2 * fifth]) - 1


def report(tallies: list[Tally], memory: list[float], number: int) -> None:
    seconds = np.array([s for tally in tallies for s in tally.seconds])
    wrong = [wrong for tally in tallies for wrong in tally.wrong]
    print(
        f"\n{SECONDS:.0f} s, {len(seconds)} answers ({len(seconds) / SECONDS:.0f}/s), "
        f"{np.quantile(seconds, 0.5) * 1000:.0f} ms at the median, {np.quantile(seconds, 0.99) * 1000:.0f} ms at 99 %, "
        f"{seconds.max() * 1000:.0f} ms at most; {sum(tally.refused for tally in tallies)} hostile requests refused; "
        f"{number} versions; {len(wrong)} lost or wrong {wrong[:3]}; "
        f"memory {memory[0]:.0f} to {memory[-1]:.0f} MB, {growth(memory):+.1%} after warm-up"
    )
