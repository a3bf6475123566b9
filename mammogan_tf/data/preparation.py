"""One film as the networks see it, whole or in windows: chest wall on the left, background black, beside its label map."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mammogan_tf.config import LESION
from mammogan_tf.data.anatomy import Anatomy, find_anatomy
from mammogan_tf.data.film import AUTOMATIC, Film, Lesion, read_drawn_mask, read_grey
from mammogan_tf.data.label_maps import shrink_label_map
from mammogan_tf.data.lesions import refine_lesion
from mammogan_tf.data.variants import make_variants
from mammogan_tf.data.windows import CANVAS, find_windows
from mammogan_tf.errors import DataError

__all__ = [
    "Geometry",
    "Prepared",
    "canvas_size",
    "find_geometry",
    "outline_film",
    "paint_lesions",
    "prepare",
    "shrink",
]


EDGE = 0.02
"""Share of a film's height: what lies above tissue that begins there is the film's edge, and further down background."""

SLIVER = 0.01
"""Share of a film's longer side: tissue drawn further beyond the automatic outline at the chest wall is not cut off."""

MAX_PIXELS = 2 * 89_478_485
"""Most pixels of all pictures of a film together: they are kept in one PNG, and Pillow opens no larger one."""


@dataclass(frozen=True)
class Geometry:
    """How a film of ``height`` x ``width`` pixels lies in its square.

    The film is mirrored if ``flipped``, loses ``left`` columns of padding at the chest wall and ``top`` rows at its top,
    and is filled up with black on the right or at the bottom.
    """

    height: int
    width: int
    flipped: bool = False
    left: int = 0
    top: int = 0

    @property
    def extent(self) -> int:
        """Side of the square, in pixels."""
        return max(self.height - self.top, self.width - self.left)

    def to_square(self, film: np.ndarray) -> np.ndarray:
        """[height, width] -> [extent, extent]."""
        turned = film[:, ::-1] if self.flipped else film
        kept = turned[self.top :, self.left :]
        return np.pad(kept, ((0, self.extent - kept.shape[0]), (0, self.extent - kept.shape[1])))

    def to_film(self, label_map: np.ndarray) -> np.ndarray:
        """Label map uint8 [S, S] -> uint8 [height, width] in the film's own orientation."""
        pixels = (self.extent, self.extent)
        square = np.asarray(Image.fromarray(label_map).resize(pixels, Image.Resampling.NEAREST))
        kept = square[: self.height - self.top, : self.width - self.left]
        turned = np.pad(kept, ((self.top, 0), (self.left, 0)))
        return np.ascontiguousarray(turned[:, ::-1] if self.flipped else turned)

    def move(self, lesion: Lesion) -> Lesion:
        """The same circle in pixels of the square."""
        column = self.width - 1 - lesion.column if self.flipped else lesion.column
        return Lesion(lesion.kind, lesion.label, column - self.left, lesion.row - self.top, lesion.radius)


@dataclass(frozen=True)
class Prepared:
    """What the networks see of a film: one picture for each of its K windows, uint8 [K, C, C] each; K may be 0.

    Of a whole film the first picture is the film, and the others are its variants. C is the size asked for where the whole
    film is seen, else that of a window with its margin. The background is black in ``images``, and as it was in ``raw``.
    ``labels`` and ``corners`` (row and column where the window begins when it is not moved at random) have an entry a
    picture; ``confidence`` in [0, 1] says how far the automatic mask is to be trusted.
    """

    images: np.ndarray
    raw: np.ndarray
    label_maps: np.ndarray
    labels: tuple[int, ...]
    corners: tuple[tuple[int, int], ...]
    confidence: float
    geometry: Geometry


def canvas_size(size: int, view: str) -> int:
    """Side in pixels of the pictures that :func:`prepare` makes for networks of side ``size``."""
    return size if view == "whole" else round(size * CANVAS)


