from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf import __version__
from mammogan_tf.data.label_maps import read_label_map
from mammogan_tf.data.mask_editing import deform_label_map
from mammogan_tf.errors import ConfigError, DataError
from mammogan_tf.inference import Generator
from mammogan_tf.inference.generate import generate_folder
from mammogan_tf.inference.mask_sets import MaskSet

SIZE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory, generator, masks):
    """Forty films, more than fit in one batch and more than there are masks, from seed 100 on."""
    out = tmp_path_factory.mktemp("generated") / "out"
    progress: list[tuple[int, int]] = []
    manifest = generate_folder(generator, masks, 40, out, seed=100, progress=lambda *done: progress.append(done))
    assert manifest == out / "manifest.csv"
    assert progress == [(32, 40), (40, 40)]
    return out


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_the_manifest(folder, masks):
    table = pd.read_csv(folder / "manifest.csv")
    assert table.columns.tolist() == ["file", "seed", "mask_source", "label", "model", "version"]
    assert table["file"].tolist() == [f"images/{number:06d}.png" for number in range(40)]
    assert table["seed"].tolist() == list(range(100, 140))
    assert set(table["model"]) == {"train-gan/00001"}
    assert set(table["version"]) == {__version__}
    label = dict(zip(masks.names, masks.labels, strict=True))
    assert table["label"].tolist() == [("benign", "malignant", "normal")[label[name]] for name in table["mask_source"]]


