"""The deployment files and the examples of their README, run against the embedded server."""

import contextlib
import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, text_format
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mammogan_tf import __version__
from mammogan_tf.errors import ServingError
from mammogan_tf.serving.predict_requests import MODELS
from mammogan_tf.serving.server import Server
from mammogan_tf_cli.serving import serve

FOLDER = Path(__file__).parents[2] / "serving"
README = (FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def address(everything):
    with Server(everything, port=0, poll_seconds=3600) as server:
        yield server.address


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["tensorflow-serving"]


@pytest.fixture(scope="module")
def manifests():
    """Every object below kubernetes/, by kind and name."""
    files = sorted((FOLDER / "kubernetes").glob("*.yaml"))
    objects = [item for file in files for item in yaml.safe_load_all(file.read_text())]
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


def container(manifests, name):
    return manifests["Deployment", name]["spec"]["template"]["spec"]["containers"][0]


def test_the_configuration_names_the_models_of_the_contract():
    config = text_format.Parse((FOLDER / "models.config").read_text(), ModelServerConfig())
    models = {model.name: model.base_path for model in config.model_config_list.config}
    assert models == {model: f"/models/{model}" for model in MODELS}


def test_compose_mounts_what_its_flags_name(compose):
    mounts = dict(volume.split(":")[1::-1] for volume in compose["volumes"])
    assert (FOLDER / mounts["/models"]).resolve() == FOLDER.parent / "saved_models"
    for flag in compose["command"]:
        if "=/config/" in flag:
            assert (FOLDER / mounts["/config"] / Path(flag.split("=/config/")[1])).is_file()
    assert all(port.startswith("127.0.0.1:") for port in compose["ports"])


def test_one_version_of_tensorflow_serving_is_pinned_everywhere(compose, manifests):
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", compose["image"])
    files = [*FOLDER.rglob("*.yaml"), FOLDER / "README.md", FOLDER / "Dockerfile"]
    named = {name for file in files for name in re.findall(r"tensorflow/serving:[\w.]+", file.read_text())}
    assert named == {compose["image"]}
    version = f"mammogan-tf:{__version__}"
    assert container(manifests, "mammogan-embedded")["image"] == version
    assert f"-t {version} ." in (FOLDER / "Dockerfile").read_text()


def test_kubernetes_runs_tensorflow_serving_as_compose_does(compose, manifests):
    serving = container(manifests, "mammogan-serving")
    assert set(compose["command"]) <= set(serving["args"])
    assert serving["image"] == compose["image"]
    ports = {port["containerPort"] for port in serving["ports"]}
    assert ports == {int(port.split(":")[-1]) for port in compose["ports"]}
    assert {f"--port={port}" for port in ports} & set(serving["args"])
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    generated = kustomization["configMapGenerator"][0]
    volumes = manifests["Deployment", "mammogan-serving"]["spec"]["template"]["spec"]["volumes"]
    assert generated["name"] in {volume.get("configMap", {}).get("name") for volume in volumes}
    wanted = {Path(flag.split("=/config/")[1]).name for flag in serving["args"] if "=/config/" in flag}
    assert set(generated["files"]) == wanted
    assert all((FOLDER / file).is_file() for file in [*generated["files"], *kustomization["resources"]])


@pytest.mark.parametrize("name", ["mammogan-serving", "mammogan-embedded"])
def test_services_probes_and_limits_fit_their_deployment(manifests, name):
    deployment, server = manifests["Deployment", name], container(manifests, name)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    service = manifests["Service", name]["spec"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["selector"] == labels
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert all(ports[port["targetPort"]] == port["port"] for port in service["ports"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        how = next(server[probe][kind] for kind in ("grpc", "httpGet", "tcpSocket") if kind in server[probe])
        assert how["port"] in {*ports, *ports.values()}
    assert set(server["resources"]) == {"requests", "limits"}
    claims = {"mammogan-models"}
    mounted = deployment["spec"]["template"]["spec"]["volumes"]
    assert {v["persistentVolumeClaim"]["claimName"] for v in mounted if "persistentVolumeClaim" in v} == claims
    assert claims == {claim for kind, claim in manifests if kind == "PersistentVolumeClaim"}


def test_a_pod_is_ready_whichever_models_are_taken_out(manifests):
    server = container(manifests, "mammogan-serving")
    asked = str([server[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe")])
    assert not [model for model in MODELS if model in asked]


def test_the_image_is_built_from_the_package_alone():
    patterns = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert patterns[0] == "*", "films, runs and the repository stay out"
    kept = {pattern[1:] for pattern in patterns if pattern[0] == "!"}
    assert kept == {"LICENSE", "README.md", "cli", "mammogan_tf", "pyproject.toml", "setup.cfg"}
    assert all((FOLDER.parent / name).exists() for name in kept)


def test_the_embedded_server_takes_the_flags_of_its_image():
    command = json.loads(re.search(r"^ENTRYPOINT (.*)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)[1])
    context = serve.make_context(" ".join(command[:2]), command[2:])
    assert context.params["host"] == "0.0.0.0"
    assert (context.params["port"], context.params["metrics_port"]) == (8500, 9100)


def test_the_autoscaler_scales_the_deployment(manifests):
    scaler = manifests["HorizontalPodAutoscaler", "mammogan-serving"]["spec"]
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) in manifests
    assert 1 < scaler["minReplicas"] < scaler["maxReplicas"]
    assert "replicas" not in manifests["Deployment", "mammogan-serving"]["spec"], "it would undo the scaling"


def test_envoy_leads_to_the_service(manifests):
    envoy = yaml.safe_load((FOLDER / "envoy.yaml").read_text())["static_resources"]
    cluster = envoy["clusters"][0]
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    service = manifests["Service", address["address"]]
    assert address["port_value"] in {port["port"] for port in service["spec"]["ports"]}
    route = envoy["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    assert route["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == cluster["name"]


@pytest.mark.parametrize("ask", ["segment", "generate", "synthesize"])
def test_the_load_test_measures(address, ask):
    command = [sys.executable, str(FOLDER / "load_test.py"), "--server", address, "--ask", ask, "--size", "16"]
    if ask != "segment":
        load_test = runpy.run_path(str(FOLDER / "load_test.py"))
        figures = load_test["measure"](address, ask, size=16, clients=2, batch=2, seconds=0.5)
    else:
        done = subprocess.run([*command, "--seconds", "2"], capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout)
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["requests"] > 0
    assert figures["films_per_second"] == pytest.approx(
        figures["requests_per_second"] * (1 if ask == "segment" else 2), rel=0.1
    )


def test_the_load_test_says_in_a_line_that_nothing_answers():
    command = [sys.executable, str(FOLDER / "load_test.py"), "--server", "127.0.0.1:9", "--size", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("127.0.0.1:9: expected a model server, received: no connection")
    assert "Traceback" not in done.stderr


def test_a_load_test_of_no_requests_is_one_line(address):
    measure = runpy.run_path(str(FOLDER / "load_test.py"))["measure"]
    with pytest.raises(ServingError, match="load test: expected answers, received: none"):
        measure(address, "segment", size=16, clients=0, batch=1, seconds=1)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_examples_run(address, drawn_films, tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    Path("film.png").write_bytes(drawn_films[0])
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code.replace("127.0.0.1:8500", address).replace("64, 64)", "16, 16)"), {})
    assert re.search(r"\(2, 16, 16\)|bytes of PNG", output.getvalue())


def test_the_example_of_the_foreign_client_runs(address, drawn_films, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ovmsclient", reason="needs the PyPI package ovmsclient")
    monkeypatch.chdir(tmp_path)
    Path("film.png").write_bytes(drawn_films[0])
    exec(blocks("py")[0].replace("127.0.0.1:8500", address), {})
    assert capsys.readouterr().out == "(1, 16, 16, 1)\n"


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


def test_the_grpcurl_request_labels_a_version(everything):
    (text,) = [block.split("\n", 2)[2].split("\nJSON")[0] for block in blocks("sh") if "version_labels" in block]
    reload = json.loads(text.replace("$PWD/saved_models", str(everything)))
    with Server(everything, port=0) as server, grpc.insecure_channel(server.address) as channel:
        message = json_format.ParseDict(reload, model_management_pb2.ReloadConfigRequest())
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(message)
        labelled = predict_pb2.PredictRequest()
        labelled.model_spec.name, labelled.model_spec.version_label = "unet", "stable"
        labelled.inputs["image"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 16, 16, 1), np.float32)))
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(labelled)
    assert answer.model_spec.version.value == 1


@pytest.mark.parametrize("model", ["unet", "generator", "synthesize"])
def test_the_grpcurl_requests_are_answered(address, model):
    # A 1 x 1 PNG stands in for the film.
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    encode = r"$(base64 < film.png | tr -d '\n')"
    texts = [block.split("\n", 2)[2].split("\nJSON")[0] for block in blocks("sh") if "<<JSON" in block]
    requests = [json.loads(text.replace(encode, png).replace("64}", "16}")) for text in texts if "model_spec" in text]
    request = next(request for request in requests if request["model_spec"]["name"] == model)
    message = json_format.ParseDict(request, predict_pb2.PredictRequest())
    with grpc.insecure_channel(address) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(message)
    assert set(response.outputs) == set(request["output_filter"])
