import io

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.film import AUTOMATIC, DrawnMask, read_drawn_mask, read_grey, read_size
from mammogan_tf.errors import DataError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
DEEP = 100 + 51 * GREY.astype(np.uint16)
"""12 levels from 100 to 661: level n is shown as 255 n / 11."""

SHOWN = np.rint(255 * (GREY / 11)).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "png", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"P5\n4 3\n255\n" + GREY.tobytes(),
        encoded(GREY),
        encoded(np.stack([GREY] * 3, axis=-1)),
        encoded(GREY, "tiff", compression="tiff_lzw"),
    ],
    ids=["pgm", "png", "grey as RGB", "tiff"],
)
def test_eight_bits_are_taken_as_they_are(tmp_path, content):
    path = tmp_path / "film"
    path.write_bytes(content)
    pixels = read_grey(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GREY)


@pytest.mark.parametrize(
    "content",
    [
        encoded(DEEP),
        encoded(DEEP, "tiff"),
        encoded(DEEP.astype(">u2"), "tiff"),
        encoded(761 - DEEP, "tiff", tiffinfo={262: 0}),
        b"P5\n4 3\n65535\n" + DEEP.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff", "big-endian tiff", "tiff where white is zero", "pgm"],
)
def test_sixteen_bits_are_spread_from_black_to_white(tmp_path, content):
    path = tmp_path / "film"
    path.write_bytes(content)
    pixels = read_grey(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, SHOWN)


def test_a_blank_film_of_sixteen_bits_is_black(tmp_path):
    (tmp_path / "film.png").write_bytes(encoded(np.full((3, 4), 900, np.uint16)))
    assert not read_grey(tmp_path / "film.png").any()


def test_jpeg(tmp_path):
    (tmp_path / "film.jpg").write_bytes(encoded(np.repeat(np.repeat(GREY, 8, 0), 8, 1), "jpeg", quality=95))
    pixels = read_grey(tmp_path / "film.jpg")
    assert pixels.shape == (3 * 8, 4 * 8)
    np.testing.assert_allclose(pixels[4::8, 4::8], GREY, atol=2)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "an empty file"),
        (b"P5\n4 3\n255\n" + GREY.tobytes()[:-1], "truncated"),
        (encoded(GREY)[:-30], "expected a readable image"),
        (encoded(GREY.astype(np.float32), "tiff"), "mode F"),
        (encoded(np.stack([GREY, GREY, GREY + 1], axis=-1)), "mode RGB"),
        (b"<html>not found</html>", "no image format"),
    ],
    ids=["empty", "truncated pgm", "truncated png", "floating point", "colour", "no image"],
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
    for read in (read_grey, read_size, lambda path: read_drawn_mask(DrawnMask(path, ((0, 0),)), (3, 4))):
        with pytest.raises(DataError, match="nothing there"):
            read(tmp_path / "film.pgm")


def test_read_size_needs_the_header_only(tmp_path):
    path = tmp_path / "film.pgm"
    path.write_bytes(b"P5\n4 3\n255\n")
    assert read_size(path) == (3, 4)


CLASSES = ((0, AUTOMATIC), (10, 3), (255, 4))
MASK = np.array([[0, 10, 255], [10, 0, 0]], np.uint8)


def write_mask(tmp_path, pixels, kind="png"):
    path = tmp_path / f"mask.{kind}"
    path.write_bytes(encoded(pixels, kind))
    return DrawnMask(path, CLASSES)


@pytest.mark.parametrize("pixels", [MASK, np.stack([MASK] * 3, axis=-1)], ids=["grey", "grey as RGB"])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_drawn_mask_has_the_classes_of_its_grey_values(tmp_path, pixels, kind):
    label_map = read_drawn_mask(write_mask(tmp_path, pixels, kind), (2, 3))
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, [[AUTOMATIC, 3, 4], [3, AUTOMATIC, AUTOMATIC]])


def test_the_indices_of_a_palette_count_not_its_colours(tmp_path):
    image = Image.fromarray(MASK)
    image.putpalette([255, 0, 0] * 256)
    image.save(tmp_path / "mask.png")
    label_map = read_drawn_mask(DrawnMask(tmp_path / "mask.png", CLASSES), (2, 3))
    np.testing.assert_array_equal(label_map, [[AUTOMATIC, 3, 4], [3, AUTOMATIC, AUTOMATIC]])


def test_black_and_white_are_0_and_255(tmp_path):
    drawn = write_mask(tmp_path, np.array([[True, False]]))
    np.testing.assert_array_equal(read_drawn_mask(drawn, (1, 2)), [[4, AUTOMATIC]])


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (MASK.T, "expected 3x2 pixels as its film has, received: 2x3; draw it on the film"),
        (MASK + 1, "expected the grey values 0, 10, 255, received: 1, 11; map them in dataset.json to background"),
        (MASK.astype(np.uint16), "expected a mask .* received: mode I;16"),
        (np.stack([MASK, MASK, MASK + 1], axis=-1), "expected a mask .* received: mode RGB"),
    ],
    ids=["another size", "unknown values", "16 bits", "colour"],
)
def test_a_mask_that_does_not_fit(tmp_path, pixels, says):
    with pytest.raises(DataError, match=rf"mask\.png: {says}") as error:
        read_drawn_mask(write_mask(tmp_path, pixels), (2, 3))
    assert "\n" not in str(error.value)


def test_a_mask_that_is_no_image(tmp_path):
    (tmp_path / "mask.png").write_bytes(encoded(MASK)[:-30])
    with pytest.raises(DataError, match="expected a readable image"):
        read_drawn_mask(DrawnMask(tmp_path / "mask.png", CLASSES), (2, 3))
