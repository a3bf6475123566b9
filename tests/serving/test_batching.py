import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving.batching import Batcher
from mammogan_tf.serving.refusal import Refusal
from mammogan_tf.serving.servable import Job

KIND = ("serving_default", (16, 16, 1))


def job(examples=1, kind=KIND, model="unet", **options):
    request = predict_pb2.PredictRequest(model_spec={"name": model})
    return Job(request, "serving_default", [], examples, kind, **options)


class Recorder:
    """Stands in for a servable: keeps the jobs of every pass, and holds a pass until ``go`` is set.

    Each answer names the model that was asked for.
    """

    def __init__(self):
        self.passes, self.go = [], threading.Event()

    def answer(self, jobs, most):
        self.passes.append(list(jobs))
        assert self.go.wait(10)
        return [predict_pb2.PredictResponse(model_spec=job.request.model_spec) for job in jobs]


def run(scenario, **options):
    """Runs ``scenario(batcher, recorder)`` in an event loop; returns the recorder."""
    options = {"max_batch_size": 4, "timeout": 0.0, "max_queue": 8, **options}
    recorder = Recorder()

    async def main():
        with ThreadPoolExecutor(2) as executor:
            await scenario(Batcher(executor, **options), recorder)

    asyncio.run(main())
    return recorder


def read_at_once(forget):
    forget(None)


def ask(batcher, recorder, *jobs):
    return [asyncio.create_task(batcher.answer(recorder, job, "client", read_at_once)) for job in jobs]


def test_requests_that_arrive_during_a_pass_share_the_next_one():
    async def scenario(batcher, recorder):
        tasks = ask(batcher, recorder, *(job(model=name) for name in "abcdef"))
        await asyncio.sleep(0.05)
        assert batcher.waiting == 5
        recorder.go.set()
        answers, examples = zip(*await asyncio.gather(*tasks), strict=True)
        assert [answer.model_spec.name for answer in answers] == [*"abcdef"], "each client gets the answer of its own"
        assert examples == (1, 4, 4, 4, 4, 1)
        assert not batcher.busy

    assert [len(jobs) for jobs in run(scenario).passes] == [1, 4, 1]


def test_only_one_kind_of_one_servable_shares_a_pass():
    async def scenario(batcher, recorder):
        recorder.go.set()
        other = Recorder()
        other.go.set()
        tasks = ask(batcher, recorder, job(), job(kind=("segment_png",)), job()) + ask(batcher, other, job())
        await asyncio.gather(*tasks)
        assert len(other.passes) == 1

    assert all(len({job.kind for job in jobs}) == 1 for jobs in run(scenario).passes)


def test_a_pass_waits_for_company_until_the_timeout_ends():
    async def scenario(batcher, recorder):
        recorder.go.set()
        begin = time.monotonic()
        await asyncio.gather(*ask(batcher, recorder, job(), job()))
        assert time.monotonic() - begin >= 0.2

    assert [len(jobs) for jobs in run(scenario, timeout=0.2).passes] == [2]


def test_a_full_pass_waits_for_no_company():
    async def scenario(batcher, recorder):
        recorder.go.set()
        await asyncio.wait_for(asyncio.gather(*ask(batcher, recorder, job(), job(3))), 5)

    assert [len(jobs) for jobs in run(scenario, timeout=60).passes] == [2]


def test_the_wait_for_company_counts_from_the_first_arrival():
    async def scenario(batcher, recorder):
        recorder.go.set()
        first = ask(batcher, recorder, job())
        await asyncio.sleep(0)
        (queue,) = batcher._queues.values()
        queue.entries[0].arrived -= 60
        await asyncio.wait_for(asyncio.gather(*first, *ask(batcher, recorder, job())), 5)

    assert [len(jobs) for jobs in run(scenario, timeout=60).passes] == [2]


def test_examples_count_and_a_request_over_the_size_runs_alone():
    async def scenario(batcher, recorder):
        tasks = ask(batcher, recorder, *(job(examples) for examples in (1, 3, 1, 9, 1, None, 1)))
        await asyncio.sleep(0.05)
        recorder.go.set()
        in_pass = [examples for _, examples in await asyncio.gather(*tasks)]
        assert in_pass == [1, 4, 4, 4, 1, 1, 1], "of 9 examples a pass holds 4"
        assert observed == [1, 4, 4, 1, 1, 1]

    observed = []
    recorder = run(scenario, observe=lambda model, examples: observed.append(examples))
    sizes = [[job.examples for job in jobs] for jobs in recorder.passes]
    assert sizes == [[1], [3, 1], [9], [1], [None], [1]]


