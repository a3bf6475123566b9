import asyncio
import time

import pytest

from mammogan_tf.serving.status_error import StatusError
from tests.serving.recorder import Recorder, job, read_at_once, run


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
    with pytest.raises(StatusError, match=f"{what} wait already.*; try again later") as refused:
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
