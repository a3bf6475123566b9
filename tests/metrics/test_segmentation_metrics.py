import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.segmentation import REGIONS, dice, iou, region_dice, region_iou

TRUTH = np.array([[[0, 1, 1, 2], [0, 3, 4, 2]]])
FOUND = np.array([[[0, 1, 2, 2], [3, 3, 1, 2]]])


def test_one_class_by_hand():
    # pectoral: 1 pixel in truth, 2 in found, 1 in both
    assert dice(TRUTH, FOUND, 3) == pytest.approx([2 * 1 / (1 + 2)])
    assert iou(TRUTH, FOUND, 3) == pytest.approx([1 / (1 + 2 - 1)])


def test_a_lesion_counts_as_breast():
    # breast (1, 2, 4): the same 5 pixels in both maps, although the lesion was missed
    assert region_dice(TRUTH, FOUND)["breast"] == pytest.approx([2 * 5 / (5 + 5)])
    assert region_dice(TRUTH, FOUND)["lesion"] == pytest.approx([0])
    # dense: 2 in truth, 3 in found, 2 in both
    assert region_iou(TRUTH, FOUND)["dense"] == pytest.approx([2 / (2 + 3 - 2)])
    assert list(region_dice(TRUTH, FOUND)) == list(REGIONS)


def test_a_region_in_neither_map_is_not_judged():
    empty = np.zeros((2, 4, 4), np.uint8)
    assert np.isnan(dice(empty, empty, 4)).all()
    assert np.isnan(iou(empty, empty, 4)).all()
    lesion = empty.copy()
    lesion[1, 0, 0] = 4
    assert np.isnan(dice(empty, lesion, 4)[0])
    assert dice(empty, lesion, 4)[1] == 0


def test_one_value_an_image_with_any_leading_axes():
    assert dice(np.stack([TRUTH, TRUTH]), np.stack([TRUTH, FOUND]), (1, 2, 4)).shape == (2, 1)
    assert dice(TRUTH[0], TRUTH[0], 1) == 1


def test_different_shapes_are_refused():
    with pytest.raises(DataError, match="same shape"):
        dice(TRUTH, FOUND[:, :1], 1)
