"""What lies in a version's folder, and how it gets there."""

import json
import stat
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from mammogan_tf.errors import ModelError
from mammogan_tf.serving.export import export_generator, export_unet

SIZE, Z_DIM = 16, 8
MODELS = ("unet", "generator", "synthesize")

FILMS = {"dtype": "float32", "shape": [None, SIZE, SIZE, 1]}
LABEL_MAP = {"dtype": "int32", "shape": [None, SIZE, SIZE]}
LABEL = {"dtype": "int32", "shape": [None]}
SEED = {"dtype": "int64", "shape": [None]}
PNG = {"dtype": "string", "shape": [None]}
NOISE = {"dtype": "float32", "shape": [None, Z_DIM]}
LESION = {"dtype": "float32", "shape": [None, 3]}
SEGMENTATION = {"probabilities": {"dtype": "float32", "shape": [None, SIZE, SIZE, 5]}, "label_map": LABEL_MAP}
SYNTHESIS = {"label_map": LABEL_MAP, "image": FILMS, "png": PNG}

CONTRACT = {
    "unet": {
        "serving_default": {"inputs": {"image": FILMS}, "outputs": SEGMENTATION},
        "segment_png": {"inputs": {"png": PNG}, "outputs": SEGMENTATION},
    },
    "generator": {
        "serving_default": {
            "inputs": {"noise": NOISE, "label_map": LABEL_MAP, "label": LABEL},
            "outputs": {"image": FILMS},
        },
        "generate_seeded": {
            "inputs": {"seed": SEED, "label_map": LABEL_MAP, "label": LABEL},
            "outputs": {"image": FILMS, "png": PNG},
        },
    },
    "synthesize": {
        "serving_default": {"inputs": {"png": PNG, "seed": SEED}, "outputs": SYNTHESIS},
        "with_lesion": {"inputs": {"png": PNG, "seed": SEED, "lesion": LESION}, "outputs": SYNTHESIS},
    },
}


@pytest.fixture(params=MODELS)
def version(request, everything):
    return everything / request.param / "1"


def test_names_and_types_are_the_contract(version):
    contract = json.loads((version / "signature.json").read_text())
    assert contract["signatures"] == CONTRACT[contract["model"]]
    assert contract["size"] == SIZE
    assert contract["view"] == "whole"
    assert contract["classes"] == ["background", "adipose", "fibroglandular", "pectoral", "lesion"]
    assert contract["labels"] == ["benign", "malignant", "normal"]


def test_the_saved_model_holds_what_signature_json_says(version):
    contract = json.loads((version / "signature.json").read_text())
    signatures = tf.saved_model.load(str(version)).signatures
    assert set(signatures) == set(contract["signatures"])
    for name, function in signatures.items():
        specs = {"inputs": function.structured_input_signature[1], "outputs": function.structured_outputs}
        for side, tensors in specs.items():
            found = {key: {"dtype": s.dtype.name, "shape": s.shape.as_list()} for key, s in tensors.items()}
            assert found == contract["signatures"][name][side]


def test_warm_up_requests_cover_every_signature_at_batch_1_and_8(version):
    records = tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records.as_numpy_iterator()]
    requests = [log.predict_log.request for log in logs]
    signatures = tf.saved_model.load(str(version)).signatures
    tried = []
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        tried += [(request.model_spec.signature_name, len(value)) for value in list(inputs.values())[:1]]
        signatures[request.model_spec.signature_name](**inputs)
    assert sorted(tried) == sorted((name, batch) for name in signatures for batch in (1, 8))
    assert {request.model_spec.name for request in requests} == {version.parent.name}


def test_weights_are_stored_once(everything, live_unet):
    names = [name for name, _ in tf.train.list_variables(str(everything / "unet" / "1" / "variables" / "variables"))]
    assert len([name for name in names if name.endswith("VARIABLE_VALUE")]) == len(live_unet.weights)


def test_runs_in_tensorflow_alone(everything):
    """Neither this project nor Keras need be importable, and no operation is one of our own."""
    code = """
import sys
sys.modules.update(dict.fromkeys(["mammogan_tf", "keras"]))
import tensorflow as tf

def blank(spec):
    png = tf.io.encode_png(tf.zeros([4, 4, 1], tf.uint8))
    return tf.fill([2, *spec.shape[1:]], png if spec.dtype == tf.string else tf.zeros([], spec.dtype))

for path in sys.argv[1:]:
    model = tf.saved_model.load(path)
    for function in model.signatures.values():
        function(**{name: blank(spec) for name, spec in function.structured_input_signature[1].items()})
        graph = function.graph.as_graph_def()
        operations = {node.op for body in [graph.node, *(f.node_def for f in graph.library.function)] for node in body}
        assert not {name for name in operations if "PyFunc" in name}, operations
    print(path)
"""
    paths = [str(everything / model / "1") for model in MODELS]
    done = subprocess.run([sys.executable, "-I", "-c", code, *paths], capture_output=True, text=True)
    assert done.stdout.splitlines() == paths, done.stderr


def test_runs_in_a_session_as_tensorflow_serving_runs_it(everything, films):
    path = str(everything / "unet" / "1")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], path)
        signature = meta.signature_def["serving_default"]
        image, answer = signature.inputs["image"].name, signature.outputs["probabilities"].name
        probabilities = session.run(answer, {image: films[..., None]})
    expected = tf.saved_model.load(path).signatures["serving_default"](image=tf.constant(films[..., None]))
    np.testing.assert_allclose(probabilities, expected["probabilities"], atol=1e-6)


def test_versions_count_up_and_leave_nothing_beside_them(tmp_path, live_unet):
    (tmp_path / "unet" / "7").mkdir(parents=True)
    (tmp_path / "unet" / "8").write_text("a file that somebody left there")
    version = export_unet(live_unet, tmp_path, card="# A card")
    assert version == tmp_path / "unet" / "9"
    assert stat.S_IMODE(version.stat().st_mode) == 0o755  # A server that runs as another user reads it.
    assert sorted(path.name for path in (tmp_path / "unet").iterdir()) == ["7", "8", "9"]
    card = (version / "MODEL_CARD.md").read_text()
    assert card.startswith("# A card\n")
    outputs = "`probabilities` float32 [B, 16, 16, 5], `label_map` int32 [B, 16, 16]"
    assert f"| `segment_png` | `png` string [B] | {outputs} |\n" in card


def test_after_the_last_number_there_is_none(tmp_path, live_unet):
    last = tmp_path / "unet" / str(2**63 - 1)
    last.mkdir(parents=True)
    with pytest.raises(ModelError, match="expected versions below 9223372036854775807, received: that one; give it"):
        export_unet(live_unet, tmp_path)
    assert list((tmp_path / "unet").iterdir()) == [last]


def test_an_export_that_fails_leaves_nothing(tmp_path, live_generator):
    with pytest.raises(ModelError, match="room for an export"):
        export_generator(live_generator, tmp_path, masks=tmp_path / "absent.npz")
    assert list((tmp_path / "generator").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="received: Not a directory"):
        export_generator(live_generator, tmp_path / "file")
