"""A client that nobody here wrote: ovmsclient, of OpenVINO Model Server, which speaks TensorFlow Serving's API."""

import io

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.serving.server import Server

pytest.importorskip("ovmsclient", reason="needs the PyPI package ovmsclient")
from ovmsclient import make_grpc_client
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError

VERSION = 1
"""It asks for version 0, OpenVINO's name for the newest, unless told another; TensorFlow Serving knows no version 0."""


@pytest.fixture(scope="module")
def foreign(everything):
    with Server(everything, port=0, poll_seconds=3600) as server:
        yield make_grpc_client(server.address)


def test_it_sees_the_models(foreign):
    status = foreign.get_model_status("unet", VERSION)
    assert status == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    metadata = foreign.get_model_metadata("synthesize", VERSION)
    assert metadata["inputs"] == {
        "png": {"shape": [-1], "dtype": "DT_STRING"},
        "seed": {"shape": [-1], "dtype": "DT_INT64"},
    }
    assert metadata["outputs"]["image"] == {"shape": [-1, 16, 16, 1], "dtype": "DT_FLOAT"}


def test_it_segments_films(foreign, live_unet, films):
    answer = foreign.predict({"image": films[..., None]}, "unet", VERSION)
    expected = live_unet(films[..., None], training=False)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    assert answer["label_map"].dtype == np.int32


def test_it_generates_films(foreign, condition):
    _, label_maps, labels = condition
    noise = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    inputs = {"noise": noise, "label_map": label_maps.astype(np.int32), "label": labels.astype(np.int32)}
    image = foreign.predict(inputs, "generator", VERSION)
    assert image.shape == (3, 16, 16, 1)
    assert 0 <= image.min() <= image.max() <= 1


def test_it_synthesizes_films(foreign, drawn_films):
    answer = foreign.predict({"png": drawn_films, "seed": np.array([1, 2, 3])}, "synthesize", VERSION)
    for png, film in zip(answer["png"], answer["image"], strict=True):
        with Image.open(io.BytesIO(png)) as image:
            np.testing.assert_array_equal(np.asarray(image), np.rint(film[..., 0] * 255))


def test_it_understands_refusals(foreign, films):
    for model, version in (("absent", VERSION), ("unet", 0)):
        with pytest.raises(ModelNotFoundError, match="Servable not found"):
            foreign.predict({"image": films[..., None]}, model, version)
    with pytest.raises(InvalidInputError, match="expected shape"):
        foreign.predict({"image": films}, "unet", VERSION)
