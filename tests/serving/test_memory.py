"""What a request takes is given back with its answer, and not when Python next looks for cycles, which counts no bytes."""

import gc

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from mammogan_tf.serving import servable
from mammogan_tf.serving.servable import Job
from mammogan_tf.serving.server import Server
from tests.serving.test_server import wait_until

COUNT = 8


def predict(signature: str, **inputs: object) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "unet", signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture(scope="module")
def stub(exported):
    with Server(exported, port=0) as server, grpc.insecure_channel(server.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def alive() -> int:
    """Messages and jobs in this process."""
    kinds = (predict_pb2.PredictRequest, predict_pb2.PredictResponse, Job)
    return sum(isinstance(each, kinds) for each in gc.get_objects())


def test_nor_does_one_whose_pass_fails(stub, monkeypatch):
    def fail(*arguments: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(servable._Signature, "call", fail)
    # pytest keeps what is logged, with the frames of the exception.
    monkeypatch.setattr("mammogan_tf.serving.rpc.logger.exception", lambda *arguments: None)
    request = predict("serving_default", image=np.zeros((1, 16, 16, 1), np.float32))
    require_given_back(stub, request, grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (predict("serving_default", image=np.zeros((1, 16, 16, 1), np.float32)), grpc.StatusCode.OK),
        (predict("segment_png", png=[b"none"]), grpc.StatusCode.INVALID_ARGUMENT),
        (predict("serving_default", image=np.zeros((1, 6, 6, 1), np.float32)), grpc.StatusCode.INVALID_ARGUMENT),
        (predict("absent", png=[b"none"]), grpc.StatusCode.FAILED_PRECONDITION),
    ],
    ids=["answered", "refused by the graph", "of another shape", "of no signature"],
)
def test_no_request_waits_for_the_garbage_collector(stub, request_, code):
    require_given_back(stub, request_, code)


def require_given_back(stub, request, code) -> None:
    def ask() -> grpc.StatusCode:
        try:
            return stub.Predict.with_call(request, timeout=30)[1].code()
        except grpc.RpcError as error:
            return error.code()

    assert ask() == code
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(COUNT):
            ask()
        wait_until(lambda: alive() <= before + 2, 10)
    finally:
        gc.enable()
