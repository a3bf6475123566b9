"""Requests that wait because answers are unread."""

import asyncio
import gc
import weakref

import pytest

from mammogan_tf.serving.status_error import StatusError
from tests.serving.recorder import Recorder, job, run


def unread_by(batcher, recorder, done, *clients):
    """A request of each client, none of which reads its answer before the functions that ``done`` gets are called."""
    return [
        asyncio.create_task(batcher.answer(recorder, job(answer_bytes=2), client, done.append)) for client in clients
    ]


@pytest.fixture
def one_answer_each(monkeypatch):
    """A client with an answer to read gets no other."""
    monkeypatch.setattr("mammogan_tf.serving.backpressure.CLIENT_LIMIT", 2)


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
        await asyncio.wait_for(other, 10)
        assert await is_held(first, second)
        done[0](None)  # It reads, and is given one more.
        await asyncio.wait_for(first, 10)
        assert await is_held(second)
        for forget in done:
            forget(None)
        await asyncio.wait_for(second, 10)
        done[-1](None)
        assert (batcher.unread.bytes, batcher.waiting, batcher.busy) == (0, 0, False)

    assert [len(jobs) for jobs in run(scenario).passes] == [1, 1, 1, 1]


@pytest.mark.usefixtures("one_answer_each")
def test_what_is_being_computed_counts_as_unread():
    async def scenario(batcher, recorder):
        other, done = Recorder(), []
        tasks = unread_by(batcher, recorder, done, "client") + unread_by(batcher, other, done, "client")
        while not recorder.passes:
            await asyncio.sleep(0.01)
        assert not other.passes
        for each in (recorder, other):
            each.go.set()
        await asyncio.wait_for(tasks[0], 10)
        done[0](None)
        await asyncio.wait_for(tasks[1], 10)

    run(scenario)


@pytest.mark.usefixtures("one_answer_each")
def test_a_client_that_goes_on_reading_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.backpressure.PATIENCE", 0.2)

    async def scenario(batcher, recorder):
        recorder.go.set()
        await asyncio.gather(*unread_by(batcher, recorder, [], "slow"))
        with pytest.raises(StatusError, match="too many answers wait to be read") as refused:
            await asyncio.wait_for(*unread_by(batcher, recorder, [], "slow"), 10)
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
        with pytest.raises(StatusError, match="3 requests wait already"):
            await asyncio.gather(*unread_by(batcher, recorder, [], "slow"))
        await asyncio.wait_for(*unread_by(batcher, recorder, [], "other"), 10)
        assert await is_held(*held[:2])
        with pytest.raises(StatusError, match="too many answers wait"):
            await held[2]
        for task in held[:2]:
            task.cancel()
        await asyncio.sleep(0)
        assert (batcher.waiting, batcher.busy) == (0, False), "and nothing waits for a time to look again"

    run(scenario, max_queue=3)


@pytest.mark.usefixtures("one_answer_each")
def test_who_is_held_back_is_no_company():
    """Neither does a pass start by the time that it arrived, nor is it full with it."""

    async def scenario(batcher, recorder):
        recorder.go.set()
        await batcher.answer(recorder, job(4, answer_bytes=2), "slow", [].append)
        (held,) = unread_by(batcher, recorder, [], "slow")
        await asyncio.sleep(0)
        (queue,) = batcher._queues.values()
        queue.entries[0].arrived -= 120
        others = []
        for client in "abcd":
            others += unread_by(batcher, recorder, [], client)
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*others), 10)
        held.cancel()

    assert [len(jobs) for jobs in run(scenario, timeout=60).passes] == [1, 4]


@pytest.mark.usefixtures("one_answer_each")
def test_a_queue_that_was_held_keeps_no_servable():
    """Else a version that is gone would stay in memory until it was time to look again."""

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
