"""A batcher without a model: its requests, and what stands in for the servable."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from tensorflow_serving.apis import predict_pb2

from mammogan_tf.serving.batching import Batcher
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
