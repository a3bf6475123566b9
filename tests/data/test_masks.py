import dataclasses
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data import masks
from mammogan_tf.data.film import Film, Lesion
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path

SIZE = 64


def draw(height=256, width=256, side="left", padding=0):
    row, column = np.mgrid[:height, :width]
    breast = ((row - height / 2) / (0.45 * height)) ** 2 + ((column - padding) / (0.5 * width)) ** 2 < 1
    grey = np.where(breast, 120, 6).astype(np.uint8)
    grey[:, :padding] = 0
    grey[10:30, width - 40 : width - 15] = 250
    return grey if side == "left" else np.ascontiguousarray(grey[:, ::-1])


@pytest.fixture
def make_film(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "cache"))

    def make(name="mdb002", grey=None, side="left", lesions=()):
        path = tmp_path / f"{name}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(draw() if grey is None else grey).save(temporary)
        return Film(name, path, "1", 0 if lesions else 2, side=side, lesions=tuple(lesions))

    return make


def circle(column, row, radius):
    return Lesion("CIRC", 0, column, row, radius)


@pytest.mark.parametrize("side", ["left", "right"])
def test_chest_wall_comes_to_column_zero(make_film, side):
    prepared = masks.prepare(make_film(grey=draw(side=side, padding=21), side=side), SIZE)
    assert {part.shape for part in (prepared.image, prepared.film, prepared.label_map)} == {(SIZE, SIZE)}
    assert prepared.geometry == masks.Geometry(256, 256, side == "right", 21)
    assert prepared.label_map[SIZE // 2, 0] > 0
    assert prepared.image[SIZE // 2, 0] == 120


def test_background_is_black_in_the_image_and_kept_in_the_film(make_film):
    prepared = masks.prepare(make_film(), SIZE)
    assert prepared.film[4, 57] == 250
    assert prepared.image[4, 57] == 0
    inner = prepared.label_map > 0
    assert (prepared.image[~inner] < 60).all()
    np.testing.assert_array_equal(prepared.image[inner & (prepared.image > 115)], 120)


@pytest.mark.parametrize("shape", [(300, 150), (150, 300)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_geometry_maps_back_to_the_film(make_film, shape, side):
    height, width = shape
    grey = draw(height, width, side=side, padding=9)
    geometry = masks.prepare(make_film(grey=grey, side=side), SIZE).geometry
    assert geometry.side == max(height, width - 9)
    square = geometry.to_square(grey)
    assert square.shape == (geometry.side, geometry.side)
    np.testing.assert_array_equal(geometry.to_film(square), grey)
    assert geometry.to_film(np.zeros((SIZE, SIZE), np.uint8)).shape == shape


def test_lesions_move_with_the_film(make_film):
    """Mirrored, column c of 256 becomes 255 - c, here (255 - 195) / 4 = 15 at 64 pixels."""
    film = make_film(grey=draw(side="right"), side="right", lesions=[circle(195, 128, 12)])
    rows, columns = np.nonzero(masks.prepare(film, SIZE).label_map == masks.LESION)
    assert columns.mean() == pytest.approx((255 - 195 + 0.5) / 4 - 0.5, abs=0.5)
    assert rows.mean() == pytest.approx((128 + 0.5) / 4 - 0.5, abs=0.5)


def test_paint_lesions_fills_circles_inside_the_picture():
    blank = np.ones((40, 50), np.uint8)
    painted = masks.paint_lesions(blank, [circle(20, 10, 5), circle(49, 39, 3)])
    assert (blank == 1).all()
    assert painted[10, 20] == painted[10, 25] == painted[39, 49] == masks.LESION
    assert painted[10, 26] == 1


def test_shrinking_takes_the_largest_area():
    """4x4 -> 2x2: of each quarter the class with most pixels."""
    label_map = np.array([[1, 1, 2, 2], [1, 0, 2, 1], [3, 3, 0, 0], [3, 3, 0, 1]], np.uint8)
    np.testing.assert_array_equal(masks.shrink_label_map(label_map, 2), [[1, 2], [3, 0]])


def test_a_lesion_wins_from_a_quarter_of_a_pixel():
    label_map = np.ones((8, 8), np.uint8)
    label_map[:2, :2] = 4  # 4 of the 16 pixels that become one
    label_map[4:6, 4] = 4  # 2 of 16: too few, but else it would be lost
    label_map[:2, 4:6] = 4
    label_map[0, 3] = 4  # reaches over into the first pixel only
    np.testing.assert_array_equal(masks.shrink_label_map(label_map, 2), [[4, 4], [1, 4]])


def test_no_lesion_is_lost():
    label_map = np.ones((1024, 1024), np.uint8)
    label_map = masks.paint_lesions(label_map, [circle(100, 100, 3), circle(900, 500, 3)])
    assert (masks.shrink_label_map(label_map, 16) == masks.LESION).sum() == 2


def test_shrinking_pads_to_a_square():
    small = masks.shrink_label_map(np.ones((8, 4), np.uint8), 4)
    np.testing.assert_array_equal(small, np.repeat([[1, 1, 0, 0]], 4, axis=0))


def test_cache_is_used_and_keyed_by_content(make_film, monkeypatch):
    film = make_film()
    (entry,) = masks.prepare_films([film], SIZE)
    again = make_film("mdb004")
    monkeypatch.setattr(masks, "prepare", lambda *_: pytest.fail("prepared twice"))
    assert masks.prepare_films([film, again], SIZE) == [entry, entry]


def test_everything_that_changes_the_pixels_changes_the_entry(make_film):
    film = make_film()
    others = [
        dataclasses.replace(film, lesions=(circle(30, 128, 20),)),
        dataclasses.replace(film, side="right"),
        make_film("mdb006", draw(padding=8)),
    ]
    entries = masks.prepare_films([film, *others], SIZE) + masks.prepare_films([film], 32)
    assert len(set(entries)) == 5


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_broken_entry_is_made_again(make_film, content):
    film = make_film()
    (entry,) = masks.prepare_films([film], SIZE)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert masks.prepare_films([film], SIZE) == [entry]
    assert entry.read_bytes() == whole


def test_workers_give_what_one_process_gives(make_film, tmp_path, monkeypatch):
    films = [make_film(f"mdb{number:03d}", draw(padding=number)) for number in range(masks.FEW_FILMS)]
    alone = masks.read_prepared(masks.prepare_films(films, SIZE, workers=1))
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "second"))
    seen = []
    together = masks.read_prepared(masks.prepare_films(films, SIZE, lambda *step: seen.append(step), workers=2))
    assert seen == [(done, len(films)) for done in range(1, len(films) + 1)]
    for one, other in zip(alone, together, strict=True):
        assert one.shape == (len(films), SIZE, SIZE)
        np.testing.assert_array_equal(one, other)


def test_what_broken_workers_leave_is_done_here(make_film, monkeypatch):
    def break_after_two(tasks, size, workers):
        for done, task in enumerate(tasks[:2], start=1):
            masks._store(task, size)
            yield done
        raise BrokenProcessPool

    monkeypatch.setattr(masks, "_store_in_pool", break_after_two)
    films = [make_film(f"mdb{number:03d}", draw(padding=number)) for number in range(masks.FEW_FILMS)]
    seen = []
    entries = masks.prepare_films(films, SIZE, lambda *step: seen.append(step), workers=2)
    assert all(entry.is_file() for entry in entries)
    assert seen == [(done, len(films)) for done in range(1, len(films) + 1)]


def test_ctrl_c_is_the_parents_to_handle_and_never_reaches_a_worker():
    def is_blocked():
        script = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "True\n"

    blocked = []

    def press_ctrl_c():
        with masks._interrupts_held_back():
            signal.raise_signal(signal.SIGINT)
            blocked.append(is_blocked())

    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()
    assert blocked == [True]
    assert not is_blocked()


def test_read_prepared_returns_the_layers(make_film):
    film = make_film(lesions=[circle(40, 100, 15)])
    prepared = masks.prepare(film, SIZE)
    arrays = masks.read_prepared(masks.prepare_films([film], SIZE))
    np.testing.assert_array_equal(arrays.images[0], prepared.image)
    np.testing.assert_array_equal(arrays.films[0], prepared.film)
    np.testing.assert_array_equal(arrays.label_maps[0], prepared.label_map)


def test_a_film_that_is_not_there(make_film, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.pgm: expected an image file"):
        masks.prepare_films([dataclasses.replace(make_film(), path=tmp_path / "nowhere.pgm")], SIZE)


def test_a_cache_that_cannot_be_written(make_film, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MAMMOGAN_CACHE"):
        masks.prepare_films([make_film()], SIZE)


def test_label_maps_survive_the_disk(tmp_path):
    label_map = np.arange(25, dtype=np.uint8).reshape(5, 5) % 5
    masks.save_label_map(tmp_path / "map.png", label_map)
    np.testing.assert_array_equal(masks.read_label_map(tmp_path / "map.png"), label_map)
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), masks.PALETTE[label_map])


def test_a_label_map_is_read_at_the_size_asked_for(tmp_path):
    Image.fromarray(np.full((64, 64), 3, np.uint8)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(masks.read_label_map(tmp_path / "grey.png", 16), np.full((16, 16), 3))


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.array([[0, 7], [255, 1]], np.uint8), "received: 7, 255"),
        (np.zeros((4, 4, 3), np.uint8), "received: mode RGB"),
        (np.zeros((4, 4), np.uint16), "received: mode I;16"),
    ],
)
def test_strange_label_maps_are_refused(tmp_path, pixels, reason):
    Image.fromarray(pixels).save(tmp_path / "map.png")
    with pytest.raises(DataError, match=reason):
        masks.read_label_map(tmp_path / "map.png")


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n"])
def test_unreadable_label_maps_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "map.png").write_bytes(content)
    with pytest.raises(DataError, match=r"map\.png: expected an index PNG"):
        masks.read_label_map(tmp_path / "map.png")


