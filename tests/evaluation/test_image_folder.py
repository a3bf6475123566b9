import dataclasses

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.label_maps import save_label_map
from mammogan_tf.errors import DataError
from mammogan_tf.evaluation import writing
from mammogan_tf.evaluation.image_folder import read_images, synthetic_films
from mammogan_tf.evaluation.sections.diversity import DIVERSITY
from mammogan_tf.evaluation.sections.memorisation import masks_of_training, memorisation_verdict
from mammogan_tf.evaluation.sheet import comparison_sheet
from tests.toy_films import SIZE, draw_films, evidence_of


@pytest.fixture
def folders(tmp_path):
    """Images 0.png-4.png of increasing grey, and a mask for each."""
    for number in range(5):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16), 51 * number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
        save_label_map(tmp_path / "masks" / f"{number}.png", np.full((16, 16), number, np.uint8))
    return tmp_path / "images", tmp_path / "masks"


def test_images_and_masks(folders):
    images, masks = read_images(*folders)
    np.testing.assert_allclose(images[:, 0, 0], np.arange(5) / 5, atol=1e-6)
    assert masks[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert read_images(folders[0])[1] is None


def test_a_suffix_in_capitals_and_hidden_files(folders):
    images, _ = folders
    (images / "1.png").rename(images / "1.PNG")
    (images / ".0.png").write_bytes(b"what another system leaves beside a file")
    assert read_images(images)[0].shape == (5, 16, 16)


def test_bad_folders(folders, tmp_path):
    images, masks = folders
    with pytest.raises(DataError, match="two PNGs or more, received: 0"):
        read_images(tmp_path)
    (masks / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png: expected .* nothing there"):
        read_images(images, masks)
    save_label_map(masks / "3.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"3\.png: expected a mask of \(16, 16\) pixels .* received: \(8, 8\)"):
        read_images(images, masks)
    Image.fromarray(np.full((16, 16), 3000, np.uint16)).save(images / "2.png")
    with pytest.raises(DataError, match=r"2\.png: expected 8 bits, received: 16"):
        read_images(images)
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(images / "2.png")
    with pytest.raises(DataError, match=r"2\.png: expected square images of one size, received: \(16, 20\) beside"):
        read_images(images)


@pytest.fixture(scope="module")
def real():
    return draw_films(range(6), 0)


def test_images_alone_are_dealt_to_patients_and_sets(real):
    images = np.zeros((30, SIZE, SIZE), np.float32)
    films = synthetic_films(images, None, real)
    assert films.films is None
    assert np.unique(films.patients, return_counts=True)[1].tolist() == [30 // 6] * 6
    assert [len(rows) for rows in films.sets] == [12, 12]  # as many as there are films
    assert len(set(np.concatenate(films.sets).tolist())) == 24


def test_images_of_one_mask_stay_together(real):
    masks = np.repeat(np.arange(5, dtype=np.uint8) % 5, 6)[:, None, None] * np.ones((1, SIZE, SIZE), np.uint8)
    films = synthetic_films(np.zeros(masks.shape, np.float32), masks, real)
    assert films.films is None
    assert len(set(films.patients)) == 5
    assert all(len(set(films.patients[start : start + 6])) == 1 for start in range(0, 30, 6))


def test_masks_of_unseen_films_tell_the_film(real):
    rows = np.array([2, 4, 2, 8])
    films = synthetic_films(np.zeros((4, SIZE, SIZE), np.float32), real.masks[rows], real)
    assert (real.masks[films.films] == real.masks[rows]).all()
    assert films.patients.tolist() == real.patients[rows].tolist()


def test_a_mask_of_no_unseen_film_unties_no_other_image(real):
    masks = real.masks.copy()
    masks[3, 0, 0] ^= 1
    films = synthetic_films(np.zeros(masks.shape, np.float32), masks, real)
    assert films.films is None
    tied = np.arange(len(masks)) != 3
    assert films.patients[tied].tolist() == real.patients[tied].tolist()


def test_masks_of_no_unseen_film_are_dealt_evenly_beside_others(real):
    others = np.arange(1, 7, dtype=np.uint8)[:, None, None] * np.ones((1, SIZE, SIZE), np.uint8)
    masks = np.concatenate([real.masks, others])
    films = synthetic_films(np.zeros(masks.shape, np.float32), masks, real)
    assert sorted(films.patients[len(real) :]) == sorted(set(real.patients))


@pytest.mark.parametrize("numbers", [[2] * 12, [4] * 2 + [2] * 8], ids=["as of a GAN", "unequal"])
def test_the_images_of_a_film_are_spread_evenly_over_the_sets(real, numbers):
    masks = np.repeat(real.masks[: len(numbers)], numbers, axis=0)
    films = synthetic_films(np.zeros(masks.shape, np.float32), masks, real)
    assert len(films.sets) == 2
    for rows in films.sets:
        assert (2 * np.bincount(films.films[rows])).tolist() == numbers


@pytest.mark.parametrize("masked", [False, True], ids=["without masks", "each of a mask of its own"])
def test_images_that_are_tied_to_no_film_are_of_every_patient_in_each_set(real, masked):
    count = 40 * len(real)
    masks = np.random.default_rng(0).integers(0, 4, (count, SIZE, SIZE)).astype(np.uint8) if masked else None
    films = synthetic_films(np.zeros((count, SIZE, SIZE), np.float32), masks, real)
    for rows in films.sets:
        assert set(films.patients[rows]) == set(real.patients)


def test_a_mask_of_several_unseen_films_is_dealt_to_them_in_turn(real):
    masks = real.masks.copy()
    masks[[0, 2, 4]] = 1
    films = synthetic_films(np.zeros(masks.shape, np.float32), masks, dataclasses.replace(real, masks=masks))
    assert films.films.tolist() == list(range(len(real)))
    assert films.patients.tolist() == real.patients.tolist()


@pytest.mark.parametrize(
    ("copied", "known", "reason"),
    [
        (True, False, "12 of 12 masks are those of training films, which lowers distances"),
        (True, True, None),
        (False, False, None),
    ],
    ids=["copies", "copies, of masks of unseen films too", "no copies"],
)
def test_masks_of_training_films_are_a_reason_of_a_verdict_that_fails(real, copied, known, reason):
    train = draw_films(range(100, 106), 1000)
    unseen = dataclasses.replace(real, masks=train.masks) if known else real
    images = train.images if copied else real.images
    evidence = evidence_of(unseen, train, synthetic_films(images, train.masks, unseen))
    assert masks_of_training(evidence) == (0 if known else 12)
    found = memorisation_verdict(evidence, {"membership_auc": {}})
    assert found["passed"] != copied
    assert (found["reasons"][-1] if reason else reason) == reason
    assert known == (evidence.synthetic.films is not None)


def test_the_sheet_of_images_that_are_not_tied_shows_films_drawn_by_the_seed(real, tmp_path, monkeypatch):
    shown = []

    def note(masks, films, *others):
        shown.append(films)
        return comparison_sheet(masks, films, *others)

    monkeypatch.setattr(writing, "comparison_sheet", note)
    evidence = evidence_of(real, real, synthetic_films(real.images[:6], None, real))
    for seed in range(2):
        writing._sheet(dataclasses.replace(evidence, seed=seed), tmp_path)
    assert (shown[0] != shown[1]).any()


def test_few_images_make_one_small_set(real):
    films = synthetic_films(np.zeros((5, SIZE, SIZE), np.float32), None, real)
    assert [len(rows) for rows in films.sets] == [5]


def test_pairs_of_one_mask_are_counted_with_the_patients_of_both_images(real):
    """Where a mask is that of films of several patients, its images are dealt to all of them; another mask unties them."""
    alike = np.ones_like(real.masks)
    shared = dataclasses.replace(real, masks=alike)
    masks = np.concatenate([alike, np.full((2, SIZE, SIZE), 2, np.uint8)])
    images = np.random.default_rng(0).random(masks.shape)
    for order in (np.arange(len(real)), np.random.default_rng(1).permutation(len(real))):
        moved = {field.name: getattr(shared, field.name)[order] for field in dataclasses.fields(shared)}
        films = synthetic_films(images, masks, dataclasses.replace(shared, **moved))
        estimate = DIVERSITY.compute(evidence_of(real, real, films))["ssim_same_mask"]
        assert estimate["patients"] == len(np.unique(real.patients))
