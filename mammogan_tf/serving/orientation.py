"""Where the breast lies in a label map, and lesions painted on it, as TensorFlow functions of a batch."""

from typing import NamedTuple

import tensorflow as tf

from mammogan_tf.config import LESION
from mammogan_tf.serving.graph_checks import require

__all__ = ["Placement", "find_lean", "find_placement", "move_columns", "paint_lesions"]


class Placement(NamedTuple):
    """Which column of a film, int32 [B, S], each column of the turned film comes from (``turn``), and the way back.

    A column outside 0 to S - 1 is background.
    """

    turn: tf.Tensor
    back: tf.Tensor


def find_placement(label_map: tf.Tensor) -> Placement:
    """How films lie, from their label maps int32 [B, S, S], so that :func:`move_columns` brings the chest wall to column 0.

    A map without a breast stays as it is.
    """
    first, last = _span(_heights(label_map))
    columns, mirrored = tf.range(label_map.shape[-1]), find_lean(label_map)[:, None] > 0
    return Placement(
        turn=tf.where(mirrored, last - columns, columns + first),
        back=tf.where(mirrored, last - columns, columns - first),
    )


def find_lean(label_map: tf.Tensor) -> tf.Tensor:
    """How far the mean column of a breast lies right of the middle of the columns that it spans, in widths of that span.

    A breast is widest at the chest wall, so the chest wall is on the right where this is positive: 0.08 in a half ellipse.

    Args:
        label_map: int32 [B, S, S].

    Returns:
        float32 [B] in [-0.5, 0.5], 0 without a breast.
    """
    heights = _heights(label_map)
    first, last = _span(heights)
    moment = tf.reduce_sum(heights * (2 * tf.range(label_map.shape[-1]) - first - last), axis=-1)
    mass, span = tf.reduce_sum(heights, axis=-1), (last - first + 1)[:, 0]
    return tf.math.divide_no_nan(tf.cast(moment, tf.float32), 2 * tf.cast(mass, tf.float32) * tf.cast(span, tf.float32))


def _heights(label_map: tf.Tensor) -> tf.Tensor:
    """Pixels of the breast in each column, int32 [B, S]."""
    return tf.math.count_nonzero(label_map, axis=1, dtype=tf.int32)


def _span(heights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first and the last column of the breast, int32 [B, 1] each."""
    first = tf.argmax(heights > 0, axis=-1, output_type=tf.int32)
    last = heights.shape[-1] - 1 - tf.argmax(heights[:, ::-1] > 0, axis=-1, output_type=tf.int32)
    return first[:, None], last[:, None]


def move_columns(pictures: tf.Tensor, sources: tf.Tensor) -> tf.Tensor:
    """Pictures [B, S, S] whose column c is the old column ``sources[:, c]``, or 0 where that is outside."""
    size = pictures.shape[-1]
    moved = tf.gather(pictures, tf.clip_by_value(sources, 0, size - 1), axis=2, batch_dims=1)
    inside = tf.logical_and(sources >= 0, sources < size)
    return tf.where(inside[:, None, :], moved, tf.zeros_like(moved))


def paint_lesions(label_map: tf.Tensor, circles: tf.Tensor) -> tf.Tensor:
    """Label maps int32 [B, S, S] with a lesion on each, as far as the breast reaches: circles float32 [B, 3] as x, y and
    radius, in sides of the map. A radius of 0 asks for none.

    x counts from the left edge, y from the top. As in training, a lesion wins a pixel from a quarter of it on (about where
    the circle comes as near as a quarter of a pixel to its centre), and always has one: a circle that meets no breast fails.
    """
    size = label_map.shape[-1]
    x, y, radius = (part[:, None, None] * size for part in tf.unstack(circles, axis=1))
    centres = tf.range(size, dtype=tf.float32) + 0.5
    distance = tf.sqrt((centres[None, None, :] - x) ** 2 + (centres[None, :, None] - y) ** 2)
    reach = tf.maximum(radius + 0.25, 0.71)  # The corner of a pixel is 0.7071 from its centre.
    lesion = (distance <= reach) & (radius > 0) & (label_map > 0)
    missed = (circles[:, 2] > 0) & ~tf.reduce_any(lesion, axis=[1, 2])
    received = tf.reshape(tf.boolean_mask(circles, missed), [-1])
    check = require(~tf.reduce_any(missed), "lesion: expected a place on the breast, received:", received)
    with tf.control_dependencies([check]):
        return tf.where(lesion, LESION, label_map)
