import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mammogan_tf.config import LESION
from mammogan_tf.data.label_maps import (
    PALETTE,
    lies_as_its_film,
    overlay,
    read_label_map,
    save_label_map,
    shrink_label_map,
)
from mammogan_tf.data.preparation import paint_lesions
from mammogan_tf.errors import DataError
from tests.drawn_film import circle


def test_shrinking_takes_the_largest_area():
    """4x4 -> 2x2: of each quarter the class with most pixels."""
    label_map = np.array([[1, 1, 2, 2], [1, 0, 2, 1], [3, 3, 0, 0], [3, 3, 0, 1]], np.uint8)
    np.testing.assert_array_equal(shrink_label_map(label_map, 2), [[1, 2], [3, 0]])


def test_a_lesion_wins_from_a_quarter_of_a_pixel():
    label_map = np.ones((8, 8), np.uint8)
    label_map[:2, :2] = 4  # 4 of the 16 pixels that become one
    label_map[4:6, 4] = 4  # 2 of 16: too few, but else it would be lost
    label_map[:2, 4:6] = 4
    label_map[0, 3] = 4  # reaches over into the first pixel only
    np.testing.assert_array_equal(shrink_label_map(label_map, 2), [[4, 4], [1, 4]])


def test_no_lesion_is_lost():
    label_map = np.ones((1024, 1024), np.uint8)
    label_map = paint_lesions(label_map, [circle(100, 100, 3), circle(900, 500, 3)])
    assert (shrink_label_map(label_map, 16) == LESION).sum() == 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("height", "width", "size"), [(100, 60, 35), (71, 90, 20), (96, 96, 8), (9, 12, 30)])
def test_each_lesion_keeps_the_pixel_that_it_covers_most(height, width, size, seed):
    """As where every lesion is shrunk on its own, within the whole map."""
    random = np.random.default_rng(seed)
    label_map = random.integers(0, 4, (height, width), np.uint8)
    label_map[random.random((height, width)) < 0.03] = LESION
    side = max(height, width)
    square = np.pad(label_map, ((0, side - height), (0, side - width)))

    def share(mask):
        return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX))

    expected = np.argmax([share(square == value) for value in range(5)], axis=0)
    expected[share(square == LESION) >= 0.25] = LESION
    lesions, count = ndimage.label(square == LESION)
    for number in range(1, count + 1):
        covered = share(lesions == number)
        if not (expected[covered > 0] == LESION).any():
            expected.flat[covered.argmax()] = LESION
    np.testing.assert_array_equal(shrink_label_map(label_map, size), expected)


def test_a_lesion_between_two_pixels_stays_at_its_place():
    """Row 20 of 41 ends up half in row 19 and half in row 20 of 40: Pillow counts it to neither."""
    label_map = np.ones((41, 41), np.uint8)
    label_map[20, 30] = LESION
    ((row, column),) = np.argwhere(shrink_label_map(label_map, 40) == LESION)
    assert row in (19, 20)
    assert column in (29, 30)


def test_shrinking_pads_to_a_square():
    small = shrink_label_map(np.ones((8, 4), np.uint8), 4)
    np.testing.assert_array_equal(small, np.repeat([[1, 1, 0, 0]], 4, axis=0))


def test_label_maps_survive_the_disk(tmp_path):
    label_map = np.arange(25, dtype=np.uint8).reshape(5, 5) % 5
    save_label_map(tmp_path / "map.png", label_map)
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.png"), label_map)
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), PALETTE[label_map])


@pytest.mark.parametrize("value", [5, 260, 2.9, -1])
def test_what_is_no_label_map_is_not_written(tmp_path, value):
    with pytest.raises(DataError, match=f"a label map of values 0-4, received: {value}"):
        save_label_map(tmp_path / "map.png", np.array([[0, value]]))
    assert not list(tmp_path.iterdir())


