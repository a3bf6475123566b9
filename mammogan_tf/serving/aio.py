"""The client for asyncio."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mammogan_tf.serving import predict_requests
from mammogan_tf.serving.channel import ADDRESS, SECONDS, channel_options, closed, explain, require_timeout
from mammogan_tf.serving.predict_requests import MODELS, PredictCall, Segmentation, Synthesis

if TYPE_CHECKING:
    import grpc

__all__ = ["AsyncMammoganClient"]

AT_ONCE = 64
"""Requests of a client under way; others wait here. The embedded server lets 256 wait, of all its clients."""

Answer = TypeVar("Answer")


class AsyncMammoganClient:
    """:class:`mammogan_tf.serving.client.MammoganClient` with methods to await; many may be under way at once, and
    more wait for their turn, which does not count towards ``timeout``.

    It is made, used as an asynchronous context manager, and closed inside a running event loop. The requests of one large
    batch follow one another.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        timeout: float = SECONDS,
        credentials: "grpc.ChannelCredentials | None" = None,
    ) -> None:
        from grpc import aio
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        require_timeout(timeout)
        self.address, self.timeout, self._closed = address, timeout, False
        secure, options = credentials is not None, channel_options(address)
        self._channel = (
            aio.secure_channel(address, credentials, options) if secure else aio.insecure_channel(address, options)
        )
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncMammoganClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()

    async def segment(self, images: np.ndarray | Sequence[bytes], version: int | None = None) -> Segmentation:
        """As :meth:`MammoganClient.segment`."""
        return await self._ask(predict_requests.segment(images, version))

    async def generate(
        self,
        seeds: Sequence[int] | np.ndarray,
        label_maps: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        version: int | None = None,
    ) -> np.ndarray:
        """As :meth:`MammoganClient.generate`."""
        return await self._ask(predict_requests.generate(seeds, label_maps, labels, version))

    async def synthesize(
        self,
        films: Sequence[bytes],
        seeds: Sequence[int] | np.ndarray,
        lesions: Sequence[Sequence[float]] | np.ndarray | None = None,
        version: int | None = None,
    ) -> Synthesis:
        """As :meth:`MammoganClient.synthesize`."""
        return await self._ask(predict_requests.synthesize(films, seeds, lesions, version))

    async def status(self, models: Sequence[str] = MODELS) -> dict[str, list[dict[str, Any]]]:
        """As :meth:`MammoganClient.status`."""
        import grpc

        found = {}
        for model in models:
            try:
                response = await self._call(self._model.GetModelStatus, predict_requests.status_request(model))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    continue
                raise explain(error, self.address, self.timeout) from error
            found[model] = predict_requests.read_status(response)
        return found

    async def _ask(self, call: PredictCall[Answer]) -> Answer:
        import grpc

        left, responses = [*predict_requests.chunks(call.costs)], []
        try:
            while left:
                try:
                    async with self._turn:
                        responses.append(await self._call(self._prediction.Predict, call.request(left[0])))
                    left = left[1:]
                except grpc.RpcError as error:
                    left = predict_requests.smaller(left, error)
        except grpc.RpcError as error:
            raise explain(error, self.address, self.timeout, call.asked) from error
        return call.answer(responses)

    async def _call(self, method: Callable[..., Any], request: Any) -> Any:
        from grpc import aio

        try:
            return await method(request, timeout=self.timeout)
        except aio.UsageError as error:  # The channel is closed.
            raise closed(self.address) from error
        except asyncio.CancelledError as error:
            cancelled = getattr(asyncio.current_task(), "cancelling", int)()  # Python 3.10 does not know who did it.
            if cancelled or not self._closed:
                raise
            raise closed(self.address) from error  # While it waited for the answer.
