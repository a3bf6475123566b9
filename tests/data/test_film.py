import io

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.film import read_grey, read_size
from mammogan_tf.errors import DataError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"P5\n4 3\n255\n" + GREY.tobytes(), png(GREY), png(np.stack([GREY] * 3, axis=-1))],
    ids=["pgm", "png", "grey as RGB"],
)
def test_read_grey(tmp_path, content):
    path = tmp_path / "film"
    path.write_bytes(content)
    pixels = read_grey(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GREY)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "an empty file"),
        (b"P5\n4 3\n255\n" + GREY.tobytes()[:-1], "truncated"),
        (png(GREY)[:-30], "expected a readable image"),
        (b"P5\n4 3\n65535\n" + 2 * GREY.tobytes(), "mode I"),
        (png(GREY.astype(np.uint16)), "mode I;16"),
        (png(np.stack([GREY, GREY, GREY + 1], axis=-1)), "mode RGB"),
        (b"<html>not found</html>", "no image format"),
    ],
    ids=["empty", "truncated pgm", "truncated png", "16-bit pgm", "16-bit png", "colour", "no image"],
)
def test_read_grey_names_file_and_fault(tmp_path, content, received):
    path = tmp_path / "film.pgm"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_grey(path)
    assert str(error.value).startswith(f"{path}: expected")
    assert received in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        read_grey(tmp_path / "film.pgm")
    with pytest.raises(DataError, match="nothing there"):
        read_size(tmp_path / "film.pgm")


def test_read_size_needs_the_header_only(tmp_path):
    path = tmp_path / "film.pgm"
    path.write_bytes(b"P5\n4 3\n255\n")
    assert read_size(path) == (3, 4)
