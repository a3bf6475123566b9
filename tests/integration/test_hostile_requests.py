"""Requests that no honest client sends. MAMMOGAN_FUZZ=10000 tries that many of each kind instead of 60."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.integration.serving_process import SIZE, Z_DIM, export_tiny_models, serving

MODELS = {"unet", "generator", "synthesize"}
CASES = int(os.environ.get("MAMMOGAN_FUZZ", "60"))
MEMORY_ON_TOP = 200
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize="MAMMOGAN_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

SIGNATURES = {
    ("unet", "serving_default"): ({"image"}, {"probabilities", "label_map"}),
    ("unet", "segment_png"): ({"png"}, {"probabilities", "label_map"}),
    ("generator", "serving_default"): ({"noise", "label_map", "label"}, {"image"}),
    ("generator", "generate_seeded"): ({"seed", "label_map", "label"}, {"image", "png"}),
    ("synthesize", "serving_default"): ({"png", "seed"}, {"label_map", "image", "png"}),
    ("synthesize", "with_lesion"): ({"png", "seed", "lesion"}, {"label_map", "image", "png"}),
}
VALUES = {
    "image": np.zeros((1, SIZE, SIZE, 1), np.float32),
    "png": np.array([tf.io.encode_png(np.zeros((4, 4, 1), np.uint8)).numpy()], object),
    "noise": np.zeros((1, Z_DIM), np.float32),
    "seed": np.int64([1]),
    "label_map": np.zeros((1, SIZE, SIZE), np.int32),
    "label": np.int32([0]),
    "lesion": np.float32([[0.5, 0.5, 0]]),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with serving(export_tiny_models(folder / "models"), folder / "log") as served:
        with grpc.insecure_channel(served.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(request_for("unet", "segment_png"))
        before = served.megabytes()
        yield served
        on_top = served.megabytes("VmHWM") - before
        print(f"\n{CASES} cases of each kind, {on_top:.0f} MB on top of {before:.0f} MB")
        assert on_top < MEMORY_ON_TOP
        assert "internal error" not in served.log.read_text()
        assert "Traceback" not in served.log.read_text()


@pytest.fixture(scope="module")
def channel(served):
    with grpc.insecure_channel(served.address, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(autouse=True)
def it_goes_on(channel):
    """After every test an honest request is answered, at once."""
    yield
    for model, signature in SIGNATURES:
        assert status(channel, request_for(model, signature), timeout=10) == "OK"


def request_for(model: str, signature: str) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name in SIGNATURES[model, signature][0]:
        request.inputs[name].CopyFrom(tf.make_tensor_proto(VALUES[name]))
    return request


def status(channel: grpc.Channel, request: predict_pb2.PredictRequest | bytes, timeout: float = 30) -> str:
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    try:
        call(raw, timeout=timeout)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def allowed(request: predict_pb2.PredictRequest) -> set[str]:
    """The statuses that TensorFlow Serving's source gives, worked out in its order."""
    spec = request.model_spec
    if not request.HasField("model_spec") or not spec.name or spec.WhichOneof("version_choice") == "version_label":
        return {"INVALID_ARGUMENT"}
    if spec.name not in MODELS or (spec.HasField("version") and spec.version.value != 1):
        return {"NOT_FOUND"}
    key = (spec.name, spec.signature_name or "serving_default")
    if key not in SIGNATURES:
        return {"FAILED_PRECONDITION"}
    inputs, outputs = SIGNATURES[key]
    chosen = list(request.output_filter)
    if set(request.inputs) != inputs or not set(chosen) <= outputs or len(set(chosen)) != len(chosen):
        return {"INVALID_ARGUMENT"}
    if all(request.inputs[name] == tf.make_tensor_proto(VALUES[name]) for name in inputs):
        return {"OK"}
    return {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}


sides = st.sampled_from([0, 1, 2, 3, SIZE, Z_DIM, -1, -5, 2**20, 2**31, 2**62, -(2**63), 2**63 - 1])
names = st.sampled_from([*sorted(MODELS), "", "../unet", "unet/1", "/etc/passwd", "un\0et", "é" * 10**5]) | st.text(
    max_size=40
)
anything = st.sampled_from(sorted({*VALUES, "probabilities", *(name for _, name in SIGNATURES)})) | st.text(max_size=9)


