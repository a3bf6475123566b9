"""Joint transforms of film and label map, as TensorFlow functions that draw only from the seed they are given."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mammogan_tf.config import CLASSES
from mammogan_tf.data.windows import MAX_SHIFT, MAX_ZOOM

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "augment_film",
    "from_network_range",
    "one_hot",
    "paste_film_marker",
    "to_network_range",
]


def one_hot(label_map: tf.Tensor) -> tf.Tensor:
    """Label map [..., H, W] with values 0-4 to float32 [..., H, W, 5]."""
    return tf.one_hot(tf.cast(label_map, tf.int32), len(CLASSES))


def to_network_range(image: tf.Tensor) -> tf.Tensor:
    """[0, 1] to [-1, 1], the range inside the GAN."""
    return image * 2.0 - 1.0


def from_network_range(image: Any) -> Any:
    """[-1, 1] to [0, 1], of a tensor or an array."""
    return (image + 1) / 2


@dataclass(frozen=True)
class Augmentation:
    """How far a film may be changed.

    Attributes:
        rotation: largest angle, in degrees.
        scale: largest change of size, as a share: 0.15 draws from 0.85-1.15.
        shift: largest shift along either axis, as a share of the side.
        elastic: standard deviation of the elastic shift, as a share of the side (Simard et al. 2003).
        mirror: how often left and right change places.
        gamma: largest exponent of the grey levels; the smallest is its inverse.
        noise: largest standard deviation of film noise.
    """

    rotation: float = 12.0
    scale: float = 0.15
    shift: float = 0.08
    elastic: float = 0.0
    mirror: float = 0.0
    gamma: float = 1.4
    noise: float = 0.03


AUGMENTATIONS = {
    "whole": Augmentation(),
    "roi": Augmentation(rotation=45.0, scale=MAX_ZOOM - 1, shift=MAX_SHIFT, elastic=0.02, mirror=0.5),
}
"""The augmentation of each view. A whole film is never mirrored and not bent: its chest wall lies on the left, and networks
that had seen it on the right, or tissue out of shape, outlined muscle and dense tissue worse. Windows of a test vary as much
as the shift and the scale of the roi view."""


def augment_film(
    image: tf.Tensor, label_map: tf.Tensor, key: tf.Tensor, size: int, limits: Augmentation = Augmentation()
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves film and label map together, then changes the film's grey levels.

    The film is turned, scaled and bent about the centre of its canvas, and the middle of it cut out. What comes in from
    outside the canvas is black background.

    Args:
        image: float32 [C, C, 1] in [0, 1], C - size even, 0 or more: a film, or a film with some of its surroundings.
        label_map: uint8 [C, C].
        key: int64 [2]; the same key gives the same film.
        size: S.
        limits: how far the film may be changed.

    Returns:
        The film float32 [S, S, 1] in [0, 1] and its label map uint8 [S, S].
    """
    draw = tf.random.stateless_uniform([7], key)
    places = _affine(draw, size, limits) + _bend(key, size) * limits.elastic * size
    places += (tf.cast(tf.shape(image)[0], tf.float32) - 1.0) / 2.0
    image = keras.ops.image.map_coordinates(image[..., 0], places, order=1)[..., None]
    label_map = keras.ops.image.map_coordinates(tf.cast(label_map, tf.float32), places, order=0)
    image = tf.pow(tf.clip_by_value(image, 0.0, 1.0), limits.gamma ** (draw[5] * 2.0 - 1.0))
    noise = tf.random.stateless_normal(tf.shape(image), key + 1) * limits.noise * draw[6]
    return tf.clip_by_value(image + noise * tf.cast(image > 0, tf.float32), 0.0, 1.0), tf.cast(label_map, tf.uint8)


def paste_film_marker(image: tf.Tensor, label_map: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Lays a bright strip with strokes of another grey, as of letters, over the background of a film, behind the tissue.

    Args:
        image: float32 [S, S, 1] in [0, 1].
        label_map: uint8 [S, S].
        key: int64 [2]; the same key gives the same strip.

    Returns:
        float32 [S, S, 1] in [0, 1].
    """
    rows, columns = _grid(tf.shape(image)[0])
    side = tf.cast(tf.shape(image)[0], tf.float32)
    draw = tf.random.stateless_uniform([6], key + 3)
    height, width = (0.04 + 0.3 * draw[0] ** 2) * side, (0.04 + 0.3 * draw[1] ** 2) * side
    rows, columns = (rows - draw[2] * side) / height, (columns - draw[3] * side) / width
    inside = (rows >= 0) & (rows < 1) & (columns >= 0) & (columns < 1) & (label_map == 0)
    strokes = tf.random.stateless_uniform([5, 9], key + 4) < 0.3
    cells = tf.where(inside[..., None], tf.stack([rows * 5, columns * 9], axis=-1), 0.0)
    ink = tf.gather_nd(strokes, tf.cast(cells, tf.int32))
    strip = tf.where(ink, draw[4], 0.5 + 0.5 * draw[5])
    return tf.where(inside[..., None], strip[..., None], image)


def _affine(draw: tf.Tensor, size: int, limits: Augmentation) -> tf.Tensor:
    """Where each pixel of the result comes from, from the centre of the canvas: float32 [2, S, S], row and column."""
    angle = (draw[0] * 2.0 - 1.0) * math.radians(limits.rotation)
    scale = 1.0 + (draw[1] * 2.0 - 1.0) * limits.scale
    mirror = tf.where(draw[2] < limits.mirror, -1.0, 1.0)
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    matrix = tf.stack([tf.stack([cosine, sine * mirror]), tf.stack([-sine, cosine * mirror])])
    shift = (draw[3:5] * 2.0 - 1.0) * limits.shift * size
    grid = tf.stack(_grid(size)) - (size - 1.0) / 2.0
    return tf.tensordot(matrix, grid, 1) + shift[:, None, None]


def _bend(key: tf.Tensor, size: int, knots: int = 5) -> tf.Tensor:
    """A smooth random field float32 [2, S, S] of unit variance at its knots."""
    field = tf.random.stateless_normal([knots, knots, 2], key + 5)
    return tf.transpose(tf.image.resize(field, [size, size], "bicubic"), [2, 0, 1])


def _grid(size: int | tf.Tensor) -> list[tf.Tensor]:
    """Row and column of each pixel, float32 [S, S] each."""
    return tf.meshgrid(*[tf.range(tf.cast(size, tf.float32))] * 2, indexing="ij")
