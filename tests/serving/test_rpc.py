"""What becomes of a request that ends in no answer of a model."""

import asyncio

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from mammogan_tf.serving.prometheus import Metrics
from mammogan_tf.serving.rpc import Service, answers
from mammogan_tf.serving.servable import Servable
from mammogan_tf.serving.server import Server
from mammogan_tf.serving.versions import ModelManager


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported, port=0, poll_seconds=3600) as server:
        yield server


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (MemoryError(), "RESOURCE_EXHAUSTED", "the server is out of memory"),
        (ZeroDivisionError("of our own"), "INTERNAL", "internal error; the server's log has the details"),
    ],
    ids=["out of memory", "of our own"],
)
def test_what_is_unforeseen_has_a_status_and_only_the_log_the_details(server, monkeypatch, caplog, error, code, reason):
    def fail(self, jobs, most):
        raise error

    monkeypatch.setattr(Servable, "answer", fail)
    request = predict_pb2.PredictRequest(model_spec={"name": "unet"})
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(0.5, tf.float32, (1, 16, 16, 1)))
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert (refused.value.code().name, refused.value.details()) == (code, reason)
    assert [record.exc_info[1] for record in caplog.records if record.message == "Predict failed"] == (
        [error] if code == "INTERNAL" else []
    )


class Context:
    """Of a request that has ``left`` seconds, or for ever."""

    def __init__(self, left):
        self.left = left

    def time_remaining(self):
        return self.left

    def peer(self):
        return "client"

    def add_done_callback(self, callback):
        pass


@pytest.mark.parametrize(("left", "status"), [(None, "CANCELLED"), (60, "CANCELLED"), (0, "DEADLINE_EXCEEDED")])
def test_a_request_that_is_broken_off_counts_as_late_past_its_deadline_alone(tmp_path, left, status):
    manager = ModelManager(tmp_path)
    service = Service(manager, Metrics(manager))

    @answers
    async def wait(service, request, call):
        await asyncio.sleep(60)

    async def break_off():
        task = asyncio.create_task(wait(service, None, Context(left)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)  # It is counted after its end.

    asyncio.run(break_off())
    labels = {"method": "wait", "model": "", "status": status}
    assert service.metrics.registry.get_sample_value("mammogan_requests_total", labels) == 1
