import dataclasses

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import LESION
from mammogan_tf.data.anatomy import Anatomy
from mammogan_tf.data.film import AUTOMATIC, DrawnMask, Film, read_grey
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.preparation import Geometry, canvas_size, outline_film, paint_lesions, prepare
from mammogan_tf.errors import DataError
from tests.drawn_film import circle, draw

SIZE = 64


@pytest.mark.parametrize("side", ["left", "right"])
def test_chest_wall_comes_to_column_zero(make_film, side):
    prepared = prepare(make_film(grey=draw(side=side, padding=21), side=side), SIZE)
    assert {part.shape for part in (prepared.images, prepared.raw, prepared.label_maps)} == {(1, SIZE, SIZE)}
    assert prepared.geometry == Geometry(256, 256, side == "right", left=21)
    assert prepared.label_maps[0, SIZE // 2, 0] > 0
    assert prepared.images[0, SIZE // 2, 0] == 120


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_told_counts_where_the_film_shows_none(make_film, side):
    """Tissue from edge to edge."""
    grey = np.full((256, 256), 6, np.uint8)
    grey[30:220] = 120
    assert prepare(make_film(grey=grey, side=side), SIZE).geometry.flipped == (side == "right")


@pytest.mark.parametrize("width", [100, 200, 256])
@pytest.mark.parametrize(("dark", "top"), [(4, 4), (30, 0)])
def test_the_film_loses_its_dark_edge_above_tissue_and_keeps_background(make_film, width, dark, top):
    grey = np.full((256, width), 6, np.uint8)
    grey[dark:, : width // 2] = 120
    side = max(256 - top, width)
    prepared = prepare(make_film(grey=grey, lesions=[circle(30, 100, 9)]), side)
    assert prepared.geometry == Geometry(256, width, top=top)
    assert prepared.geometry.extent == side
    np.testing.assert_array_equal(prepared.images[0, 0, : width // 2 - 8], 120 if top else 0)
    rows, _ = np.nonzero(prepared.label_maps[0] == LESION)
    assert rows.mean() == 100 - top
    np.testing.assert_array_equal(prepared.geometry.to_film(prepared.geometry.to_square(grey))[top:], grey[top:])


def test_more_lesions_than_one_picture_holds(make_film, monkeypatch):
    """Three windows of side 96 at 64 pixels and no more; the whole film is one picture."""
    monkeypatch.setattr("mammogan_tf.data.preparation.MAX_PIXELS", 3 * canvas_size(SIZE, "roi") ** 2)
    film = make_film(lesions=[circle(40, 40 * number, 9) for number in range(1, 5)])
    with pytest.raises(DataError, match=r"mdb002\.png: expected at most 3 lesions at 64 pixels, received: 4; merge"):
        prepare(film, SIZE, "roi")
    assert len(prepare(film, SIZE).images) == 1
    assert len(prepare(dataclasses.replace(film, lesions=film.lesions[1:]), SIZE, "roi").images) == 3


def test_more_variants_than_one_picture_holds(make_film, monkeypatch):
    monkeypatch.setattr("mammogan_tf.data.preparation.MAX_PIXELS", 3 * SIZE**2)
    says = "expected at most 2 variants at 64 pixels, received: 3; take fewer of either"
    with pytest.raises(DataError, match=says):
        prepare(make_film(), SIZE, variants=3)
    assert len(prepare(make_film(), SIZE, variants=2).images) == 3


@pytest.mark.parametrize("dark", [4, 7])
def test_the_dark_edge_beside_the_chest_wall_goes_however_narrow_the_film(make_film, dark):
    grey = np.full((1024, 400), 6, np.uint8)
    grey[200:800, dark:250] = 120
    assert prepare(make_film(grey=grey), SIZE).geometry.left == dark


def test_background_is_black_in_the_image_and_kept_in_the_film(make_film):
    prepared = prepare(make_film(), SIZE)
    assert prepared.raw[0, 4, 57] == 250
    assert prepared.images[0, 4, 57] == 0
    (image,), (label_map,) = prepared.images, prepared.label_maps
    assert (image[label_map == 0] < 60).all()
    np.testing.assert_array_equal(image[(label_map > 0) & (image > 115)], 120)


@pytest.mark.parametrize("shape", [(300, 150), (150, 300)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_geometry_maps_back_to_the_film(make_film, shape, side):
    height, width = shape
    grey = draw(height, width, side=side, padding=9)
    geometry = prepare(make_film(grey=grey, side=side), SIZE).geometry
    assert geometry.extent == max(height, width - 9)
    square = geometry.to_square(grey)
    assert square.shape == (geometry.extent, geometry.extent)
    np.testing.assert_array_equal(geometry.to_film(square), grey)
    assert geometry.to_film(np.zeros((SIZE, SIZE), np.uint8)).shape == shape


def test_lesions_move_with_the_film(make_film):
    """Mirrored, column c of 256 becomes 255 - c, here (255 - 195) / 4 = 15 at 64 pixels."""
    film = make_film(grey=draw(side="right"), side="right", lesions=[circle(195, 128, 12)])
    rows, columns = np.nonzero(prepare(film, SIZE).label_maps[0] == LESION)
    assert columns.mean() == pytest.approx((255 - 195 + 0.5) / 4 - 0.5, abs=0.5)
    assert rows.mean() == pytest.approx((128 + 0.5) / 4 - 0.5, abs=0.5)


def test_paint_lesions_fills_circles_inside_the_picture():
    blank = np.ones((40, 50), np.uint8)
    painted = paint_lesions(blank, [circle(20, 10, 5), circle(49, 39, 3)])
    assert (blank == 1).all()
    assert painted[10, 20] == painted[10, 25] == painted[39, 49] == LESION
    assert painted[10, 26] == 1


def test_the_roi_view_shows_each_lesion_with_a_margin(make_film):
    film = make_film(grey=draw(1024, 1024), lesions=[circle(200, 400, 30), circle(150, 700, 40)])
    prepared = prepare(film, SIZE, view="roi")
    canvas = canvas_size(SIZE, "roi")
    assert canvas == 1.5 * SIZE
    assert prepared.images.shape == prepared.raw.shape == prepared.label_maps.shape == (2, canvas, canvas)
    for label_map, (row, column) in zip(prepared.label_maps, prepared.corners, strict=True):
        assert label_map[canvas // 2, canvas // 2] == LESION
        window = label_map[row : row + SIZE, column : column + SIZE]
        assert window.shape == (SIZE, SIZE)
        # The circle's diameter is 1 / 2.5 of a window that is zoomed by up to 1.25.
        radius = np.sqrt((label_map == LESION).sum() / np.pi)
        assert SIZE / 2.5 / 2 / 1.25 - 1 < radius < SIZE / 2.5 / 2 * 1.25 + 1


def test_windows_lie_off_the_centre_by_a_shift_of_their_own(make_film):
    film = make_film(grey=draw(1024, 1024), lesions=[circle(200, 400, 30)])
    corners = [prepare(dataclasses.replace(film, id=f"film{n}"), SIZE, view="roi").corners[0] for n in range(20)]
    shifts = (np.array(corners) - (canvas_size(SIZE, "roi") - SIZE) / 2) / SIZE
    assert len(np.unique(shifts, axis=0)) > 15
    assert 0.1 < np.abs(shifts).max() <= 0.15 + 0.5 / SIZE
    assert np.abs(shifts.mean(axis=0)).max() < 0.05


@pytest.fixture
def draw_mask(make_film, tmp_path):
    """Grey 200, a disc of 30 pixels about row 128, column 60, is a lesion; ``elsewhere`` is what grey 0 stands for."""

    def draw_on(film, elsewhere):
        row, column = np.mgrid[:256, :256]
        disc = np.where((row - 128) ** 2 + (column - 60) ** 2 <= 30**2, 200, 0).astype(np.uint8)
        Image.fromarray(disc).save(tmp_path / "drawn.png")
        return dataclasses.replace(film, drawn=DrawnMask(tmp_path / "drawn.png", ((0, elsewhere), (200, LESION))))

    return draw_on


def test_a_drawn_mask_takes_the_place_of_the_automatic_one(make_film, draw_mask):
    prepared = prepare(draw_mask(make_film(), elsewhere=0), SIZE)
    assert set(np.unique(prepared.label_maps)) == {0, LESION}
    assert (prepared.label_maps == LESION).sum() == pytest.approx(np.pi * (30 / 4) ** 2, rel=0.1)
    assert prepared.images[0, 8, 2] == 0  # Breast, but not drawn as such.
    assert prepared.raw[0, 32, 2] == 120
    assert prepared.confidence == 1  # Nothing of it is automatic.


def test_tissue_that_is_drawn_beyond_the_automatic_outline_is_not_cut_off(tmp_path):
    """At the chest wall, where the film is as dark as the background."""
    row, column = np.mgrid[:600, :400]
    breast = ((row - 300) / 260) ** 2 + (column / 260) ** 2 < 1
    Image.fromarray(np.where(breast & (column >= 80), 110, 4).astype(np.uint8)).save(tmp_path / "film.png")
    lesion = (row - 300) ** 2 + (column - 40) ** 2 < 25**2
    Image.fromarray(np.where(lesion, 4, breast).astype(np.uint8)).save(tmp_path / "mask.png")
    film = Film("a", tmp_path / "film.png", "a", 0, side="left")
    drawn = DrawnMask(tmp_path / "mask.png", ((0, 0), (1, 1), (4, LESION)))
    assert prepare(film, SIZE).geometry.left == pytest.approx(80, abs=4)
    prepared = prepare(dataclasses.replace(film, drawn=drawn), SIZE)
    assert prepared.geometry.left == 0
    assert (prepared.label_maps == LESION).sum() == pytest.approx(np.pi * (25 * SIZE / 600) ** 2, rel=0.3)


def test_where_nothing_is_drawn_the_automatic_mask_stays(make_film, draw_mask):
    film = make_film()
    automatic = prepare(film, SIZE)
    mixed = prepare(draw_mask(film, elsewhere=AUTOMATIC), SIZE)
    lesion = mixed.label_maps == LESION
    assert lesion.any()
    np.testing.assert_array_equal(mixed.label_maps[~lesion], automatic.label_maps[~lesion])
    assert mixed.confidence == automatic.confidence < 1


def test_drawn_lesions_are_seen_in_the_roi_view(make_film, draw_mask):
    prepared = prepare(draw_mask(make_film(), elsewhere=AUTOMATIC), SIZE, view="roi")
    assert len(prepared.label_maps) == 1
    assert prepared.label_maps[0, 48, 48] == LESION


def test_a_lesion_that_a_mask_leaves_out_has_no_window(make_film, draw_mask):
    normal = dataclasses.replace(draw_mask(make_film(), elsewhere=AUTOMATIC), drawn=None)
    benign = dataclasses.replace(draw_mask(make_film("mdb004"), elsewhere=AUTOMATIC), label=0)
    benign = dataclasses.replace(benign, drawn=dataclasses.replace(benign.drawn, classes=((0, AUTOMATIC), (200, 2))))
    windows = load_films([benign, normal], SIZE, view="roi")
    assert windows.ids == (normal.id,)
    assert windows.unplaced == {benign.id}
    np.testing.assert_array_equal(windows.images[0], prepare(normal, SIZE, view="roi").images[0])


def test_refined_lesions_stay_on_the_breast(make_film):
    """The skin is at column 128 of row 128: half of the circle lies beyond it."""
    film = make_film(lesions=[circle(128, 128, 30)])
    breast = prepare(dataclasses.replace(film, lesions=()), 256).label_maps > 0
    lesion = prepare(film, 256, lesions="refined").label_maps == LESION
    assert lesion.any()
    assert not (lesion & ~breast).any()


def test_enlarged_masks_hold_no_class_that_was_not_found(make_film, monkeypatch):
    """Between the classes 1 and 3 lies no rim of class 2: of 64 columns there are 16 of muscle, 32 of breast."""
    columns = np.broadcast_to(np.arange(64), (64, 64))
    steps = np.select([columns < 16, columns < 48], [3, 1], 0).astype(np.uint8)
    monkeypatch.setattr("mammogan_tf.data.preparation.find_anatomy", lambda *_: Anatomy(steps, "left", 1.0))
    film = make_film(grey=np.full((256, 256), 120, np.uint8))
    for label_map in (prepare(film, 256).label_maps[0], outline_film(read_grey(film.path))[0]):
        np.testing.assert_array_equal(label_map, steps.repeat(4, axis=0).repeat(4, axis=1))


def test_refined_lesions_stay_close_to_their_circles(make_film):
    film = make_film(lesions=[circle(60, 128, 30)])
    loose, tight = (prepare(film, 256, lesions=lesions).label_maps[0] == LESION for lesions in ("circle", "refined"))
    rows, columns = np.nonzero(tight)
    assert 0.3 < tight.sum() / loose.sum() < 1
    assert np.hypot(rows - 128, columns - 60).max() <= 1.1 * 30
