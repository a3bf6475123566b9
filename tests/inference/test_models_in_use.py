import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.errors import DataError, ModelError, ServingError
from mammogan_tf.inference import load_generator, load_segmenter
from mammogan_tf.inference.models import newest_version, remote_generator
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.export import export_runs
from mammogan_tf.serving.server import Server
from mammogan_tf.training.prediction import predict_label_maps

SIZE = 16

ROUNDING = 1e-5
"""On some processors the order of sums depends on the number of films."""


@pytest.fixture
def condition():
    """Seeds, label maps and labels of 40 films, more than fit in one batch."""
    random = np.random.default_rng(0)
    return np.arange(5, 45), random.integers(0, 5, (40, SIZE, SIZE)).astype(np.uint8), random.integers(0, 3, 40)


@pytest.fixture
def films():
    return np.random.default_rng(0).random((40, SIZE, SIZE), np.float32)


def test_a_segmenter_is_the_network_of_its_run(unet_run, films, monkeypatch):
    monkeypatch.chdir(unet_run)
    segmenter = load_segmenter(".")
    assert (segmenter.size, segmenter.view, segmenter.name) == (SIZE, "whole", "train-unet/00001")
    label_maps = segmenter(films)
    assert (label_maps.shape, label_maps.dtype) == ((40, SIZE, SIZE), np.uint8)
    network = keras.models.load_model(unet_run / "model.keras", compile=False)
    np.testing.assert_array_equal(label_maps, predict_label_maps(network, np.rint(films * 255).astype(np.uint8)))


def test_the_readmes_example_of_the_library_runs(gan_run):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    names: dict = {}
    exec(code.replace("runs/train-gan/00001", str(gan_run)), names)
    assert names["films"].shape == (2, SIZE, SIZE)


def test_a_generator_is_the_network_of_its_run(gan_run, condition):
    generator = load_generator(gan_run)
    assert (generator.size, generator.name) == (SIZE, "train-gan/00001")
    images = generator(*condition)
    assert (images.shape, images.dtype) == ((40, SIZE, SIZE), np.float32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images[condition[1] == 0] == 0).all()
    network = keras.models.load_model(gan_run / "model.keras", compile=False)
    noise = seeded_noise(condition[0], network.input["noise"].shape[-1])
    live = network(
        {"noise": noise, "mask": tf.one_hot(condition[1], 5), "label": tf.constant(condition[2])}, training=False
    )
    np.testing.assert_allclose(images, (np.asarray(live)[..., 0] + 1) / 2, atol=ROUNDING)


def test_a_film_depends_on_its_own_seed_mask_and_label_alone(gan_run, condition):
    generator = load_generator(gan_run)
    images = generator(*condition)
    for row in (0, 17, 39):
        alone = generator(*(column[row : row + 1] for column in condition))[0]
        np.testing.assert_allclose(alone, images[row], atol=ROUNDING)
    order = np.random.default_rng(1).permutation(40)
    np.testing.assert_allclose(generator(*(column[order] for column in condition)), images[order], atol=ROUNDING)


def test_labels_that_it_was_not_trained_on_are_refused(gan_run, condition, tmp_path):
    run = tmp_path / "train-gan" / "00001"
    shutil.copytree(gan_run, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "labels": ["benign", "malignant"]}))
    seeds, label_maps, _ = condition
    for generator in load_generator(run), load_generator(export_runs([run], tmp_path / "to")[0]):
        assert len(generator(seeds, label_maps, np.arange(40) % 2)) == 40
        with pytest.raises(DataError, match="trained on, benign, malignant; received: normal"):
            generator(seeds, label_maps, np.full(40, 2))


def test_labels_that_no_training_film_had_are_refused(gan_run, condition, tmp_path):
    run = tmp_path / "train-gan" / "00001"
    shutil.copytree(gan_run, run)
    with np.load(run / "masks.npz") as masks:
        clear = masks["labels"] == 2
        kept = {name: masks[name][clear] for name in masks.files}
    np.savez(run / "masks.npz", **kept)
    seeds, label_maps, _ = condition
    (version,) = export_runs([run], tmp_path / "to")
    assert json.loads((version / "signature.json").read_text())["trained_labels"] == ["normal"]
    for generator in load_generator(run), load_generator(version):
        with pytest.raises(DataError, match="trained on, normal; received: benign"):
            generator(seeds, label_maps, np.zeros(40, int))


