"""What became of the versions of a model."""

from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from mammogan_tf.serving.versions import ModelManager

__all__ = ["AVAILABLE", "END", "UNLOADING", "states"]

AVAILABLE, UNLOADING, END = ModelVersionStatus.AVAILABLE, ModelVersionStatus.UNLOADING, ModelVersionStatus.END


def states(manager: ModelManager) -> dict[int, int]:
    return {version.number: version.state for version in manager.versions("unet")}
