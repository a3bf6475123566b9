"""A request that is answered with an error instead of a result."""

import grpc

__all__ = ["StatusError", "exhausted", "invalid"]


class StatusError(Exception):
    """``code`` is the gRPC status, the text its message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> StatusError:
    """A request that makes no sense."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def exhausted(message: str) -> StatusError:
    """A request for which there is no room."""
    return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
