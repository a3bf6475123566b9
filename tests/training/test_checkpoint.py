import io
import re
import shutil
import subprocess
import sys
from zipfile import ZipFile

import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.console import Console
from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.training.checkpoint import Checkpoints, load_network, newest_checkpoint
from tests.command_line import little_room


def variables(*values):
    return [tf.Variable(value) for value in values]


CONFIG = {"gp": 10.0, "widths": (4, 8), "data": {"size": 16}}


def checkpoints(folder, *values, config=CONFIG, **options):
    return Checkpoints(folder, values, config, **options)


def test_keras_and_tensorflow_variables_come_back(tmp_path):
    saved = [keras.Variable([1.0, 2.0]), keras.Variable(7, dtype="int64"), *variables(np.float64(1 / 3))]
    checkpoints(tmp_path, *saved).save(5)
    fresh = [keras.Variable([0.0, 0.0]), keras.Variable(0, dtype="int64"), *variables(np.float64(0))]
    assert checkpoints(tmp_path, *fresh).restore()
    assert [np.asarray(variable).tolist() for variable in fresh] == [[1, 2], 7, 1 / 3]


@pytest.mark.parametrize("name", ["run [1]", "run\\1"])
def test_a_path_that_tensorflow_takes_for_a_pattern(tmp_path, name):
    (value,) = variables(1.0)
    checkpoints(tmp_path / name, value).save(5)
    value.assign(0.0)
    assert checkpoints(tmp_path / name, value).restore()
    assert float(value) == 1


def test_there_is_none(tmp_path):
    value = variables(3.0)
    assert not checkpoints(tmp_path / "nowhere", *value).restore()
    with pytest.raises(ModelError, match="nowhere: expected the checkpoints of this finished run, received: none"):
        checkpoints(tmp_path / "nowhere", *value).restore(finished=True)
    assert float(value[0]) == 3
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_few_stay(tmp_path, keep):
    (value,) = variables(0)
    for step in (90, 100, 110, 120):
        value.assign(step)
        # Each time as after a resumption.
        checkpoints(tmp_path, value, keep=keep).save(step)
    assert {path.name for path in tmp_path.iterdir()} == {f"step-{step}" for step in (100, 110, 120)[-keep:]}
    assert checkpoints(tmp_path, value).restore()
    assert int(value) == 120


def test_a_copy_beside_the_checkpoints_is_none_of_them_and_stays(tmp_path):
    (value,) = variables(1.0)
    checkpoints(tmp_path, value).save(8)
    shutil.copytree(tmp_path / "step-8", tmp_path / "step-8-backup")
    value.assign(0.0)
    states = checkpoints(tmp_path, value, keep=1)
    assert states.restore()
    assert float(value) == 1
    states.save(9)
    assert {path.name for path in tmp_path.iterdir()} == {"step-8-backup", "step-9"}


@pytest.mark.parametrize("config", ["[]", "null", "3", '{"gp": 1'])
def test_hyper_parameters_that_are_none_are_a_broken_checkpoint(tmp_path, config):
    (value,) = variables(1.0)
    states = checkpoints(tmp_path, value)
    states.save(1)
    value.assign(2.0)
    states.save(2)
    (tmp_path / "step-2" / "config.json").write_text(config)
    assert checkpoints(tmp_path, value).restore()
    assert float(value) == 1


def test_a_checkpoint_is_never_written_over(tmp_path):
    (value,) = variables(1.0)
    states = checkpoints(tmp_path, value)
    states.save(10)
    value.assign(2.0)
    states.save(10)
    states = checkpoints(tmp_path, value)
    states.restore()
    assert float(value) == 1
    value.assign(3.0)
    states.save(10)
    states.restore()
    assert float(value) == 1


def test_a_write_that_broke_off_is_not_seen_and_not_kept(tmp_path):
    (value,) = variables(1.0)
    checkpoints(tmp_path, value).save(10)
    shutil.copytree(tmp_path / "step-10", tmp_path / ".step-20-xyz")
    value.assign(0)
    states = checkpoints(tmp_path, value)
    assert states.restore()
    assert float(value) == 1
    states.save(20)
    assert {path.name for path in tmp_path.iterdir()} == {"step-10", "step-20"}


def cut(folder):
    (data,) = folder.glob("state.data*")
    data.write_bytes(data.read_bytes()[:3])


def flip_a_bit(folder):
    (data,) = folder.glob("state.data*")
    content = bytearray(data.read_bytes())
    content[1] ^= 4
    data.write_bytes(content)


def empty(folder):
    for file in folder.iterdir():
        file.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip_a_bit, empty, lambda folder: (folder / "state.index").unlink()])
def test_a_broken_one_is_passed_over_and_replaced(tmp_path, harm):
    value, other = variables(1.0, [1.0, 2.0])
    states = checkpoints(tmp_path, value, other)
    for step in (10, 20):
        value.assign(step)
        states.save(step)
    harm(tmp_path / "step-20")
    value.assign(0)
    heard = io.StringIO()
    states = checkpoints(tmp_path, value, other, console=Console(heard))
    assert states.restore()
    assert float(value) == 10
    assert re.fullmatch(rf"{tmp_path}/step-20 is broken \(.*\): going on from step-10\n", heard.getvalue())
    value.assign(21)
    states.save(20)
    assert checkpoints(tmp_path, value, other).restore()
    assert float(value) == 21


def test_a_broken_one_is_not_kept_in_place_of_what_comes_after_it(tmp_path):
    (value,) = variables(1.0)
    for step in (10, 20):
        checkpoints(tmp_path, value).save(step)
    empty(tmp_path / "step-20")
    states = checkpoints(tmp_path, value, keep=1)
    states.restore()
    value.assign(15)
    states.save(15)
    assert [path.name for path in tmp_path.iterdir()] == ["step-15"]


@pytest.mark.parametrize(
    ("harm", "fresh"),
    [
        (cut, variables([1.0, 2.0])),
        (lambda folder: None, variables([1.0, 2.0, 3.0])),
        (lambda folder: None, variables([1.0, 2.0], 1.0)),
        (lambda folder: None, variables()),
    ],
    ids=["broken", "of another shape", "of fewer variables", "of more variables"],
)
def test_what_cannot_be_restored(tmp_path, harm, fresh):
    checkpoints(tmp_path, *variables([1.0, 2.0])).save(10)
    harm(tmp_path / "step-10")
    with pytest.raises(ModelError, match=r"step-10: expected a checkpoint of this run, received: .*; start") as caught:
        checkpoints(tmp_path, *fresh).restore()
    assert "\n" not in str(caught.value)


def test_changed_hyper_parameters_are_named(tmp_path):
    checkpoints(tmp_path, *variables(1.0)).save(10)
    changed = {"gp": 5.0, "widths": [4, 8], "data": {"size": 32}}
    with pytest.raises(ConfigError, match=r"began with, gp 10\.0, size 16, received: gp 5\.0, size 32; put them back"):
        checkpoints(tmp_path, *variables(1.0), config=changed).restore()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("emphasis", "began with, emphasis None, received: emphasis new; put them back"),
        ("policy", "received: policy new; go on where the device is like the first"),
    ],
)
def test_a_setting_that_the_run_did_not_begin_with(tmp_path, name, says):
    checkpoints(tmp_path, *variables(1.0)).save(10)
    with pytest.raises(ConfigError, match=says):
        checkpoints(tmp_path, *variables(1.0), config={**CONFIG, name: "new"}).restore()


def test_a_setting_that_the_run_began_with_and_has_no_more(tmp_path):
    checkpoints(tmp_path, *variables(1.0), config={**CONFIG, "emphasis": "old"}).save(10)
    with pytest.raises(ConfigError, match="began with, emphasis old, received: emphasis None; put them back"):
        checkpoints(tmp_path, *variables(1.0)).restore()


def test_a_full_disk_leaves_the_checkpoints_as_they_were(tmp_path):
    states = checkpoints(tmp_path, *variables(np.zeros(1000)))
    states.save(10)
    with little_room(4000), pytest.raises(ModelError, match=r"expected room for a checkpoint, received: .*; free"):
        states.save(20)
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]


def test_a_worker_that_is_gone_is_no_full_disk(tmp_path, monkeypatch):
    def lose(self, path):
        raise tf.errors.UnavailableError(None, None, "Connection reset by peer")

    monkeypatch.setattr(tf.train.Checkpoint, "write", lose)
    with pytest.raises(tf.errors.UnavailableError):
        checkpoints(tmp_path, *variables(1.0)).save(10)
    assert not list(tmp_path.iterdir())


def test_no_room(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"checkpoints: expected room for a checkpoint, received: .*; free") as caught:
        checkpoints(tmp_path / "checkpoints", *variables(1.0)).save(1)
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_not_the_chief_writes_elsewhere(tmp_path):
    (value,) = variables(1.0)
    checkpoints(tmp_path / "run", value).save(10)
    states = checkpoints(tmp_path / "run", value, write_directory=tmp_path / "own")
    assert states.restore()
    states.save(20)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-10"]
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["step-20"]


def test_a_worker_that_is_not_the_chief_clears_up_after_itself_alone(tmp_path):
    (value,) = variables(1.0)
    checkpoints(tmp_path / "run", value).save(30)
    states = checkpoints(tmp_path / "run", value, keep=1, write_directory=tmp_path / "own")
    for step in (10, 20):
        states.save(step)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-30"]
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["step-20"]


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


def test_a_trained_network_is_loaded_where_nothing_else_is_imported(unet_run):
    code = "import sys; from pathlib import Path; from mammogan_tf.training.checkpoint import load_network as load"
    code += "; print(load(Path(sys.argv[1])).input_shape)"
    ended = subprocess.run([sys.executable, "-c", code, unet_run / "model.keras"], capture_output=True, text=True)
    assert ended.stdout.strip() == "(None, 16, 16, 1)"


@pytest.mark.parametrize(("content", "received"), [(None, "nothing there"), (b"no network", "a broken file")])
def test_no_network(tmp_path, content, received):
    if content:
        (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\.keras: expected a trained network, received: {received}"):
        load_network(tmp_path / "model.keras")


def test_a_network_of_which_a_bit_has_changed(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(8, 3)]).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.keras: expected a trained network, received: a broken file"):
        load_network(path)


@pytest.mark.parametrize("config", [None, "[]"])
def test_a_network_of_which_the_config_is_missing_or_none(tmp_path, config):
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(8, 3)])
    network.save(tmp_path / "whole.keras")
    with ZipFile(tmp_path / "whole.keras") as whole, ZipFile(tmp_path / "model.keras", "w") as harmed:
        for name in whole.namelist():
            if name != "config.json":
                harmed.writestr(name, whole.read(name))
        if config:
            harmed.writestr("config.json", config)
    with pytest.raises(ModelError, match=r"model\.keras: expected a trained network, received: a broken file"):
        load_network(tmp_path / "model.keras")
