import io
import resource
import struct
import zlib

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


def deep_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits with two to four channels, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns, channels = pixels.shape
    header = struct.pack(">IIBBBBB", columns, rows, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels.astype(">u2"))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def deep_tiff(pixels: np.ndarray, **options: object) -> bytes:
    tifffile = pytest.importorskip("tifffile", reason="comes with scikit-image")
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb", **options)
    return stream.getvalue()


COLOUR = np.stack([DEEP] * 3, axis=-1)
OPAQUE = np.full_like(DEEP, 65535)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (lambda: deep_png(COLOUR), "RGB"),
        (lambda: deep_png(np.dstack([COLOUR, OPAQUE])), "RGBA"),
        (lambda: deep_png(np.dstack([DEEP, OPAQUE])), "RGBA"),
        (lambda: deep_tiff(COLOUR), "RGB"),
        (lambda: deep_tiff(COLOUR, byteorder=">", compression="zlib"), "RGB"),
        (lambda: deep_tiff(np.moveaxis(COLOUR, -1, 0), planarconfig="separate"), "RGB"),
        (lambda: deep_tiff(np.dstack([COLOUR, OPAQUE]), extrasamples=["unassalpha"]), "RGBA"),
    ],
    ids=["png", "png with alpha", "grey png with alpha", "tiff", "compressed tiff", "planar tiff", "tiff with alpha"],
)
def test_grey_as_rgb_of_sixteen_bits_is_refused(tmp_path, content, mode):
    """Pillow reads the upper 8 bits alone: a film of 12 bits would have 16 grey levels, all nearly black."""
    path = tmp_path / "film"
    path.write_bytes(content())
    says = f"expected greyscale of 8 or 16 bits, received: mode {mode} of 16 bits; convert it to greyscale"
    with pytest.raises(DataError, match=says):
        read_grey(path)


def read_as_mask(path):
    return read_drawn_mask(DrawnMask(path, tuple((grey, 0) for grey in range(256))), GREY.shape)


def bound(kind: str, pages: int) -> bytes:
    """A file of several pictures."""
    stream = io.BytesIO()
    first, *others = [Image.fromarray(np.rot90(GREY, 2 * page)) for page in range(pages)]
    first.save(stream, kind, save_all=True, append_images=others)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "pages"), [("tiff", 3), ("png", 2), ("gif", 2)])
def test_a_file_of_several_pictures_is_refused(tmp_path, kind, pages):
    """Of four films in one file three would be lost without a word."""
    path = tmp_path / "film.tif"
    path.write_bytes(bound(kind, pages))
    says = rf"film\.tif: expected a single picture, received: {pages} pages; save each as a file of its own$"
    for read in (read_grey, read_size, read_as_mask):
        with pytest.raises(DataError, match=says):
            read(path)


def exif(orientation: int) -> bytes:
    described = Image.Exif()
    described[274] = orientation
    return described.tobytes()


FORMATS = [("tiff", {}), ("tiff", {"compression": "tiff_lzw"}), ("png", {}), ("jpeg", {})]


@pytest.mark.parametrize("read", [read_grey, read_size, read_as_mask])
@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize(("kind", "options"), FORMATS, ids=["tiff", "compressed tiff", "png", "jpeg"])
def test_a_picture_that_is_to_be_turned_is_refused(tmp_path, kind, options, orientation, read):
    """Else the same film would lie, stand or be garbled, by its format, and a mask would not be where it was drawn."""
    (tmp_path / "film").write_bytes(encoded(GREY, kind, exif=exif(orientation), **options))
    says = rf"film: expected a picture stored as it is seen, received: EXIF orientation {orientation}; turn it and save"
    with pytest.raises(DataError, match=says):
        read(tmp_path / "film")


