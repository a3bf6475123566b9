"""What every gRPC method of the embedded server has in common: its statuses, its count and its line in the log."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from mammogan_tf.serving.prometheus import Metrics
from mammogan_tf.serving.status_error import StatusError
from mammogan_tf.serving.versions import ModelManager

__all__ = ["Call", "Service", "answers"]

REASON_BYTES = 1024
"""Longest message of a status, as in TensorFlow Serving: it travels in a header, and a long one would replace the status."""

logger = logging.getLogger(__name__)


@dataclass
class Call:
    """A request under way, and what the method finds out for the log.

    ``deadline`` is a time of ``time.monotonic``; ``client`` names the connection; the callback that ``when_done`` gets is
    called once the client has the answer, or gave up.
    """

    deadline: float
    client: str
    when_done: Callable[[Callable[[Any], None]], None]
    version: int | None = None
    batch: int | None = None


class Service:
    """What the services share; ``running`` is the number of requests under way."""

    def __init__(self, manager: ModelManager, metrics: Metrics) -> None:
        self.manager, self.metrics = manager, metrics
        self.running = 0

    def begin(self, context: grpc.aio.ServicerContext) -> None:
        """Counts a request as running until its client has the answer, or gave up."""
        self.running += 1
        context.add_done_callback(self._end)

    def _end(self, context: grpc.aio.ServicerContext) -> None:
        self.running -= 1

    def record(self, method: str, model: str, call: Call, code: grpc.StatusCode, reason: str, seconds: float) -> None:
        """Counts a request and writes its line."""
        label = model if self.manager.versions(model) else ""
        self.metrics.requests.labels(method, label, code.name).inc()
        self.metrics.seconds.labels(method, label).observe(seconds)
        if logger.isEnabledFor(logging.INFO):
            fields = {"method": method, "model": model[:100], "version": call.version, "status": code.name}
            fields |= {"ms": round(seconds * 1000, 2), "batch": call.batch, "reason": reason[:200]}
            fields = {key: value for key, value in fields.items() if value not in (None, "")}
            logger.info("request", extra={"fields": fields})


def answers(
    method: Callable[[Any, Any, Call], Awaitable[Any]],
) -> Callable[[Any, Any, grpc.aio.ServicerContext], Awaitable[Any]]:
    """Makes a gRPC method of one that takes a request and its :class:`Call`.

    A refusal becomes its gRPC status, and anything unforeseen INTERNAL: no request can end the server. The method returns the
    response as bytes: of the message, gRPC would keep a second copy until the client has read it.
    """

    @functools.wraps(method)
    async def answer(service: Service, request: Any, context: grpc.aio.ServicerContext) -> Any:
        service.begin(context)
        begin = time.monotonic()
        left = context.time_remaining()
        call = Call(float("inf") if left is None else begin + left, context.peer(), context.add_done_callback)
        code, reason = grpc.StatusCode.OK, ""
        try:
            if isinstance(request, StatusError):  # From mammogan_tf.serving.decoding.
                raise request
            return (await method(service, request, call)).SerializeToString()
        except StatusError as refusal:
            code, reason = refusal.code, str(refusal)
        except asyncio.CancelledError:  # From gRPC, when the client gives up or its deadline passes.
            late = time.monotonic() >= call.deadline
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except MemoryError:
            code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is out of memory"
        except Exception:
            logger.exception("%s failed", method.__name__)
            code, reason = grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"
        finally:
            model = getattr(getattr(request, "model_spec", None), "name", "")
            seconds = time.monotonic() - begin
            loop = asyncio.get_running_loop()
            loop.call_soon(
                service.record, method.__name__, model, call, code, reason, seconds
            )  # The answer goes first.
        del request  # gRPC keeps the exception that abort raises, whose traceback holds this frame.
        await context.abort(code, _cut(reason))

    return answer


def _cut(reason: str) -> str:
    content = reason.encode(errors="replace")
    if len(content) <= REASON_BYTES:
        return reason
    return content[:REASON_BYTES].decode(errors="ignore") + "...TRUNCATED"
