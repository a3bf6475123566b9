import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.data.transforms import augment_film, one_hot, to_network_range

SIDE = 32


def film_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """A lesion-valued ellipse off the centre on background; the film is white there and black elsewhere."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = (rows - 13) ** 2 / 8**2 + (columns - 18) ** 2 / 5**2 < 1
    return inside[..., None].astype(np.float32), (4 * inside).astype(np.uint8)


def in_dataset(function, *arrays):
    """The result of a transform inside ``Dataset.map``, on a dataset of one example."""
    dataset = tf.data.Dataset.from_tensors(arrays if len(arrays) > 1 else arrays[0]).map(function)
    return next(dataset.as_numpy_iterator())


def directly(function, *arrays):
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), function(*map(tf.constant, arrays)))


ways = pytest.mark.parametrize("apply", [directly, in_dataset])


@ways
def test_one_hot(apply):
    result = apply(one_hot, np.array([[0, 4], [2, 1]], np.uint8))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.eye(5)[[[0, 4], [2, 1]]])


@ways
def test_network_range(apply):
    result = apply(to_network_range, np.array([0, 0.25, 1], np.float32))
    np.testing.assert_array_equal(result, [-1, 2 * 0.25 - 1, 1])


@ways
@pytest.mark.parametrize("seed", range(6))
def test_film_and_mask_move_together(apply, seed):
    image, label_map = apply(augment_film, *film_and_mask(), np.array([seed, 5], np.int64))
    assert (image.shape, image.dtype) == ((SIDE, SIDE, 1), np.float32)
    assert (label_map.shape, label_map.dtype) == ((SIDE, SIDE), np.uint8)
    assert image.min() >= 0
    assert image.max() <= 1
    assert set(np.unique(label_map)) == {0, 4}
    # They differ at most along the edge, where the film is interpolated and the mask is not.
    inside = label_map == 4
    edge = sum(np.abs(np.diff(inside.astype(int), axis=axis)).sum() for axis in (0, 1))
    assert ((image[..., 0] > 0.5) != inside).sum() < 0.3 * edge


@ways
def test_a_seed_gives_one_film_and_another_seed_another(apply):
    seeds = [np.array(pair, np.int64) for pair in ((3, 1), (3, 1), (3, 2), (4, 1))]
    first, again, *others = (apply(augment_film, *film_and_mask(), seed)[0] for seed in seeds)
    np.testing.assert_array_equal(first, again)
    for other in others:
        assert np.abs(first - other).max() > 0.1


def test_both_ways_agree():
    seed = np.array([1, 2], np.int64)
    for one, other in zip(
        directly(augment_film, *film_and_mask(), seed), in_dataset(augment_film, *film_and_mask(), seed), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.fixture(scope="module")
def many():
    image, label_map = film_and_mask()
    seeds = tf.data.Dataset.range(200).map(lambda number: tf.stack([tf.constant(0, tf.int64), number]))
    dataset = seeds.map(lambda seed: augment_film(image, label_map, seed))
    films, label_maps = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(films), np.stack(label_maps)


def test_shifts_and_scales_stay_in_their_limits(many):
    label_map = film_and_mask()[1]
    areas = (many[1] > 0).sum(axis=(1, 2)) / (label_map > 0).sum()
    # The scale's square is an area; the discrete edge adds a little.
    assert areas.min() > 0.85**2 * 0.9
    assert areas.max() < 1.15**2 * 1.1
    rows = np.array([np.nonzero(each)[0].mean() for each in many[1]])
    assert np.abs(rows - 13).max() < 0.08 * SIDE + 12 * np.pi / 180 * SIDE / 2
    assert np.abs(rows.mean() - 13) < 1


def test_half_of_the_films_are_mirrored(many):
    columns = np.array([np.nonzero(each)[1].mean() for each in many[1]])
    # The ellipse stands at column 18 or, mirrored, at 31 - 18; 200 tosses have a standard deviation of 7.
    mirrored = (columns < (SIDE - 1) / 2).sum()
    assert abs(mirrored - 200 / 2) < 4 * 7


def test_the_black_background_stays_black(many):
    films, label_maps = many
    beyond = tf.nn.max_pool2d((label_maps > 0).astype(np.float32)[..., None], 3, 1, "SAME").numpy() == 0
    assert (films[beyond] == 0).all()
