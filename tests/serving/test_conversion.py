"""What converts to TFLite; ``serving/README.md`` says what does not."""

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")


@pytest.mark.parametrize("model", ["unet", "generator"])
def test_serving_default_runs_in_tflite(everything, model, films, condition):
    path = str(everything / model / "1")
    _, label_maps, labels = condition
    noise = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    inputs = {
        "unet": {"image": films[..., None]},
        "generator": {"noise": noise, "label_map": np.int32(label_maps), "label": np.int32(labels)},
    }[model]
    converted = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=["serving_default"]).convert()
    answer = tf.lite.Interpreter(model_content=converted).get_signature_runner("serving_default")(**inputs)
    loaded = tf.saved_model.load(path)
    expected = loaded.signatures["serving_default"](**{name: tf.constant(value) for name, value in inputs.items()})
    assert set(answer) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, atol=1e-5)
