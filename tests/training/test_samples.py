import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.data.label_maps import overlay
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.pictures import comparison_rows, to_bytes
from mammogan_tf.training import gan

SIZE, ZOOM, GAP = 16, 128 // 16, 2


@pytest.fixture
def random():
    return np.random.default_rng(0)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """The picture at a place of a sheet, as it was before it was magnified."""
    top, left = (place * (SIZE * ZOOM + GAP) for place in (row, column))
    return sheet[top : top + SIZE * ZOOM : ZOOM, left : left + SIZE * ZOOM : ZOOM]


def grey(picture: np.ndarray) -> np.ndarray:
    return picture[..., None].repeat(3, axis=-1)


def test_film_annotation_and_what_was_found_lie_beside_one_another(random):
    pictures = random.integers(0, 256, (2, SIZE, SIZE), np.uint8)
    truth, found = random.integers(0, 5, (2, 2, SIZE, SIZE), np.uint8)
    sheet = comparison_rows(pictures, truth, found)
    for row in range(2):
        np.testing.assert_array_equal(cell(sheet, row, 0), grey(pictures[row]))
        np.testing.assert_array_equal(cell(sheet, row, 1), overlay(pictures[row], truth[row]))
        np.testing.assert_array_equal(cell(sheet, row, 2), overlay(pictures[row], found[row]))


def test_mask_and_film_lie_beside_films_of_the_averaged_generator_each_column_of_its_noise(prepared):
    model, films = gan.build_wgan_gp(preset(GANConfig, "tiny")), prepared.select(prepared.ids[:2])
    model.ema_generator.set_weights([weight + 0.1 for weight in model.ema_generator.get_weights()])
    sheet = gan._samples(model, films)
    for column in range(5):
        noise = seeded_noise(tf.fill([2], column), model.z_dim)
        asked = {"noise": noise, "mask": tf.one_hot(films.label_maps, 5), "label": tf.constant(films.labels)}
        made = to_bytes((np.asarray(model.ema_generator(asked, training=False))[..., 0] + 1) / 2)
        for row in range(2):
            np.testing.assert_array_equal(cell(sheet, row, 2 + column), grey(made[row]))
    for row, (image, mask) in enumerate(zip(films.images, films.label_maps, strict=True)):
        np.testing.assert_array_equal(cell(sheet, row, 0), overlay(image, mask))
        np.testing.assert_array_equal(cell(sheet, row, 1), grey(image))
