"""Answers that their clients have not read yet. They stay in memory, so they decide who gets another."""

import time

__all__ = ["Receipt", "Unread"]

CLIENT_LIMIT = 8 * 2**20
"""In bytes of messages, each of which takes twice as much, with gRPC's buffers."""

LIMIT = 48 * 2**20
"""Of all clients together."""

PATIENCE = 15.0
"""Seconds without an answer read to its end, after which nobody waits any longer: the largest needs 13 at 5 MiB/s."""


class Receipt:
    """How many bytes of an answer to a client are unread once it is there, and whether it was read before that."""

    def __init__(self, client: str) -> None:
        self.client, self.unread, self.read = client, 0, False


class Unread:
    """Counts the bytes of answers on their way, by client (a connection) and together.

    An answer is held back where it has no room beside those that its client has to read, or those of all. So a client that
    reads slowly, or not at all, keeps itself waiting, and beside its large answers there is room for small ones of others.
    """

    def __init__(self) -> None:
        self._all = _Count()
        self._of: dict[str, _Count] = {}

    @property
    def bytes(self) -> int:
        return self._all.bytes

    def add(self, receipt: Receipt, size: int) -> None:
        """An answer of ``size`` bytes is on its way."""
        if not receipt.read:  # Its client may have given up meanwhile.
            receipt.unread = size
            self._of.setdefault(receipt.client, _Count()).add(size)
            self._all.add(size)

    def remove(self, receipt: Receipt) -> None:
        """The answer was read, or never will be."""
        receipt.read, size, receipt.unread = True, receipt.unread, 0
        if size:
            of_client = self._of[receipt.client]
            of_client.remove(size)
            self._all.remove(size)
            if not of_client.bytes:
                del self._of[receipt.client]

    def held_until(self, client: str, size: int) -> float | None:
        """Till when, by ``time.monotonic``, an answer of ``size`` bytes waits for others to be read; None where it need not."""
        for count, limit in ((self._of.get(client, _Count()), CLIENT_LIMIT), (self._all, LIMIT)):
            if count.bytes + min(size, limit // 2) > limit:  # Half the room is enough for any: it may never be empty.
                return count.moved + PATIENCE
        return None


class _Count:
    """Bytes, and when some of them were last read, or began to wait for that."""

    def __init__(self) -> None:
        self.bytes, self.moved = 0, 0.0

    def add(self, size: int) -> None:
        if not self.bytes:
            self.moved = time.monotonic()
        self.bytes += size

    def remove(self, size: int) -> None:
        self.bytes, self.moved = self.bytes - size, time.monotonic()
