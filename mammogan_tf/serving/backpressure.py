"""Answers that their clients have not read yet. They stay in memory, so they decide who gets another."""

import time

__all__ = ["Receipt", "UnreadAnswers"]

SMALL = 2**20
"""Bytes up to which an answer is small: small answers have room of their own, which no large one takes."""

SMALL_LIMIT, LARGE_LIMIT, CLIENT_LIMIT = 24 * 2**20, 48 * 2**20, 16 * 2**20
"""Bytes of small answers, of large ones, and of one client's. In memory they take at least twice as much, with gRPC's buffers."""

PATIENCE = 15.0
"""Seconds without a change, after which nobody waits any longer: the largest answer needs 13 at 5 MiB/s."""


class Receipt:
    """How many bytes of an answer to a client are on their way, or will be, and whether they were read."""

    def __init__(self, client: str) -> None:
        self.client, self.bytes, self.small, self.read = client, 0, True, False


class UnreadAnswers:
    """Counts the bytes of answers on their way by client (a connection), and together.

    An answer is held back where it has no room beside those that its client has yet to read, or beside all others of its
    kind, small or large. So a client that reads slowly, or not at all, keeps itself waiting, and at most those who ask for
    large answers, too.
    """

    def __init__(self) -> None:
        self._all = {True: _Count(SMALL_LIMIT), False: _Count(LARGE_LIMIT)}
        self._of: dict[str, _Count] = {}

    @property
    def bytes(self) -> int:
        return sum(count.bytes for count in self._all.values())

    def put(self, receipt: Receipt, size: int) -> None:
        """An answer of ``size`` bytes is being computed, or on its way; in place of what was said of it before."""
        if receipt.read:  # Its client may have given up meanwhile.
            return
        self._take_back(receipt)
        receipt.bytes, receipt.small = size, size <= SMALL
        if size:
            self._of.setdefault(receipt.client, _Count(CLIENT_LIMIT)).change(size)
            self._all[receipt.small].change(size)

    def remove(self, receipt: Receipt) -> None:
        """The answer was read, or never will be."""
        self._take_back(receipt)
        receipt.read = True

    def _take_back(self, receipt: Receipt) -> None:
        if receipt.bytes:
            of_client = self._of[receipt.client]
            of_client.change(-receipt.bytes)
            self._all[receipt.small].change(-receipt.bytes)
            receipt.bytes = 0
            if not of_client.bytes:
                del self._of[receipt.client]

    def held_until(self, client: str, size: int) -> float | None:
        """Till when, by ``time.monotonic``, an answer of ``size`` bytes waits for others to be read; None where it need not."""
        for count in (self._of.get(client), self._all[size <= SMALL]):
            if count and not count.has_room(size):
                return count.changed + PATIENCE
        return None


class _Count:
    """Bytes, how many there may be, and when they last changed."""

    def __init__(self, limit: int) -> None:
        self.bytes, self.limit, self.changed = 0, limit, 0.0

    def change(self, size: int) -> None:
        self.bytes, self.changed = self.bytes + size, time.monotonic()

    def has_room(self, size: int) -> bool:
        """Half of the limit is enough for any answer: all of it may never be free."""
        return self.bytes + min(size, self.limit // 2) <= self.limit