@st.composite
def tensors(draw: st.DrawFn) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    proto.dtype = draw(st.sampled_from([1, 3, 7, 9]) | st.integers(-(2**31), 2**31 - 1))
    for side in draw(st.lists(sides, max_size=5)):
        proto.tensor_shape.dim.add(size=side)
    proto.tensor_shape.unknown_rank = draw(st.booleans()) and draw(st.booleans())
    proto.tensor_content = draw(st.just(b"") | st.binary(max_size=64))
    proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=4)))
    proto.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
    proto.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)))
    proto.string_val.extend(draw(st.lists(st.binary(max_size=40), max_size=4)))
    return proto


@st.composite
def requests(draw: st.DrawFn) -> predict_pb2.PredictRequest:
    """An honest request with up to three things wrong."""
    request = request_for(*draw(st.sampled_from(sorted(SIGNATURES))))
    for change in draw(st.lists(st.sampled_from(range(8)), min_size=1, max_size=3)):
        if change == 0:
            request.model_spec.name = draw(names)
        elif change == 1:
            request.model_spec.signature_name = draw(anything)
        elif change == 2:
            request.model_spec.version.value = draw(st.sampled_from([0, 1, 2, -1, 2**62]))
        elif change == 3:
            request.model_spec.version_label = draw(anything)
        elif change == 4:
            request.inputs[draw(anything)].CopyFrom(draw(tensors()))
        elif change == 5 and request.inputs:
            del request.inputs[draw(st.sampled_from(sorted(request.inputs)))]
        elif change == 6 and request.inputs:
            request.inputs[draw(st.sampled_from(sorted(request.inputs)))].CopyFrom(draw(tensors()))
        elif change == 7:
            request.output_filter.extend(draw(st.lists(anything, max_size=3)))
    return request


@fuzz
@given(request=requests())
def test_wrong_requests_get_the_status_of_tensorflow_serving(channel, request):
    assert status(channel, request) in allowed(request)


@fuzz
@given(data=st.data(), key=st.sampled_from(sorted(SIGNATURES)))
def test_tensors_of_the_right_type_with_any_shape_and_values(channel, data, key):
    request = request_for(*key)
    for name in request.inputs:
        proto, honest = data.draw(tensors()), request.inputs[name]
        proto.dtype = honest.dtype
        if data.draw(st.booleans()):
            proto.tensor_shape.CopyFrom(honest.tensor_shape)
        honest.CopyFrom(proto)
    assert status(channel, request) in {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}


@fuzz
@given(junk=st.binary(max_size=200), at=st.integers(0, 400), whole=st.booleans())
def test_bytes_in_place_of_a_request(channel, junk, at, whole):
    honest = request_for("generator", "generate_seeded").SerializeToString()
    code = status(channel, junk if whole else honest[:at] + junk + honest[at + len(junk) :])
    refusals = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "INTERNAL"}
    assert code in refusals | {"OK"}


