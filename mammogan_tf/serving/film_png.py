"""Films as PNG files, read and written inside a TensorFlow graph."""

import struct
import zlib

import tensorflow as tf

from mammogan_tf.pictures import NOTES
from mammogan_tf.serving.graph_checks import require

__all__ = ["MAX_PIXELS", "decode_films", "encode_films"]

MAX_PIXELS = 2**25
"""Largest PNG that is decoded: above any mammogram (29 megapixels), below what exhausts a server."""

BIT_DEPTH = 24
"""Where in a PNG the bits of a sample stand, in one byte (PNG specification, section 11.2.1)."""


def decode_films(png: tf.Tensor, size: int) -> tf.Tensor:
    """PNGs, string [B], greyscale or RGB, 8 or 16 bit, any size, as float32 [B, size, size, 1] in [0, 1].

    Of 16 bits the darkest pixel becomes 0 and the brightest 1, as in :func:`mammogan_tf.data.film.read_grey`. A film keeps
    its proportions: it is shrunk by area to fit, and black fills the right or the bottom. A smaller one is enlarged
    bilinearly, as by :func:`mammogan_tf.data.preparation.shrink` but for the edge beside the black. The size that the header
    announces is checked before anything is unpacked.
    """
    film = tf.TensorSpec([size, size, 1], tf.float32)
    return tf.map_fn(lambda one: _decode(one, size), png, fn_output_signature=film)


def encode_films(images: tf.Tensor) -> tf.Tensor:
    """Synthetic films float32 [B, S, S, 1] in [0, 1] as PNGs, string [B], that say in their metadata what they are."""
    grey = tf.cast(tf.round(images * 255), tf.uint8)
    return tf.map_fn(_encode, grey, fn_output_signature=tf.TensorSpec([], tf.string))


def _decode(png: tf.Tensor, size: int) -> tf.Tensor:
    is_png = tf.logical_and(tf.strings.length(png) >= 33, tf.strings.substr(png, 0, 8) == b"\x89PNG\r\n\x1a\n")
    with tf.control_dependencies([require(is_png, "png: expected a PNG file, received: other bytes")]):
        header = tf.io.decode_raw(tf.strings.substr(png, 16, 8), tf.int32, little_endian=False)
        is_deep = tf.strings.substr(png, BIT_DEPTH, 1) == b"\x10"
    announced = tf.cast(header, tf.int64)
    fits = tf.logical_and(tf.reduce_all(announced > 0), tf.reduce_prod(announced) <= MAX_PIXELS)
    with tf.control_dependencies([require(fits, f"png: expected 1 to {MAX_PIXELS} pixels, received:", header)]):
        pixels = tf.io.decode_png(png, channels=1, dtype=tf.uint16)
    sides = tf.cast(tf.shape(pixels)[:2], tf.float32)
    target = tf.cast(tf.maximum(tf.round(sides * size / tf.reduce_max(sides)), 1), tf.int32)
    darkest, brightest = tf.cond(
        is_deep,
        lambda: (tf.reduce_min(pixels), tf.reduce_max(pixels)),
        lambda: (tf.constant(0, tf.uint16), tf.constant(65535, tf.uint16)),
    )
    low, high = tf.cast(darkest, tf.float32), tf.cast(brightest, tf.float32)
    resized = tf.cond(
        tf.reduce_max(sides) < size,
        lambda: tf.image.resize(pixels, target, method="bilinear"),
        lambda: tf.image.resize(pixels, target, method="area"),
    )
    film = tf.math.divide_no_nan(resized - low, high - low)
    return tf.ensure_shape(tf.image.pad_to_bounding_box(film, 0, 0, size, size), [size, size, 1])


def _encode(grey: tf.Tensor) -> tf.Tensor:
    png = tf.io.encode_png(grey)  # Its first 33 bytes are the signature and the header; the notes go behind them.
    return tf.strings.join([tf.strings.substr(png, 0, 33), _NOTES, tf.strings.substr(png, 33, -1)])


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk: length, kind, content, checksum (PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_NOTES = b"".join(_chunk(b"tEXt", f"{keyword}\0{text}".encode()) for keyword, text in NOTES.items())
