"""The serving contract as TensorFlow functions: what each signature takes, checks and returns."""

import struct
import zlib
from collections.abc import Callable

import keras
import tensorflow as tf

from mammogan_tf.config import CLASSES, LABELS
from mammogan_tf.models.dcgan import seeded_noise

__all__ = ["MAX_PIXELS", "Signature", "generator_signatures", "unet_signatures"]

Signature = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]

MAX_PIXELS = 2**25
"""Largest PNG that ``segment_png`` decodes: above any mammogram (29 megapixels), below what exhausts a server."""

NOTES = {
    b"Synthetic": b"true",
    b"Software": b"mammogan-tf",
    b"Comment": b"Synthetic mammogram of no patient; for research and teaching, never for diagnosis.",
}


def unet_signatures(model: keras.Model, size: int) -> dict[str, Signature]:
    """Signatures of a U-Net: ``image`` float32 [B, S, S, 1] in [0, 1], or ``png`` string [B], to
    ``probabilities`` float32 [B, S, S, 5] and ``label_map`` int32 [B, S, S]."""

    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(tf.ensure_shape(image, [None, size, size, 1]), training=False)
        return {
            "probabilities": probabilities,
            "label_map": tf.argmax(probabilities, axis=-1, output_type=tf.int32),
        }

    def segment_png(png: tf.Tensor) -> dict[str, tf.Tensor]:
        film = tf.TensorSpec([size, size, 1], tf.float32)
        return segment(tf.map_fn(lambda one: decode_film(one, size), png, fn_output_signature=film))

    return {
        "serving_default": (segment, [tf.TensorSpec([None, size, size, 1], tf.float32, "image")]),
        "segment_png": (segment_png, [tf.TensorSpec([None], tf.string, "png")]),
    }


def generator_signatures(model: keras.Model, size: int, z_dim: int) -> dict[str, Signature]:
    """Signatures of a generator: ``noise`` float32 [B, Z] or ``seed`` int64 [B], with ``label_map`` int32 [B, S, S] and
    ``label`` int32 [B], to ``image`` float32 [B, S, S, 1] in [0, 1] and, from a seed, ``png`` string [B]."""

    def generate(noise: tf.Tensor, label_map: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies(_require_condition(noise, label_map, label)):
            inputs = {
                "noise": tf.ensure_shape(noise, [None, z_dim]),
                "mask": tf.one_hot(tf.ensure_shape(label_map, [None, size, size]), len(CLASSES)),
                "label": tf.identity(label),
            }
        return {"image": tf.clip_by_value((model(inputs, training=False) + 1) / 2, 0, 1)}

    def generate_seeded(seed: tf.Tensor, label_map: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        image = generate(seeded_noise(seed, z_dim), label_map, label)["image"]
        grey = tf.cast(tf.round(image * 255), tf.uint8)
        return {"image": image, "png": tf.map_fn(_encode_film, grey, fn_output_signature=tf.TensorSpec([], tf.string))}

    condition = [tf.TensorSpec([None, size, size], tf.int32, "label_map"), tf.TensorSpec([None], tf.int32, "label")]
    return {
        "serving_default": (generate, [tf.TensorSpec([None, z_dim], tf.float32, "noise"), *condition]),
        "generate_seeded": (generate_seeded, [tf.TensorSpec([None], tf.int64, "seed"), *condition]),
    }


def decode_film(png: tf.Tensor, size: int) -> tf.Tensor:
    """A PNG (greyscale or RGB, 8 or 16 bit, any size) as float32 [size, size, 1] in [0, 1].

    The film keeps its proportions: it is shrunk by area to fit, and black fills the right or the bottom. The size that
    the header announces is checked before anything is unpacked.
    """
    is_png = tf.logical_and(tf.strings.length(png) >= 33, tf.strings.substr(png, 0, 8) == b"\x89PNG\r\n\x1a\n")
    with tf.control_dependencies([_require(is_png, "png: expected a PNG file, received: other bytes")]):
        header = tf.io.decode_raw(tf.strings.substr(png, 16, 8), tf.int32, little_endian=False)
    announced = tf.cast(header, tf.int64)
    fits = tf.logical_and(tf.reduce_all(announced > 0), tf.reduce_prod(announced) <= MAX_PIXELS)
    with tf.control_dependencies([_require(fits, f"png: expected 1 to {MAX_PIXELS} pixels, received:", header)]):
        pixels = tf.io.decode_png(png, channels=1, dtype=tf.uint16)
    sides = tf.cast(tf.shape(pixels)[:2], tf.float32)
    target = tf.cast(tf.maximum(tf.round(sides * size / tf.reduce_max(sides)), 1), tf.int32)
    film = tf.image.resize(pixels, target, method="area") / 65535
    return tf.ensure_shape(tf.image.pad_to_bounding_box(film, 0, 0, size, size), [size, size, 1])


def _require_condition(noise: tf.Tensor, label_map: tf.Tensor, label: tf.Tensor) -> list[tf.Operation]:
    batch = tf.stack([tf.shape(noise)[0], tf.shape(label_map)[0], tf.shape(label)[0]])
    return [
        _require(
            tf.reduce_all(batch == batch[0]), "expected one label_map and one label to each image, received:", batch
        ),
        _require_range(label_map, "label_map", len(CLASSES)),
        _require_range(label, "label", len(LABELS)),
    ]


def _require_range(values: tf.Tensor, name: str, count: int) -> tf.Operation:
    holds = tf.reduce_all(tf.logical_and(values >= 0, values < count))
    extremes = tf.stack([tf.reduce_min(values), tf.reduce_max(values)])
    return _require(holds, f"{name}: expected values 0-{count - 1}, received from and to:", extremes)


def _require(holds: tf.Tensor, message: str, *received: tf.Tensor) -> tf.Operation:
    """Fails as ``INVALID_ARGUMENT``, with the message, in every runtime."""
    return tf.debugging.Assert(holds, [message, *received])


def _encode_film(grey: tf.Tensor) -> tf.Tensor:
    """A PNG that says in its metadata that it is synthetic."""
    png = tf.io.encode_png(grey)  # Its first 33 bytes are the signature and the header; the notes go behind them.
    return tf.strings.join([tf.strings.substr(png, 0, 33), _NOTES, tf.strings.substr(png, 33, -1)])


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk: length, kind, content, checksum (PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_NOTES = b"".join(_chunk(b"tEXt", keyword + b"\0" + text) for keyword, text in NOTES.items())
