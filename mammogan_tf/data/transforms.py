"""Joint transforms of film and label map, as TensorFlow functions that draw only from the seed they are given."""

import math

import tensorflow as tf

from mammogan_tf.config import CLASSES

__all__ = ["augment_film", "one_hot", "to_network_range"]


def one_hot(label_map: tf.Tensor) -> tf.Tensor:
    """Label map [..., H, W] with values 0-4 to float32 [..., H, W, 5]."""
    return tf.one_hot(tf.cast(label_map, tf.int32), len(CLASSES))


def to_network_range(image: tf.Tensor) -> tf.Tensor:
    """[0, 1] to [-1, 1], the range inside the GAN."""
    return image * 2.0 - 1.0


def augment_film(image: tf.Tensor, label_map: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves film and label map together, then changes the film's grey levels.

    Rotation up to 12 degrees, scale 0.85-1.15, shift up to 8 % of the side, mirrored half of the time, gamma 0.7-1.4,
    and film noise. What comes in from outside is black background.

    Args:
        image: float32 [S, S, 1] in [0, 1].
        label_map: uint8 [S, S].
        seed: int [2]; the same seed gives the same film.

    Returns:
        The film in [0, 1] and its label map, of the same shapes and types.
    """
    draw = tf.random.stateless_uniform([7], seed)
    transform = _affine(draw, tf.cast(tf.shape(image)[0], tf.float32))
    image = _move(image[None], transform, "BILINEAR")[0]
    label_map = _move(label_map[None, ..., None], transform, "NEAREST")[0, ..., 0]
    image = tf.pow(tf.clip_by_value(image, 0.0, 1.0), 0.7 * 2.0 ** draw[5])
    noise = tf.random.stateless_normal(tf.shape(image), seed + 1) * 0.03 * draw[6]
    return tf.clip_by_value(image + noise * tf.cast(image > 0, tf.float32), 0.0, 1.0), label_map


def _affine(draw: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """The eight numbers of ``ImageProjectiveTransformV3``, output pixel to input pixel, about the centre."""
    angle = (draw[0] * 2.0 - 1.0) * math.radians(12.0)
    scale = 0.85 + 0.3 * draw[1]
    mirror = tf.where(draw[2] < 0.5, -1.0, 1.0)
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    a, b, c, d = cosine * mirror, -sine, sine * mirror, cosine
    centre = (side - 1.0) / 2.0
    right, down = (draw[3] * 2.0 - 1.0) * 0.08 * side, (draw[4] * 2.0 - 1.0) * 0.08 * side
    return tf.stack([a, b, centre - (a + b) * centre + right, c, d, centre - (c + d) * centre + down, 0.0, 0.0])


def _move(images: tf.Tensor, transform: tf.Tensor, interpolation: str) -> tf.Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transform[None],
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )
