import json
import shutil
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from mammogan_tf.config import DataConfig, GANConfig, UNetConfig, preset
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.training.gan import train_gan
from mammogan_tf.training.run import Run, newest_run
from mammogan_tf.training.segmentation import train_unet

SPLIT = Split(("a", "b"), ("c",), ("d",))


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs", preset(UNetConfig, "tiny"), SPLIT, [tmp_path / "data"])


def test_what_is_created_is_opened(run, tmp_path):
    assert run.path == tmp_path / "runs" / "train-unet" / "00001"
    opened = Run.open(run.path)
    assert (opened.command, opened.config, opened.split) == ("train-unet", run.config, SPLIT)
    assert opened.data == (str((tmp_path / "data").resolve()),)
    assert opened.model_path == run.path / "model.keras"


def test_the_hyper_parameters_are_those_of_its_command(run):
    assert run.config_of(UNetConfig) is run.config
    with pytest.raises(ModelError, match="00001: expected a train-gan run, received: a train-unet run"):
        run.config_of(GANConfig)


def test_the_environment_is_written_down(run):
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["versions"].keys() >= {"tensorflow", "keras", "numpy"}
    assert environment.keys() >= {"devices", "processor", "git_commit"}
    assert environment["cores"] >= 1


def test_a_run_says_what_has_changed_since_it_began(run):
    assert run.environment_changes == []
    file = run.path / "environment.json"
    began = json.loads(file.read_text())
    file.write_text(json.dumps(began | {"processor": "Z80", "versions": began["versions"] | {"keras": "1.0"}}))
    now = began["processor"], began["versions"]["keras"]
    assert run.environment_changes == [f"processor Z80, now {now[0]}", f"keras 1.0, now {now[1]}"]
    began.pop("processor")
    for nothing_known in ("{", "{}", json.dumps(began)):
        file.write_text(nothing_known)
        assert run.environment_changes == []


def test_numbers_go_up_and_are_never_used_again(tmp_path):
    configs = (preset(GANConfig, "tiny"), preset(GANConfig, "tiny"), preset(UNetConfig, "tiny"))
    runs = [Run.create(tmp_path, config, SPLIT, [tmp_path]) for config in configs]
    assert [str(run.path.relative_to(tmp_path)) for run in runs] == [
        "train-gan/00001",
        "train-gan/00002",
        "train-unet/00001",
    ]
    (tmp_path / "train-gan" / "00041").mkdir()
    (tmp_path / "train-gan" / "notes").mkdir()
    assert Run.create(tmp_path, configs[0], SPLIT, [tmp_path]).path.name == "00042"


def test_a_run_is_finished_once_its_model_is_there(run):
    assert not run.finished
    run.model_path.touch()
    assert run.finished


def test_a_run_is_none_before_its_files_are_there(tmp_path):
    def create(name):
        return Run.create(tmp_path, preset(UNetConfig, "tiny"), SPLIT, [tmp_path], {"copy.txt": tmp_path / name})

    with pytest.raises(FileNotFoundError):
        create("nothing")
    with pytest.raises(ModelError, match=r"expected a run directory, received: one without config\.json"):
        Run.open(tmp_path / "train-unet" / "00001")
    (tmp_path / "source").write_text("whole")
    assert (create("source").path / "copy.txt").read_text() == "whole"


def write(name, text):
    return lambda run: (run.path / name).write_text(text)


@pytest.mark.parametrize(
    ("harm", "received"),
    [
        (lambda run: (run.path / "config.json").unlink(), "one without config.json"),
        (lambda run: (run.path / "split.json").unlink(), "one without split.json"),
        (write("config.json", '{"command": "train-u'), "broken config.json"),
        (write("config.json", "[]"), "broken config.json"),
        (write("config.json", '{"command": "train-car", "data_path": ["."]}'), "broken config.json"),
        (write("config.json", '{"command": "train-unet", "data_path": ["."], "epochs": "two"}'), "broken config.json"),
        (
            write("config.json", '{"command": "train-unet", "data_path": "."}'),
            ".*expected a list of folders, .*train it again",
        ),
        (write("split.json", '{"train": []}'), "broken config.json or split.json"),
    ],
)
def test_a_broken_run_is_one_line(run, harm, received):
    harm(run)
    with pytest.raises(ModelError, match=f"expected a run directory, received: {received}") as caught:
        Run.open(run.path)
    assert "\n" not in str(caught.value)


