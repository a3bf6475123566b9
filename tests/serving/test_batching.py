import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving.batching import Batcher
from mammogan_tf.serving.refusal import Refusal
from mammogan_tf.serving.servable import Job, Servable, _Signature

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
    return [asyncio.create_task(batcher.answer(recorder, job, read_at_once)) for job in jobs]


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


def test_a_pass_waits_for_company_until_it_is_full_or_the_timeout_ends():
    async def scenario(batcher, recorder):
        recorder.go.set()
        await asyncio.gather(*ask(batcher, recorder, *(job() for _ in range(4))))  # Full at once.
        begin = time.monotonic()
        await asyncio.gather(*ask(batcher, recorder, job(), job()))
        assert time.monotonic() - begin >= 0.2

    assert [len(jobs) for jobs in run(scenario, timeout=0.2).passes] == [4, 2]


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
        await batcher.answer(recorder, job(), read_at_once)
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


def test_nothing_is_computed_while_too_many_answers_are_unread(monkeypatch):
    answer = predict_pb2.PredictResponse()
    answer.model_spec.name = "unet"
    monkeypatch.setattr("mammogan_tf.serving.batching.UNREAD_LIMIT", 2 * answer.ByteSize() - 1)
    monkeypatch.setattr("mammogan_tf.serving.batching.PATIENCE", 0.2)

    class Answering(Recorder):
        def answer(self, jobs, most):
            super().answer(jobs, most)
            return [answer for _ in jobs]

    async def scenario(batcher, _):
        recorder, done = Answering(), []
        recorder.go.set()
        tasks = [asyncio.create_task(batcher.answer(recorder, job(4), done.append)) for _ in range(3)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(recorder.passes) == 2
        assert answers[2].code.name == "RESOURCE_EXHAUSTED"
        assert "too many answers wait to be read" in str(answers[2])
        waits = asyncio.create_task(batcher.answer(recorder, job(), done.append))
        monkeypatch.setattr(batcher, "_patient_until", time.monotonic() + 60)
        await asyncio.sleep(0.05)
        assert not waits.done()
        done[0](None)  # One client reads: what waits is computed at once.
        await asyncio.wait_for(waits, 1)
        for forget in done:
            forget(None)
        assert batcher.unread_bytes == 0

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


@pytest.fixture(scope="module")
def servable(exported):
    return Servable(exported / "generator" / "1")


def seeded(seed, label, size=16):
    request = predict_pb2.PredictRequest(output_filter=["image"])
    request.model_spec.signature_name = "generate_seeded"
    label_map = np.random.default_rng(abs(seed)).integers(0, 5, (1, size, size), np.int32)
    inputs = {"seed": np.int64([seed]), "label_map": label_map, "label": np.int32([label])}
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def image(answer):
    return tf.make_ndarray(answer.outputs["image"])


def test_a_seed_gives_the_same_film_whatever_shares_its_pass(servable):
    jobs = [servable.job(seeded(seed, seed % 3)) for seed in range(5)]
    together = servable.answer(jobs)
    alone = [servable.answer([job])[0] for job in jobs]
    in_parts = servable.answer(jobs, most=2)
    for one, other, part in zip(alone, together, in_parts, strict=True):
        np.testing.assert_allclose(image(one), image(other), atol=1e-5)
        np.testing.assert_allclose(image(one), image(part), atol=1e-5)


def test_an_error_stays_with_the_request_that_caused_it(servable):
    bad = {2, 5}
    jobs = [servable.job(seeded(seed, 9 if seed in bad else 0)) for seed in range(7)]
    assert len({job.kind for job in jobs}) == 1
    for seed, answer in enumerate(servable.answer(jobs)):
        if seed in bad:
            assert answer.code.name == "INVALID_ARGUMENT"
            assert "label: expected values 0-2" in str(answer)
        else:
            np.testing.assert_allclose(image(answer), image(servable.answer([jobs[seed]])[0]), atol=1e-5)


def test_a_lesion_beside_the_breast_fails_alone(everything, drawn_films):
    servable = Servable(everything / "synthesize" / "1")

    def ask(radius):
        request = predict_pb2.PredictRequest(output_filter=["label_map"])
        request.model_spec.signature_name = "with_lesion"
        inputs = {"png": [drawn_films[2]], "seed": np.int64([1]), "lesion": np.float32([[0.5, 0.25, radius]])}  # Black.
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return servable.job(request)

    *answers, refused, last = servable.answer([ask(radius) for radius in (0, 0, 0, 0.125, 0)])
    assert refused.code.name == "INVALID_ARGUMENT"
    assert str(refused) == "lesion: expected a place on the breast, received: [0.5 0.25 0.125]"
    assert not any(isinstance(answer, Refusal) for answer in [*answers, last])


def test_an_answer_over_the_limit_is_refused_after_its_first_part(servable, monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.servable.MESSAGE_LIMIT", 16 * 16 * 4)  # One film, or two PNGs.
    request = seeded(0, 0)
    for name, value in request.inputs.items():
        repeated = np.repeat(tf.make_ndarray(value), 4, axis=0)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(repeated))
    for outputs in (["image"], ["png"]):
        request.output_filter[:] = outputs
        answer = servable.answer([servable.job(request)], most=1)[0]
        assert answer.code.name == "RESOURCE_EXHAUSTED"


def test_answers_that_fit_each_for_itself_are_computed_once(servable, monkeypatch):
    monkeypatch.setattr("mammogan_tf.serving.servable.MESSAGE_LIMIT", 16 * 16 * 4)  # One film.
    passes, call = [], _Signature.call
    monkeypatch.setattr(_Signature, "call", lambda self, *inputs: (passes.append(1), call(self, *inputs))[1])
    two = seeded(3, 0)
    for name, value in two.inputs.items():
        two.inputs[name].CopyFrom(tf.make_tensor_proto(np.repeat(tf.make_ndarray(value), 2, axis=0)))
    jobs = [servable.job(request) for request in (seeded(0, 0), seeded(1, 1), two, seeded(2, 2))]
    *answers, last = servable.answer(jobs)
    assert len(passes) == 1
    assert answers.pop().code.name == "RESOURCE_EXHAUSTED"
    for job, answer in zip([*jobs[:2], jobs[3]], [*answers, last], strict=True):
        np.testing.assert_allclose(image(answer), image(servable.answer([job])[0]), atol=1e-5)


@pytest.mark.parametrize("count", [0, 4097])
def test_a_request_has_an_example_and_at_most_as_many_as_tensorflow_serving_takes(servable, count):
    request = seeded(0, 0)
    for tensor in request.inputs.values():
        tensor.tensor_shape.dim[0].size = count
    with pytest.raises(Refusal, match=f"expected 1 to 4096 examples in a request, received: {count}") as refused:
        servable.job(request)
    assert refused.value.code.name == "INVALID_ARGUMENT"
