"""TensorFlow Serving's PredictionService and ModelService over a library of models."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from mammogan_tf.serving.servable import Refusal
from mammogan_tf.serving.versions import Library, Version

__all__ = ["ModelService", "PredictionService"]

logger = logging.getLogger(__name__)


def answers(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """Turns a refusal into its gRPC status, and anything unforeseen into INTERNAL: no request can end the server."""

    @functools.wraps(method)
    def answer(service: Any, request: Any, context: grpc.ServicerContext) -> Any:
        if not context.is_active():
            context.abort(grpc.StatusCode.CANCELLED, "the client gave up while the request waited")
        try:
            return method(service, request)
        except Refusal as refusal:
            code, message = refusal.code, str(refusal)
        except MemoryError:
            code, message = grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is out of memory"
        except Exception:
            logger.exception("%s failed", method.__name__)
            code, message = grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"
        context.abort(code, message)

    return answer


def _refuse(code: grpc.StatusCode, message: str) -> NoReturn:
    raise Refusal(code, message)


@answers
def _unimplemented(service: Any, request: Any) -> NoReturn:
    _refuse(grpc.StatusCode.UNIMPLEMENTED, f"{type(request).__name__} is not supported; use Predict")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, library: Library) -> None:
        self.library = library

    @answers
    def Predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        if not request.HasField("model_spec"):
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        with self.library.borrow(request.model_spec) as (servable, number):
            response = servable.predict(request)
        response.model_spec.version.value = number
        return response

    @answers
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        if not request.metadata_field:
            message = "GetModelMetadataRequest must specify at least one metadata_field"
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, message)
        for field in request.metadata_field:
            if field != "signature_def":
                _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.library.borrow(request.model_spec) as (servable, number):
            for name, definition in servable.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.metadata["signature_def"].Pack(signatures)
        return response

    Classify = Regress = MultiInference = _unimplemented


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, library: Library) -> None:
        self.library = library

    @answers
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        spec = request.model_spec
        if not request.HasField("model_spec"):
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        versions = self.library.versions(spec.name)
        if spec.HasField("version"):
            versions = [version for version in versions if version.number == spec.version.value]
            if not versions:
                message = f"Could not find version {spec.version.value} of model {spec.name}"
                _refuse(grpc.StatusCode.NOT_FOUND, message)
        if not versions:
            _refuse(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=map(_status, versions))

    @answers
    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "expected a model_config_list, received: another configuration")
        configs: dict[str, ModelConfig] = {}
        for config in request.config.model_config_list.config:
            _check_config(config, self.library.root)
            if config.name in configs:
                _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"Illegal to list model {config.name} multiple times")
            configs[config.name] = config
        self.library.configure(configs)
        idle = sorted(set(configs) - set(self.library.available()))
        if idle:
            _refuse(grpc.StatusCode.UNKNOWN, f"{len(idle)} servable(s) did not become available: {', '.join(idle)}")
        return model_management_pb2.ReloadConfigResponse()


def _status(version: Version) -> get_model_status_pb2.ModelVersionStatus:
    status = get_model_status_pb2.ModelVersionStatus(version=version.number, state=version.state)
    if version.error:
        status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
        status.status.error_message = version.error
    return status


def _check_config(config: ModelConfig, root: Path) -> None:
    """A client may choose among the models of the served folder, not open others: to load one is to run its graph."""
    if not config.name:
        _refuse(grpc.StatusCode.INVALID_ARGUMENT, "every model needs a name")
    if config.model_platform not in ("", "tensorflow"):
        _refuse(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{config.name}: expected platform tensorflow, received: {config.model_platform}",
        )
    inside = (root / (config.base_path or config.name)).resolve().is_relative_to(root.resolve())
    if not inside:
        _refuse(grpc.StatusCode.INVALID_ARGUMENT, f"{config.name}: expected a base_path inside the served folder")