def test_masks_are_used_evenly_in_an_order_of_the_seed(folder, masks):
    random, count = np.random.default_rng(100), len(masks.names)
    order = np.concatenate([random.permutation(count) for _ in range(40 // count + 1)])[:40]
    used = pd.read_csv(folder / "manifest.csv")["mask_source"]
    assert used.tolist() == [masks.names[row] for row in order]
    assert set(used.value_counts()) <= {40 // count, 40 // count + 1}


def test_films_and_masks_belong_together(folder, generator, masks):
    table = pd.read_csv(folder / "manifest.csv")
    rows = [masks.names.index(name) for name in table["mask_source"]]
    images = generator(table["seed"].to_numpy(), masks.label_maps[rows], masks.labels[rows])
    for file, row, image in zip(table["file"], rows, images, strict=True):
        np.testing.assert_array_equal(pixels(folder / file), np.rint(image * 255))
        np.testing.assert_array_equal(read_label_map(folder / "masks" / Path(file).name), masks.label_maps[row])


def notes_of(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        image.load()
        return image.info


def test_every_film_says_what_it_is(folder):
    table = pd.read_csv(folder / "manifest.csv")
    assert table["label"].nunique() > 1
    for number, (file, label) in enumerate(zip(table["file"], table["label"], strict=True)):
        notes = notes_of(folder / file)
        assert notes["Synthetic"] == "true"
        assert notes["Software"] == f"mammogan-tf {__version__}"
        assert (notes["Model"], notes["Seed"], notes["Label"]) == ("train-gan/00001", str(100 + number), label)
        assert "never for diagnosis" in notes["Comment"]


def test_the_same_seed_gives_the_same_pixels(generator, masks, folder, tmp_path):
    generate_folder(generator, masks, 40, tmp_path / "again", seed=100)
    for path in (folder / "images").iterdir():
        np.testing.assert_array_equal(pixels(tmp_path / "again" / "images" / path.name), pixels(path))
    generate_folder(generator, masks, 1, tmp_path / "other", seed=101)
    assert (pixels(tmp_path / "other" / "images" / "000000.png") != pixels(folder / "images" / "000000.png")).any()


@pytest.mark.parametrize(("number", "name"), [(0, "benign"), (1, "malignant"), (2, "normal")])
def test_a_label_for_every_film(generator, masks, tmp_path, number, name):
    asked = []

    def predict(seeds, label_maps, labels):
        asked.extend(labels)
        return generator(seeds, label_maps, labels)

    spy = Generator(SIZE, generator.name, generator.masks, predict)
    generate_folder(spy, masks.of_label(2), 3, tmp_path / "out", label=number)
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert set(asked) == {number}
    assert {*table["label"]} == {notes_of(tmp_path / "out" / file)["Label"] for file in table["file"]} == {name}
    label = dict(zip(masks.names, masks.labels, strict=True))
    assert {label[name] for name in table["mask_source"]} == {2}


def test_a_folder_in_use_is_left_alone(generator, masks, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="expected a new or an empty folder"):
        generate_folder(generator, masks, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("end", [DataError("the model is gone"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_what_is_written_before_the_end_is_in_the_manifest(generator, masks, folder, tmp_path, end):
    def predict(seeds, label_maps, labels):
        if seeds[0] > 100:
            raise end
        return generator(seeds, label_maps, labels)

    ending = Generator(SIZE, generator.name, generator.masks, predict)
    with pytest.raises(type(end)):
        generate_folder(ending, masks, 40, tmp_path / "out", seed=100)
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert table.equals(pd.read_csv(folder / "manifest.csv")[:32])
    assert table["file"].tolist() == sorted(f"images/{file.name}" for file in (tmp_path / "out" / "images").iterdir())


def test_a_film_of_the_last_batch_that_cannot_be_written_is_no_success(generator, masks, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("mammogan_tf.inference.generate.save_label_map", fail)
    with pytest.raises(OSError, match="No space left"):
        generate_folder(generator, masks, 2, tmp_path / "out")


def test_counts_of_films_that_nobody_means(generator, masks, tmp_path):
    for count in (0, 10**20):
        with pytest.raises(ConfigError, match=f"count: expected 1 to 10000000, received: {count}"):
            generate_folder(generator, masks, count, tmp_path / "out")


def test_seeds_that_are_no_64_bit_integers(generator, masks, tmp_path):
    for seed in (-1, 2**63 - 1):
        with pytest.raises(ConfigError, match=f"seed: expected 0 to .*, received: {seed}"):
            generate_folder(generator, masks, 1, tmp_path / "out", seed=seed)
    assert not (tmp_path / "out").exists()


def test_a_seed_meets_the_same_mask_with_and_without_a_lesion(generator, tmp_path):
    label_maps = np.ones((9, SIZE, SIZE), np.uint8)
    label_maps[::2, :, SIZE // 2 :] = 0  # The circle will meet every other breast.
    plain = MaskSet(label_maps, np.full(9, 2), list("abcdefghi"))
    lesion = plain.with_lesion(0.8, 0.5, 0.1, 1)
    tables = {}
    for name, masks, count in (("plain", plain, 9), ("lesion", lesion, 4), ("more", lesion, 6)):
        tables[name] = pd.read_csv(generate_folder(generator, masks, count, tmp_path / name, seed=5))
    met = tables["plain"][tables["plain"]["mask_source"].isin([*"bdfh"])].reset_index()
    assert tables["lesion"][["seed", "mask_source"]].equals(met[["seed", "mask_source"]])
    assert set(tables["more"]["mask_source"]) == {*"bdfh"}
    assert tables["more"]["seed"].is_unique


def test_varied_masks_give_each_image_an_anatomy_of_its_own(generator, masks, tmp_path):
    generate_folder(generator, masks, 6, tmp_path / "out", seed=3, varied=True)
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    sources = dict(zip(masks.names, masks.label_maps, strict=True))
    written = [read_label_map(tmp_path / "out" / "masks" / f"{number:06d}.png") for number in range(6)]
    for label_map, name, seed in zip(written, table["mask_source"], table["seed"], strict=True):
        np.testing.assert_array_equal(label_map, deform_label_map(sources[name], seed))
    assert any(
        (label_map != sources[name]).any() for label_map, name in zip(written, table["mask_source"], strict=True)
    )
