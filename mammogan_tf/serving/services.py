"""TensorFlow Serving's PredictionService and ModelService over the served models."""

import asyncio
import os
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

from mammogan_tf.serving.batching import Batcher
from mammogan_tf.serving.health import Health
from mammogan_tf.serving.prometheus import Metrics
from mammogan_tf.serving.rpc import Call, Service, answers
from mammogan_tf.serving.status_error import StatusError, invalid
from mammogan_tf.serving.versions import ModelManager, Version

__all__ = ["ModelService", "PredictionService"]


def unimplemented(name: str) -> Any:
    """A method of this name that refuses all requests."""

    async def refuse(service: Service, request: Any, call: Call) -> NoReturn:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not supported; use Predict")

    refuse.__name__ = name
    return answers(refuse)


class PredictionService(Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, manager: ModelManager, metrics: Metrics, batcher: Batcher) -> None:
        super().__init__(manager, metrics)
        self._batcher = batcher

    @answers
    async def Predict(self, request: predict_pb2.PredictRequest, call: Call) -> predict_pb2.PredictResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        with self.manager.borrow(request.model_spec) as (servable, call.version):
            job = servable.job(request, call.deadline)
            response, call.batch = await self._batcher.answer(servable, job, call.client, call.when_done)
        response.model_spec.version.value = call.version
        return response

    @answers
    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, call: Call
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.manager.borrow(request.model_spec) as (servable, call.version):
            for name, definition in servable.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = call.version
        response.metadata["signature_def"].Pack(signatures)
        return response

    Classify, Regress, MultiInference = map(unimplemented, ("Classify", "Regress", "MultiInference"))


class ModelService(Service, model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, manager: ModelManager, metrics: Metrics, health: Health) -> None:
        super().__init__(manager, metrics)
        self._health = health

    @answers
    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, call: Call
    ) -> get_model_status_pb2.GetModelStatusResponse:
        spec = request.model_spec
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        versions = self.manager.versions(spec.name)
        if spec.HasField("version"):
            versions = [version for version in versions if version.number == spec.version.value]
            if not versions:
                message = f"Could not find version {spec.version.value} of model {spec.name}"
                raise StatusError(grpc.StatusCode.NOT_FOUND, message)
        if not versions:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=map(_status, versions))

    @answers
    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, call: Call
    ) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid("expected a model_config_list, received: another configuration")
        configs: dict[str, ModelConfig] = {}
        for config in request.config.model_config_list.config:
            _check_config(config, self.manager.root)
            if config.name in configs:
                raise invalid(f"Illegal to list model {config.name} multiple times")
            configs[config.name] = config
        try:
            await asyncio.to_thread(self.manager.configure, configs)
        finally:
            await self._health.refresh()
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _status(version: Version) -> get_model_status_pb2.ModelVersionStatus:
    status = get_model_status_pb2.ModelVersionStatus(version=version.number, state=version.state)
    status.status.SetInParent()  # OK, which TensorFlow Serving says, too.
    if version.error:
        status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
        status.status.error_message = version.error
    return status


def _check_config(config: ModelConfig, root: Path) -> None:
    """A client may choose among the models of the served folder, not open others: to load one is to run its graph."""
    if not config.name:
        raise invalid("every model needs a name")
    if config.model_platform not in ("", "tensorflow"):
        raise invalid(f"{config.name}: expected platform tensorflow, received: {config.model_platform}")
    name = config.base_path or config.name
    try:
        if "\0" in name:
            raise ValueError("a zero byte")  # Python's own checks say that there is no such folder, until it is listed.
        folder = root / name
        place = os.path.normpath(folder.parent.resolve() / folder.name)  # It may itself be a link of the operator's.
        folder.is_dir()
    except (OSError, ValueError) as error:  # A name that is too long, say.
        raise invalid(
            f"{config.name[:100]!r}: expected a base_path inside the served folder, received: no path"
        ) from error
    if not Path(place).is_relative_to(root.resolve()):
        raise invalid(f"{config.name}: expected a base_path inside the served folder")
