import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.serving.orientation import find_lean, find_placement, move_columns, paint_lesions

SIZE = 8


def breast(columns: list[int]) -> np.ndarray:
    """A label map whose column c holds ``columns[c]`` rows of tissue, numbered 1 or 2 by column."""
    label_map = np.zeros((SIZE, SIZE), np.int32)
    for column, height in enumerate(columns):
        label_map[:height, column] = 1 + column % 2
    return label_map


def move(label_map: np.ndarray, way: str) -> np.ndarray:
    batch = tf.constant(label_map[None])
    return move_columns(batch, getattr(find_placement(batch), way))[0].numpy()


def there_and_back(label_map: np.ndarray) -> np.ndarray:
    batch = tf.constant(label_map[None])
    placement = find_placement(batch)
    return move_columns(move_columns(batch, placement.turn), placement.back)[0].numpy()


LEFT = breast([8, 7, 5, 2, 0, 0, 0, 0])
TISSUE = np.ones((SIZE, SIZE), np.int32)


@pytest.mark.parametrize(
    "film",
    [LEFT, LEFT[:, ::-1], np.roll(LEFT, 2, axis=1), np.roll(LEFT[:, ::-1], -3, axis=1)],
    ids=["left", "right", "left, with padding", "right, with padding"],
)
def test_the_chest_wall_comes_to_the_left_and_goes_back(film):
    np.testing.assert_array_equal(move(film, "turn"), LEFT)
    np.testing.assert_array_equal(there_and_back(film), film)


@pytest.mark.parametrize("film", [np.zeros((SIZE, SIZE), np.int32), np.ones((SIZE, SIZE), np.int32)])
def test_a_map_with_no_side_stays_as_it_is(film):
    np.testing.assert_array_equal(move(film, "turn"), film)


def test_a_column_from_outside_is_background():
    sources = tf.constant([[-1, 0, SIZE - 1, SIZE]])
    np.testing.assert_array_equal(move_columns(tf.constant(TISSUE[None]), sources)[0], [[0, 1, 1, 0]] * SIZE)


def test_a_breast_leans_to_its_chest_wall():
    lean = ((0 * 8 + 1 * 7 + 2 * 5 + 3 * 2) / (8 + 7 + 5 + 2) - (0 + 3) / 2) / 4
    films = np.stack([LEFT, LEFT[:, ::-1], np.roll(LEFT, 2, axis=1), TISSUE, 0 * TISSUE])
    np.testing.assert_allclose(find_lean(tf.constant(films)), [lean, -lean, lean, 0, 0], rtol=1e-6)


def test_every_film_of_a_batch_is_placed_for_itself():
    batch = tf.constant(np.stack([LEFT, LEFT[:, ::-1]]))
    turned = move_columns(batch, find_placement(batch).turn).numpy()
    np.testing.assert_array_equal(turned, [LEFT, LEFT])


def paint(x: float, y: float, radius: float, label_map: np.ndarray = TISSUE) -> np.ndarray:
    return paint_lesions(tf.constant(label_map[None]), tf.constant([[x, y, radius]], tf.float32))[0].numpy() == 4


def test_a_lesion_lies_where_the_circle_does():
    # Centre on the corner of four pixels, 1.5 px wide: 2 x 2 pixels at 0.71 px and the eight around them at 1.58 px.
    painted = paint(4 / SIZE, 2 / SIZE, 1.5 / SIZE)
    assert painted.sum() == 4 + 8
    assert painted[1:3, 3:5].all()
    rows, columns = np.nonzero(painted)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (2, 4)


@pytest.mark.parametrize("centre", [0.0, 0.3, 0.5, 1.0])
def test_the_smallest_lesion_has_a_pixel(centre):
    assert paint(centre, centre, 1e-9).any()


def test_a_lesion_reaches_as_far_as_the_breast():
    whole, painted = paint(3 / SIZE, 0.5, 0.3), paint(3 / SIZE, 0.5, 0.3, LEFT)
    np.testing.assert_array_equal(painted, whole & (LEFT > 0))
    assert 0 < painted.sum() < whole.sum()


def test_a_radius_of_0_asks_for_no_lesion():
    for label_map in (LEFT, np.zeros_like(LEFT)):
        assert not paint(0, 0, 0, label_map).any()


def test_a_lesion_beside_the_breast_is_refused():
    batch, circles = tf.constant(np.stack([LEFT, LEFT, LEFT])), [[0.2, 0.2, 0.1], [0.9, 0.5, 0.1], [0.8, 0.5, 0.1]]

    @tf.function
    def paint_all():
        return paint_lesions(batch, tf.constant(circles))

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"lesion: expected a place on the breast, .*received:\] \[0.9 0.5 0.1"
    ):
        paint_all()


def test_a_lesion_wins_a_pixel_from_about_a_quarter_of_it():
    size, fine = 32, 16
    x, y, radius = 0.43, 0.52, 0.21
    grid = (np.arange(size * fine) + 0.5) / (size * fine)
    inside = (grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2 <= radius**2
    share = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    painted = paint(x, y, radius, np.ones((size, size), np.int32))
    assert not painted[share < 0.15].any()
    assert painted[share > 0.35].all()
