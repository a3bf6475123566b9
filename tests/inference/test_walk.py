import errno

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import WALKS
from mammogan_tf.data.label_maps import overlay
from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.inference import Generator
from mammogan_tf.inference.mask_sets import MaskSet
from mammogan_tf.inference.walk import save_walk, walk


def test_a_walk_of_noise_goes_from_one_seed_to_the_next_on_one_mask(generator, masks):
    films, label_maps = walk(generator, masks, "noise", 5, seed=7)
    row = np.random.default_rng(7).permutation(len(masks.names))[:1].repeat(2)
    ends = generator(np.array([7, 8]), masks.label_maps[row], masks.labels[row])
    np.testing.assert_allclose(films[[0, -1]], ends * 255, atol=1.01)
    assert (label_maps == masks.label_maps[row[0]]).all()
    assert (films[2] != films[0]).any()
    assert (films[2] != films[-1]).any()


@pytest.mark.parametrize("kind", WALKS)
def test_a_walk_passes_over_masks_that_are_not_usable(generator, masks, kind):
    order = np.random.default_rng(7).permutation(len(masks.names))
    usable = np.ones(len(masks.names), bool)
    usable[order[0]] = False
    _, label_maps = walk(
        generator, MaskSet(masks.label_maps, masks.labels, masks.names, usable), kind, 2, seed=7, label=0
    )
    np.testing.assert_array_equal(label_maps[0], masks.label_maps[order[1]])


def test_noise_on_the_way_has_the_length_of_noise(generator, masks):
    drawn = []

    def draw(noise, label_maps, labels):
        drawn.append(noise)
        return np.zeros(label_maps.shape, np.float32)

    watched = Generator(generator.size, "watched", None, draw, generator.z_dim, draw)
    walk(watched, masks, "noise", 9)
    lengths = np.linalg.norm(drawn[0], axis=1)
    assert lengths.min() > 0.95 * lengths[[0, -1]].min()


def test_a_walk_of_masks_keeps_the_noise(generator, masks):
    films, label_maps = walk(generator, masks, "mask", 4, seed=7, label=1)
    rows = np.random.default_rng(7).permutation(len(masks.names))[:2]
    np.testing.assert_array_equal(label_maps[[0, -1]], masks.label_maps[rows])
    np.testing.assert_allclose(films, generator(np.full(4, 7), label_maps, np.ones(4, int)) * 255, atol=1.01)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_walk_of_masks_passes_over_one_alone_of_its_label(generator, masks, place):
    order = np.random.default_rng(7).permutation(4)
    labels = np.full(4, 2)
    labels[order[place]] = 0
    _, label_maps = walk(generator, MaskSet(masks.label_maps[:4], labels, masks.names[:4]), "mask", 2, seed=7)
    np.testing.assert_array_equal(label_maps, masks.label_maps[np.delete(order, place)[:2]])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_label_for_every_film_of_a_walk(generator, masks, label):
    drawn = []

    def draw(noise, label_maps, labels):
        drawn.append(labels)
        return np.zeros(label_maps.shape, np.float32)

    first, second = np.random.default_rng(7).permutation(len(masks.names))[:2]
    labels = np.full(len(masks.names), 2)
    labels[first] = 1  # Masks of another label than the first one's take part too.
    labelled = MaskSet(masks.label_maps, labels, masks.names)
    watched = Generator(generator.size, "watched", None, draw, generator.z_dim, draw)
    _, label_maps = walk(watched, labelled, "mask", 3, seed=7, label=label)
    np.testing.assert_array_equal(label_maps[-1], masks.label_maps[second])
    np.testing.assert_array_equal(drawn, [[label] * 3])


def test_noise_of_one_number_walks_on_a_line(generator, masks):
    drawn = []

    def draw(noise, label_maps, labels):
        drawn.append(noise[:, 0])
        return np.zeros(label_maps.shape, np.float32)

    walk(Generator(generator.size, "watched", None, draw, 1, draw), masks, "noise", 5)
    np.testing.assert_allclose(np.diff(drawn[0], 2), 0, atol=1e-5)


def test_walks_that_cannot_be(generator, masks):
    with pytest.raises(ConfigError, match=r"walk: expected noise \| mask, received: nosie"):
        walk(generator, masks, "nosie", 3)
    with pytest.raises(ConfigError, match="count: expected 2 or more films for a walk, received: 1"):
        walk(generator, masks, "noise", 1)
    two = MaskSet(masks.label_maps[:2], np.array([0, 2]), masks.names[:2])
    with pytest.raises(DataError, match="expected two of one label to walk between, received: one"):
        walk(generator, two, "mask", 3)
    with pytest.raises(ConfigError, match="seed: expected 0 to 9223372036854775806"):
        walk(generator, masks, "noise", 3, seed=2**63 - 1)
    served = Generator(generator.size, "generator/1", None, generator)
    with pytest.raises(ModelError, match="generator/1: expected a run or an export on disk"):
        walk(served, masks, "noise", 3)


def test_a_walk_is_a_strip_or_a_film_that_goes_there_and_back(tmp_path):
    films = np.arange(3, dtype=np.uint8)[:, None, None] * np.full((1, 16, 16), 40, np.uint8)
    label_maps = np.zeros((3, 16, 16), np.uint8)
    label_maps[:, 8:] = np.arange(1, 4)[:, None, None]
    with Image.open(save_walk(tmp_path / "walk.png", films, label_maps, "a model")) as strip:
        assert strip.size == (3 * 130 - 2, 2 * 130 - 2)
        assert (strip.info["Synthetic"], strip.info["Model"]) == ("true", "a model")
        for number, (film, label_map) in enumerate(zip(films, label_maps, strict=True)):
            above, below = (strip.crop((130 * number, top, 130 * number + 128, top + 128)) for top in (0, 130))
            np.testing.assert_array_equal(np.asarray(above)[::8, ::8, 0], film)
            np.testing.assert_array_equal(np.asarray(below)[::8, ::8], overlay(film, label_map))
    with Image.open(save_walk(tmp_path / "walk.gif", films, label_maps, "a model")) as moving:
        assert b"Synthetic mammogram of no patient" in moving.info["comment"]
        assert b"Model: a model." in moving.info["comment"]
        assert moving.info["loop"] == 0, "for ever"
        shades = []
        for frame in range(moving.n_frames):
            moving.seek(frame)
            shades.append(moving.convert("L").getpixel((0, 0)))
    assert shades == pytest.approx([0, 40, 80, 40], abs=3)
    with pytest.raises(DataError, match=r"walk.jpg: expected a file that ends in .gif or .png"):
        save_walk(tmp_path / "walk.jpg", films, label_maps, "a model")


@pytest.mark.parametrize("name", ["walk.png", "walk.gif"])
def test_a_walk_that_is_not_written_to_its_end_leaves_the_one_of_before(tmp_path, monkeypatch, name):
    def fill_the_disk(picture, path, **options):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    (tmp_path / name).write_bytes(b"old")
    films = np.zeros((2, 16, 16), np.uint8)
    with pytest.raises(OSError, match="No space"):
        save_walk(tmp_path / name, films, films, "a model")
    assert (tmp_path / name).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [name]
