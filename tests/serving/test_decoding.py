import struct

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving import decoding
from mammogan_tf.serving.decoding import decode
from mammogan_tf.serving.status_error import StatusError


def code(content: bytes) -> str:
    answer = decode(predict_pb2.PredictRequest, content)
    return answer.code.name if isinstance(answer, StatusError) else "OK"


def film_request(**fields) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "unet"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros((8, 64, 64, 1), np.float32)))
    request.inputs["image"].MergeFrom(tensor_pb2.TensorProto(**fields))
    return request


@pytest.fixture(autouse=True)
def count_always(monkeypatch):
    monkeypatch.setattr(decoding, "COUNT_FROM_BYTES", 0)


def test_large_honest_messages_are_few_fields(monkeypatch):
    # model_spec, its name; the input, its key, value, dtype, shape, content, four sides and their sizes: 16.
    request = film_request()
    monkeypatch.setattr(decoding, "MAX_FIELDS", 16)
    assert decode(predict_pb2.PredictRequest, request.SerializeToString()) == request
    monkeypatch.setattr(decoding, "MAX_FIELDS", 15)
    assert code(request.SerializeToString()) == "RESOURCE_EXHAUSTED"
    monkeypatch.setattr(decoding, "MAX_FIELDS", 17)
    assert code(film_request(float_val=range(1000)).SerializeToString()) == "OK", "packed values are one field"


@pytest.mark.parametrize(
    "swarm",
    [
        film_request(resource_handle_val=[{}] * 200),
        film_request(tensor_shape={"dim": [{}] * 200}),
        film_request(string_val=[b""] * 200),
        predict_pb2.PredictRequest(output_filter=[""] * 200),
    ],
)
def test_swarms_of_empty_fields_are_refused_before_they_are_decoded(monkeypatch, swarm):
    content = swarm.SerializeToString()
    assert code(content) == "OK"
    monkeypatch.setattr(decoding, "MAX_FIELDS", 100)
    assert code(content) == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(("field", "tag", "form"), [("float_val", 0x2D, "<f"), ("double_val", 0x31, "<d")])
def test_values_that_are_not_packed_are_a_field_each(monkeypatch, field, tag, form):
    values = (bytes([tag]) + struct.pack(form, 1)) * 3
    content = length_delimited(0x12, length_delimited(0x12, values))  # An input, its value, three numbers: 5.
    monkeypatch.setattr(decoding, "MAX_FIELDS", 5)
    tensor = decode(predict_pb2.PredictRequest, content).inputs[""]
    assert list(getattr(tensor, field)) == [1, 1, 1]
    monkeypatch.setattr(decoding, "MAX_FIELDS", 4)
    assert code(content) == "RESOURCE_EXHAUSTED"


def length_delimited(tag: int, content: bytes) -> bytes:
    length, digits = len(content), []
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([tag, *digits, length]) + content


@pytest.mark.parametrize(("depth", "expected"), [(10, "OK"), (60, "INTERNAL"), (3000, "INTERNAL")])
def test_messages_nested_deeper_than_protocol_buffers_allow(depth, expected):
    content = b""
    for _ in range(depth):  # A tensor in a variant in a tensor ...
        content = length_delimited(0x7A, length_delimited(0x1A, content))
    assert code(length_delimited(0x12, length_delimited(0x12, content))) == expected


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\xff", b"\x0b", b"\x0a\x05abc", b"\xff" * 12, b"\x09abc"])
def test_bytes_that_are_no_message_are_internal_errors_as_in_grpc_for_cpp(content):
    assert code(content) == "INTERNAL"