async def one_more_is_refused(batcher, recorder, what):
    with pytest.raises(Refusal, match=f"{what} wait already.*; try again later") as refused:
        await batcher.answer(recorder, job(), "client", read_at_once)
    assert refused.value.code.name == "RESOURCE_EXHAUSTED"


def test_a_full_queue_refuses():
    async def scenario(batcher, recorder):
        tasks = ask(batcher, recorder, job(), job(), job())
        await asyncio.sleep(0.05)
        await one_more_is_refused(batcher, recorder, "2 requests")
        recorder.go.set()
        await asyncio.gather(*tasks)

    run(scenario, max_queue=2)


def test_messages_count_against_their_limit_only_while_they_wait(monkeypatch):
    size = job().request.ByteSize()
    monkeypatch.setattr("mammogan_tf.serving.batching.MESSAGE_LIMIT", size)  # Two of them may wait.

    async def scenario(batcher, recorder):
        for _ in range(2):
            recorder.go.clear()
            tasks = ask(batcher, recorder, job(), job(), job())
            await asyncio.sleep(0.05)
            await one_more_is_refused(batcher, recorder, f"{2 * size} bytes of requests")
            recorder.go.set()
            await asyncio.gather(*tasks)

    run(scenario)


def unread_by(batcher, recorder, done, *clients):
    """A request of each client, none of which reads its answer before the functions that ``done`` gets are called."""
    return [
        asyncio.create_task(batcher.answer(recorder, job(answer_bytes=2), client, done.append)) for client in clients
    ]


@pytest.fixture
def one_answer_each(monkeypatch):
    """A client with an answer to read gets no other."""
    monkeypatch.setattr("mammogan_tf.serving.unread.CLIENT_LIMIT", 2)


async def is_held(*tasks):
    await asyncio.sleep(0.05)
    return not any(task.done() for task in tasks)


@pytest.mark.usefixtures("one_answer_each")
def test_nothing_is_computed_for_a_client_that_does_not_read_and_others_are_served():
    async def scenario(batcher, recorder):
        recorder.go.set()
        done = []
        await asyncio.gather(*unread_by(batcher, recorder, done, "slow"))
        first, second, other = unread_by(batcher, recorder, done, "slow", "slow", "other")
        await asyncio.wait_for(other, 1)
        assert await is_held(first, second)
        done[0](None)  # It reads, and is given one more.
        await asyncio.wait_for(first, 1)
        assert await is_held(second)
        for forget in done:
            forget(None)
        await asyncio.wait_for(second, 1)
        done[-1](None)
        assert (batcher.unread.bytes, batcher.waiting, batcher.busy) == (0, 0, False)

    assert [len(jobs) for jobs in run(scenario).passes] == [1, 1, 1, 1]


@pytest.mark.usefixtures("one_answer_each")
def test_what_is_being_computed_counts_as_unread():
    async def scenario(batcher, recorder):
        other, done = Recorder(), []
        tasks = unread_by(batcher, recorder, done, "client") + unread_by(batcher, other, done, "client")
        await asyncio.sleep(0.05)
        assert (len(recorder.passes), len(other.passes)) == (1, 0)
        for each in (recorder, other):
            each.go.set()
        await asyncio.wait_for(tasks[0], 1)
        done[0](None)
        await asyncio.wait_for(tasks[1], 1)

    run(scenario)


@pytest.mark.usefixtures("one_answer_each")
def test_a_client_that_goes_on_reading_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.unread.PATIENCE", 0.2)

    async def scenario(batcher, recorder):
        recorder.go.set()
        await asyncio.gather(*unread_by(batcher, recorder, [], "slow"))
        with pytest.raises(Refusal, match="too many answers wait to be read") as refused:
            await asyncio.wait_for(*unread_by(batcher, recorder, [], "slow"), 1)
        assert refused.value.code.name == "RESOURCE_EXHAUSTED"
        assert (batcher.waiting, batcher.busy) == (0, False)

    assert len(run(scenario).passes) == 1


@pytest.mark.usefixtures("one_answer_each")
def test_requests_that_are_held_back_give_way_to_others():
    async def scenario(batcher, recorder):
        recorder.go.set()
        await asyncio.gather(*unread_by(batcher, recorder, [], "slow"))
        held = unread_by(batcher, recorder, [], *["slow"] * 3)
        assert await is_held(*held)
        with pytest.raises(Refusal, match="3 requests wait already"):
            await asyncio.gather(*unread_by(batcher, recorder, [], "slow"))
        await asyncio.wait_for(*unread_by(batcher, recorder, [], "other"), 1)
        assert await is_held(*held[:2])
        with pytest.raises(Refusal, match="too many answers wait"):
            await held[2]
        for task in held[:2]:
            task.cancel()
        await asyncio.sleep(0)
        assert (batcher.waiting, batcher.busy) == (0, False), "and nothing waits for a time to look again"

    run(scenario, max_queue=3)