def test_a_label_map_is_read_at_the_size_asked_for(tmp_path):
    Image.fromarray(np.full((64, 64), 3, np.uint8)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "grey.png", 16), np.full((16, 16), 3))
    Image.fromarray(np.full((16, 64), 3, np.uint8)).save(tmp_path / "flat.png")
    assert read_label_map(tmp_path / "flat.png", 16).shape == (16, 16)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.array([[0, 7], [255, 1]], np.uint8), "received: 7, 255"),
        (np.arange(16, dtype=np.uint8).reshape(4, 4), r"received: 5, 6, 7, 8, 9, 10, 11, 12, \.\.\.;"),
        (np.zeros((4, 4, 3), np.uint8), "received: mode RGB"),
        (np.zeros((4, 4), np.uint16), "received: mode I;16"),
    ],
)
def test_strange_label_maps_are_refused(tmp_path, pixels, reason):
    Image.fromarray(pixels).save(tmp_path / "map.png")
    with pytest.raises(DataError, match=reason):
        read_label_map(tmp_path / "map.png")


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (0, 1, 2, 4, 3)])
def test_a_palette_that_a_program_has_sorted_is_refused(tmp_path, order):
    save_label_map(tmp_path / "map.png", np.arange(5)[None].repeat(5, axis=0))
    with Image.open(tmp_path / "map.png") as image:
        sorted_ = image.remap_palette(order)
    sorted_.save(tmp_path / "sorted.png")
    with pytest.raises(DataError, match="received: their colours in another order"):
        read_label_map(tmp_path / "sorted.png")
    own = Image.fromarray(np.arange(5, dtype=np.uint8)[None])
    own.putpalette([grey for value in range(5) for grey in [60 * value] * 3])  # Of somebody else: its indices count.
    own.save(tmp_path / "own.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "own.png"), [[0, 1, 2, 3, 4]])


@pytest.mark.parametrize("palette", [bytes(3 * 256), bytes(3 * 2), bytes(range(6))])
def test_a_palette_that_shows_no_classes_does_not_count(tmp_path, palette):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 5, 1, 8, 3, 0, 0, 0)  # Pillow itself writes no values beyond a palette.
    parts = {b"IHDR": header, b"PLTE": palette, b"IDAT": zlib.compress(bytes([0, 0, 1, 2, 3, 4])), b"IEND": b""}
    (tmp_path / "map.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts.items()))
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.png"), [[0, 1, 2, 3, 4]])


def test_a_label_map_says_whether_it_lies_as_its_film(tmp_path):
    for as_its_film in (True, False):
        save_label_map(tmp_path / "map.png", np.eye(4, dtype=np.uint8), as_its_film=as_its_film)
        assert lies_as_its_film(tmp_path / "map.png") == as_its_film
        np.testing.assert_array_equal(read_label_map(tmp_path / "map.png"), np.eye(4))
    (tmp_path / "map.png").write_bytes(b"no picture")
    assert not lies_as_its_film(tmp_path / "map.png")


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n"])
def test_unreadable_label_maps_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "map.png").write_bytes(content)
    with pytest.raises(DataError, match=r"map\.png: expected an index PNG"):
        read_label_map(tmp_path / "map.png")


def test_overlay_tints_by_class_and_leaves_the_background():
    image = np.full((40, 50), 120, np.uint8)
    label_map = paint_lesions(np.zeros_like(image), [circle(25, 20, 12)])
    drawn = overlay(image, label_map)
    assert drawn.shape == (40, 50, 3)
    assert drawn.dtype == np.uint8
    outside = label_map == 0
    np.testing.assert_array_equal(drawn[outside], np.repeat(image[outside][:, None], 3, axis=1))
    centre = 0.8 * 120 + 0.2 * PALETTE[LESION].astype(float)
    np.testing.assert_allclose(drawn[20, 25], centre, atol=1)
    border = 0.2 * 120 + 0.8 * PALETTE[LESION].astype(float)
    np.testing.assert_allclose(drawn[20, label_map[20].argmax()], border, atol=1)
