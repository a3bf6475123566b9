import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.config import ANATOMIES, CLASSES
from mammogan_tf.console import Console
from mammogan_tf.data.film import read_grey
from mammogan_tf.data.label_maps import lies_as_its_film, overlay, read_label_map
from mammogan_tf.data.preparation import outline_film
from mammogan_tf.errors import DataError
from mammogan_tf.inference import Segmenter, load_segmenter, segment
from mammogan_tf.inference.segment import distinct_names, film_to_png, segment_files, segment_grey

SIZE = 16

BY_BRIGHTNESS = Segmenter(
    SIZE, "whole", "test", lambda images: np.digitize(images, [0.1, 0.3, 0.5, 0.7]).astype(np.uint8)
)
"""Class n where a pixel is about n / 5 bright."""


def drawn_film(side: str, padding: int) -> np.ndarray:
    """A half-ellipse of grey 150 on black, its flat edge ``padding`` columns from that side of the picture."""
    row, column = np.mgrid[:256, :160]
    breast = ((row - 128) / 100) ** 2 + ((column - padding) / 90) ** 2 < 1
    grey = np.where(breast & (column >= padding), 150, 0).astype(np.uint8)
    return grey[:, ::-1] if side == "right" else grey


@pytest.mark.parametrize("padding", [0, 40])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_label_map_lies_on_its_film(side, padding):
    grey = drawn_film(side, padding)
    label_map = segment_grey(BY_BRIGHTNESS, grey, "unet")
    assert (label_map.shape, label_map.dtype) == (grey.shape, np.uint8)
    asked, found = grey == 150, label_map == 3  # 0.5 <= 150 / 255 < 0.7
    assert 2 * (asked & found).sum() / (asked.sum() + found.sum()) > 0.9


def test_the_anatomy_is_automatic_and_the_lesions_are_the_models():
    grey = drawn_film("right", 40)
    upper = Segmenter(
        SIZE, "whole", "test", lambda images: np.where(np.arange(SIZE)[None, :, None] < SIZE // 2, 4, 0 * images)
    )
    label_map = segment_grey(upper, grey)
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map > 0, outline_film(grey)[0] > 0)
    assert set(label_map[:128][label_map[:128] > 0]) == {4}
    np.testing.assert_array_equal(label_map[128:], outline_film(grey)[0][128:])


def test_the_network_sees_the_film_turned_and_trimmed():
    seen = []

    def remember(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros(images.shape, np.uint8)

    for side, padding in (("left", 0), ("right", 40)):
        segment_grey(Segmenter(SIZE, "whole", "test", remember), drawn_film(side, padding))
    np.testing.assert_allclose(*seen, atol=0.1)


def test_the_chest_wall_is_where_a_dicom_file_says(tmp_path):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    from tests.dicom_film import make_dicom, write_dicom

    at_the_wall = np.where(np.arange(SIZE) < 4, 3, 1)[None, None].astype(np.uint8)
    segmenter = Segmenter(SIZE, "whole", "test", lambda images: np.broadcast_to(at_the_wall, images.shape))
    film = make_dicom(drawn_film("left", 0).astype(np.uint16), PatientOrientation=["P", "F"])
    write_dicom(tmp_path / "film.dcm", film)
    segment_files(segmenter, [tmp_path / "film.dcm"], tmp_path / "out", anatomy="unet")
    found = read_label_map(tmp_path / "out" / "film_mask.png")
    at_wall, elsewhere = (np.flatnonzero((found == class_).any(axis=0)) for class_ in (3, 1))
    assert at_wall.min() > elsewhere.max()
    assert set(found[:, :10].ravel()) == {1}
    assert set(segment_grey(segmenter, read_grey(tmp_path / "film.dcm"), "unet")[:, :10].ravel()) == {3}


def test_calls_at_the_same_time_lose_no_row(tmp_path, monkeypatch):
    files = [tmp_path / f"{name}.png" for name in "abcd"]
    for file in files:
        Image.fromarray(drawn_film("left", 0)).save(file)
    read = segment._read_areas

    def slowly(table):
        rows = read(table)
        time.sleep(0.2)
        return rows

    monkeypatch.setattr(segment, "_read_areas", slowly)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda file: segment_files(BY_BRIGHTNESS, [file], tmp_path / "out"), files))
    found = pd.read_csv(tmp_path / "out" / "areas.csv")["file"]
    assert sorted(found) == [str(file) for file in files]


