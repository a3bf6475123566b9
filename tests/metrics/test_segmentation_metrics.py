import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.segmentation import (
    REGIONS,
    by_region,
    dice,
    hd95,
    iou,
    precision,
    region_dice,
    sensitivity,
    where_asked,
)

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
    assert by_region(iou, TRUTH, FOUND)["dense"] == pytest.approx([2 / (2 + 3 - 2)])
    assert list(region_dice(TRUTH, FOUND)) == list(REGIONS)


@pytest.mark.parametrize("lesion", [4, (4,), [4]])
def test_what_is_found_where_nobody_asked_has_no_value(lesion):
    asked, empty = TRUTH[0], np.zeros_like(TRUTH[0])
    found = where_asked(dice, np.stack([asked, empty]), np.stack([empty, asked]), lesion)
    np.testing.assert_array_equal(found, [0, np.nan])
    assert where_asked(iou, TRUTH, FOUND, (1, 2, 4)) == pytest.approx(iou(TRUTH, FOUND, (1, 2, 4)))


def test_a_region_in_neither_map_has_no_value():
    empty = np.zeros((2, 4, 4), np.uint8)
    assert np.isnan(dice(empty, empty, 4)).all()
    assert np.isnan(iou(empty, empty, 4)).all()
    lesion = empty.copy()
    lesion[1, 0, 0] = 4
    assert np.isnan(dice(empty, lesion, 4)[0])
    assert dice(empty, lesion, 4)[1] == 0


def test_sensitivity_and_precision_by_hand():
    # pectoral: 1 pixel in truth, 2 in found, 1 in both
    assert sensitivity(TRUTH, FOUND, 3) == pytest.approx([1 / 1])
    assert precision(TRUTH, FOUND, 3) == pytest.approx([1 / 2])
    # lesion: in the truth only
    assert sensitivity(TRUTH, FOUND, 4).tolist() == [0]
    assert np.isnan(precision(TRUTH, FOUND, 4)).all()


def test_hd95_by_hand():
    # two lines of 21 pixels, 3 rows apart, one with a spur of one pixel that reaches 2 rows farther away
    truth, found = np.zeros((16, 21), int), np.zeros((16, 21), int)
    truth[2], found[5] = 1, 1
    assert hd95(truth, found, 1) == 3
    found[6:8, 10] = 1
    # back: 21 distances of 3, then 4 and 5: the percentile lies at 0.95 * 22 = 20.9, between the last 3 and the 4
    assert hd95(truth, found, 1) == pytest.approx(3 + 0.9 * (4 - 3))
    found[6:8, 11] = 1
    # 25 distances, the last four 4, 4, 5, 5: at 0.95 * 24 = 22.8, between the second 4 and the first 5
    assert hd95(truth, found, 1) == pytest.approx(4 + 0.8 * (5 - 4))


def test_hd95_of_an_empty_region():
    empty, full = np.zeros((2, 3, 4), int), np.ones((2, 3, 4), int)
    assert np.isnan(hd95(empty, empty, 1)).all()
    assert hd95(empty, full, 1).tolist() == hd95(full, empty, 1).tolist() == [(3**2 + 4**2) ** 0.5] * 2
    assert hd95(full, full, 1).tolist() == [0, 0]


def test_one_value_an_image_with_any_leading_axes():
    assert dice(np.stack([TRUTH, TRUTH]), np.stack([TRUTH, FOUND]), (1, 2, 4)).shape == (2, 1)
    assert dice(TRUTH[0], TRUTH[0], 1) == 1


@pytest.mark.parametrize("measure", [dice, iou, hd95, sensitivity, precision])
def test_a_row_of_pixels_is_no_label_map(measure):
    with pytest.raises(DataError, match=r"two \[..., H, W\] of the same shape, received: \(4,\) and \(4,\)"):
        measure(np.ones(4), np.ones(4), 1)


def test_different_shapes_are_refused():
    for measure in (dice, hd95):
        with pytest.raises(DataError, match="same shape"):
            measure(TRUTH, FOUND[:, :1], 1)
