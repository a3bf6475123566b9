"""One loaded version of a model, and how it answers Predict requests as TensorFlow Serving does."""

import re
import time
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from mammogan_tf.files import plain_path
from mammogan_tf.serving.channel import MESSAGE_LIMIT
from mammogan_tf.serving.status_error import StatusError, exhausted, invalid
from mammogan_tf.serving.tensors import Input, to_proto

__all__ = ["MAX_EXAMPLES", "Job", "Servable"]

MAX_EXAMPLES = 4096
"""Most examples in one request, so that no request keeps a thread for minutes; as in serving/batching.config."""

STATUS = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(eq=False)
class Job:
    """A request that fits a signature, not yet unpacked.

    ``examples`` is the length of the batch, or None where the signature has none; ``kind`` is the same for jobs of one
    servable that can share a forward pass; ``answer_bytes`` is how large the answer will be, strings left out; nobody waits for
    a job that is ``abandoned`` or past its ``deadline`` (of ``time.monotonic``).
    """

    request: predict_pb2.PredictRequest
    signature: str
    outputs: list[str]
    examples: int | None
    kind: Hashable
    answer_bytes: int = 0
    deadline: float = float("inf")
    abandoned: bool = False

    @property
    def wanted(self) -> bool:
        return not self.abandoned and time.monotonic() < self.deadline


class Servable:
    """A SavedModel in memory.

    Attributes:
        signature_defs: the signatures as the SavedModel stores them, by name.
    """

    def __init__(self, path: Path) -> None:
        """Loads the SavedModel in ``path`` and replays its warm-up requests; raises whatever goes wrong in them."""
        stored = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        if not stored.meta_graphs:
            raise ValueError("saved_model.pb: expected a graph, received: a file without one; export it again")
        self.signature_defs = dict(stored.meta_graphs[0].signature_def)
        with plain_path(path) as plain:
            self._model = tf.saved_model.load(str(plain))  # Signatures do not keep their variables alive.
        self._signatures = {name: _Signature(function) for name, function in self._model.signatures.items()}
        for request in _warm_up_requests(path):
            answer = self.answer([self.job(request)])[0]
            if isinstance(answer, StatusError):
                raise answer

    def job(self, request: predict_pb2.PredictRequest, deadline: float = float("inf")) -> Job:
        """What a request asks for, checked as far as that needs no look at the values.

        Raises:
            StatusError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs or an output filter that
                do not fit it or too many examples, RESOURCE_EXHAUSTED for a tensor over the limit.
        """
        name = request.model_spec.signature_name or "serving_default"
        if name not in self._signatures:
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = self._signatures[name]
        _require_names(request, signature.inputs)
        outputs = _chosen_outputs(request, signature.output_bytes)
        shapes = {key: expected.check(request.inputs[key]) for key, expected in signature.inputs.items()}
        examples = _examples(shapes) if signature.batched else None
        kind = (name, *(shape[1:] for shape in shapes.values()))
        answer_bytes = (examples or 0) * sum(signature.output_bytes[key] for key in outputs)
        return Job(request, name, outputs, examples, kind, answer_bytes, deadline)

    def answer(self, jobs: Sequence[Job], most: int = 32) -> list[predict_pb2.PredictResponse | StatusError]:
        """Runs jobs of one kind in forward passes of at most ``most`` examples; each gets its own response or refusal.

        The responses lack only the version. What fails together is run again in halves, so that one bad request spoils
        no other.
        """
        try:
            return self._together(jobs, most)
        except StatusError as refusal:
            if len(jobs) == 1:
                # A fresh exception has no traceback, so it does not keep the tensors alive.
                return [StatusError(refusal.code, str(refusal))]
            half = len(jobs) // 2
            return self.answer(jobs[:half], most) + self.answer(jobs[half:], most)

    def _together(self, jobs: Sequence[Job], most: int) -> list[predict_pb2.PredictResponse | StatusError]:
        signature = self._signatures[jobs[0].signature]
        inputs = signature.unpack(jobs)
        outputs = {key for job in jobs for key in job.outputs}
        if jobs[0].examples is None:
            return [_respond(jobs[0], signature.call(inputs, outputs))]
        ends = np.cumsum([job.examples for job in jobs])
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, max(ends[-1], 1), most):
            if not any(job.wanted for job in jobs):
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            part = {key: value[start : start + most] for key, value in inputs.items()}
            parts.append(signature.call(part, outputs))
            if len(jobs) == len(parts) == 1 and (refusal := _too_large(parts[0], share=most / max(ends[-1], 1))):
                raise refusal
        results = {key: _join([part[key] for part in parts]) for key in outputs}
        answers = [
            {key: results[key][end - (job.examples or 0) : end] for key in job.outputs}
            for job, end in zip(jobs, ends, strict=True)
        ]
        return [_too_large(answer) or _respond(job, answer) for job, answer in zip(jobs, answers, strict=True)]