def test_a_window_is_left_as_it_lies():
    windows = Segmenter(SIZE, "roi", "test", lambda images: np.rint(images * 4).astype(np.uint8))
    grey = np.repeat(np.arange(SIZE, dtype=np.uint8)[None] * (255 // SIZE), SIZE, axis=0)
    np.testing.assert_array_equal(segment_grey(windows, grey), np.rint(grey / 255 * 4))


def test_the_mask_of_a_window_is_one_to_generate_from(tmp_path):
    windows = Segmenter(SIZE, "roi", "test", lambda images: np.ones(images.shape, np.uint8))
    segment_files(windows, [write(tmp_path / "a.png", np.zeros((SIZE, SIZE), np.uint8))], tmp_path / "out")
    assert not lies_as_its_film(tmp_path / "out" / "a_mask.png")


@pytest.mark.parametrize(("height", "width"), [(48, 48), (64, 32), (32, 64), (16, 16), (80, 30), (1, 64)])
def test_the_label_map_has_the_size_of_its_film(height, width):
    label_map = segment_grey(BY_BRIGHTNESS, np.zeros((height, width), np.uint8))
    assert (label_map.shape, label_map.dtype) == ((height, width), np.uint8)
    assert not label_map.any()


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_files(tmp_path):
    files = [write(tmp_path / "a.png", drawn_film("left", 0)), write(tmp_path / "b.pgm", np.zeros((16, 16), np.uint8))]
    said = io.StringIO()
    out = tmp_path / "out"
    table = pd.read_csv(segment_files(BY_BRIGHTNESS, files, out, Console(said)))
    assert sorted(path.name for path in out.iterdir()) == [
        "a_mask.png",
        "a_overlay.png",
        "areas.csv",
        "b_mask.png",
        "b_overlay.png",
    ]
    assert [line.partition("  ")[0] for line in said.getvalue().splitlines()] == [
        "segmenting 1/2",
        f"{tmp_path / 'b.pgm'}: a doubtful outline, confidence 0.00; look at b_overlay.png",
        "segmenting 2/2",
    ]
    assert table.columns.tolist() == ["file", *CLASSES, "dense_of_breast", "confidence"]
    assert table["confidence"].tolist() == pytest.approx([outline_film(drawn_film("left", 0))[2], 0], abs=1e-6)
    assert table["file"].tolist() == [str(file) for file in files]
    assert lies_as_its_film(out / "a_mask.png")
    label_map = read_label_map(out / "a_mask.png")
    with Image.open(out / "a_overlay.png") as picture:
        np.testing.assert_array_equal(picture, overlay(drawn_film("left", 0), label_map))
    expected = [[(label_map == value).mean() for value in range(len(CLASSES))], [1, 0, 0, 0, 0]]
    np.testing.assert_allclose(table[list(CLASSES)].to_numpy(), expected, atol=1e-6)
    below = outline_film(drawn_film("left", 0))[0]
    share = (below == 2).sum() / np.isin(below, (1, 2)).sum()
    np.testing.assert_allclose(table["dense_of_breast"], [share, np.nan], atol=1e-6)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_a_lesion_does_not_change_the_density(tmp_path, anatomy):
    """Dense tissue that is seen as a lesion is still dense."""
    file, shares = write(tmp_path / "a.png", drawn_film("left", 0)), []
    for lesion in (False, True):

        def outline(images: np.ndarray, lesion: bool = lesion) -> np.ndarray:
            label_maps = np.ones(images.shape, np.uint8)
            label_maps[:, 5:11] = 2
            label_maps[:, 7:9, 2:8] = 4 if lesion else 2
            return label_maps

        table = segment_files(
            Segmenter(SIZE, "whole", "test", outline), [file], tmp_path / str(lesion), anatomy=anatomy
        )
        shares.append(pd.read_csv(table)["dense_of_breast"].item())
        assert (pd.read_csv(table)["lesion"].item() > 0) == lesion
    assert shares[0] == pytest.approx(shares[1], abs=1e-6)


def test_who_outlines_the_anatomy_of_files(tmp_path):
    file, masks = write(tmp_path / "a.png", drawn_film("left", 0)), {}
    for anatomy in ANATOMIES:
        segment_files(BY_BRIGHTNESS, [file], tmp_path / anatomy, anatomy=anatomy)
        masks[anatomy] = read_label_map(tmp_path / anatomy / "a_mask.png")
        np.testing.assert_array_equal(masks[anatomy], segment_grey(BY_BRIGHTNESS, drawn_film("left", 0), anatomy))
    assert (masks["automatic"] != masks["unet"]).any()


def test_a_trained_network_on_a_film(unet_run, phantom_root, tmp_path):
    segment_files(load_segmenter(unet_run), [phantom_root / "mdb001.pgm"], tmp_path)
    assert read_label_map(tmp_path / "mdb001_mask.png").shape == (1024, 1024)


def test_two_films_of_one_name(tmp_path):
    files = [tmp_path / "left" / "film.png", tmp_path / "right" / "film.pgm"]
    with pytest.raises(DataError, match="films: expected distinct names, received: film more than once"):
        segment_files(BY_BRIGHTNESS, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert distinct_names([tmp_path / "a.png", tmp_path / "b.png"]) == ["a", "b"]


@pytest.mark.parametrize("to", [".", "../mine", "link"])
def test_the_folder_of_a_film_is_refused_before_any_work(tmp_path, monkeypatch, to):
    """What lies beside a film, such as a mask drawn by hand, is not replaced."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    film = write(Path("anna.png"), drawn_film("left", 0))
    Path("anna_mask.png").write_bytes(b"drawn by hand")
    Path("link").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match=r"expected a folder without the films, received: that of anna\.png; choose"):
        segment_files(BY_BRIGHTNESS, [tmp_path / "other.png", film], Path(to))
    assert Path("anna_mask.png").read_bytes() == b"drawn by hand"
    assert len(list(Path().iterdir())) == 3


def test_dicom_files_called_by_a_uid_have_names_of_their_own():
    files = [Path("study/1.2.3.4"), Path("study/1.2.3.5"), Path("study/1.2.3.6.DCM"), Path("film.bmp")]
    assert distinct_names(files) == ["1.2.3.4", "1.2.3.5", "1.2.3.6", "film"]


def test_results_of_files_called_by_a_uid_are_called_as_they_are(tmp_path):
    files = [tmp_path / "1.2.3.4", tmp_path / "1.2.3.5"]
    for file in files:
        Image.fromarray(drawn_film("left", 0)).save(file, "PNG")
    segment_files(BY_BRIGHTNESS, files, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*_mask.png")} == {"1.2.3.4_mask.png", "1.2.3.5_mask.png"}


def test_a_film_that_cannot_be_read(tmp_path):
    (tmp_path / "film.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"film\.png: expected a readable image"):
        segment_files(BY_BRIGHTNESS, [tmp_path / "film.png"], tmp_path / "out")


def test_films_that_cannot_be_read_keep_no_other_waiting(tmp_path, capsys):
    films = [tmp_path / f"{name}.png" for name in ("one", "bad", "two", "worse")]
    for film in films:
        Image.fromarray(np.full((20, 30), 90, np.uint8)).save(film)
    for film in films[1::2]:
        film.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"^2 of 4 films left out, the first: .*bad\.png: expected a readable image"):
        segment_files(BY_BRIGHTNESS, films, tmp_path / "out", Console())
    assert pd.read_csv(tmp_path / "out" / "areas.csv")["file"].tolist() == [str(film) for film in films[::2]]
    assert all((tmp_path / "out" / f"{film.stem}_mask.png").exists() for film in films[::2])
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert [film.name in line for film, line in zip(films[1::2], told, strict=True)] == [True, True]


def test_the_films_of_earlier_calls_stay_in_the_table(tmp_path):
    dark, bright = np.full((20, 30), 30, np.uint8), np.full((20, 30), 90, np.uint8)
    first, second = write(tmp_path / "NA.png", dark), write(tmp_path / "001.png", bright)
    for file in (first, second):
        table = segment_files(BY_BRIGHTNESS, [file], tmp_path / "out", anatomy="unet")
    before = table.read_text().splitlines()
    assert [line.split(",")[0] for line in before] == ["file", str(first), str(second)]
    write(first, bright)
    segment_files(BY_BRIGHTNESS, [first], tmp_path / "out", anatomy="unet")
    after = table.read_text().splitlines()
    assert after == [before[0], before[2].replace(str(second), str(first)), before[2]]


def test_where_no_film_can_be_read_the_table_of_before_stays(tmp_path):
    table = segment_files(BY_BRIGHTNESS, [write(tmp_path / "good.png", drawn_film("left", 0))], tmp_path / "out")
    before = table.read_text()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        segment_files(BY_BRIGHTNESS, [tmp_path / "bad.png"], tmp_path / "out")
    assert table.read_text() == before


@pytest.mark.parametrize(
    "content",
    ["", "of before", "film,dense\na,0\n", ",".join(["file", *CLASSES, "dense_of_breast"]) + "\na,b,c,d,e,f,g\n"],
)
def test_a_table_of_something_else_is_refused_before_any_work(tmp_path, content):
    file, out = write(tmp_path / "good.png", drawn_film("left", 0)), tmp_path / "out"
    out.mkdir()
    (out / "areas.csv").write_text(content)
    with pytest.raises(DataError, match=r"areas\.csv: expected the table of an earlier call .*, received: ") as refused:
        segment_files(BY_BRIGHTNESS, [file], out)
    assert "\n" not in str(refused.value)
    assert (out / "areas.csv").read_text() == content
    assert not (out / "good_mask.png").exists()


def test_a_film_as_png():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    with Image.open(io.BytesIO(film_to_png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
