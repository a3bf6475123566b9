"""The standard gRPC health service: one entry for the server (``""``) and one for each model that it was ever to serve."""

from grpc_health.v1 import health, health_pb2  # type: ignore[import-untyped]
from grpc_health.v1.health import aio  # type: ignore[import-untyped]

from mammogan_tf.serving.versions import ModelManager

__all__ = ["SERVICE_NAME", "Health"]

SERVICE_NAME = health.SERVICE_NAME
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Health(aio.HealthServicer):
    """A model is SERVING while one of its versions serves. The server is SERVING once all of its models have served at the
    same time, and from then on while at least one does. After ``enter_graceful_shutdown`` everything is NOT_SERVING.

    So a server does not take over from another before it has all models, and is not taken away for one lost model.
    """

    def __init__(self, manager: ModelManager) -> None:
        super().__init__()
        self._manager = manager
        self._models: set[str] = set()
        self._complete = False

    async def refresh(self) -> None:
        available = set(self._manager.available())
        self._models |= available | self._manager.wanted
        self._complete = self._complete or self._manager.wanted <= available
        await self.set("", SERVING if available and self._complete else NOT_SERVING)
        for model in self._models:
            await self.set(model, SERVING if model in available else NOT_SERVING)