class _Signature:
    """A signature, with what requests are checked against worked out once."""

    def __init__(self, function: Any) -> None:
        self._function = function
        inputs, outputs = function.structured_input_signature[1], function.structured_outputs
        self.output_bytes = {name: _bytes_of_example(spec) for name, spec in outputs.items()}
        self.inputs = {name: Input(name, spec) for name, spec in inputs.items()}
        specs = [*inputs.values(), *outputs.values()]
        self.batched = bool(inputs) and all(spec.shape.rank and spec.shape[0] is None for spec in specs)

    def unpack(self, jobs: Sequence[Job]) -> dict[str, np.ndarray]:
        return {
            name: _join([expected.to_array(job.request.inputs[name]) for job in jobs])
            for name, expected in self.inputs.items()
        }

    def call(self, inputs: dict[str, np.ndarray], outputs: set[str]) -> dict[str, np.ndarray]:
        try:
            results = self._function(**{key: tf.constant(value) for key, value in inputs.items()})
        except tf.errors.OpError as error:
            raise StatusError(STATUS[error.error_code], _one_line(error.message)) from error
        return {key: results[key].numpy() for key in outputs}


def _bytes_of_example(spec: tf.TensorSpec) -> int:
    """What an output takes for each example, as far as that is known before it is computed."""
    return int(spec.dtype.size * (spec.shape[1:].num_elements() or 0)) if spec.shape.rank else 0


def _examples(shapes: dict[str, tuple[int, ...]]) -> int:
    counts = {key: shape[0] for key, shape in shapes.items()}
    if len(set(counts.values())) > 1:
        received = ", ".join(f"{count} of {key}" for key, count in counts.items())
        raise invalid(f"expected batches of one length, received: {received}")
    count = next(iter(counts.values()))
    if not 1 <= count <= MAX_EXAMPLES:
        raise invalid(f"expected 1 to {MAX_EXAMPLES} examples in a request, received: {count}")
    return count


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _too_large(part: dict[str, np.ndarray], share: float = 1) -> StatusError | None:
    """The refusal of a job whose answer does not fit into a message, from a part of it, a ``share`` of the whole."""
    expected = sum(_bytes(array) for array in part.values()) / min(share, 1)
    if expected <= MESSAGE_LIMIT:
        return None
    return exhausted(
        f"expected an answer of at most {MESSAGE_LIMIT} bytes, received: a batch that gives {expected:.0f}"
    )


def _bytes(array: np.ndarray) -> int:
    return sum(map(len, array.ravel())) if array.dtype.hasobject else array.nbytes


def _respond(job: Job, results: dict[str, np.ndarray]) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    response.model_spec.name = job.request.model_spec.name
    response.model_spec.signature_name = job.signature
    for key in job.outputs:
        to_proto(results[key], response.outputs[key])
    return response


def _warm_up_requests(path: Path) -> Iterator[predict_pb2.PredictRequest]:
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    if file.is_file():
        try:
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        except (tf.errors.DataLossError, DecodeError) as error:
            received = _one_line(str(error))
            raise ValueError(
                f"{file.name}: expected warm-up requests, received: {received}; export it again"
            ) from error


def _require_names(request: predict_pb2.PredictRequest, expected: dict[str, Input]) -> None:
    extra, missing = sorted(set(request.inputs) - set(expected)), sorted(set(expected) - set(request.inputs))
    if extra or missing:
        raise invalid(
            f"inputs do not match the signature: expected {{{','.join(sorted(expected))}}}. "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        )


def _chosen_outputs(request: predict_pb2.PredictRequest, available: Collection[str]) -> list[str]:
    chosen = list(request.output_filter)
    for name in chosen:
        if name not in available:
            raise invalid(
                f"output tensor alias not found in signature: {name}. Outputs expected to be in the set "
                f"{{{','.join(sorted(available))}}}."
            )
        if chosen.count(name) > 1:
            raise invalid(f"duplicate output tensor alias: {name}")
    return chosen or sorted(available)


def _one_line(message: str) -> str:
    """What failed, without TensorFlow's account of where in the graph."""
    noise = ("Graph execution error", "Detected at node", "<stack traces", "\t [[", "\t[[")
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith(noise)]
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", " ".join(lines)).strip()
    return re.sub(r"^assertion failed: \[(.*?)\]", r"\1", text) or "the graph failed"
