"""A client of the served models: NumPy in, NumPy out, over gRPC to TensorFlow Serving or the embedded server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mammogan_tf.errors import ServingError

__all__ = ["MammoganClient", "Segmentation"]

MESSAGE_LIMIT = 64 * 2**20
CHUNK_BYTES = 16 * 2**20
CHUNK_EXAMPLES = 64
ANSWER_SIZE = 6
"""A U-Net's answer is this many times its question: five probabilities and a class to a pixel."""

RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class Segmentation(NamedTuple):
    """``label_map`` uint8 [N, S, S] with values 0-4 and ``probabilities`` float32 [N, S, S, 5]."""

    label_map: np.ndarray
    probabilities: np.ndarray


class MammoganClient:
    """Speaks to a server at ``address`` (``host:port``); each request may take ``timeout`` seconds.

    It is a context manager. A server that is starting or restarting is tried again for a few seconds, with back-off;
    large batches travel in several requests. Every failure is a :class:`ServingError` of one line.
    """

    def __init__(self, address: str = "127.0.0.1:8500", timeout: float = 30.0) -> None:
        import grpc  # The stubs pull in TensorFlow: seconds that only who makes a client pays.
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.address, self.timeout = address, timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                ("grpc.per_rpc_retry_buffer_size", MESSAGE_LIMIT),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": RETRIES}]})),
            ],
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> "MammoganClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def segment(self, images: np.ndarray | Sequence[bytes]) -> Segmentation:
        """Outlines anatomy and lesions on films: float32 [N, S, S] in [0, 1], S being the model's, or PNGs of any size.

        Raises:
            ServingError: the server is not there, is too slow, or refuses the films.
        """
        if len(images) == 0:
            raise ServingError("segment: expected one film or more, received: none")
        if isinstance(images, np.ndarray):
            signature, name = "serving_default", "image"
            batch = np.asarray(images, np.float32)[..., None]
            costs = [ANSWER_SIZE * batch[0].nbytes] * len(batch)
        else:
            signature, name = "segment_png", "png"
            batch = np.array(images, object)
            costs = [max(len(png), 2**20) for png in images]
        wanted = ("label_map", "probabilities")
        parts = [self._predict("unet", signature, {name: batch[chunk]}, wanted) for chunk in _chunks(costs)]
        return Segmentation(
            np.concatenate([part["label_map"] for part in parts]).astype(np.uint8),
            np.concatenate([part["probabilities"] for part in parts]),
        )

    def generate(
        self, seeds: Sequence[int] | np.ndarray, label_maps: np.ndarray, labels: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """Draws synthetic films, float32 [N, S, S] in [0, 1], one from each seed, label map (0-4) and label (0-2).

        Args:
            seeds: integers [N]; a seed gives the same film whatever else is in the batch.
            label_maps: integers [N, S, S].
            labels: integers [N].

        Raises:
            ServingError: the server is not there, is too slow, or refuses the inputs.
        """
        inputs: dict[str, np.ndarray] = {
            "seed": np.asarray(seeds, np.int64),
            "label_map": np.asarray(label_maps, np.int32),
            "label": np.asarray(labels, np.int32),
        }
        counts = [len(value) for value in inputs.values()]
        if min(counts) == 0 or len(set(counts)) > 1:
            received = "{} seeds, {} label maps, {} labels".format(*counts)
            raise ServingError(f"generate: expected one seed, label map and label to each film, received: {received}")
        parts = [
            self._predict("generator", "generate_seeded", {k: v[chunk] for k, v in inputs.items()}, ("image",))["image"]
            for chunk in _chunks([inputs["label_map"][0].nbytes] * counts[0])
        ]
        return np.concatenate(parts)[..., 0]

    def status(self, models: Sequence[str] = ("unet", "generator")) -> dict[str, list[dict[str, Any]]]:
        """The versions of each model that the server knows: ``version``, ``state`` (``AVAILABLE``, ...) and ``error``.

        Raises:
            ServingError: the server is not there or is too slow.
        """
        import grpc
        from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus

        found = {}
        for model in models:
            request = GetModelStatusRequest()
            request.model_spec.name = model
            try:
                response = self._model.GetModelStatus(request, timeout=self.timeout)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    continue
                raise self._explain(error) from error
            found[model] = [
                {
                    "version": status.version,
                    "state": ModelVersionStatus.State.Name(status.state),
                    "error": status.status.error_message,
                }
                for status in response.model_version_status
            ]
        return found

    def _predict(
        self, model: str, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        request = PredictRequest(output_filter=outputs)
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            response = self._prediction.Predict(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self._explain(error) from error
        return {name: tf.make_ndarray(response.outputs[name]) for name in outputs}

    def _explain(self, error: Any) -> ServingError:
        code = error.code().name
        if code == "UNAVAILABLE":
            return ServingError(
                f"{self.address}: expected a model server, received: no connection; start one with mammogan-tf serve"
            )
        if code == "DEADLINE_EXCEEDED":
            return ServingError(
                f"{self.address}: expected an answer within {self.timeout:g} s, received: none; "
                "raise the timeout or send fewer films"
            )
        details = " ".join((error.details() or "no reason").split())
        return ServingError(f"{self.address}: expected an answer, received: {code}: {details}")


def _chunks(costs: Sequence[int]) -> Iterator[slice]:
    """Slices of a batch whose costs in bytes together stay below the limit; a single film may pass it."""
    start = total = 0
    for index, cost in enumerate(costs):
        if index > start and (total + cost > CHUNK_BYTES or index - start == CHUNK_EXAMPLES):
            yield slice(start, index)
            start, total = index, 0
        total += cost
    yield slice(start, len(costs))
