"""Which part of a film the networks see: all of it, or a square around a lesion.

A window is cut from its film with a margin around it, so that training may shift and scale it at random. Where it is to
stay the same, as in a test, it lies off the centre by a shift of its own and has a scale of its own, both drawn from the
film's id: a lesion in the middle of every picture would be found without looking.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mammogan_tf.config import ADIPOSE, FIBROGLANDULAR, LESION, NORMAL
from mammogan_tf.data.film import Film, Lesion

__all__ = ["CANVAS", "MAX_SHIFT", "MAX_ZOOM", "Window", "find_windows", "has_window"]


DIAMETERS = 2.5
"""Side of a window in diameters of its lesion."""

MIN_SIDE = 64
"""Side of a window in pixels of the film, at least."""

CANVAS = 1.5
"""Side of what is cut out, in sides of the window."""

MAX_SHIFT = 0.15
"""Largest shift of a fixed window off the centre, down and across, in sides of the window."""

MAX_ZOOM = 1.25
"""Largest factor by which a fixed window is enlarged or shrunk."""

TISSUE_RADII = (20 / 1024, 100 / 1024)
"""Radii of the made-up lesions that windows of normal films are put around, in sides of the film's square: the middle
four fifths of mini-MIAS."""


@dataclass(frozen=True)
class Window:
    """A part of a film's square, ``side`` pixels wide about (``row``, ``column``), and the label of what it shows.

    ``canvas`` is the side of what is cut out, in sides of the window; ``corner`` the place in the canvas where the window
    begins when it is not moved at random, in shares of the room there is: (0.5, 0.5) puts it into the middle.
    """

    row: float
    column: float
    side: float
    label: int
    canvas: float = CANVAS
    corner: tuple[float, float] = (0.5, 0.5)

    def cut(self, square: np.ndarray) -> np.ndarray:
        """The canvas: [H, H] -> [K, K], black where it reaches beyond the picture."""
        side = max(1, round(self.side * self.canvas))
        top, left = round(self.row - side / 2), round(self.column - side / 2)
        canvas = np.zeros((side, side), square.dtype)
        part = square[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        canvas[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] = part
        return canvas


def has_window(film: Film) -> bool:
    """Whether there may be anything to put a window around: not where a lesion is known to exist but not where."""
    return bool(film.lesions) or film.label == NORMAL or film.drawn is not None


def find_windows(film: Film, view: str, label_map: np.ndarray, lesions: Sequence[Lesion]) -> list[Window]:
    """All of the film; or one window for each lesion, and in a normal film one around some tissue.

    Args:
        film: the film; windows are a function of its id and of the other arguments.
        view: one of ``config.VIEWS``.
        label_map: uint8 [H, H], of the film in its square.
        lesions: its circles, in pixels of the square; where there are none, lesions drawn into the label map count.
    """
    if view == "whole":
        height = label_map.shape[0]
        return [Window(height / 2, height / 2, height, film.label, canvas=1)]
    circles = list(lesions) or _drawn_lesions(film, label_map)
    if not circles and film.label == NORMAL:
        circles = [_some_tissue(film, label_map)]
    return [_around(circle, film.random(index)) for index, circle in enumerate(circles)]


def _around(circle: Lesion, random: np.random.Generator) -> Window:
    zoom = MAX_ZOOM ** random.uniform(-1, 1)
    shift = random.uniform(-MAX_SHIFT, MAX_SHIFT, 2) / (CANVAS - 1)
    side = max(MIN_SIDE, DIAMETERS * 2 * circle.radius * zoom)
    corner = (float(0.5 + shift[0]), float(0.5 + shift[1]))
    return Window(circle.row + 0.5, circle.column + 0.5, side, circle.label, corner=corner)


def _drawn_lesions(film: Film, label_map: np.ndarray) -> list[Lesion]:
    components, _ = ndimage.label(label_map == LESION, np.ones((3, 3)))
    circles = []
    for rows, columns in ndimage.find_objects(components):
        radius = max(rows.stop - rows.start, columns.stop - columns.start) / 2
        row, column = (rows.start + rows.stop - 1) / 2, (columns.start + columns.stop - 1) / 2
        circles.append(Lesion("drawn", film.label, column, row, radius))
    return circles


def _some_tissue(film: Film, label_map: np.ndarray) -> Lesion:
    """A circle about a random pixel of the breast; about the middle of the picture where there is no breast."""
    random = film.random(-1)
    rows, columns = np.nonzero((label_map == ADIPOSE) | (label_map == FIBROGLANDULAR))
    middle = (label_map.shape[0] - 1) / 2
    index = random.integers(len(rows)) if len(rows) else None
    row, column = (middle, middle) if index is None else (float(rows[index]), float(columns[index]))
    least, largest = (math.log(radius * label_map.shape[0]) for radius in TISSUE_RADII)
    return Lesion("tissue", film.label, column, row, math.exp(random.uniform(least, largest)))