@pytest.mark.parametrize("place", [0, 1, 2], ids=["seed", "mask", "label"])
def test_seed_mask_and_label_count(gan_run, condition, place):
    generator = load_generator(gan_run)
    changed = list(condition)
    changed[place] = np.roll(condition[place], 1, axis=0)
    assert np.abs(generator(*changed) - generator(*condition)).max() > 1e-4


def test_exports_give_the_same(exports, unet_run, gan_run, films, condition):
    for folder in (exports / "unet", exports / "unet" / "1"):
        exported = load_segmenter(folder)
        assert (exported.size, exported.name) == (SIZE, "unet/1")
        grey = np.rint(films * 255).astype(np.float32) / 255
        np.testing.assert_array_equal(exported(grey), load_segmenter(unet_run)(grey))
        averaged = load_segmenter(folder, tta=True)(grey)
        np.testing.assert_array_equal(averaged, load_segmenter(unet_run, tta=True)(grey))
        assert (averaged != exported(grey)).any()
    live = load_generator(gan_run)
    for folder in (exports / "generator", exports / "generator" / "1"):
        generator = load_generator(folder)
        assert (generator.size, generator.name) == (SIZE, "generator/1")
        np.testing.assert_allclose(generator(*condition), live(*condition), atol=1e-6)
        assert generator.masks.read_bytes() == (gan_run / "masks.npz").read_bytes()
    noise = np.random.default_rng(0).normal(size=(40, generator.z_dim))
    drawn = generator.from_noise(noise, *condition[1:])
    np.testing.assert_allclose(drawn, live.from_noise(noise, *condition[1:]), atol=1e-6)


def test_a_served_generator_stays_with_its_version(exports, condition, tmp_path):
    one = shutil.copytree(exports / "generator" / "1", tmp_path / "models" / "generator" / "1")
    with Server(tmp_path / "models", port=0, poll_seconds=3600) as server, MammoganClient(server.address) as client:
        generator = remote_generator(client, SIZE)
        assert generator.name == "generator/1"
        np.testing.assert_allclose(generator(*condition), load_generator(one)(*condition), atol=1e-6)
        shutil.copytree(one, one.with_name("2"))
        server.manager.refresh()
        with pytest.raises(ServingError, match=r"expected generator/1, received: NOT_FOUND: .*; a newer version may"):
            generator(*condition)
        one.with_name("3").mkdir()  # It cannot be loaded.
        server.manager.refresh()
        assert remote_generator(client, SIZE).name == "generator/2"


def test_the_newest_version_that_answers_is_taken_by_number():
    states = {8: "END", 9: "AVAILABLE", 10: "AVAILABLE", 11: "LOADING"}
    entries = [{"version": version, "state": state, "error": ""} for version, state in states.items()]
    client = SimpleNamespace(status=lambda models: dict.fromkeys(models, entries))
    assert newest_version(client, "unet") == 10


@pytest.mark.parametrize("name", ["models [1]", "models\\1"])
def test_an_export_at_a_path_that_tensorflow_takes_for_a_pattern(unet_run, tmp_path, films, name):
    version = export_runs([unet_run], tmp_path / name)[0]
    grey = np.rint(films * 255).astype(np.float32) / 255
    np.testing.assert_array_equal(load_segmenter(version)(grey), load_segmenter(unet_run)(grey))


def test_the_newest_version_by_number_is_taken(exports, tmp_path):
    for version in ("2", "9", "10"):
        shutil.copytree(exports / "unet" / "1", tmp_path / "unet" / version)
    assert load_segmenter(tmp_path / "unet").name == "unet/10"


def test_an_export_is_known_by_its_signature(exports, tmp_path):
    shutil.copytree(exports / "unet" / "1", tmp_path / "renamed")
    assert load_segmenter(tmp_path / "renamed").size == SIZE