def prepare(film: Film, size: int, view: str = "whole", lesions: str = "circle", variants: int = 0) -> Prepared:
    """Reads a film, finds its anatomy, turns the chest wall to the left and shrinks what is to be seen by area.

    Args:
        film: a film; a mask drawn by hand takes the place of the automatic one wherever it has a class.
        size: S, height and width in pixels.
        view: one of ``config.VIEWS``.
        lesions: one of ``config.LESION_OUTLINES``.
        variants: of a whole film, beside it (:mod:`mammogan_tf.data.variants`).

    Raises:
        DataError: the film or its drawn mask cannot be read, or it has more lesions or variants than :data:`MAX_PIXELS` hold.
    """
    grey = read_grey(film.path)
    anatomy = find_anatomy(grey, film.side)
    outline, geometry = _locate(grey, anatomy)
    label_map = _enlarge(anatomy.label_map, grey.shape, Image.Resampling.NEAREST).copy()
    confidence = anatomy.confidence
    if film.drawn is not None:
        drawn = read_drawn_mask(film.drawn, grey.shape)
        automatic = drawn == AUTOMATIC
        label_map, outline = np.where(automatic, label_map, drawn), np.where(automatic, outline, drawn > 0)
        as_drawn = _lie(grey, outline, anatomy.side)
        if geometry.left - as_drawn.left > SLIVER * max(grey.shape):
            geometry = as_drawn
        confidence = confidence if automatic.any() else 1.0
    if lesions == "refined":
        for lesion in film.lesions:
            label_map[refine_lesion(grey, lesion, outline).mask] = LESION
    else:
        label_map = paint_lesions(label_map, film.lesions)
    square = geometry.to_square(label_map)
    windows = find_windows(film, view, square, [geometry.move(lesion) for lesion in film.lesions])
    canvas = canvas_size(size, view)
    variants = variants if view == "whole" else 0
    if (count := len(windows) * (1 + variants)) > (most := MAX_PIXELS // canvas**2):
        if variants:
            raise DataError(
                f"{film.path}: expected at most {most - 1} variants at {size} pixels, received: {variants}; take fewer of either"
            )
        raise DataError(
            f"{film.path}: expected at most {most} lesions at {size} pixels, received: {count}; "
            "merge them, clear its mask of specks, or take fewer pixels"
        )
    room = canvas - size

    def pictures(scene: np.ndarray, resize: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        cut = [resize(window.cut(scene), canvas) for window in windows]
        return np.array(cut, np.uint8).reshape(-1, canvas, canvas)

    scenes = geometry.to_square(np.where(outline, grey, 0).astype(np.uint8)), geometry.to_square(grey), square
    layers = [pictures(scene, resize) for scene, resize in zip(scenes, (shrink, shrink, shrink_label_map), strict=True)]
    if variants:
        moved = make_variants(*scenes, size, variants, film.random("variants"))
        layers = [np.concatenate(parts) for parts in zip(layers, moved, strict=True)]
        windows = windows * (1 + variants)
    images, raw, label_maps = layers
    return Prepared(
        images=images,
        raw=raw,
        label_maps=label_maps,
        labels=tuple(window.label for window in windows),
        corners=tuple((round(row * room), round(column * room)) for row, column in (w.corner for w in windows)),
        confidence=confidence,
        geometry=geometry,
    )


def find_geometry(grey: np.ndarray, view: str = "whole", side: str | None = None) -> Geometry:
    """How a picture uint8 [H, W] is to lie in its square: a whole film turned and trimmed, a window of one as it is.

    ``side`` is the edge where the chest wall is, found in the picture where None.
    """
    if view == "roi":
        height, width = grey.shape
        return Geometry(height, width)
    return outline_film(grey, side)[1]


def outline_film(grey: np.ndarray, side: str | None = None) -> tuple[np.ndarray, Geometry, float]:
    """The automatic anatomy of a whole film uint8 [H, W].

    Returns its label map at the size of the film, how the film is to lie in its square, and how far to trust both, in [0, 1]
    (:class:`mammogan_tf.data.anatomy.Anatomy`). ``side`` as in :func:`find_geometry`.
    """
    anatomy = find_anatomy(grey, side)
    label_map = _enlarge(anatomy.label_map, grey.shape, Image.Resampling.NEAREST)
    return label_map, _locate(grey, anatomy)[1], anatomy.confidence


def _locate(grey: np.ndarray, anatomy: Anatomy) -> tuple[np.ndarray, Geometry]:
    """The outline of breast and muscle, bool [H, W], and the geometry that follows from it."""
    outline = _enlarge(np.where(anatomy.label_map > 0, 255, 0), grey.shape, Image.Resampling.BILINEAR) > 127
    return outline, _lie(grey, outline, anatomy.side)


def _lie(grey: np.ndarray, outline: np.ndarray, side: str) -> Geometry:
    """How a film with this outline, bool [H, W], and its chest wall at this edge is to lie in its square."""
    height, width = grey.shape
    flipped = side == "right"
    turn = slice(None, None, -1 if flipped else 1)
    at_wall, at_top = _edge(grey[:, turn], outline[:, turn]), _edge(grey.T, outline.T)
    top = at_top if at_top <= height * EDGE else 0
    return Geometry(height, width, flipped, left=at_wall, top=top)


def _enlarge(picture: np.ndarray, shape: tuple[int, ...], method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(picture.astype(np.uint8)).resize((shape[1], shape[0]), method))


def _edge(grey: np.ndarray, outline: np.ndarray) -> int:
    """Columns on the left before the first one that shows tissue at full brightness."""
    columns = np.flatnonzero(outline.any(axis=0))
    if columns.size == 0:
        return 0
    first, reach = columns[0], math.ceil(max(grey.shape) / 100)
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
    """Shrinks a square picture, uint8 [H, H] -> uint8 [size, size], by area; a smaller one is enlarged."""
    method = Image.Resampling.BOX if grey.shape[0] >= size else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(grey).resize((size, size), method))
