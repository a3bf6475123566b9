import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.config import CLASSES
from mammogan_tf.data.label_maps import read_label_map
from mammogan_tf.errors import DataError
from mammogan_tf.inference import Segmenter, load_segmenter
from mammogan_tf.inference.segment import distinct_names, film_to_png, segment_files, segment_grey

SIZE = 16

BY_BRIGHTNESS = Segmenter(SIZE, "test", lambda images: np.digitize(images, [0.1, 0.3, 0.5, 0.7]).astype(np.uint8))
"""Class n where a pixel is about n / 5 bright."""


def film(label_map: np.ndarray) -> np.ndarray:
    return (label_map * 51).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (64, 32), (32, 64), (16, 16), (80, 30), (1, 64)])
def test_the_label_map_has_the_size_of_its_film(height, width):
    rows, columns = np.mgrid[:height, :width]
    truth = (rows >= height / 2) + 2 * (columns >= width / 2)
    label_map = segment_grey(BY_BRIGHTNESS, film(truth))
    assert (label_map.shape, label_map.dtype) == ((height, width), np.uint8)
    # A pixel of the network's is so many of the film's; only those on a border may differ.
    cell = max(height, width) / SIZE
    inner = (abs(rows - height / 2) > cell) & (abs(columns - width / 2) > cell) & (rows < height - cell)
    inner &= columns < width - cell
    np.testing.assert_array_equal(label_map[inner], truth[inner])


def test_what_is_filled_up_does_not_come_back():
    assert (segment_grey(BY_BRIGHTNESS, film(np.full((64, 16), 4))) == 4).all()


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_files(tmp_path):
    truth = np.zeros((32, 64), np.uint8)
    truth[:, :16] = 3
    files = [write(tmp_path / "a.png", film(truth)), write(tmp_path / "b.pgm", film(np.full((16, 16), 2)))]
    progress: list[tuple[int, int]] = []
    out = tmp_path / "out"
    table = pd.read_csv(segment_files(BY_BRIGHTNESS, files, out, lambda *done: progress.append(done)))
    assert sorted(path.name for path in out.iterdir()) == [
        "a_mask.png",
        "a_overlay.png",
        "areas.csv",
        "b_mask.png",
        "b_overlay.png",
    ]
    assert progress == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(read_label_map(out / "a_mask.png"), truth)
    with Image.open(out / "a_overlay.png") as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (64, 32))
    assert table.columns.tolist() == ["file", *CLASSES]
    assert table["file"].tolist() == [str(file) for file in files]
    expected = np.array([[48 / 64, 0, 0, 16 / 64, 0], [0, 0, 1, 0, 0]])
    np.testing.assert_allclose(table[list(CLASSES)].to_numpy(), expected)


def test_a_trained_network_on_a_film(unet_run, phantom_root, tmp_path):
    segment_files(load_segmenter(unet_run), [phantom_root / "mdb001.pgm"], tmp_path)
    assert read_label_map(tmp_path / "mdb001_mask.png").shape == (1024, 1024)


def test_two_films_of_one_name(tmp_path):
    files = [tmp_path / "left" / "film.png", tmp_path / "right" / "film.pgm"]
    with pytest.raises(DataError, match="films: expected distinct names, received: film more than once"):
        segment_files(BY_BRIGHTNESS, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert distinct_names([tmp_path / "a.png", tmp_path / "b.png"]) == ["a", "b"]


def test_a_film_that_cannot_be_read(tmp_path):
    (tmp_path / "film.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"film\.png: expected a readable image"):
        segment_files(BY_BRIGHTNESS, [tmp_path / "film.png"], tmp_path / "out")


def test_a_film_as_png():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    with Image.open(io.BytesIO(film_to_png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
