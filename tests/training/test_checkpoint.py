import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.errors import ModelError
from mammogan_tf.training.checkpoint import Checkpoints, load_network


def variables(*values):
    return [tf.Variable(value) for value in values]


def test_keras_and_tensorflow_variables_come_back(tmp_path):
    saved = [keras.Variable([1.0, 2.0]), keras.Variable(7, dtype="int64"), *variables(np.float64(1 / 3))]
    Checkpoints(tmp_path, saved).save(5)
    fresh = [keras.Variable([0.0, 0.0]), keras.Variable(0, dtype="int64"), *variables(np.float64(0))]
    assert Checkpoints(tmp_path, fresh).restore()
    assert [np.asarray(variable).tolist() for variable in fresh] == [[1, 2], 7, 1 / 3]


def test_there_is_none(tmp_path):
    value = variables(3.0)
    assert not Checkpoints(tmp_path / "nowhere", value).restore()
    assert float(value[0]) == 3


def test_the_newest_few_stay(tmp_path):
    (value,) = variables(0)
    for step in (10, 20, 30, 40):
        value.assign(step)
        # Each time as after a resumption.
        Checkpoints(tmp_path, [value], keep=2).save(step)
    assert sorted(path.stem for path in tmp_path.glob("*.index")) == ["step-30", "step-40"]
    assert Checkpoints(tmp_path, [value]).restore()
    assert int(value) == 40


def test_a_checkpoint_is_never_written_over(tmp_path):
    (value,) = variables(1.0)
    checkpoints = Checkpoints(tmp_path, [value])
    checkpoints.save(10)
    value.assign(2.0)
    checkpoints.save(10)
    checkpoints.restore()
    assert float(value) == 1


def test_a_write_that_broke_off_is_not_seen(tmp_path):
    (value,) = variables(1.0)
    checkpoints = Checkpoints(tmp_path, [value])
    checkpoints.save(10)
    for part in tmp_path.glob("step-10.*"):
        (tmp_path / part.name.replace("10", "20")).write_bytes(part.read_bytes()[:7])
    value.assign(0)
    assert Checkpoints(tmp_path, [value]).restore()
    assert float(value) == 1


def cut(folder):
    for part in folder.glob("step-10.data*"):
        part.write_bytes(part.read_bytes()[:3])


@pytest.mark.parametrize(
    ("harm", "fresh"),
    [
        (cut, variables([1.0, 2.0])),
        (lambda folder: None, variables([1.0, 2.0, 3.0])),
        (lambda folder: None, variables([1.0, 2.0], 1.0)),
    ],
    ids=["broken", "of another shape", "of fewer variables"],
)
def test_what_cannot_be_restored(tmp_path, harm, fresh):
    Checkpoints(tmp_path, variables([1.0, 2.0])).save(10)
    harm(tmp_path)
    with pytest.raises(ModelError, match=r"step-10: expected a checkpoint of this run, received: .*; start") as caught:
        Checkpoints(tmp_path, fresh).restore()
    assert "\n" not in str(caught.value)


def test_no_room(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"checkpoints: expected room for a checkpoint, received: .*; free") as caught:
        Checkpoints(tmp_path / "checkpoints", variables(1.0)).save(1)
    assert "\n" not in str(caught.value)


def test_a_network_is_loaded_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(8, 3), keras.layers.Conv2D(1, 1)])
    keras.config.set_dtype_policy("float32")
    network.save(tmp_path / "model.keras")
    loaded = load_network(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    assert network(images).dtype == tf.bfloat16
    exact = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(8, 3), keras.layers.Conv2D(1, 1)])
    exact.set_weights(network.get_weights())
    output = loaded(images)
    assert output.dtype == tf.float32
    np.testing.assert_array_equal(output, exact(images))


@pytest.mark.parametrize(("content", "received"), [(None, "nothing there"), (b"no network", "a broken file")])
def test_no_network(tmp_path, content, received):
    if content:
        (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\.keras: expected a trained network, received: {received}"):
        load_network(tmp_path / "model.keras")
