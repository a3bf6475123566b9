"""Arrays from and to ``TensorProto``, as TensorFlow Serving reads and writes them, without a loop over the values."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from mammogan_tf.serving.channel import MESSAGE_LIMIT
from mammogan_tf.serving.status_error import StatusError, exhausted, invalid

__all__ = ["Input", "to_proto"]

FIELDS = {
    np.dtype(np.float32): "float_val",
    np.dtype(np.float64): "double_val",
    np.dtype(np.int32): "int_val",
    np.dtype(np.int16): "int_val",
    np.dtype(np.uint16): "int_val",
    np.dtype(np.int8): "int_val",
    np.dtype(np.uint8): "int_val",
    np.dtype(np.int64): "int64_val",
    np.dtype(np.uint32): "uint32_val",
    np.dtype(np.uint64): "uint64_val",
    np.dtype(np.bool_): "bool_val",
    np.dtype(object): "string_val",
}
"""Where the values of each type stand; types that are not here, such as half precision, are left to TensorFlow."""

PACKED = {"float_val": b"\x2a", "double_val": b"\x32", "bool_val": b"\x5a"}
"""Tags of the fields that lie packed on the wire as arrays lie in memory: little-endian, of one width."""

STRING_BYTES = 24
"""What TensorFlow holds for a string beside its characters."""


class Input:
    """What a signature expects of one input; a side of ``None`` is free, as is all of a shape that is ``None``."""

    def __init__(self, name: str, spec: tf.TensorSpec) -> None:
        self.name = name
        self.shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
        self._type, self._type_name = spec.dtype.as_datatype_enum, spec.dtype.name
        self._dtype = np.dtype(spec.dtype.as_numpy_dtype)

    def check(self, proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
        """The shape of a tensor, once it fits in type and shape and does not unfold past the limit.

        Raises:
            StatusError: INVALID_ARGUMENT for a type or shape that does not fit, RESOURCE_EXHAUSTED past the limit.
        """
        if proto.dtype != self._type:
            types = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
            received = types[proto.dtype].name if proto.dtype in types else proto.dtype
            raise invalid(f"{self.name}: expected {self._type_name}, received: {received}")
        sides = tuple(dim.size for dim in proto.tensor_shape.dim)
        if proto.tensor_shape.unknown_rank or min(sides, default=0) < 0 or not self._fits(sides):
            raise invalid(f"{self.name}: expected shape {_in_words(self.shape)}, received: {_in_words(sides)}")
        if self._unfolded_bytes(proto, math.prod(sides)) > MESSAGE_LIMIT:
            raise exhausted(f"{self.name}: expected at most {MESSAGE_LIMIT} bytes, received: shape {_in_words(sides)}")
        return sides

    def to_array(self, proto: tensor_pb2.TensorProto) -> np.ndarray:
        """The values of a tensor that passed :meth:`check`, from ``tensor_content`` or the field of its type.

        As in TensorFlow (``Tensor::FromProto``), the last value of a field that holds too few stands for the rest, no
        value for zeros, and values beyond the shape are ignored.

        Raises:
            StatusError: INVALID_ARGUMENT for a ``tensor_content`` of another length or number of strings.
        """
        sides = [dim.size for dim in proto.tensor_shape.dim]
        count, content, dtype = math.prod(sides), proto.tensor_content, self._dtype
        if dtype not in FIELDS or (content and dtype.hasobject):
            return self._parsed(proto)
        if content:
            if len(content) != count * dtype.itemsize:
                raise self._wrong_content(proto)
            return np.frombuffer(content, dtype).reshape(sides)
        field = FIELDS[dtype]
        values = np.asarray(getattr(proto, field), np.int32 if field == "int_val" else dtype)[:count]
        values = values.astype(dtype, copy=False)  # What is too large for a small integer loses its upper bits.
        if len(values) < count:
            last = values[-1] if len(values) else b"" if dtype.hasobject else 0
            values = np.concatenate([values, np.full(count - len(values), last, dtype)])
        return values.reshape(sides)

    def _parsed(self, proto: tensor_pb2.TensorProto) -> np.ndarray:
        """By TensorFlow itself: types that are not in :data:`FIELDS`, and strings in ``tensor_content``."""
        try:
            return tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(self._type)).numpy()
        except tf.errors.InvalidArgumentError as error:
            if proto.tensor_content:
                raise self._wrong_content(proto) from error
            raise invalid(f"{self.name}: expected a tensor that TensorFlow reads, received: another") from error

    def _wrong_content(self, proto: tensor_pb2.TensorProto) -> StatusError:
        count = math.prod(dim.size for dim in proto.tensor_shape.dim)
        return invalid(f"{self.name}: expected {count} values, received: {len(proto.tensor_content)} bytes of content")

    def _fits(self, sides: tuple[int, ...]) -> bool:
        if self.shape is None:
            return True
        return len(sides) == len(self.shape) and all(
            wanted in (None, side) for wanted, side in zip(self.shape, sides, strict=True)
        )

    def _unfolded_bytes(self, proto: tensor_pb2.TensorProto, count: int) -> int:
        if not self._dtype.hasobject:
            return count * self._dtype.itemsize
        sizes = [len(value) for value in proto.string_val[:count]]
        return count * STRING_BYTES + sum(sizes) + (count - len(sizes)) * (sizes[-1] if sizes else 0)


def to_proto(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array into an empty ``proto``, in the field of its type: clients of TensorFlow Serving look for it there.

    TensorFlow writes types that are not in :data:`FIELDS`, in a field of its choice.
    """
    field = FIELDS.get(array.dtype)
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for side in array.shape:
        proto.tensor_shape.dim.add(size=side)
    if field in PACKED:
        _pack(proto, PACKED[field], array)
    elif field == "int_val" and array.size and array.min() >= 0 and array.max() < 128:
        _pack(proto, b"\x3a", array.astype(np.uint8))  # Tag 7: varints of one byte.
    else:
        getattr(proto, field).extend(array.ravel().tolist())


def _pack(proto: tensor_pb2.TensorProto, tag: bytes, values: np.ndarray) -> None:
    """On the wire a packed field differs from ``tensor_content`` (tag 0x22) by its tag alone, so the values need not be
    set one by one: a hundred times faster."""
    if values.size:
        wire = tensor_pb2.TensorProto(tensor_content=values.tobytes()).SerializeToString()
        proto.MergeFromString(tag + wire[1:])


def _in_words(sides: Sequence[int | None] | None) -> str:
    return "any" if sides is None else "[" + ",".join("?" if side is None else str(side) for side in sides) + "]"
