import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.memorisation import median_ratio, nearest


@pytest.fixture
def films() -> np.ndarray:
    return np.random.default_rng(0).random((600, 8, 8))


def test_distance_by_hand():
    queries, references = np.zeros((1, 2, 2)), np.array([np.full((2, 2), 0.5), [[0.4, 0], [0, 0]]])
    distances, indices = nearest(queries, references)
    assert indices.tolist() == [1]
    assert distances == pytest.approx([(0.4**2 / 4) ** 0.5])


def test_finds_each_image_itself_across_batches(films):
    distances, indices = nearest(films, films)
    assert (indices == np.arange(600)).all()
    assert (distances == 0).all()


def test_the_control_of_copies(films):
    train, unseen, fresh = films[:300], films[300:450], films[450:]
    copies = np.clip(train[:150] + np.random.default_rng(1).normal(0, 0.01, (150, 8, 8)), 0, 1)
    reference = nearest(unseen, train)[0]
    assert median_ratio(nearest(fresh, train)[0], reference) == pytest.approx(1, abs=0.05)
    assert median_ratio(nearest(copies, train)[0], reference) < 0.1


def test_unseen_images_that_were_seen_give_no_number():
    assert np.isnan(median_ratio(np.ones(3), np.zeros(3)))


def test_other_sizes_are_refused(films):
    with pytest.raises(DataError, match="one size"):
        nearest(films, films[:, :4])
    with pytest.raises(DataError, match="one size"):
        nearest(films, films[:0])
