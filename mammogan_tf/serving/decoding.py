"""From the bytes of a request to its message, or to the refusal of bytes that are none or that would eat the memory.

A message of 64 MiB can hold 30 million empty sub-messages, each of a hundred bytes once decoded. Honest requests pack
their values, so a large message with many fields is refused before it is decoded.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from mammogan_tf.serving.status_error import StatusError, exhausted

__all__ = ["DecodingInterceptor"]

COUNT_FROM_BYTES = 2**20
MAX_FIELDS = 2**17
MAX_NESTING = 100  # As in Protocol Buffers, which takes no more.

VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5  # Wire types; 3 and 4, groups, are in no message served here.


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Hands a method the :class:`StatusError` to answer with in place of a message that it cannot have."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        message = handler.request_deserializer.__self__  # FromString is a class method.
        ours = details.method.startswith("/tensorflow.serving.")
        return grpc.unary_unary_rpc_method_handler(
            handler.unary_unary if ours else _refusing(handler.unary_unary),
            lambda content: decode(message, content),
            None if ours else handler.response_serializer,  # mammogan_tf.serving.rpc returns bytes.
        )


def _refusing(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """A method of another's service, which would take a refusal for a message."""

    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if isinstance(request, StatusError):
            await context.abort(request.code, str(request))
        return await method(request, context)

    return answer


def decode(message: Any, content: bytes) -> Any:
    """The message, or a :class:`StatusError`: INTERNAL for other bytes, RESOURCE_EXHAUSTED for too many fields."""
    try:
        if len(content) > COUNT_FROM_BYTES and _count(content, 0, len(content), message.DESCRIPTOR, 0) > MAX_FIELDS:
            return exhausted(f"expected at most {MAX_FIELDS} fields in a large message, received: more")
        return message.FromString(content)
    except (DecodeError, IndexError):
        return StatusError(grpc.StatusCode.INTERNAL, "the message cannot be decoded")


def _count(content: bytes, position: int, end: int, descriptor: Descriptor | None, count: int, depth: int = 0) -> int:
    """Fields in ``content[position:end]`` and the messages inside, beside ``count``; ends early past the most."""
    if depth > MAX_NESTING:
        raise DecodeError("messages in messages")
    while position < end and count <= MAX_FIELDS:
        count += 1
        tag, position = _varint(content, position)
        kind = tag & 7
        if kind == DELIMITED:
            length, position = _varint(content, position)
            field = descriptor.fields_by_number.get(tag >> 3) if descriptor else None
            if field is not None and field.message_type is not None:
                count = _count(content, position, min(position + length, end), field.message_type, count, depth + 1)
            position += length
        elif kind == VARINT:
            _, position = _varint(content, position)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            position += 8 if kind == EIGHT_BYTES else 4
        else:
            raise DecodeError("a group")
    return count


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number in base 128, lowest digits first, and the position behind it (Protocol Buffers encoding)."""
    value = shift = 0
    while (byte := content[position]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift, position = shift + 7, position + 1
        if shift > 63:
            raise DecodeError("a number of more than 64 bits")
    return value | byte << shift, position + 1
