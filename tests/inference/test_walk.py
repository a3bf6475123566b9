import numpy as np
import pytest
from PIL import Image

from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.inference import Generator, load_generator
from mammogan_tf.inference.generate import MaskSet, masks_of_model
from mammogan_tf.inference.walk import save_walk, walk


@pytest.fixture(scope="module")
def generator(gan_run):
    return load_generator(gan_run)


@pytest.fixture(scope="module")
def masks(generator):
    return masks_of_model(generator)


def first_masks(masks: MaskSet, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(masks.names))[:2]


def test_a_walk_of_noise_goes_from_one_seed_to_the_next_on_one_mask(generator, masks):
    films, label_maps = walk(generator, masks, "noise", 5, seed=7)
    row = first_masks(masks, 7)[:1].repeat(2)
    ends = generator(np.array([7, 8]), masks.label_maps[row], masks.labels[row])
    np.testing.assert_allclose(films[[0, -1]], ends * 255, atol=1.01)
    assert (label_maps == masks.label_maps[row[0]]).all()
    assert (films[2] != films[0]).any()
    assert (films[2] != films[-1]).any()


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
    rows = first_masks(masks, 7)
    np.testing.assert_array_equal(label_maps[[0, -1]], masks.label_maps[rows])
    np.testing.assert_allclose(films, generator(np.full(4, 7), label_maps, np.ones(4, int)) * 255, atol=1.01)


def test_walks_that_cannot_be(generator, masks):
    with pytest.raises(ConfigError, match="count: expected 2 or more films for a walk, received: 1"):
        walk(generator, masks, "noise", 1)
    with pytest.raises(DataError, match="expected two to walk between, received: one"):
        walk(generator, MaskSet(masks.label_maps[:1], masks.labels[:1], masks.names[:1]), "mask", 3)
    served = Generator(generator.size, "generator/1", None, generator)
    with pytest.raises(ModelError, match="generator/1: expected a run or an export on disk"):
        walk(served, masks, "noise", 3)


def test_a_walk_is_a_strip_or_a_film_that_goes_there_and_back(tmp_path):
    films = np.arange(3, dtype=np.uint8)[:, None, None] * np.full((1, 16, 16), 40, np.uint8)
    label_maps = np.zeros((3, 16, 16), np.uint8)
    with Image.open(save_walk(tmp_path / "walk.png", films, label_maps)) as strip:
        assert strip.size == (3 * 130 - 2, 2 * 130 - 2)
    with Image.open(save_walk(tmp_path / "walk.gif", films, label_maps)) as moving:
        shades = []
        for frame in range(moving.n_frames):
            moving.seek(frame)
            shades.append(moving.convert("L").getpixel((0, 0)))
    assert shades == pytest.approx([0, 40, 80, 40], abs=3)
    with pytest.raises(DataError, match=r"walk.jpg: expected a name that ends in .gif or .png"):
        save_walk(tmp_path / "walk.jpg", films, label_maps)
