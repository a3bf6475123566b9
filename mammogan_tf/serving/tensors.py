"""Arrays from and to ``TensorProto``, as TensorFlow Serving reads and writes them, without a loop over the values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from mammogan_tf.serving.refusal import exhausted, invalid

__all__ = ["MESSAGE_LIMIT", "check", "to_array", "to_proto"]

MESSAGE_LIMIT = 64 * 2**20
"""Largest message in bytes, and largest tensor that a request may unfold to."""

FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}
STRING_BYTES = 24
"""What TensorFlow holds for a string beside its characters."""


def check(name: str, proto: tensor_pb2.TensorProto, spec: tf.TensorSpec) -> list[int]:
    """The shape of an input, once its type and shape fit the signature and it does not unfold past the limit.

    Raises:
        Refusal: INVALID_ARGUMENT for a type or shape that does not fit, RESOURCE_EXHAUSTED past the limit.
    """
    if proto.dtype != spec.dtype.as_datatype_enum:
        received = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number.get(proto.dtype)
        raise invalid(f"{name}: expected {spec.dtype.name}, received: {received.name if received else proto.dtype}")
    sides = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sides, default=0) < 0 or not spec.shape.is_compatible_with(sides):
        raise invalid(f"{name}: expected shape {_shape(spec.shape.as_list())}, received: {_shape(sides)}")
    if _unfolded_bytes(proto, spec.dtype, math.prod(sides)) > MESSAGE_LIMIT:
        raise exhausted(f"{name}: expected at most {MESSAGE_LIMIT} bytes, received: shape {_shape(sides)}")
    return sides


def to_array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The values of a tensor that passed :func:`check`, from ``tensor_content`` or the field of its type.

    As in TensorFlow (``Tensor::FromProto``), the last value of a field that holds too few stands for the rest, no value
    for zeros, and values beyond the shape are ignored.

    Raises:
        Refusal: INVALID_ARGUMENT for a ``tensor_content`` of another length.
    """
    dtype = tf.as_dtype(proto.dtype)
    sides = [dim.size for dim in proto.tensor_shape.dim]
    count = math.prod(sides)
    if proto.tensor_content:
        if dtype == tf.string or len(proto.tensor_content) != count * dtype.size:
            raise invalid(f"{name}: expected {count} values, received: {len(proto.tensor_content)} bytes of content")
        return np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(sides)
    if dtype not in FIELDS:
        raise invalid(f"{name}: expected {dtype.name} values in tensor_content, received: none")
    values = np.asarray(getattr(proto, FIELDS[dtype]), dtype.as_numpy_dtype)[:count]
    if len(values) < count:
        last = values[-1:] if len(values) else [b"" if dtype == tf.string else 0]
        values = np.concatenate([values, np.full(count - len(values), last, values.dtype)])
    return values.reshape(sides)


def to_proto(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array into an empty ``proto``, in the field of its type: clients of TensorFlow Serving look for it there."""
    if array.dtype == np.float32:
        _write(proto, tf.float32, array.shape, b"\x2a", array)  # float_val, tag 5: packed, little-endian.
    elif array.dtype == np.int32 and array.size and array.min() >= 0 and array.max() < 128:
        _write(proto, tf.int32, array.shape, b"\x3a", array.astype(np.uint8))  # int_val, tag 7: varints of one byte.
    elif array.dtype == np.int32:
        _write(proto, tf.int32, array.shape)
        proto.int_val.extend(array.ravel().tolist())
    else:
        proto.CopyFrom(tf.make_tensor_proto(array))


def _write(
    proto: tensor_pb2.TensorProto, dtype: tf.DType, shape: Sequence[int], tag: bytes = b"", packed: Any = None
) -> None:
    """On the wire a packed field differs from ``tensor_content`` (tag 0x22) by its tag alone, so the values need not be
    set one by one: a hundred times faster."""
    proto.dtype = dtype.as_datatype_enum
    for side in shape:
        proto.tensor_shape.dim.add(size=side)
    if packed is not None and packed.size:
        wire = tensor_pb2.TensorProto(tensor_content=packed.tobytes()).SerializeToString()
        proto.MergeFromString(tag + wire[1:])


def _unfolded_bytes(proto: tensor_pb2.TensorProto, dtype: tf.DType, count: int) -> int:
    if dtype != tf.string:
        return count * dtype.size
    sizes = [len(value) for value in proto.string_val[:count]]
    return count * STRING_BYTES + sum(sizes) + (count - len(sizes)) * (sizes[-1] if sizes else 0)


def _shape(sides: list[int | None]) -> str:
    return "[" + ",".join("?" if side is None else str(side) for side in sides) + "]"
