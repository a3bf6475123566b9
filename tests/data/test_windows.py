from pathlib import Path

import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.data.film import Film, Lesion
from mammogan_tf.data.windows import find_windows

SIDE = 1024


def windows(*lesions, name="mdb144", label=0, label_map=None):
    """The windows of a film of the roi view, all of whose square is adipose unless told otherwise."""
    label_map = np.ones((SIDE, SIDE), np.uint8) if label_map is None else label_map
    return find_windows(Film(name, Path("film.pgm"), "patient", label), "roi", label_map, lesions)


def lesion(column=200, row=300, label=0, radius=40):
    return Lesion("MISC", label, column, row, radius)


def test_each_lesion_has_a_window_of_its_own_about_it():
    one, other = windows(lesion(200, 300, label=0), lesion(600, 500, label=1))
    assert (one.label, other.label) == (0, 1)
    # Pixel 300 reaches from 300 to 301.
    assert [(window.row, window.column) for window in (one, other)] == [(300.5, 200.5), (500.5, 600.5)]
    assert one.corner != other.corner
    assert one.side != other.side


def test_windows_are_zoomed_in_and_out_up_to_the_limit():
    sides = [windows(lesion(radius=40), name=f"film{number}")[0].side for number in range(60)]
    zooms = np.array(sides) / (2.5 * 2 * 40)
    assert 1 / 1.25 < zooms.min() < 1 / 1.25 + 0.05
    assert 1.25 - 0.05 < zooms.max() < 1.25


@pytest.mark.parametrize("tissue", [1, 2])
def test_a_normal_film_has_a_window_around_breast_tissue_and_not_around_muscle(tissue):
    label_map = np.full((256, 256), 3, np.uint8)
    label_map[:, 128:] = 0
    label_map[150, 100] = tissue
    (window,) = windows(label=2, label_map=label_map)
    assert (window.row, window.column, window.label) == (150.5, 100.5, 2)


def test_drawn_parts_that_touch_at_a_corner_are_one_lesion():
    label_map = np.ones((SIDE, SIDE), np.uint8)
    label_map[100:140, 200:260] = label_map[140:200, 260:300] = LESION
    (window,) = windows(label=1, label_map=label_map)
    assert (window.row, window.column, window.label) == ((100 + 200) / 2, (200 + 300) / 2, 1)
