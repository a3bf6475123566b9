import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from mammogan_tf.serving import tensors
from mammogan_tf.serving.status_error import StatusError
from mammogan_tf.serving.tensors import Input, to_proto


def received(array: np.ndarray, proto: tensor_pb2.TensorProto) -> np.ndarray:
    free = Input("x", tf.TensorSpec(None, tf.as_dtype(proto.dtype)))
    assert free.check(proto) == array.shape
    return free.to_array(proto)


INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.uint64)


@pytest.mark.parametrize(
    "array",
    [
        np.float32([[0.5, -1, np.inf]]),
        np.float64([1.5]),
        np.int32([[[0, 4], [127, 3]]]),
        np.int32([128, 0]),
        np.int32([127, -1]),
        np.int64([2**40, -3]),
        *(np.array([0, 127, np.iinfo(kind).min, np.iinfo(kind).max], kind) for kind in INTEGERS),
        np.float16([0.5, -1]),
        np.array([0.5, -1], tf.bfloat16.as_numpy_dtype),
        np.complex64([1 + 2j]),
        np.array([True, False]),
        np.array([[b"film", b""]], object),
        np.zeros((0, 4), np.float32),
        np.zeros((0,), np.int32),
        np.float32(3),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_survive_both_encodings(array):
    proto = tensor_pb2.TensorProto()
    to_proto(np.asarray(array), proto)
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    np.testing.assert_array_equal(received(array, proto), array)
    np.testing.assert_array_equal(received(array, tf.make_tensor_proto(array)), array)


def test_the_fields_of_their_type_hold_the_values():
    proto = tensor_pb2.TensorProto()
    to_proto(np.int32([1, 2]), proto)
    assert (list(proto.int_val), proto.tensor_content) == ([1, 2], b"")


@pytest.mark.parametrize(
    ("field", "array"),
    [
        ("double_val", np.float64([0.5, -1])),
        ("int64_val", np.int64([2**40, -3])),
        ("bool_val", np.array([True, False])),
        *(("int_val", np.array([1, np.iinfo(kind).max], kind)) for kind in INTEGERS[:4]),
        ("uint32_val", np.uint32([1, 2**32 - 1])),
        ("uint64_val", np.uint64([1, 2**64 - 1])),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_clients_find_the_values_in_the_field_of_their_type(field, array):
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto)
    assert (list(getattr(proto, field)), proto.tensor_content) == (array.tolist(), b"")


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int8, tf.uint16, tf.int16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("values", [[], [7], [7, 100], [300, -1, 0, 5]])
def test_small_integers_are_read_as_tensorflow_reads_them(dtype, values):
    proto = tensor([3], dtype, int_val=values)
    expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    found = received(expected, proto)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_half_precision_is_read_from_the_bits_in_its_field(dtype):
    array = np.array([0.5, -1, -1], dtype.as_numpy_dtype)
    proto = tensor([3], dtype, half_val=array[:2].view(np.uint16).tolist())
    np.testing.assert_array_equal(received(array, proto), array)
    with pytest.raises(StatusError, match="expected 3 values, received: 5 bytes"):
        received(array, tensor([3], dtype, tensor_content=bytes(5)))


def tensor(sides, dtype=tf.float32, **fields) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **fields)
    for side in sides:
        proto.tensor_shape.dim.add(size=side)
    return proto


@pytest.mark.parametrize(
    ("values", "expected"), [([], [0, 0, 0]), ([1], [1, 1, 1]), ([1, 2], [1, 2, 2]), ([1, 2, 3, 4], [1, 2, 3])]
)
def test_too_few_and_too_many_values_mean_what_they_mean_to_tensorflow(values, expected):
    film = Input("image", tf.TensorSpec([None], tf.float32))
    np.testing.assert_array_equal(film.to_array(tensor([3], float_val=values)), expected)
    text = Input("png", tf.TensorSpec([None], tf.string))
    strings, meant = ([b"film" * value for value in numbers] for numbers in (values, expected))
    assert text.to_array(tensor([3], tf.string, string_val=strings)).tolist() == meant


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (tensor([1, 3]), r"expected shape \[\?,2\], received: \[1,3\]"),
        (tensor([2]), "expected shape"),
        (tensor([-1, 2]), "expected shape"),
        (tensor([1, 2], tf.int32), "expected float32, received: DT_INT32"),
        (tensor_pb2.TensorProto(dtype=1, tensor_shape={"unknown_rank": True}), "expected shape"),
        (tensor_pb2.TensorProto(dtype=1234), "received: 1234"),
    ],
)
def test_what_does_not_fit_is_invalid(proto, reason):
    with pytest.raises(StatusError, match=reason) as refused:
        Input("image", tf.TensorSpec([None, 2], tf.float32)).check(proto)
    assert refused.value.code.name == "INVALID_ARGUMENT"


@pytest.mark.parametrize("length", [7, 9])
def test_content_of_another_length_is_invalid(length):
    with pytest.raises(StatusError, match=f"expected 2 values, received: {length} bytes"):
        Input("image", tf.TensorSpec([None], tf.float32)).to_array(tensor([2], tensor_content=bytes(length)))


def test_strings_may_travel_as_their_lengths_and_their_bytes():
    text = Input("png", tf.TensorSpec([None], tf.string))
    packed = tensor([3], tf.string, tensor_content=bytes([2, 0, 3]) + b"ab" + b"cde")
    assert text.to_array(packed).tolist() == [b"ab", b"", b"cde"]
    for content in (bytes([2, 0, 4]) + b"abcde", bytes([5]) + b"abcde", b"\xff"):
        with pytest.raises(StatusError, match="expected 3 values") as refused:
            text.to_array(tensor([3], tf.string, tensor_content=content))
        assert refused.value.code.name == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "proto",
    [
        tensor([2**40]),
        tensor([3], tf.string, string_val=[b"x" * 20]),
        tensor([2], tf.string, string_val=[b"x" * 60, b"y"]),
        tensor([1], tf.string, string_val=[b"x" * 80, b"", b"x" * 80]),
        tensor([5], tf.string),
    ],
)
def test_what_unfolds_past_the_limit_is_refused_before_it_does(proto, monkeypatch):
    monkeypatch.setattr(tensors, "MESSAGE_LIMIT", 100)  # 3 x (24 + 20), 2 x 24 + 61, 24 + 80 and 5 x 24 bytes are more.
    with pytest.raises(StatusError) as refused:
        Input("x", tf.TensorSpec([None], tf.as_dtype(proto.dtype))).check(proto)
    assert refused.value.code.name == "RESOURCE_EXHAUSTED"


def test_what_tensorflow_itself_cannot_read_is_refused():
    proto = tensor_pb2.TensorProto(dtype=tf.float16.as_datatype_enum, half_val=[0x3C00])
    for _ in range(300):  # TensorFlow has 254 dimensions at most.
        proto.tensor_shape.dim.add(size=1)
    with pytest.raises(StatusError, match="x: expected a tensor that TensorFlow reads, received: another"):
        Input("x", tf.TensorSpec(None, tf.float16)).to_array(proto)
