"""One loaded version of a model, and how it answers a Predict request as TensorFlow Serving does."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

__all__ = ["MESSAGE_LIMIT", "Refusal", "Servable"]

MESSAGE_LIMIT = 64 * 2**20
"""Largest message in bytes, and largest tensor that a request may unfold to."""

STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Refusal(Exception):
    """A request that is answered with an error: ``code`` is the gRPC status, the text its message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Servable:
    """A SavedModel in memory.

    Attributes:
        signature_defs: the signatures as the SavedModel stores them, by name.
    """

    def __init__(self, path: Path) -> None:
        """Loads the SavedModel in ``path`` and replays its warm-up requests; raises whatever goes wrong in them."""
        stored = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        self.signature_defs = dict(stored.meta_graphs[0].signature_def)
        self._model = tf.saved_model.load(str(path))  # Signatures do not keep their variables alive.
        self._signatures = dict(self._model.signatures)
        for request in _warm_up_requests(path):
            self.predict(request)

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Runs one request; the response lacks only the version.

        Raises:
            Refusal: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs or an output filter that
                do not fit it, RESOURCE_EXHAUSTED for a tensor over the limit, or the status of a graph that failed.
        """
        name = request.model_spec.signature_name or "serving_default"
        if name not in self._signatures:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        function = self._signatures[name]
        expected = function.structured_input_signature[1]
        _require_names(request, expected)
        outputs = _chosen_outputs(request, function.structured_outputs)
        inputs = {key: tf.constant(_to_array(key, request.inputs[key], spec)) for key, spec in expected.items()}
        try:
            results = function(**inputs)
        except tf.errors.OpError as error:
            raise Refusal(STATUS[error.error_code], _one_line(error.message)) from error
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = name
        for key in outputs:
            response.outputs[key].CopyFrom(_to_proto(results[key].numpy()))
        return response


def _warm_up_requests(path: Path) -> Iterator[predict_pb2.PredictRequest]:
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    if file.is_file():
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request


def _invalid(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def _require_names(request: predict_pb2.PredictRequest, expected: dict[str, tf.TensorSpec]) -> None:
    extra, missing = sorted(set(request.inputs) - set(expected)), sorted(set(expected) - set(request.inputs))
    if extra or missing:
        raise _invalid(
            f"inputs do not match the signature: expected {{{','.join(sorted(expected))}}}. "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        )


def _chosen_outputs(request: predict_pb2.PredictRequest, available: dict[str, Any]) -> list[str]:
    chosen = list(request.output_filter)
    for name in chosen:
        if name not in available:
            raise _invalid(
                f"output tensor alias not found in signature: {name}. Outputs expected to be in the set "
                f"{{{','.join(sorted(available))}}}."
            )
        if chosen.count(name) > 1:
            raise _invalid(f"duplicate output tensor alias: {name}")
    return chosen or sorted(available)


def _to_array(name: str, proto: tensor_pb2.TensorProto, spec: tf.TensorSpec) -> np.ndarray:
    """The tensor of a request, from its typed fields or its ``tensor_content``, checked before it is unfolded."""
    if proto.dtype != spec.dtype.as_datatype_enum:
        received = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number.get(proto.dtype)
        raise _invalid(f"{name}: expected {spec.dtype.name}, received: {received.name if received else proto.dtype}")
    sides = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sides, default=0) < 0 or not spec.shape.is_compatible_with(sides):
        raise _invalid(f"{name}: expected shape {_shape(spec.shape.as_list())}, received: {_shape(sides)}")
    if math.prod(sides) * spec.dtype.size > MESSAGE_LIMIT:
        message = f"{name}: expected at most {MESSAGE_LIMIT} bytes, received: shape {_shape(sides)}"
        raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
    if spec.dtype == tf.string and len(proto.string_val) != math.prod(sides):
        raise _invalid(f"{name}: expected {math.prod(sides)} strings, received: {len(proto.string_val)}")
    try:
        return tf.make_ndarray(proto)
    except ValueError as error:
        raise _invalid(f"{name}: expected as many values as shape {_shape(sides)} holds, received: {error}") from error


def _shape(sides: list[int | None]) -> str:
    return "[" + ",".join("?" if side is None else str(side) for side in sides) + "]"


def _to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """A tensor in the typed fields, where clients of TensorFlow Serving look for it."""
    proto = tf.make_tensor_proto(array)
    if proto.tensor_content and array.dtype == np.float32:
        # On the wire float_val (tag 0x2a) differs from tensor_content (tag 0x22) by its tag alone; this is a hundred
        # times faster than value by value.
        wire = tensor_pb2.TensorProto(tensor_content=proto.tensor_content).SerializeToString()
        proto.ClearField("tensor_content")
        proto.MergeFromString(b"\x2a" + wire[1:])
    elif proto.tensor_content and array.dtype == np.int32:
        proto.ClearField("tensor_content")
        proto.int_val.extend(array.ravel().tolist())
    return proto


def _one_line(message: str) -> str:
    """What failed, without TensorFlow's account of where in the graph."""
    noise = ("Graph execution error", "Detected at node", "<stack traces", "\t [[", "\t[[")
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith(noise)]
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", " ".join(lines)).strip()
    return re.sub(r"^assertion failed: \[(.*?)\]", r"\1", text) or "the graph failed"