def test_no_run_at_all(tmp_path):
    says = "nowhere: expected a run directory, received: no such folder; name one such as runs/train-gan/00001"
    with pytest.raises(ModelError, match=says):
        Run.open(tmp_path / "nowhere")


def test_a_run_of_another_version_is_called_one(run):
    (run.path / "config.json").write_text('{"command": "train-unet", "data_path": ["."], "color": 1, "brand": 2}')
    says = (
        f"^{run.path}: expected a run of this version of mammogan-tf, received: one with brand, color; use the version"
    )
    with pytest.raises(ModelError, match=says):
        Run.open(run.path)


def test_a_command_to_paste_has_quotes_around_a_path_with_a_space(run):
    run.path = run.path.rename(run.path.parent / "my run")
    with pytest.raises(ModelError, match=f"go on with: mammogan-tf train-unet --resume '{run.path}'$"):
        run.require_finished("train-unet")


def test_the_newest_finished_run_on_the_same_data(tmp_path):
    def make(size=16, data=("data",), finished=True):
        run = Run.create(
            tmp_path, preset(UNetConfig, "tiny", {"size": size}), SPLIT, [tmp_path / name for name in data]
        )
        if finished:
            run.model_path.touch()
        return run

    def newest(size=16, data=("data",), command="train-unet", **prepared):
        run = newest_run(tmp_path, command, [tmp_path / name for name in data], DataConfig(size=size, **prepared))
        return run and run.path.name

    assert newest() is None
    make()
    make()
    make(size=32)
    make(data=("other", "data"))
    make(finished=False)
    assert newest() == "00002"
    assert newest(size=32) == "00003"
    assert newest(data=("data", "other")) == "00004"
    assert newest(data=("other",)) is None
    assert newest(size=64) is None
    assert newest(split_seed=1) is None
    assert newest(keep_background=True) is None
    assert newest(command="train-gan") is None

    broken = make(size=64)
    (broken.path / "config.json").write_text('{"command": "train-unet", "data_path": [], "augment": true}')
    with pytest.raises(
        ModelError, match=r"00006: .* received: one with augment; .*; name the run that is meant, or move this one away"
    ):
        newest()


TRAININGS = pytest.mark.parametrize(
    ("finished", "train"), [("unet_run", train_unet), pytest.param("gan_run", train_gan, marks=pytest.mark.slow)]
)


@TRAININGS
def test_a_finished_run_that_is_resumed_stays_as_it_is(finished, train, tmp_path, films, request):
    path = shutil.copytree(request.getfixturevalue(finished), tmp_path / "copy")
    report, network = json.loads((path / "report.json").read_text()), keras.models.load_model(path / "model.keras")
    assert report["seconds"] > 0
    assert train(Run.open(path), films) == report
    for was, now in zip(network.weights, keras.models.load_model(path / "model.keras").weights, strict=True):
        np.testing.assert_array_equal(was, now)


@TRAININGS
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_run_does_not_go_on_with_a_film_whose_label_has_changed(part, finished, train, tmp_path, films, request):
    run = Run.open(shutil.copytree(request.getfixturevalue(finished), tmp_path / "copy"))
    id_ = getattr(run.split, part)[0]
    others = [replace(film, label=(film.label + 1) % 3) if film.id == id_ else film for film in films]
    with pytest.raises(ConfigError, match=r"expected what the run began with, films .*, received: films"):
        train(run, others)


@TRAININGS
def test_a_finished_run_without_its_checkpoints_is_not_trained_anew(finished, train, tmp_path, films, request):
    path = shutil.copytree(request.getfixturevalue(finished), tmp_path / "copy")
    shutil.rmtree(path / "checkpoints")
    model = (path / "model.keras").read_bytes()
    with pytest.raises(ModelError, match="expected the checkpoints of this finished run, received: none"):
        train(Run.open(path), films)
    assert (path / "model.keras").read_bytes() == model