def test_overlay_tints_by_class_and_leaves_the_background(make_film):
    prepared = masks.prepare(make_film(lesions=[circle(40, 100, 25)]), SIZE)
    drawn = masks.overlay(prepared.image, prepared.label_map)
    assert drawn.shape == (SIZE, SIZE, 3)
    assert drawn.dtype == np.uint8
    outside = prepared.label_map == 0
    np.testing.assert_array_equal(drawn[outside], np.repeat(prepared.image[outside][:, None], 3, axis=1))
    centre = 0.8 * 120 + 0.2 * masks.PALETTE[masks.LESION].astype(float)
    np.testing.assert_allclose(drawn[25, 10], centre, atol=1)


def test_write_masks(make_film, tmp_path):
    films = [make_film("mdb002"), make_film("mdb004", draw(padding=8))]
    sheet = masks.write_masks(films, tmp_path / "out", size=SIZE)
    assert sheet == tmp_path / "out" / "contact_sheet.png"
    assert sheet.is_file()
    for film in films:
        expected = masks.prepare(film, SIZE).label_map
        np.testing.assert_array_equal(masks.read_label_map(tmp_path / "out" / "masks" / f"{film.id}.png"), expected)
        with Image.open(tmp_path / "out" / "overlays" / f"{film.id}.png") as image:
            assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
