import json
import shutil
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import LABELS, DataConfig, GANConfig, UNetConfig, preset
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.training.gan import train_gan
from mammogan_tf.training.run import Run, fingerprint, load_split, newest_run
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


def test_the_environment_is_written_down(run):
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["versions"].keys() >= {"tensorflow", "keras", "numpy"}
    assert "devices" in environment
    assert "git_commit" in environment


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
        (write("config.json", '{"command": "train-unet", "data_path": ["."], "color": 1}'), "broken config.json"),
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
    with pytest.raises(ModelError, match="nowhere: expected a run directory"):
        Run.open(tmp_path / "nowhere")


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


@pytest.mark.parametrize("part", ["images", "films", "label_maps", "labels"])
def test_a_fingerprint_is_of_every_pixel_mask_and_label_of_all_parts(part, films):
    one, other = (load_films(films[half], 16) for half in (slice(2, 4), slice(4, 6)))
    values = getattr(other, part).copy()
    values.flat[-1] += 1
    assert fingerprint(one, other) == fingerprint(one, replace(other, label_maps=other.label_maps.copy()))
    assert fingerprint(one, replace(other, **{part: values})) != fingerprint(one, other)


@pytest.fixture
def load(tmp_path, films):
    """Loads the parts of a run with these options; each film shows a benign and a malignant lesion, at one place."""
    both = [
        replace(film, lesions=tuple(replace(film.lesions[0], label=label) for label in (0, 1)))
        for film in films
        if film.lesions
    ]
    patients = [*dict.fromkeys(film.patient for film in both)]

    def of(*chosen):
        return tuple(film.id for film in both if film.patient in chosen)

    split = Split(of(*patients[2:]), of(patients[0]), of(patients[1]))

    def parts(**options):
        return load_split(Run(tmp_path, "train-gan", preset(GANConfig, "tiny", options), split, ()), both)

    return parts


def test_films_whose_masks_are_less_to_be_trusted_than_asked_do_not_train(load):
    everything, *others = load()
    least = float(np.median(everything.confidences))
    training, *as_before = load(min_mask_confidence=least)
    assert training.ids == everything.confident(least).ids
    assert 0 < len(training) < len(everything)
    assert [part.ids for part in as_before] == [part.ids for part in others]


def test_lesions_are_outlined_as_asked(load):
    circles, refined = (load(lesions=lesions, view="roi") for lesions in ("circle", "refined"))
    for circle, outline in zip(circles, refined, strict=True):
        assert outline.names == circle.names
        assert (outline.label_maps != circle.label_maps).any()


def test_windows_of_other_labels_take_no_part(load):
    for part, everything in zip(load(labels=("malignant",), view="roi"), load(view="roi"), strict=True):
        assert part.labels.tolist() == [LABELS.index("malignant")] * (len(everything) // 2)
        assert set(part.ids) == set(everything.ids)


def test_a_film_that_two_data_sets_have_stands_in_one_part(tmp_path, films):
    first, second, third, *_ = {film.patient: film for film in films}.values()
    again = replace(first, id="other:7", patient="other:7")
    config = preset(UNetConfig, "tiny")

    def load(train, validation, test):
        ids = (tuple(film.id for film in part) for part in (train, validation, test))
        return load_split(Run(tmp_path, "train-unet", config, Split(*ids), ()), [*train, *validation, *test])

    received = rf"{first.id} \(training\) with the pixels of other:7 \(test\); give both the same patient"
    with pytest.raises(DataError, match=received):
        load([first, second], [third], [again])
    assert load([first, again], [second], [third])[0].ids == (first.id, "other:7")
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    black = [Film(name, tmp_path / "black.png", name, 2) for name in "ab"]
    load([first, black[0]], [third], [black[1]])  # Which says nothing of whose they are.


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
