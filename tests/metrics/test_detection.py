import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.errors import ConfigError, DataError
from mammogan_tf.metrics.detection import FreeResponse, components, free_response


def blank(count: int = 1) -> np.ndarray:
    return np.ones((count, 16, 16), np.uint8)


def with_lesions(*boxes: tuple[slice, slice], images: int = 1) -> np.ndarray:
    """Lesions on the first of the images."""
    maps = blank(images)
    for box in boxes:
        maps[0][box] = 4
    return maps


UPPER, LOWER = np.s_[1:5, 1:5], np.s_[10:14, 10:14]


def test_perfect_and_empty():
    perfect = free_response(with_lesions(UPPER, LOWER), with_lesions(UPPER, LOWER))
    assert (perfect.lesions, perfect.sensitivity, perfect.false_positives_per_image) == (2, 1, 0)
    missed = free_response(with_lesions(UPPER, LOWER), blank())
    assert (missed.sensitivity, missed.false_positives_per_image) == (0, 0)
    nothing = free_response(blank(), blank())
    assert np.isnan(nothing.sensitivity)
    assert nothing.ratios()["clear_images_with_false_positives"].tolist() == [[0, 1]]
    assert perfect.ratios()["clear_images_with_false_positives"].tolist() == [[0, 0]]


def test_rates_by_hand():
    # image 0: two lesions, one found, one false alarm elsewhere; image 1: clear; image 2: clear, two false alarms
    truth = with_lesions(UPPER, LOWER, images=3)
    found = with_lesions(UPPER, np.s_[0:2, 12:14], images=3)
    found[2][UPPER] = found[2][LOWER] = 4
    response = free_response(truth, found)
    assert response.sensitivity == 1 / 2
    assert response.false_positives_per_image == (1 + 0 + 2) / 3
    assert response.per_image.tolist() == [[2, 1, 1], [0, 0, 0], [0, 0, 2]]
    ratios = {name: ratio.tolist() for name, ratio in response.ratios().items()}
    assert ratios == {
        "sensitivity": [[1, 2], [0, 0], [0, 0]],
        "false_positives_per_image": [[1, 1], [0, 1], [2, 1]],
        "clear_images_with_false_positives": [[0, 0], [0, 1], [1, 1]],
    }


@pytest.mark.parametrize(("width", "is_found"), [(2, True), (1, False)])
def test_overlap_at_the_limit(width, is_found):
    # lesion 4 x 5, found inside it 1 x width: IoU = width / 20, limit 0.1
    response = free_response(with_lesions(np.s_[1:5, 1:6]), with_lesions(np.s_[1:2, 1 : 1 + width]))
    assert response.sensitivity == is_found
    assert response.false_positives_per_image == (not is_found)


def test_two_that_find_one_lesion_and_one_that_finds_two():
    halves = with_lesions(np.s_[1:5, 1:2], np.s_[1:5, 3:5])
    assert free_response(with_lesions(UPPER), halves).false_positives_per_image == 0
    both = free_response(halves, with_lesions(UPPER))
    assert (both.lesions, both.sensitivity, both.false_positives_per_image) == (2, 1, 0)


def test_diagonal_neighbours_are_one_lesion():
    maps = blank()
    maps[0][[3, 4], [3, 4]] = 4
    assert components(maps[0])[1] == 1


def test_curve_by_hand():
    # found: the upper lesion at 0.9, a false alarm at 0.7, the lower lesion at 0.4
    truth, found = with_lesions(UPPER, LOWER, images=2), with_lesions(UPPER, LOWER, images=2)
    found[1][UPPER] = 4
    scores = np.zeros(found.shape)
    scores[0, 2, 2], scores[1, 2, 2], scores[0, 12, 12] = 0.9, 0.7, 0.4
    curve = free_response(truth, found, scores).curve()
    assert curve.tolist() == [[0.9, 0 / 2, 1 / 2], [0.7, 1 / 2, 1 / 2], [0.4, 1 / 2, 2 / 2]]
    assert free_response(truth, blank(2)).curve().shape == (0, 3)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0, (1 / 2, 0)),  # above the surest false alarm at 0.7: the upper lesion
        (0.49, (1 / 2, 0)),
        (0.5, (2 / 2, 1 / 2)),  # one false alarm on two images
        (9, (2 / 2, 1 / 2)),
    ],
)
def test_what_is_left_at_a_rate_of_false_alarms(rate, expected):
    truth, found = with_lesions(UPPER, LOWER, images=2), with_lesions(UPPER, LOWER, images=2)
    found[1][UPPER] = 4
    scores = np.zeros(found.shape)
    scores[0, 2, 2], scores[1, 2, 2], scores[0, 12, 12] = 0.9, 0.7, 0.4
    response = free_response(truth, found, scores).at(rate)
    assert (response.sensitivity, response.false_positives_per_image) == expected


def test_a_rate_allows_as_many_false_alarms_as_it_says():
    """29 of 100, though 0.29 x 100 is a little less in binary."""
    nothing = np.zeros(0)
    response = FreeResponse(100, nothing, nothing, np.arange(50), np.arange(50) / 50)
    assert len(response.at(0.29).false_scores) == 29


@pytest.mark.parametrize("rate", [-0.5, float("nan"), float("inf")])
def test_a_rate_is_a_number_of_0_or_more(rate):
    with pytest.raises(ConfigError, match=f"rate: expected a finite number of 0 or more, received: {rate}"):
        free_response(blank(), blank()).at(rate)


@pytest.mark.parametrize("score", [float("nan"), -float("inf"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(score):
    scores = np.zeros((1, 16, 16))
    scores[0, 0, 0] = score
    with pytest.raises(DataError, match="scores: expected finite numbers, received: others; give probabilities"):
        free_response(with_lesions(UPPER), with_lesions(UPPER), scores)


def test_an_overlap_of_hundredths_counts_at_its_limit():
    truth, found = np.zeros((2, 1, 10, 10), np.uint8)
    truth[:] = LESION
    found[0].flat[:55] = LESION
    assert free_response(truth, found, iou=0.55).sensitivity == 1
    for iou in (0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="iou: expected a number above 0, at most 1"):
            free_response(truth, found, iou=iou)


def test_different_shapes_are_refused():
    with pytest.raises(DataError, match="received"):
        free_response(blank(2), blank(1))
    with pytest.raises(DataError, match="received"):
        free_response(blank(), blank(), np.ones((1, 4, 4)))
