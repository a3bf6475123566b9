import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.label_maps import save_label_map
from mammogan_tf.errors import DataError
from mammogan_tf.inference import Generator, load_generator
from mammogan_tf.inference.mask_sets import MaskSet, masks_of_folder, masks_of_model

SIZE = 16


def test_a_label_that_no_mask_has():
    masks = MaskSet(np.zeros((2, SIZE, SIZE), np.uint8), np.array([2, 2]), ["a", "b"])
    with pytest.raises(DataError, match="expected some labelled malignant, received: none; give a folder"):
        masks.of_label(1)


def test_training_masks(masks, gan_run):
    with np.load(gan_run / "masks.npz") as stored:
        np.testing.assert_array_equal(masks.label_maps, stored["label_maps"])
        assert masks.names == stored["ids"].tolist()


@pytest.mark.parametrize("masks", [None, Path("nowhere") / "masks.npz"])
def test_a_model_without_masks(masks):
    bare = Generator(SIZE, "bare", masks, lambda *columns: np.zeros(1))
    with pytest.raises(DataError, match="bare: expected the training masks with the model, received: none; give"):
        masks_of_model(bare)


def test_masks_that_lie_as_their_films_are_refused(tmp_path):
    save_label_map(tmp_path / "a.png", np.ones((SIZE, SIZE), np.uint8))
    save_label_map(tmp_path / "film_mask.png", np.ones((SIZE, SIZE), np.uint8), as_its_film=True)
    says = r"chest wall on the left, received: film_mask\.png, which segment or .* as its film lies; .* data masks"
    with pytest.raises(DataError, match=says):
        masks_of_folder(tmp_path, SIZE)
    (tmp_path / "film_mask.png").unlink()
    save_label_map(tmp_path / "my_mask.png", np.ones((SIZE, SIZE), np.uint8))
    assert masks_of_folder(tmp_path, SIZE).names == ["a", "my_mask"]


def test_masks_of_a_folder(tmp_path):
    normal, sick = np.ones((SIZE, SIZE), np.uint8), np.ones((SIZE, SIZE), np.uint8)
    sick[4:6, 4:6] = 4
    save_label_map(tmp_path / "b.png", sick.repeat(2, axis=0).repeat(2, axis=1))
    save_label_map(tmp_path / "a.png", normal)
    (tmp_path / "._a.png").write_bytes(b"what macOS puts beside a file")
    masks = masks_of_folder(tmp_path, SIZE)
    assert masks.names == ["a", "b"]
    assert masks.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(masks.label_maps, [normal, sick])
    with pytest.raises(DataError, match=r"expected square masks of one size, received: \(16, 16\), \(32, 32\)"):
        masks_of_folder(tmp_path)


def test_a_mask_of_background_alone_is_passed_over(tmp_path):
    for name, value in (("empty", 0), ("breast", 1)):
        save_label_map(tmp_path / f"{name}.png", np.full((SIZE, SIZE), value, np.uint8))
    assert masks_of_folder(tmp_path, SIZE).usable.tolist() == [True, False]
    with pytest.raises(DataError, match="nowhere: expected a folder of masks, received: no such folder"):
        masks_of_folder(tmp_path / "nowhere", SIZE)


def test_masks_that_are_no_squares(tmp_path):
    save_label_map(tmp_path / "wide.png", np.ones((SIZE, 2 * SIZE), np.uint8))
    with pytest.raises(DataError, match=r"expected square masks of one size, received: \(16, 32\)"):
        masks_of_folder(tmp_path)


def test_a_mask_whose_name_is_no_text(tmp_path):
    try:
        save_label_map(tmp_path / os.fsdecode(b"caf\xe9.png"), np.ones((SIZE, SIZE), np.uint8))
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match=r"expected names in UTF-8, received: 'caf\\udce9\.png'; rename it"):
        masks_of_folder(tmp_path, SIZE)


def test_a_folder_with_masks_inside(tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(tmp_path / "contact_sheet.png")
    with pytest.raises(
        DataError, match=f"expected a folder of masks, received: one with masks inside; give {tmp_path}/masks"
    ):
        masks_of_folder(tmp_path, SIZE)


def test_a_folder_without_masks_and_one_with_a_photograph(tmp_path):
    with pytest.raises(DataError, match=r"received: no \.png file there"):
        masks_of_folder(tmp_path, SIZE)
    Image.fromarray(np.full((SIZE, SIZE), 200, np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match="values 0-4, received: 200"):
        masks_of_folder(tmp_path, SIZE)


def test_lesions_are_taken_out_and_put_in(tmp_path):
    masks = MaskSet(np.full((3, SIZE, SIZE), 1, np.uint8), np.array([0, 1, 2]), ["a", "b", "c"])
    masks.label_maps[0, 2:5, 2:5] = 4
    masks.label_maps[2] = 0
    normal = masks.without_lesions()
    assert (normal.label_maps[:2] == 1).all()
    assert normal.labels.tolist() == [2, 2, 2]
    placed = normal.with_lesion(0.5, 0.5, 0.2, 1)
    assert placed.usable.tolist() == [True, True, False]  # The third has no breast.
    assert placed.labels.tolist() == [1, 1, 1]
    assert (placed.label_maps == 4).any(axis=(1, 2)).tolist() == [True, True, False]
    beside = masks.with_lesion(0.9, 0.9, 0.1, 0)
    assert beside.labels.tolist()[:2] == [0, 1]  # The worse of the two says what the film is.
    again = placed.with_lesion(0.5, 0.5, 0.1, 1)
    assert again.usable.tolist() == [True, True, False]  # Though the lesion there hides the circle.
    np.testing.assert_array_equal(again.label_maps, placed.label_maps)
    with pytest.raises(DataError, match="expected a place on the breast"):
        MaskSet(masks.label_maps[2:], masks.labels[2:], ["c"]).with_lesion(0.5, 0.5, 0.2, 1)


def test_what_is_not_usable_stays_so():
    usable = np.array([True, False, True])
    masks = MaskSet(np.ones((3, SIZE, SIZE), np.uint8), np.array([2, 2, 0]), ["a", "b", "c"], usable)
    assert masks.of_label(2).usable.tolist() == [True, False]
    assert masks.without_lesions().usable.tolist() == usable.tolist()


def test_masks_of_which_none_is_usable():
    masks = MaskSet(np.zeros((2, SIZE, SIZE), np.uint8), np.array([0, 1]), ["a", "b"], np.array([True, False]))
    with pytest.raises(DataError, match="expected some labelled malignant, received: none"):
        masks.of_label(1)
    with pytest.raises(DataError, match="expected one that is usable, received: none"):
        MaskSet(masks.label_maps, masks.labels, masks.names, np.zeros(2, bool))


def test_damaged_masks_of_a_model(gan_run, tmp_path):
    run = shutil.copytree(gan_run, tmp_path / "run")
    content = bytearray((run / "masks.npz").read_bytes())
    content[100:120] = bytes(20)
    (run / "masks.npz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"masks\.npz: expected masks, received: a broken file; give a folder with --masks"
    ):
        masks_of_model(load_generator(run))