@pytest.mark.usefixtures("one_answer_each")
def test_who_is_held_back_is_no_company():
    async def scenario(batcher, recorder):
        recorder.go.set()
        done = []
        (first,) = unread_by(batcher, recorder, done, "slow")
        await first
        held = unread_by(batcher, recorder, done, "slow")
        await asyncio.sleep(0.4)
        others = unread_by(batcher, recorder, done, "other", "another")
        await asyncio.sleep(0.1)
        others += unread_by(batcher, recorder, done, "last")
        await asyncio.wait_for(asyncio.gather(*others), 2)
        done[0](None)
        await asyncio.wait_for(*held, 2)

    assert [len(jobs) for jobs in run(scenario, timeout=0.3).passes] == [1, 3, 1]


def test_a_queue_that_was_held_keeps_no_servable(monkeypatch):
    """Else a version that is gone would stay in memory until it was time to look again."""
    monkeypatch.setattr("mammogan_tf.serving.unread.CLIENT_LIMIT", 2)

    async def scenario(batcher, _):
        recorder, done = Recorder(), []
        recorder.go.set()
        await asyncio.gather(*unread_by(batcher, recorder, done, "slow"))
        (held,) = unread_by(batcher, recorder, done, "slow")
        assert await is_held(held)
        done[0](None)
        await held
        alive = weakref.ref(recorder)
        del recorder, held
        await asyncio.sleep(0.05)
        assert alive() is None

    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()


def test_an_answer_whose_client_gave_up_meanwhile_is_not_unread():
    async def scenario(batcher, recorder):
        done = []
        (task,) = unread_by(batcher, recorder, done, "client")
        await asyncio.sleep(0)
        done[0](None)
        recorder.go.set()
        answer, _ = await task
        assert answer.ByteSize() > 0
        assert batcher.unread.bytes == 0

    run(scenario)


def test_a_request_that_nobody_waits_for_is_not_computed():
    async def scenario(batcher, recorder):
        late, cancelled = job(deadline=time.monotonic() + 0.02), job()
        tasks = ask(batcher, recorder, job(), late, cancelled, job())
        await asyncio.sleep(0.05)
        tasks[2].cancel()
        await asyncio.sleep(0)
        recorder.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1].code.name == "DEADLINE_EXCEEDED"
        assert isinstance(answers[2], asyncio.CancelledError)
        assert not any(late in jobs or cancelled in jobs for jobs in recorder.passes)

    assert [len(jobs) for jobs in run(scenario).passes] == [1, 1]


def test_a_request_that_nobody_waits_for_takes_no_room():
    async def scenario(batcher, recorder):
        running, *gone = ask(batcher, recorder, job(), job(), job())
        await asyncio.sleep(0.05)
        await one_more_is_refused(batcher, recorder, "2 requests")
        for task in gone:
            task.cancel()
        await asyncio.sleep(0)
        (waits,) = ask(batcher, recorder, job())
        await asyncio.sleep(0.05)
        assert batcher.waiting == 1
        assert not waits.done()
        recorder.go.set()
        await asyncio.gather(running, waits)
        assert (batcher.waiting, batcher._waiting_bytes, batcher.busy) == (0, 0, False)

    assert [len(jobs) for jobs in run(scenario, max_queue=2).passes] == [1, 1]


def test_where_all_give_up_before_their_pass_nothing_runs():
    async def scenario(batcher, recorder):
        tasks = ask(batcher, recorder, job(), job())
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        assert (batcher.waiting, batcher.busy) == (0, False)

    assert run(scenario, timeout=60).passes == []


def test_what_is_unforeseen_reaches_every_request_of_the_pass_and_the_next_pass_runs():
    class Broken(Recorder):
        def answer(self, jobs, most):
            super().answer(jobs, most)
            raise OSError("gone")

    async def scenario(batcher, recorder):
        broken = Broken()
        broken.go.set()
        failed = await asyncio.gather(*ask(batcher, broken, job(), job()), return_exceptions=True)
        assert [str(error) for error in failed] == ["gone", "gone"]
        assert not batcher.busy

    run(scenario)
