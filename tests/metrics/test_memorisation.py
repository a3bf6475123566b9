import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.memorisation import (
    MAX_MEMBERSHIP,
    MAX_NEAR,
    MIN_DISTANCE_RATIO,
    MIN_RATIO,
    Closeness,
    closeness,
    closest_pairs,
    distance_ratio,
    median_ratio,
    membership_auc,
    near_copies,
    nearest,
    verdict,
)


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


def test_no_query_has_no_neighbour_and_numbers_have_to_be_finite(films):
    distances, indices = nearest(films[:0], films)
    assert len(distances) == len(indices) == 0
    assert not len(distance_ratio(films[:0], films, np.arange(len(films))))
    with pytest.raises(DataError, match="images: expected finite numbers"):
        nearest(films * np.nan, films)


def test_the_control_of_copies(films):
    train, unseen, fresh = films[:300], films[300:450], films[450:]
    copies = np.clip(train[:150] + np.random.default_rng(1).normal(0, 0.01, (150, 8, 8)), 0, 1)
    reference = nearest(unseen, train)[0]
    assert median_ratio(nearest(fresh, train)[0], reference) == pytest.approx(1, abs=0.05)
    assert median_ratio(nearest(copies, train)[0], reference) < 0.1


def test_unseen_images_that_were_seen_give_no_number():
    assert np.isnan(median_ratio(np.ones(3), np.zeros(3)))


def test_features_have_neighbours_too():
    distances, indices = nearest(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [6.0, 8.0]]))
    assert (distances.tolist(), indices.tolist()) == ([((3**2 + 4**2) / 2) ** 0.5], [0])


def test_closeness_by_hand():
    # 5th percentile of 21 distances 1.0, 1.1, ..., 3.0: the second one
    unseen = 1 + np.arange(21) / 10
    found = closeness(np.array([0.4, 0.6, 1.05, 2.0, 4.0]), unseen)
    assert (found.near, found.copies) == (3 / 5, 1)
    assert found.ratio == pytest.approx(1.05 / 2)


def test_a_film_on_both_sides_hides_no_copies():
    """The nearest other unseen film is at 1.0, so that copies are those nearer than 0.5."""
    unseen = np.r_[0, 1e-8, 1 + np.arange(198) / 10]
    made = np.array([0, 1e-8, 0.4, 0.6, *[1.9] * 96])
    found = closeness(made, unseen)
    assert found.copies == 3
    assert not verdict({"pixels": found}).passed
    alone = closeness(made, unseen[2:])
    assert alone.near == 1  # The 5th percentile of 198 others lies at 0.05 * 197 = 9.85 of the steps of 0.1.
    assert (found.near, found.ratio) == (alone.near, alone.ratio)
    # Where all other unseen films are all but copies themselves, a copy is still one.
    assert closeness(np.array([0, 0.9e-6, 1e-5]), np.full(5, 1.5e-6)).copies == 2


def test_the_ratio_of_distances_to_one_patient_and_to_the_next():
    references, patients = np.array([[0.0], [1.0], [5.0], [7.0]]), np.array(["a", "a", "b", "c"])
    queries = np.array([[2.0], [0.0], [6.5]])
    found = distance_ratio(queries, references, patients)
    assert found.tolist() == [(2 - 1) / (5 - 2), 0, (7 - 6.5) / (6.5 - 5)]
    assert np.isnan(distance_ratio(queries, references, np.full(4, "a"))).all()
    assert np.isnan(distance_ratio(queries[1:2], references[[0, 0, 1]], np.array(["a", "b", "b"]))).all()


def test_near_copies_stand_out_from_unseen_films_too():
    made = np.array([0.0, MIN_DISTANCE_RATIO, MIN_DISTANCE_RATIO + 0.01, np.nan])
    assert near_copies(made, np.array([0.7, np.nan])) == 2
    assert near_copies(made, np.array([0.3, 0.9])) == 1
    assert near_copies(made, np.array([np.nan])) == 2
    assert near_copies(np.full(3, np.nan), np.array([0.7])) == 0
    (reason,) = verdict({"pixels": Closeness(1, 0.05, 0)}, near=2).reasons
    assert reason == "pixels: 2 at most 0.4 times as far from the nearest training patient as from the next"


def test_closest_pairs():
    distances, indices = np.array([0.3, 0.1, 0.2, 0.1]), np.array([5, 6, 7, 8])
    assert closest_pairs(distances, indices, 3).tolist() == [[1, 6], [3, 8], [2, 7]]


def test_membership_by_hand():
    # pairs (train, unseen): (2, 1) and (2, 1.5) above, (1, 1) a tie, (1, 1.5) below
    assert membership_auc(np.array([2, 1]), np.array([1, 1.5])) == (2 + 0.5) / 4


def test_verdict_at_the_limits():
    passed = Closeness(MIN_RATIO, MAX_NEAR, 0)
    assert verdict({"pixels": passed, "features": passed}, MAX_MEMBERSHIP).passed
    assert verdict({"pixels": passed}).reasons == ()


@pytest.mark.parametrize(
    ("found", "membership", "word"),
    [
        (Closeness(1, 0.05, 1), None, "half"),
        (Closeness(1, MAX_NEAR + 0.01, 0), None, "unseen"),
        (Closeness(MIN_RATIO - 0.01, 0.05, 0), None, "median"),
        (Closeness(float("inf"), 0.05, 0), None, "not a finite number"),
        (Closeness(1, 0.05, 0), MAX_MEMBERSHIP + 0.01, "AUC"),
        (Closeness(1, 0.05, 0), float("nan"), "AUC"),
    ],
)
def test_verdict_names_what_broke_the_rule(found, membership, word):
    result = verdict({"pixels": Closeness(1, 0.05, 0), "features": found}, membership)
    assert not result.passed
    assert len(result.reasons) == 1
    assert word in result.reasons[0]


def test_nothing_that_was_compared_passes_nothing():
    assert verdict({}).reasons == ("nothing was compared",)
    assert not verdict({}).passed


def test_a_reason_contradicts_no_limit():
    """Numbers that rounding would turn into the limits they break."""
    spaces = {"pixels": Closeness(0.7996, 127 / 504, 0), "features": Closeness(0.5, 0.2502, 0)}
    assert verdict(spaces, 0.6504).reasons == (
        "pixels: 25.2% nearer than 5% of the unseen real images (at most 25%)",
        "pixels: median distance 0.7996 times that of unseen real images (at least 0.8)",
        "features: 25.02% nearer than 5% of the unseen real images (at most 25%)",
        "features: median distance 0.50 times that of unseen real images (at least 0.8)",
        "scores distinguish training from unseen real images with an AUC of 0.6504 (at most 0.65)",
    )


def test_unseen_images_that_were_seen_pass_nothing():
    found = closeness(np.zeros(5), np.zeros(5))
    assert found.copies == 0
    (reason,) = verdict({"pixels": found}).reasons
    assert reason == "pixels: nothing to compare with, as all unseen real images are training images"


def test_other_sizes_are_refused(films):
    with pytest.raises(DataError, match="one size"):
        nearest(films, films[:, :4])
    with pytest.raises(DataError, match="one size"):
        nearest(films, films[:0])
