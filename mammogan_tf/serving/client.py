"""Clients of the served models: NumPy in, NumPy out, over gRPC to TensorFlow Serving or the embedded server."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mammogan_tf.serving import predict_requests
from mammogan_tf.serving.channel import (
    ADDRESS,
    SECONDS,
    channel_options,
    closed,
    explain,
    require_timeout,
    tls_credentials,
)
from mammogan_tf.serving.predict_requests import MODELS, PredictCall, Segmentation, Synthesis

if TYPE_CHECKING:
    import grpc

__all__ = ["MammoganClient", "Segmentation", "Synthesis", "tls_credentials"]

Answer = TypeVar("Answer")


class MammoganClient:
    """Speaks to a server at ``address`` (``host:port``); each request may take ``timeout`` seconds.

    It is a context manager. A server that does not answer is tried again for about three seconds, with back-off;
    large batches travel in several requests. ``credentials`` make it speak TLS: see :func:`tls_credentials`. Every failure
    is a :class:`ServingError` of one line. :class:`mammogan_tf.serving.aio.AsyncMammoganClient` is its twin for asyncio.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        timeout: float = SECONDS,
        credentials: "grpc.ChannelCredentials | None" = None,
    ) -> None:
        import grpc  # The stubs pull in TensorFlow: seconds that only who makes a client pays.
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        require_timeout(timeout)
        self.address, self.timeout = address, timeout
        secure, options = credentials is not None, channel_options(address)
        self._channel = (
            grpc.secure_channel(address, credentials, options) if secure else grpc.insecure_channel(address, options)
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> "MammoganClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def segment(self, images: np.ndarray | Sequence[bytes], version: int | None = None) -> Segmentation:
        """Outlines anatomy and lesions on films: float32 [N, S, S] in [0, 1], S being the model's, or PNGs of any size.

        The chest wall is on the left of an array of whole films, and on either side of a PNG.
        ``version`` is that of the model; the newest where None.

        Raises:
            ServingError: the server is not there, is too slow, or refuses the films.
        """
        return self._ask(predict_requests.segment(images, version))

    def generate(
        self,
        seeds: Sequence[int] | np.ndarray,
        label_maps: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        version: int | None = None,
    ) -> np.ndarray:
        """Draws synthetic films, float32 [N, S, S] in [0, 1], one from each seed, label map (0-4) and label (0-2).

        Args:
            seeds: integers [N]; a seed gives the same film whatever else is in the batch.
            label_maps: integers [N, S, S].
            labels: integers [N].
            version: of the model; the newest where None.

        Raises:
            ServingError: the server is not there, is too slow, or refuses the inputs.
        """
        return self._ask(predict_requests.generate(seeds, label_maps, labels, version))

    def synthesize(
        self,
        films: Sequence[bytes],
        seeds: Sequence[int] | np.ndarray,
        lesions: Sequence[Sequence[float]] | np.ndarray | None = None,
        version: int | None = None,
    ) -> Synthesis:
        """Draws a synthetic film of the same anatomy for each film, with its label map.

        Args:
            films: PNGs of any size; black fills a film up to a square, on the right or at the bottom.
            seeds: integers [N].
            lesions: x, y and radius of a lesion on the breast of each film, [N, 3], in sides of that square, from its upper
                left corner; none where None or the radius is 0.
            version: of the model; the newest where None.

        Raises:
            ServingError: the server is not there, is too slow, or refuses the inputs.
        """
        return self._ask(predict_requests.synthesize(films, seeds, lesions, version))

    def status(self, models: Sequence[str] = MODELS) -> dict[str, list[dict[str, Any]]]:
        """The versions of each model that the server knows: ``version``, ``state`` (``AVAILABLE``, ...) and ``error``.

        Raises:
            ServingError: the server is not there or is too slow.
        """
        import grpc

        found = {}
        for model in models:
            try:
                response = self._call(self._model.GetModelStatus, predict_requests.status_request(model))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    continue
                raise explain(error, self.address, self.timeout) from error
            found[model] = predict_requests.read_status(response)
        return found

    def _ask(self, call: PredictCall[Answer]) -> Answer:
        import grpc

        left, responses = [*predict_requests.chunks(call.costs)], []
        try:
            while left:
                try:
                    responses.append(self._call(self._prediction.Predict, call.request(left[0])))
                    left = left[1:]
                except grpc.RpcError as error:
                    left = predict_requests.smaller(left, error)
        except grpc.RpcError as error:
            raise explain(error, self.address, self.timeout, call.asked) from error
        return call.answer(responses)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except ValueError as error:  # What gRPC raises where the channel is closed.
            raise closed(self.address) from error
