import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.data.mask_editing import SHIFT, add_lesion, deform_label_map, interpolate_label_maps, remove_lesions
from mammogan_tf.errors import ConfigError

SIZE = 32


@pytest.fixture
def anatomy() -> np.ndarray:
    """A breast of radius 12 about row 16 at the left edge, dense in its lower half, muscle in its upper corner."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    breast = np.hypot(rows - 16, columns) < 12
    return np.select([breast & (rows + columns < 10), breast & (rows > 16), breast], [3, 2, 1], 0).astype(np.uint8)


def test_a_lesion_that_is_taken_away_becomes_the_tissue_around_it(anatomy):
    with_lesion = anatomy.copy()
    with_lesion[11:14, 5:8] = LESION
    np.testing.assert_array_equal(remove_lesions(with_lesion), anatomy)
    np.testing.assert_array_equal(remove_lesions(anatomy), anatomy)
    assert not remove_lesions(np.full((4, 4), LESION, np.uint8)).any()


def test_a_lesion_is_put_where_it_is_asked_for(anatomy):
    """Radius 4 / 32 about (6, 16): an area of pi 4^2 pixels."""
    changed = add_lesion(anatomy, x=6 / SIZE, y=16 / SIZE, radius=4 / SIZE)
    rows, columns = np.nonzero(changed == LESION)
    assert len(rows) == pytest.approx(np.pi * 4**2, rel=0.25)  # A pixel counts from a quarter of it on.
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((16, 6), abs=0.3)
    np.testing.assert_array_equal(changed[changed != LESION], anatomy[changed != LESION])


def test_a_lesion_stays_on_the_breast_and_has_a_pixel(anatomy):
    far = add_lesion(anatomy, x=0.95, y=0.05, radius=0.05)
    np.testing.assert_array_equal(far, anatomy)
    over_the_skin = add_lesion(anatomy, x=12 / SIZE, y=16 / SIZE, radius=3 / SIZE)
    assert (over_the_skin == LESION).any()
    assert not (over_the_skin[anatomy == 0] == LESION).any()
    assert (add_lesion(anatomy, x=5.5 / SIZE, y=15.5 / SIZE, radius=1e-4) == LESION).sum() == 1


@pytest.mark.parametrize(("x", "y", "radius"), [(-0.1, 0.5, 0.1), (0.5, 1.0, 0.1), (0.5, 0.5, 0), (0.5, 0.5, 0.6)])
def test_a_lesion_outside_the_mask_is_refused(anatomy, x, y, radius):
    with pytest.raises(ConfigError, match="lesion"):
        add_lesion(anatomy, x, y, radius)


def test_varied_anatomies_differ_and_stay_anatomies(anatomy):
    anatomy = add_lesion(anatomy, x=6 / SIZE, y=14 / SIZE, radius=3 / SIZE)
    varied = [deform_label_map(anatomy, seed) for seed in range(20)]
    np.testing.assert_array_equal(deform_label_map(anatomy, 3), varied[3])
    assert len({map_.tobytes() for map_ in [anatomy, *varied]}) == 21
    shares = np.array([[(map_ == value).mean() for value in range(5)] for map_ in varied])
    assert (shares[:, 1:] > 0).all()
    breast, kept = 1 - shares[:, 0], np.array([(map_ > 0) & (anatomy > 0) for map_ in varied]).sum(axis=(1, 2))
    overlap = 2 * kept / ((anatomy > 0).sum() + breast * SIZE**2)
    assert (overlap > 0.75).all()
    assert all((map_[:, 0] > 0).any() for map_ in varied)  # The breast still lies at the chest wall.


def test_tissue_that_the_right_edge_cuts_off_goes_on_there():
    window = np.ones((SIZE, SIZE), np.uint8)
    window[: SIZE // 2] = 2
    for seed in range(20):
        assert (deform_label_map(window, seed) > 0).all()


def test_varied_anatomies_are_shifted_along_the_chest_wall(monkeypatch):
    """What lies there half-way down is neither turned nor scaled away; its middle is at row 31.5 of 64."""
    monkeypatch.setattr("mammogan_tf.data.mask_editing.BEND", 0)
    thin = np.zeros((64, 64), np.uint8)
    thin[28:36, :2] = 1
    shifts = [np.nonzero(deform_label_map(thin, seed))[0].mean() - 31.5 for seed in range(40)]
    assert min(shifts) == pytest.approx(-64 * SHIFT, abs=0.6)
    assert max(shifts) == pytest.approx(64 * SHIFT, abs=0.6)


@pytest.mark.parametrize("seed", [*range(5), 20, 25, 31, 40, 48])
def test_a_varied_anatomy_is_the_same_with_a_lesion_and_keeps_it(anatomy, seed):
    """With the last five seeds the lesion's only pixel falls between those of the new map."""
    lesion = add_lesion(anatomy, x=6 / SIZE, y=14 / SIZE, radius=1e-4)
    varied = deform_label_map(lesion, seed)
    assert (varied == LESION).any()
    np.testing.assert_array_equal(varied[varied != LESION], deform_label_map(anatomy, seed)[varied != LESION])


def test_between_two_maps_outlines_move(anatomy):
    """A square that is 8 pixels further to the right is half-way 4 pixels further."""
    first, second, middle = (np.zeros((SIZE, SIZE), np.uint8) for _ in range(3))
    for map_, left in ((first, 4), (second, 12), (middle, 8)):
        map_[10:22, left : left + 12] = 1
    assert (interpolate_label_maps(first, second, 0.5) != middle).mean() < 0.04
    lesion = anatomy.copy()
    lesion[14:17, 4:7] = LESION
    assert (interpolate_label_maps(anatomy, lesion, 0.7) == LESION).any()
    assert not (interpolate_label_maps(anatomy, lesion, 0.3) == LESION).any()
    np.testing.assert_array_equal(interpolate_label_maps(anatomy, second, 0), anatomy)
    np.testing.assert_array_equal(interpolate_label_maps(anatomy, second, 1), second)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_between_two_maps_comes_nothing_that_neither_has(share):
    """Background in one is dense in the other, fat between them: few pixels lie in any class half-way."""
    first, second = np.zeros((2, SIZE, SIZE), np.uint8)
    first[:, :28], second[:, :12] = 1, 1
    first[4:28, :24], second[4:28, :4] = 2, 2
    assert set(np.unique(interpolate_label_maps(first, second, share))) <= {0, 1, 2}