@fuzz
@given(junk=st.binary(max_size=300), preface=st.booleans())
def test_bytes_on_the_port(served, junk, preface):
    host, port = served.address.rsplit(":", 1)
    with contextlib.suppress(ConnectionError), socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if preface else b"") + junk)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    """PNG files with any header over any content, some of it far more than its few bytes look like."""
    width, height = (draw(st.sampled_from([0, 1, 7, 4096, 20000, 2**31 - 1, 2**32 - 1])) for _ in range(2))
    depth, colour = draw(st.sampled_from([1, 8, 16, 255])), draw(st.sampled_from([0, 2, 3, 4, 6, 9]))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw(st.sampled_from([0, 1])))
    content = draw(st.sampled_from([b"", b"junk", zlib.compress(bytes(2**24)), zlib.compress(bytes(64))]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@settings(fuzz, max_examples=max(CASES // 5, 20))
@given(png=pngs() | st.binary(max_size=200), count=st.sampled_from([1, 3]))
def test_decompression_bombs(channel, png, count):
    request = request_for("unet", "segment_png")
    request.inputs["png"].CopyFrom(tf.make_tensor_proto(np.array([png] * count, object)))
    assert status(channel, request) in {"OK", "INVALID_ARGUMENT"}


@fuzz
@given(name=names, path=names, other=st.lists(anything, max_size=2), version=st.integers(-(2**63), 0))
def test_the_other_methods(channel, name, path, other, version):
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=other)
    state = get_model_status_pb2.GetModelStatusRequest()
    metadata.model_spec.name = state.model_spec.name = name
    state.model_spec.version.value = version
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(name=name, base_path=f"../{path}")
    for method, request in (
        (prediction.GetModelMetadata, metadata),
        (models.GetModelStatus, state),
        (models.HandleReloadConfigRequest, reload),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            method(request)
        assert refused.value.code().name in {"INVALID_ARGUMENT", "NOT_FOUND"}


def test_films_of_nan_and_infinity_do_no_harm(channel):
    for value in (np.nan, np.inf, -np.inf, 1e38):
        request = request_for("unet", "serving_default")
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(np.full((2, SIZE, SIZE, 1), value, np.float32)))
        assert status(channel, request) == "OK"


def test_slow_senders_keep_nobody_waiting(served, channel):
    """Two hundred requests whose message never comes, more than any pool has threads."""
    ending = threading.Event()

    def never():
        ending.wait()
        yield b""

    call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    waiting = [call.future(never(), timeout=60) for _ in range(200)]
    host, port = served.address.rsplit(":", 1)
    half_open = [socket.create_connection((host, int(port))) for _ in range(50)]
    try:
        begin = time.monotonic()
        assert status(channel, request_for("unet", "serving_default"), timeout=10) == "OK"
        assert time.monotonic() - begin < 5
    finally:
        for one in waiting:
            one.cancel()
        ending.set()
        for connection in half_open:
            connection.close()


NEVER_READS = """
import os, signal, sys, time, grpc
channel = grpc.insecure_channel(sys.argv[1], [("grpc.max_receive_message_length", -1)])
grpc.channel_ready_future(channel).result()
call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
waiting = [call.future(bytes.fromhex(sys.argv[2])) for _ in range(60)]
time.sleep(0.2)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_answers_that_nobody_reads_do_not_pile_up(tmp_path):
    """Sixty small requests for answers of 5 MB each, by a client that stops before it reads them; others are answered."""
    request, honest = (request_for("unet", "serving_default") for _ in range(2))
    request.inputs["image"].CopyFrom(tensor_pb2.TensorProto(dtype="DT_FLOAT", float_val=[0.5]))
    for side in (800, SIZE, SIZE, 1):
        request.inputs["image"].tensor_shape.dim.add(size=side)
    with (
        serving(export_tiny_models(tmp_path / "models"), tmp_path / "log") as served,
        grpc.insecure_channel(served.address) as channel,
    ):
        assert status(channel, honest) == "OK"
        before = served.megabytes()
        command = [sys.executable, "-c", NEVER_READS, served.address, request.SerializeToString().hex()]
        with subprocess.Popen(command) as client:
            try:
                os.waitid(os.P_PID, client.pid, os.WSTOPPED | os.WNOWAIT)
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    assert status(channel, honest, timeout=10) == "OK"
            finally:
                client.kill()
        assert served.megabytes("VmHWM") - before < MEMORY_ON_TOP


def test_the_health_service_answers_bytes_that_are_no_message(channel):
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff\xff")
    assert refused.value.code().name == "INTERNAL"


def test_a_message_that_unfolds_to_gigabytes_is_refused(channel):
    request = request_for("unet", "serving_default")
    request.inputs["image"].MergeFromString(
        b"\x72\0" * 2**20
    )  # Empty messages: two bytes each here, a hundred in memory.
    assert status(channel, request.SerializeToString() * 16) == "RESOURCE_EXHAUSTED"


@pytest.mark.skipif("MAMMOGAN_FUZZ" not in os.environ, reason="takes memory: set MAMMOGAN_FUZZ=10000")
def test_a_message_of_a_gigabyte_is_refused(channel):
    assert status(channel, bytes(2**30), timeout=60) == "RESOURCE_EXHAUSTED"
