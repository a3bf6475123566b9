"""Requests of many clients in one forward pass.

While a pass of a model runs, the requests that arrive for it gather and share the next one: a lone client never waits,
and batches grow with the load. A timeout makes a pass wait for company instead, as in TensorFlow Serving's scheduler.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from contextlib import suppress

import grpc
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving.refusal import Refusal, exhausted
from mammogan_tf.serving.servable import Job, Servable
from mammogan_tf.serving.tensors import MESSAGE_LIMIT

__all__ = ["Batcher"]

Answer = tuple[predict_pb2.PredictResponse | Refusal, int]


class Batcher:
    """Runs jobs on ``executor``, those of one servable and kind together, one pass at a time.

    ``max_batch_size`` counts the examples of a pass; ``timeout`` is how many seconds a pass may wait to fill up;
    ``max_queue`` is how many requests may wait; ``observe`` is told the model and examples of every pass. All methods
    belong to the event loop's thread.
    """

    def __init__(
        self,
        executor: Executor,
        max_batch_size: int,
        timeout: float,
        max_queue: int,
        observe: Callable[[str, int], None] = lambda model, examples: None,
    ) -> None:
        self._executor, self._observe = executor, observe
        self._max_batch_size, self._timeout, self._max_queue = max_batch_size, timeout, max_queue
        self._queues: dict[tuple[Servable, Hashable], _Queue] = {}
        self.waiting = self._waiting_bytes = 0

    @property
    def busy(self) -> bool:
        return bool(self._queues)

    async def answer(self, servable: Servable, job: Job) -> tuple[predict_pb2.PredictResponse, int]:
        """The response to a job, which lacks only the version, and the number of examples in its pass.

        Raises:
            Refusal: RESOURCE_EXHAUSTED when too many wait already, DEADLINE_EXCEEDED when the deadline passed before
                the job's turn, or what the servable says.
        """
        entry = self._enter(servable, job)
        try:
            response, examples = await entry.answer
        except asyncio.CancelledError:
            job.abandoned = True
            raise
        if isinstance(response, Refusal):
            raise response
        return response, examples

    def _enter(self, servable: Servable, job: Job) -> "_Entry":
        entry = _Entry(job)
        if self.waiting >= self._max_queue or (self.waiting and self._waiting_bytes + entry.size > 2 * MESSAGE_LIMIT):
            raise exhausted(f"{self.waiting} requests wait already; try again later")
        self.waiting += 1
        self._waiting_bytes += entry.size
        key = (servable, job.kind)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
            queue.runner = asyncio.create_task(self._run(key, queue))
        queue.entries.append(entry)
        if queue.examples >= self._max_batch_size:
            queue.full.set()
        return entry

    async def _run(self, key: tuple[Servable, Hashable], queue: "_Queue") -> None:
        while queue.entries:
            await self._fill(queue)
            if batch := self._take(queue):
                await self._pass(key[0], batch)
        del self._queues[key]

    async def _fill(self, queue: "_Queue") -> None:
        """Gives others until the timeout of the first in the queue to join it."""
        seconds = queue.entries[0].arrived + self._timeout - time.monotonic()
        if seconds > 0 and queue.examples < self._max_batch_size:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(queue.full.wait(), seconds)
        queue.full.clear()

    async def _pass(self, servable: Servable, batch: "list[_Entry]") -> None:
        jobs = [entry.job for entry in batch]
        examples = sum(job.examples or 1 for job in jobs)
        self._observe(jobs[0].request.model_spec.name, examples)
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._executor, servable.answer, jobs, self._max_batch_size)
        except Exception as error:
            for entry in batch:
                entry.fail(error)
        else:
            for entry, answer in zip(batch, answers, strict=True):
                entry.succeed((answer, examples))

    def _take(self, queue: "_Queue") -> "list[_Entry]":
        """The next entries that fit into one pass, at least one; those that nobody waits for are dropped."""
        batch: list[_Entry] = []
        room: float = self._max_batch_size
        while queue.entries and (not batch or queue.entries[0].examples <= room):
            entry = queue.entries.popleft()
            self.waiting -= 1
            self._waiting_bytes -= entry.size
            if not entry.job.wanted:
                entry.succeed((Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), 0))
                continue
            batch.append(entry)
            room -= entry.examples
        return batch


class _Entry:
    """A job that waits or runs, and its answer to be."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.arrived = time.monotonic()
        self.size = job.request.ByteSize()
        self.examples = float("inf") if job.examples is None else job.examples  # A job without a batch runs alone.
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def succeed(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Queue:
    """Entries of one servable and kind; ``full`` once they fill a pass."""

    def __init__(self) -> None:
        self.entries: deque[_Entry] = deque()
        self.full = asyncio.Event()
        self.runner: asyncio.Task | None = None

    @property
    def examples(self) -> float:
        return sum(entry.examples for entry in self.entries)