@pytest.mark.parametrize("load", [load_segmenter, load_generator])
def test_what_is_no_model_of_that_kind(load, exports, unet_run, gan_run, tmp_path):
    other_run, other_export = (gan_run, "generator") if load is load_segmenter else (unet_run, "unet")
    own_run, own_export = (unet_run, "unet") if load is load_segmenter else (gan_run, "generator")
    (tmp_path / "empty").mkdir()
    unfinished = shutil.copytree(own_run, tmp_path / "unfinished")
    (unfinished / "model.keras").unlink()
    damaged = shutil.copytree(own_run, tmp_path / "damaged")
    (damaged / "model.keras").write_bytes(b"no model")
    half = shutil.copytree(exports / own_export / "1", tmp_path / "half")
    (half / "saved_model.pb").write_bytes(b"no model")
    for path, message in [
        (tmp_path / "nowhere", "received: neither"),
        (tmp_path / "empty", "received: neither"),
        (other_run, f"received: a {other_run.parent.name} run"),
        (unfinished, r"received: one without model\.keras; go on with: mammogan-tf"),
        (damaged, "received: a broken file"),
        (exports / other_export, "received: another model, with "),
        (half, "expected a whole SavedModel"),
    ]:
        with pytest.raises(ModelError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(0, SIZE, SIZE), (2, 8, 8), (SIZE, SIZE), (1, SIZE, SIZE, 1)])
def test_arrays_of_another_shape_are_refused(shape, unet_run, gan_run):
    with pytest.raises(DataError, match=r"films: expected \[N, 16, 16\], received: \["):
        load_segmenter(unet_run)(np.zeros(shape, np.float32))
    with pytest.raises(DataError, match=r"label maps: expected \[N, 16, 16\]"):
        load_generator(gan_run)(np.zeros(2), np.zeros(shape, np.uint8), np.zeros(2))


@pytest.mark.parametrize(
    ("films", "received"),
    [
        (np.uint8([0, 255]), "0 to 255"),
        (np.float32([-0.5, 1]), "-0.5 to 1"),
        (np.float32([0, np.nan]), "nan to nan"),
    ],
    ids=["bytes", "negative", "NaN"],
)
def test_films_outside_0_to_1_are_refused(unet_run, films, received):
    message = rf"films: expected values in \[0, 1\], received: {received}; divide bytes by 255"
    with pytest.raises(DataError, match=message):
        load_segmenter(unet_run)(np.resize(films, (1, SIZE, SIZE)))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 1.9, "seeds: expected numbers that int64 holds, received: 1.9"),
        (0, 2**63, "seeds: expected numbers that int64 holds, received: 9223372036854775808"),
        (1, 1.9, "label maps: expected numbers that int32 holds, received: 1.9"),
        (2, np.nan, "labels: expected numbers that int32 holds, received: nan"),
    ],
)
def test_numbers_that_are_not_whole_are_refused(gan_run, place, value, message):
    generator = load_generator(gan_run)
    columns = [np.ones(1), np.ones((1, SIZE, SIZE)), np.ones(1)]
    assert generator(*columns).shape == (1, SIZE, SIZE)
    columns[place] = np.full(columns[place].shape, value)
    with pytest.raises(DataError, match=message):
        generator(*columns)


def test_as_many_seeds_as_label_maps_and_labels(gan_run):
    generator, label_maps = load_generator(gan_run), np.zeros((1, SIZE, SIZE), np.uint8)
    for seeds, labels in ((2, 1), (1, 0)):
        received = f"{seeds} seeds or noise, 1 label maps, {labels} labels"
        with pytest.raises(DataError, match=f"expected as many of each, received: {received}"):
            generator(np.zeros(seeds), label_maps, np.zeros(labels))
    with pytest.raises(DataError, match=r"labels: expected \[N\], received: \[1, 1\]"):
        generator(np.zeros(1), label_maps, np.zeros((1, 1)))
    with pytest.raises(DataError, match=r"seeds: expected \[N\], received: \[1, 1\]"):
        generator(np.zeros((1, 1)), label_maps, np.zeros(1))
    generator.require_labels([])


def test_noise_is_finite_and_as_long_as_in_training(gan_run):
    generator, rest = load_generator(gan_run), (np.zeros((1, SIZE, SIZE), np.uint8), np.zeros(1))
    assert generator.from_noise(np.zeros((1, 8)), *rest).shape == (1, SIZE, SIZE)
    with pytest.raises(DataError, match=r"noise: expected \[N, 8\], received: \[1, 3\]"):
        generator.from_noise(np.zeros((1, 3)), *rest)
    for value in (np.nan, np.inf):
        with pytest.raises(DataError, match="noise: expected finite numbers"):
            generator.from_noise(np.full((1, 8), value), *rest)
