from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.data.transforms import (
    AUGMENTATIONS,
    Augmentation,
    augment_film,
    one_hot,
    paste_film_marker,
    to_network_range,
)

SIDE = 32


def film_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """A lesion-valued ellipse off the centre on background; the film is white there and black elsewhere."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = (rows - 13) ** 2 / 8**2 + (columns - 18) ** 2 / 5**2 < 1
    return inside[..., None].astype(np.float32), (4 * inside).astype(np.uint8)


def augment(image, label_map, key):
    return augment_film(image, label_map, key, SIDE)


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
    image, label_map = apply(augment, *film_and_mask(), np.array([seed, 5], np.int64))
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
    first, again, *others = (apply(augment, *film_and_mask(), seed)[0] for seed in seeds)
    np.testing.assert_array_equal(first, again)
    for other in others:
        assert np.abs(first - other).max() > 0.1


def test_both_ways_agree():
    seed = np.array([1, 2], np.int64)
    for one, other in zip(
        directly(augment, *film_and_mask(), seed), in_dataset(augment, *film_and_mask(), seed), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.fixture(scope="module")
def many():
    image, label_map = film_and_mask()
    return augmented(Augmentation(mirror=0.5), image, label_map)


def augmented(limits, image, label_map, size=SIDE, count=200):
    """Films and label maps of keys (0, 0), (0, 1), ..."""
    keys = tf.data.Dataset.range(count).map(lambda number: tf.stack([tf.constant(0, tf.int64), number]))
    dataset = keys.map(lambda key: augment_film(image, label_map, key, size, limits))
    films, label_maps = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(films), np.stack(label_maps)


STILL = Augmentation(rotation=0.0, scale=0.0, shift=0.0, elastic=0.0, mirror=0.0, gamma=1.0, noise=0.0)


def test_without_limits_the_middle_of_the_canvas_comes_back():
    random = np.random.default_rng(0)
    image, label_map = random.random((12, 12, 1), np.float32), random.integers(0, 5, (12, 12)).astype(np.uint8)
    films, label_maps = augmented(STILL, image, label_map, size=8, count=1)
    np.testing.assert_allclose(films[0], image[2:-2, 2:-2], atol=1e-6)
    np.testing.assert_array_equal(label_maps[0], label_map[2:-2, 2:-2])


def test_shifts_bring_the_surroundings_of_the_canvas_in():
    canvas = np.full((24, 24), 3, np.uint8)
    limits = replace(STILL, shift=0.5)
    assert (augmented(limits, np.ones((24, 24, 1), np.float32), canvas, size=12, count=20)[1] == 3).all()
    assert (augmented(limits, np.ones((12, 12, 1), np.float32), canvas[:12, :12], size=12, count=20)[1] == 0).any()


def test_gamma_darkens_and_brightens_up_to_its_limit():
    grey = np.full((SIDE, SIDE, 1), 0.5, np.float32)
    films, _ = augmented(replace(STILL, gamma=1.4), grey, np.ones((SIDE, SIDE), np.uint8))
    assert films.min() == pytest.approx(0.5**1.4, abs=0.01)
    assert films.max() == pytest.approx(0.5 ** (1 / 1.4), abs=0.01)


def test_noise_is_as_strong_as_its_limit_at_most():
    grey = np.full((SIDE, SIDE, 1), 0.5, np.float32)
    films, _ = augmented(replace(STILL, noise=0.03), grey, np.ones((SIDE, SIDE), np.uint8))
    # A deviation that is estimated from 32 x 32 pixels is right within a tenth.
    assert films.std(axis=(1, 2, 3)).max() == pytest.approx(0.03, rel=0.1)


def test_an_elastic_film_bends_smoothly_by_the_given_share():
    columns = np.broadcast_to(np.linspace(0, 1, SIDE, dtype=np.float32)[:, None], (SIDE, SIDE, 1))
    films, _ = augmented(replace(STILL, elastic=0.02), columns, np.zeros((SIDE, SIDE), np.uint8))
    moved = (films - columns)[:, 6:-6, 6:-6, 0] * (SIDE - 1)
    # The field has unit variance at its knots, less between them.
    assert 0.5 * 0.02 * SIDE < moved.std() < 0.02 * SIDE
    assert np.abs(np.diff(moved, axis=1)).max() < 1, "no folds"


@ways
def test_a_bright_film_marker_lies_on_the_background_only(apply):
    image, label_map = film_and_mask()
    pasted = np.stack(
        [apply(paste_film_marker, image, label_map, np.array([0, number], np.int64)) for number in range(20)]
    )
    assert (pasted[:, label_map > 0] == 1).all()
    background = pasted[:, label_map == 0]
    assert background.min() == 0
    assert background.max() <= 1
    strips = [strip[strip > 0] for strip in background]
    # Strokes may be dark and cover less than half of a strip, unless hardly any of it is seen.
    assert all(np.median(strip) >= 0.5 for strip in strips if len(strip) > 3)
    shares = (background > 0).mean(axis=(1, 2))
    assert 0 < shares.mean() < 0.34**2
    np.testing.assert_array_equal(apply(paste_film_marker, image, label_map, np.array([0, 3], np.int64)), pasted[3])


def test_shifts_and_scales_reach_their_limits_and_stay_in_them(many):
    label_map = film_and_mask()[1]
    areas = (many[1] > 0).sum(axis=(1, 2)) / (label_map > 0).sum()
    # The scale's square is an area; the discrete edge adds a little.
    assert 0.85**2 * 0.9 < areas.min() < 0.85**2 * 1.1
    assert 1.15**2 * 0.9 < areas.max() < 1.15**2 * 1.1
    rows = np.array([np.nonzero(each)[0].mean() for each in many[1]])
    assert 0.08 * SIDE - 0.5 < np.abs(rows - 13).max() < 0.08 * SIDE + 12 * np.pi / 180 * SIDE / 2
    assert np.abs(rows.mean() - 13) < 1


def test_films_turn_either_way_up_to_their_limit():
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    bar = ((abs(rows) < 3) & (abs(columns) < 12)).astype(np.uint8)
    _, label_maps = augmented(replace(STILL, rotation=12.0), bar[..., None].astype(np.float32), bar, count=60)
    spreads = [np.cov(rows[label_map > 0], columns[label_map > 0]) for label_map in label_maps]
    angles = np.degrees([np.arctan2(2 * both, along - across) / 2 for (across, both), (_, along) in spreads])
    assert -12 - 1 < angles.min() < -12 + 2
    assert 12 - 2 < angles.max() < 12 + 1


def test_half_of_the_films_are_mirrored(many):
    columns = np.array([np.nonzero(each)[1].mean() for each in many[1]])
    # The ellipse stands at column 18 or, mirrored, at 31 - 18; 200 tosses have a standard deviation of 7.
    mirrored = (columns < (SIDE - 1) / 2).sum()
    assert abs(mirrored - 200 / 2) < 4 * 7


def test_the_black_background_stays_black(many):
    films, label_maps = many
    beyond = tf.nn.max_pool2d((label_maps > 0).astype(np.float32)[..., None], 3, 1, "SAME").numpy() == 0
    assert (films[beyond] == 0).all()


DOTS = np.array([(-6, -6), (-6, 6), (6, -6), (6, 6)])
"""Rows and columns of four dots, from the centre of their film."""


@pytest.fixture(scope="module")
def places():
    """By view: where the four dots lie on 100 augmented films, from the centre, [100, 4, 2]."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    label_map = np.zeros((SIDE, SIDE), np.uint8)
    for number, (row, column) in enumerate(DOTS):
        label_map[(rows - row) ** 2 + (columns - column) ** 2 < 3**2] = number + 1
    found = {}
    for view, limits in AUGMENTATIONS.items():
        _, moved = augmented(limits, np.ones((SIDE, SIDE, 1), np.float32), label_map, count=100)
        dots = [
            [(rows[each == value].mean(), columns[each == value].mean()) for value in range(1, 5)] for each in moved
        ]
        found[view] = np.array(dots)
    return found


