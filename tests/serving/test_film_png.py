import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mammogan_tf.data.film import read_grey
from mammogan_tf.data.preparation import shrink
from mammogan_tf.serving.film_png import decode_films, encode_films


def png_bytes(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def decode(png: bytes, size: int) -> np.ndarray:
    return decode_films(tf.constant([png]), size)[0, ..., 0].numpy()


def header(height: int, width: int) -> bytes:
    """The beginning of a PNG that announces so many pixels."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content)) + b"\0" * 20


def test_every_png_kind_is_read_alike():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for pixels in (grey, np.stack([grey] * 3, -1)):
        np.testing.assert_allclose(decode(png_bytes(pixels), 8), grey / 255, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0, 4095), (100, 900), (0, 65535), (700, 700)])
def test_a_png_of_16_bits_is_read_as_a_film_on_disk_is(low, high, tmp_path):
    pixels = np.random.default_rng(0).integers(low, high + 1, (8, 6)).astype(np.uint16)
    (tmp_path / "film.png").write_bytes(png_bytes(pixels))
    film = decode(png_bytes(pixels), 8)
    grey = read_grey(tmp_path / "film.png")
    np.testing.assert_allclose(film[:, :6] * 255, grey, atol=0.5 + 1e-4)  # In which the whole grey value is rounded.
    assert (film[:, :6].max(), grey.max()) == ((1, 255) if high > low else (0, 0))
    assert (film[:, 6:] == 0).all()


def test_a_wide_png_keeps_its_proportions_and_is_shrunk_by_area():
    # 6 rows of 12 pixels into 4 x 4: the upper 2 rows hold means of 3 x 3, the rest is black.
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12)).astype(np.uint8)
    film = decode(png_bytes(pixels), 4)
    np.testing.assert_allclose(film[:2], pixels.reshape(2, 3, 4, 3).mean(axis=(1, 3)) / 255, atol=1e-6)
    assert (film[2:] == 0).all()


def test_a_png_smaller_than_the_network_is_enlarged_as_a_film_on_disk_is():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    np.testing.assert_allclose(decode(png_bytes(pixels), 64) * 255, shrink(pixels, 64), atol=1.0)


def test_a_png_thinner_than_a_pixel_keeps_one():
    film = decode(png_bytes(np.full((64, 1), 51, np.uint8)), 8)
    np.testing.assert_allclose(film, np.eye(8)[[0] * 8] * 51 / 255, atol=1e-6)


def test_a_png_may_have_33_million_pixels():
    """As these have no content, TensorFlow refuses the one, and we the other."""
    for height, reason in ((2**12, "Invalid PNG"), (2**12 + 1, "expected 1 to 33554432 pixels")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
            decode(header(height, 2**13), 8)


@pytest.mark.parametrize(
    ("png", "message"),
    [
        (b"", "PNG file"),
        (b"GIF89a" * 9, "PNG file"),
        (header(2**15, 2**15), "pixels"),
        (header(2**15, 2**15)[:40], "pixels"),
    ],
)
def test_bytes_that_are_no_film_are_refused(png, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(png, 8)


def test_a_truncated_png_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(png_bytes(np.zeros((64, 64), np.uint8))[:60], 8)


def test_a_film_keeps_its_pixels_and_says_that_it_is_synthetic():
    films = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    for film, png in zip(films, encode_films(tf.constant(films)).numpy(), strict=True):
        with Image.open(io.BytesIO(png)) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert image.info["Synthetic"] == "true"
            assert "never for diagnosis" in image.info["Comment"]
            np.testing.assert_array_equal(np.asarray(image), np.rint(film[..., 0] * 255))