@pytest.mark.parametrize(
    "content",
    [exif(1), exif(9), exif(6)[:-9], b"Exif\0\0?"],
    ids=["as it is", "no orientation", "cut off", "no EXIF"],
)
@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File Read")
def test_a_picture_that_does_not_say_how_it_is_to_be_turned(tmp_path, kind, content):
    (tmp_path / "film").write_bytes(encoded(GREY, kind, exif=content))
    np.testing.assert_allclose(read_grey(tmp_path / "film"), GREY, atol=2)
    assert read_size(tmp_path / "film") == GREY.shape


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_second_page_that_is_damaged(tmp_path):
    content = bytearray(encoded(GREY, "tiff"))
    (directory,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[directory : directory + 2])
    next_page = directory + 2 + 12 * entries
    struct.pack_into("<I", content, next_page, len(content) - 3)
    (tmp_path / "film.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"expected a readable image, received: a damaged second page; fetch it again"):
        read_grey(tmp_path / "film.tif")


def test_the_preview_behind_a_jpeg_is_no_second_film(tmp_path):
    (tmp_path / "film.jpg").write_bytes(bound("mpo", 2))
    assert Image.open(tmp_path / "film.jpg").n_frames == 2
    np.testing.assert_allclose(read_grey(tmp_path / "film.jpg"), GREY, atol=2)
    assert read_size(tmp_path / "film.jpg") == (3, 4)


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
        (b"P5\n4 3\n255\n" + GREY.tobytes()[:-1], "expected a readable image"),
        (encoded(GREY)[:-30], "expected a readable image"),
        (encoded(GREY.astype(np.float32), "tiff"), "mode F"),
        (encoded(GREY, "tiff", tiffinfo={339: 2}), "mode L of signed numbers"),
        (encoded(np.stack([GREY, GREY, GREY + 1], axis=-1)), "mode RGB"),
        (b"<html>not found</html>", "no image format"),
    ],
    ids=["empty", "truncated pgm", "truncated png", "floating point", "signed", "colour", "no image"],
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
    for read in (read_grey, read_size, read_as_mask):
        with pytest.raises(DataError, match="nothing there"):
            read(tmp_path / "film.pgm")


@pytest.mark.parametrize("read", [read_grey, read_size, read_as_mask])
def test_a_folder_is_no_film(tmp_path, read):
    with pytest.raises(DataError, match="expected an image file, received: a folder; name the files in it"):
        read(tmp_path)


def test_a_file_that_cannot_be_opened(tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(encoded(GREY))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for read in (read_grey, read_size):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(DataError, match=r"film\.png: expected a readable file, received: Too many open files;"):
                read(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_read_size_needs_the_header_only(tmp_path):
    path = tmp_path / "film.pgm"
    path.write_bytes(b"P5\n4 3\n255\n")
    assert read_size(path) == (3, 4)


CLASSES = ((0, AUTOMATIC), (10, 3), (255, 4))
MASK = np.array([[0, 10, 255], [10, 0, 0]], np.uint8)
LAYER = np.dstack([MASK, MASK, MASK, np.full_like(MASK, 255)])


def write_mask(tmp_path, pixels, kind="png"):
    path = tmp_path / f"mask.{kind}"
    path.write_bytes(encoded(pixels, kind))
    return DrawnMask(path, CLASSES)


@pytest.mark.parametrize(
    "pixels", [MASK, LAYER[..., :3], LAYER, LAYER[..., 2:]], ids=["grey", "grey as RGB", "opaque", "grey, opaque"]
)
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
        (np.dstack([LAYER[..., :3], MASK]), "expected a mask .* received: mode RGBA; save it as 8-bit greyscale"),
        (np.dstack([MASK, MASK]), "expected a mask .* received: mode LA; save it as 8-bit greyscale"),
    ],
    ids=["another size", "unknown values", "16 bits", "colour", "transparent", "transparent grey"],
)
def test_a_mask_that_does_not_fit(tmp_path, pixels, says):
    with pytest.raises(DataError, match=rf"mask\.png: {says}") as error:
        read_drawn_mask(write_mask(tmp_path, pixels), (2, 3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pixels", [MASK, LAYER[..., :3]], ids=["grey", "grey as RGB"])
def test_a_mask_with_a_transparent_colour(tmp_path, pixels):
    colour = 255 if pixels.ndim == 2 else (255, 255, 255)
    Image.fromarray(pixels).save(tmp_path / "mask.png", transparency=colour)
    with pytest.raises(DataError, match=r"expected a mask .* received: mode .* with a transparent colour; save it as"):
        read_drawn_mask(DrawnMask(tmp_path / "mask.png", CLASSES), pixels.shape[:2])


def test_a_mask_that_is_no_image(tmp_path):
    (tmp_path / "mask.png").write_bytes(encoded(MASK)[:-30])
    with pytest.raises(DataError, match="expected a readable image"):
        read_drawn_mask(DrawnMask(tmp_path / "mask.png", CLASSES), (2, 3))
