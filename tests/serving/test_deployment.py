"""The deployment files and the examples of their README, run against the embedded server."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, text_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mammogan_tf.serving.server import Server

FOLDER = Path(__file__).parents[2] / "serving"
README = (FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def address(exported):
    with Server(exported, port=0, poll_seconds=3600) as server:
        yield server.address


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_configuration_names_the_models_of_the_contract():
    config = text_format.Parse((FOLDER / "models.config").read_text(), ModelServerConfig())
    models = {model.name: model.base_path for model in config.model_config_list.config}
    assert models == {"unet": "/models/unet", "generator": "/models/generator"}


def test_compose_mounts_what_its_flags_name():
    service = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["tensorflow-serving"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
    mounts = dict(volume.split(":")[1::-1] for volume in service["volumes"])
    assert (FOLDER / mounts["/models"]).resolve() == FOLDER.parent / "saved_models"
    for flag in service["command"]:
        if "=/config/" in flag:
            assert (FOLDER / mounts["/config"] / Path(flag.split("=/config/")[1])).is_file()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_examples_run(address, code):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code.replace("127.0.0.1:8500", address).replace("64, 64)", "16, 16)"), {})
    assert re.search(r"\(2, 16, 16\)|bytes of PNG", output.getvalue())


def test_the_protoset_is_complete():
    script = next(block for block in blocks("sh") if "protoset <<'PY'" in block)
    code = script.split("<<'PY'\n")[1].split("\nPY")[0]
    content = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    assert "Predict" in service.methods_by_name
    assert "HandleReloadConfigRequest" in pool.FindServiceByName("tensorflow.serving.ModelService").methods_by_name


@pytest.mark.parametrize("model", ["unet", "generator"])
def test_the_grpcurl_requests_are_answered(address, model):
    # A 1 x 1 PNG stands in for the film.
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    texts = [block.split("\n", 2)[2].split("\nJSON")[0] for block in blocks("sh") if "<<JSON" in block]
    requests = [json.loads(text.replace("$(base64 -w0 film.png)", png).replace("64}", "16}")) for text in texts]
    request = next(request for request in requests if request["model_spec"]["name"] == model)
    message = json_format.ParseDict(request, predict_pb2.PredictRequest())
    with grpc.insecure_channel(address) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(message)
    assert set(response.outputs) == set(request["output_filter"])
