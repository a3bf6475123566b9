"""Requests of many clients in one forward pass.

While a pass of a model runs, the requests that arrive for it gather and share the next one: a lone client never waits,
and batches grow with the load. A timeout makes a pass wait for company instead, as in TensorFlow Serving's scheduler.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

import grpc
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving.backpressure import Receipt, UnreadAnswers
from mammogan_tf.serving.channel import MESSAGE_LIMIT
from mammogan_tf.serving.servable import Job, Servable
from mammogan_tf.serving.status_error import StatusError, exhausted

__all__ = ["Batcher"]

Answer = tuple[predict_pb2.PredictResponse | StatusError, int]

UNREAD = "too many answers wait to be read; try again later"


class Batcher:
    """Runs jobs on ``executor``, those of one servable and kind together, one pass at a time.

    What becomes of an entry (:class:`_Entry`), and which method makes the move::

        _enter --> waiting --(_start_if_due: _take, _start)--> running --(finish, in _start)--> answered
                      |                                           |
                      |--(_refuse)--> answered: a refusal         |
                      |--(answer, _leave)--> abandoned            |--(answer)--> abandoned, and the pass goes on

    ``_enter`` refuses a request that has no room before its entry waits. ``_refuse`` is for an entry whose deadline
    passed or whose answer was held back too long (``_start_if_due``), and for one that gives way
    (``_give_up_the_newest_held``). An entry is abandoned where its client gives up, which cancels ``answer``.

    A queue (:class:`_Queue`) waits for the end of its pass (``running``); else until its first entry has waited for
    ``timeout`` or a pass is full; or, where all answers are held back (``held``), for clients to read others
    (``_forget``). At each of these moves, and at its ``alarm``, ``_start_if_due`` starts a pass, sets the next alarm, or
    forgets a queue without entries.

    ``max_batch_size`` counts the examples of a pass; ``timeout`` is how many seconds a pass may wait to fill up;
    ``max_queue`` is how many requests may wait, together as large as two of the largest messages; ``observe`` is told the
    model and examples of what runs together, of its largest pass where it takes several. A request whose answer
    :class:`UnreadAnswers` holds back waits, and gives way to others where all places are taken. All methods belong to the event
    loop's thread.
    """

    def __init__(
        self,
        executor: Executor,
        max_batch_size: int,
        timeout: float,
        max_queue: int,
        observe: Callable[[str, int], None] = lambda model, examples: None,
    ) -> None:
        self._loop, self._executor, self._observe = asyncio.get_running_loop(), executor, observe
        self._max_batch_size, self._timeout, self._max_queue = max_batch_size, timeout, max_queue
        self._queues: dict[tuple[Servable, Hashable], _Queue] = {}
        self.unread = UnreadAnswers()
        self.waiting = self._waiting_bytes = 0

    @property
    def busy(self) -> bool:
        return bool(self._queues)

    async def answer(
        self, servable: Servable, job: Job, client: str, when_done: Callable[[Callable[[Any], None]], None]
    ) -> tuple[predict_pb2.PredictResponse, int]:
        """The response to a job, which lacks only the version, and the number of examples in its (largest) pass.

        The client has not read it until what ``when_done`` gets is called.

        Raises:
            StatusError: RESOURCE_EXHAUSTED when too many wait already, or too many answers stay unread, DEADLINE_EXCEEDED when
                the deadline passed before the job's turn, or what the servable says.
        """
        entry = self._enter(servable, job, client)
        # gRPC holds the done callback for the life of the call, so it must not reference the request or the response.
        receipt = entry.receipt
        when_done(lambda context: self._forget(receipt))
        try:
            response, examples = await entry.answer
        except asyncio.CancelledError:
            job.abandoned = True
            self._leave((servable, job.kind), entry)
            raise
        finally:
            del entry  # It holds the exception of a failed pass, whose traceback holds this frame.
        if isinstance(response, StatusError):
            raise StatusError(response.code, str(response))  # A fresh one: this frame holds the response.
        return response, examples

    def drain(self) -> None:
        """From now on no pass waits for company."""
        self._timeout = 0
        self._start_what_is_due()

    def _forget(self, receipt: Receipt) -> None:
        """Stops counting the answer as unread; where there is none yet, it never will be counted."""
        self.unread.remove(receipt)
        self._start_what_is_due(only_held=True)

    def _start_what_is_due(self, only_held: bool = False) -> None:
        for queue in list(self._queues.values()):
            if queue.held or not only_held:
                self._start_if_due(queue)

    def _enter(self, servable: Servable, job: Job, client: str) -> "_Entry":
        entry, key = _Entry(job, client), (servable, job.kind)
        while no_room := self._no_room(entry):
            if self._held_until(entry) is not None or not self._give_up_the_newest_held():
                raise exhausted(f"{no_room}; try again later")
        self.waiting += 1
        self._waiting_bytes += entry.size
        queue = self._queues.setdefault(key, _Queue(key))
        queue.entries.append(entry)
        self._start_if_due(queue)
        return entry

    def _no_room(self, entry: "_Entry") -> str:
        """Why the entry may not wait as well, or nothing."""
        if self.waiting >= self._max_queue:
            return f"{self.waiting} requests wait already"
        if self.waiting and self._waiting_bytes + entry.size > 2 * MESSAGE_LIMIT:
            return f"{self._waiting_bytes} bytes of requests wait already, {2 * MESSAGE_LIMIT} may"
        return ""

    def _give_up_the_newest_held(self) -> bool:
        """Refuses the request that was held back last; returns whether there is one."""
        held = [
            (entry.arrived, queue, entry)
            for queue in self._queues.values()
            for entry in queue.entries
            if self._held_until(entry) is not None
        ]
        if held:
            _, queue, entry = max(held, key=lambda each: each[0])
            self._refuse(queue, entry, exhausted(UNREAD))
            self._start_if_due(queue)
        return bool(held)

    def _refuse(self, queue: "_Queue", entry: "_Entry", refusal: StatusError) -> None:
        self._wait_no_longer(queue, entry)
        entry.succeed((refusal, 0))

    def _leave(self, key: tuple[Servable, Hashable], entry: "_Entry") -> None:
        """Makes room for others where nobody waits for an entry any more, unless its pass runs already."""
        queue = self._queues.get(key)
        if queue and entry in queue.entries:
            self._wait_no_longer(queue, entry)
            self._start_if_due(queue)

    def _wait_no_longer(self, queue: "_Queue", entry: "_Entry") -> None:
        queue.entries.remove(entry)
        self.waiting -= 1
        self._waiting_bytes -= entry.size

    def _start_if_due(self, queue: "_Queue") -> None:
        """Starts a pass, unless one runs, this one may still wait for others, or all answers are held back.

        Drops entries that nobody waits for, or that were held back for too long, and forgets a queue that is empty.
        """
        if queue.running or self._queues.get(queue.key) is not queue:
            return
        queue.silence()
        now, ready, looks = time.monotonic(), [], []
        for entry in list(queue.entries):
            held_until = self._held_until(entry)
            if not entry.job.wanted:
                self._refuse(queue, entry, StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
            elif held_until is None:
                ready.append(entry)
            elif held_until <= now:
                self._refuse(queue, entry, exhausted(UNREAD))
            else:
                looks.append(held_until)
        queue.held = not ready
        if ready:
            looks.append(ready[0].arrived + self._timeout)
        if ready and (looks[-1] <= now or sum(entry.examples for entry in ready) >= self._max_batch_size):
            self._start(queue, self._take(queue, ready))
        elif looks:
            queue.alarm = self._loop.call_later(min(looks) - now, self._start_if_due, queue)
        else:
            del self._queues[queue.key]

    def _held_until(self, entry: "_Entry") -> float | None:
        return self.unread.held_until(entry.receipt.client, entry.job.answer_bytes)

    def _take(self, queue: "_Queue", ready: "list[_Entry]") -> "list[_Entry]":
        """The first of the entries and those after it that fit into one pass, in order, with room for their answers."""
        batch: list[_Entry] = []
        room: float = self._max_batch_size
        for entry in ready:
            if batch and entry.examples > room:
                break
            if batch and self._held_until(entry) is not None:
                continue
            room -= entry.examples
            self._wait_no_longer(queue, entry)
            self.unread.put(entry.receipt, entry.job.answer_bytes)
            batch.append(entry)
        return batch

    def _start(self, queue: "_Queue", batch: "list[_Entry]") -> None:
        queue.running = True
        jobs = [entry.job for entry in batch]
        together = sum(job.examples or 1 for job in jobs)
        examples = min(together, self._max_batch_size)  # A larger request runs in several passes.
        self._observe(jobs[0].request.model_spec.name, examples)

        def finish(answers: Future) -> None:
            queue.running = False
            error = answers.exception()
            for number, entry in enumerate(batch):
                if error:
                    entry.fail(error)
                else:
                    response = answers.result()[number]
                    if not isinstance(response, StatusError):
                        self.unread.put(entry.receipt, response.ByteSize())
                    entry.succeed((response, examples))
            self._start_if_due(queue)

        def hand_back(answers: Future) -> None:
            with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                self._loop.call_soon_threadsafe(finish, answers)

        answers = self._executor.submit(queue.key[0].answer, jobs, self._max_batch_size)
        answers.add_done_callback(hand_back)


class _Entry:
    """A job that waits or runs, its answer to be, and the receipt for it."""

    def __init__(self, job: Job, client: str) -> None:
        self.job = job
        self.arrived = time.monotonic()
        self.size = job.request.ByteSize()
        self.receipt = Receipt(client)
        self.examples = float("inf") if job.examples is None else job.examples  # A job without a batch runs alone.
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def succeed(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Queue:
    """Entries of one servable and kind, and whether a pass of theirs runs, or all of them are held back."""

    def __init__(self, key: tuple[Servable, Hashable]) -> None:
        self.key = key
        self.entries: deque[_Entry] = deque()
        self.running = self.held = False
        self.alarm: asyncio.TimerHandle | None = None
        """When to look at it again, at the latest. It keeps the queue alive, and so the servable."""

    def silence(self) -> None:
        if self.alarm:
            self.alarm.cancel()
        self.alarm = None