def test_whole_films_are_never_mirrored_and_half_of_the_windows_are(places):
    def mirrored(view):
        across, down = np.moveaxis(places[view][:, 1:3] - places[view][:, :1], 1, 0)
        return (across[:, 1] * down[:, 0] - across[:, 0] * down[:, 1] < 0).sum()

    assert mirrored("whole") == 0
    # 100 tosses have a standard deviation of 5.
    assert abs(mirrored("roi") - 100 / 2) < 4 * 5


def test_windows_are_turned_shifted_and_scaled_further_than_whole_films(places):
    def reach(dots):
        """The largest angle of the left side, which stays upright when it is mirrored; shift; and change of size."""
        down, across = np.transpose(dots[:, 2] - dots[:, 0])
        size = np.hypot(down, across) / 12
        return abs(np.arctan2(across, down)).max(), abs(dots.mean(axis=1)).max(), abs(size - 1).max()

    angle, shift, scale = np.divide(reach(places["roi"]), reach(places["whole"]))
    assert angle > 2
    assert shift > 1.5
    assert scale > 1.2


def test_windows_are_bent_and_whole_films_are_not(places):
    """However a square is turned, shifted and scaled, its diagonals have one middle."""
    apart = {view: np.ptp(dots[:, [0, 1]] + dots[:, [3, 2]], axis=1).mean() / 2 for view, dots in places.items()}
    assert apart["whole"] < 0.1 < 0.3 < apart["roi"]
