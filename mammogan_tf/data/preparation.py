"""One film as the networks see it: chest wall on the left, background black, shrunk by area, beside its label map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mammogan_tf.data.anatomy import Anatomy, find_anatomy
from mammogan_tf.data.film import Film, Lesion, read_grey
from mammogan_tf.data.label_maps import LESION, shrink_label_map

__all__ = ["Geometry", "Prepared", "find_geometry", "paint_lesions", "prepare", "shrink"]


@dataclass(frozen=True)
class Geometry:
    """How a film of ``height`` x ``width`` pixels lies in its square.

    The film is mirrored if ``flipped``, loses ``offset`` columns of padding at the chest wall, and is filled up with
    black on the right or at the bottom.
    """

    height: int
    width: int
    flipped: bool
    offset: int

    @property
    def side(self) -> int:
        return max(self.height, self.width - self.offset)

    def to_square(self, film: np.ndarray) -> np.ndarray:
        """[height, width] -> [side, side]."""
        turned = film[:, ::-1] if self.flipped else film
        kept = turned[:, self.offset :]
        return np.pad(kept, ((0, self.side - self.height), (0, self.side - kept.shape[1])))

    def to_film(self, label_map: np.ndarray) -> np.ndarray:
        """Label map uint8 [S, S] -> uint8 [height, width] in the film's own orientation."""
        side = (self.side, self.side)
        square = np.asarray(Image.fromarray(label_map).resize(side, Image.Resampling.NEAREST))
        turned = np.pad(square[: self.height, : self.width - self.offset], ((0, 0), (self.offset, 0)))
        return np.ascontiguousarray(turned[:, ::-1] if self.flipped else turned)

    def move(self, lesion: Lesion) -> Lesion:
        """The same circle in pixels of the square."""
        column = self.width - 1 - lesion.column if self.flipped else lesion.column
        return Lesion(lesion.kind, lesion.label, column - self.offset, lesion.row, lesion.radius)


@dataclass(frozen=True)
class Prepared:
    """A film as the networks see it, uint8 [S, S] each; the background is black in ``image``, as it was in ``film``."""

    image: np.ndarray
    film: np.ndarray
    label_map: np.ndarray
    geometry: Geometry


def prepare(film: Film, size: int) -> Prepared:
    """Reads a film, finds its anatomy, turns the chest wall to the left and shrinks everything by area.

    Raises:
        DataError: the film cannot be read.
    """
    grey = read_grey(film.path)
    anatomy = find_anatomy(grey, film.side)
    outline, geometry = _locate(grey, anatomy)
    label_map = _enlarge(anatomy.label_map, grey.shape, Image.Resampling.NEAREST)
    square = paint_lesions(geometry.to_square(label_map), [geometry.move(lesion) for lesion in film.lesions])
    return Prepared(
        image=shrink(geometry.to_square(np.where(outline, grey, 0).astype(np.uint8)), size),
        film=shrink(geometry.to_square(grey), size),
        label_map=shrink_label_map(square, size),
        geometry=geometry,
    )


def find_geometry(grey: np.ndarray, side: str | None = None) -> Geometry:
    """How a film uint8 [H, W] is to lie in its square; ``side`` is the edge of its chest wall, found where None."""
    return _locate(grey, find_anatomy(grey, side))[1]


def _locate(grey: np.ndarray, anatomy: Anatomy) -> tuple[np.ndarray, Geometry]:
    """The outline of breast and muscle, bool [H, W], and the geometry that follows from it."""
    height, width = grey.shape
    outline = _enlarge(np.where(anatomy.label_map > 0, 255, 0), grey.shape, Image.Resampling.BILINEAR) > 127
    turn = slice(None, None, -1 if anatomy.side == "right" else 1)
    return outline, Geometry(height, width, anatomy.side == "right", _padding(grey[:, turn], outline[:, turn]))


def _enlarge(picture: np.ndarray, shape: tuple[int, ...], method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(picture.astype(np.uint8)).resize((shape[1], shape[0]), method))


def _padding(grey: np.ndarray, outline: np.ndarray) -> int:
    """Columns on the left before the first one that shows tissue at full brightness."""
    columns = np.flatnonzero(outline.any(axis=0))
    if columns.size == 0:
        return 0
    first, reach = columns[0], math.ceil(grey.shape[1] / 100)
    rows = outline[:, first : first + reach].any(axis=1)
    brightness = grey[rows, first : first + reach].mean(axis=0)
    return int(first + np.argmax(brightness > 0.9 * brightness.max()))


def paint_lesions(label_map: np.ndarray, lesions: Sequence[Lesion]) -> np.ndarray:
    """A copy of ``label_map`` (uint8 [H, W]) with a filled circle for each lesion."""
    painted = label_map.copy()
    rows, columns = np.ogrid[: label_map.shape[0], : label_map.shape[1]]
    for lesion in lesions:
        inside = (rows - lesion.row) ** 2 + (columns - lesion.column) ** 2 <= max(lesion.radius, 1) ** 2
        painted[inside] = LESION
    return painted


def shrink(grey: np.ndarray, size: int) -> np.ndarray:
    """Shrinks a square picture, uint8 [H, H] -> uint8 [size, size], by area."""
    return np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BOX))
