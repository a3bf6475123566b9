import itertools

import numpy as np
import pytest

from mammogan_tf.data import pipeline
from mammogan_tf.data.masks import prepare_films, read_prepared
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.pipeline import FilmSet, gan_batches, load_films, segmentation_batches, validation_batches
from mammogan_tf.errors import DataError

COUNT, SIDE = 7, 16


@pytest.fixture(scope="module")
def films() -> FilmSet:
    """Film n is grey 20 (n + 1) on its right half; without its background, at the left, it is black there."""
    columns = np.broadcast_to(np.arange(SIDE), (COUNT, SIDE, SIDE))
    label_maps = np.where(columns < SIDE // 2, 0, 1 + np.arange(COUNT)[:, None, None] % 4).astype(np.uint8)
    raw = np.broadcast_to(20 * np.arange(1, COUNT + 1, dtype=np.uint8)[:, None, None], label_maps.shape).copy()
    return FilmSet(
        images=raw * (label_maps > 0).astype(np.uint8),
        films=raw,
        label_maps=label_maps,
        labels=np.arange(COUNT, dtype=np.int32) % 3,
        ids=tuple(f"film{number}" for number in range(COUNT)),
        patients=tuple(f"patient{number // 2}" for number in range(COUNT)),
        tissues=("F",) * COUNT,
    )


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def numbers_of(images: np.ndarray) -> list[int]:
    """Which films of the GAN's pipeline these are."""
    return [round((image.max() + 1) / 2 * 255 / 20) - 1 for image in images]


def flat(batch) -> list[np.ndarray]:
    return list(batch.values()) if isinstance(batch, dict) else list(batch)


@pytest.mark.parametrize("batches", [gan_batches, segmentation_batches])
class TestBatches:
    def test_batch_n_depends_on_seed_and_n_alone(self, films, batches):
        whole = take(batches(films, 3, seed=5), 12)
        for start in (1, 7, 11):  # 7 films: 7 batches of 3 are three epochs.
            for late, early in zip(
                take(batches(films, 3, seed=5, start=start), 12 - start), whole[start:], strict=True
            ):
                for one, other in zip(flat(late), flat(early), strict=True):
                    np.testing.assert_array_equal(one, other)

    def test_another_seed_gives_another_order(self, films, batches):
        one, other = (take(batches(films, COUNT, seed=seed), 1)[0] for seed in (0, 1))
        assert any((a != b).any() for a, b in zip(flat(one), flat(other), strict=True))

    def test_batches_are_whole_even_where_the_films_are_fewer(self, films, batches):
        for batch in take(batches(films, COUNT + 3, seed=0), 3):
            assert {len(part) for part in flat(batch)} == {COUNT + 3}


def test_format_for_the_gan(films):
    batch = take(gan_batches(films, 4, seed=0), 1)[0]
    assert {name: (part.shape, part.dtype.name) for name, part in batch.items()} == {
        "image": ((4, SIDE, SIDE, 1), "float32"),
        "mask": ((4, SIDE, SIDE, 5), "float32"),
        "label": ((4,), "int32"),
    }
    assert (batch["image"][:, :, : SIDE // 2] == -1).all()
    numbers = numbers_of(batch["image"])
    np.testing.assert_array_equal(batch["label"], films.labels[numbers])
    np.testing.assert_array_equal(batch["mask"].argmax(axis=-1), films.label_maps[numbers])
    grey = [20 * (number + 1) / 255 * 2 - 1 for number in numbers]
    np.testing.assert_allclose(batch["image"][:, 0, -1, 0], grey, rtol=1e-6)


def test_each_epoch_shows_every_film_once_in_an_order_of_its_own(films):
    shown = [
        number for batch in take(gan_batches(films, 1, seed=0), 4 * COUNT) for number in numbers_of(batch["image"])
    ]
    epochs = [tuple(shown[begin : begin + COUNT]) for begin in range(0, len(shown), COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len(set(epochs)) == len(epochs)


def test_only_the_films_given_are_shown(films):
    training = films.select(["film1", "film4"])
    batches = take(gan_batches(training, 4, seed=0), 4)
    assert {number for batch in batches for number in numbers_of(batch["image"])} == {1, 4}


def test_format_for_the_segmenter(films):
    images, masks = take(segmentation_batches(films, 5, seed=0), 1)[0]
    assert (images.shape, images.dtype) == ((5, SIDE, SIDE, 1), np.float32)
    assert (masks.shape, masks.dtype) == ((5, SIDE, SIDE, 5), np.float32)
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(masks.sum(axis=-1), 1)


def has_black_background(images, masks) -> np.ndarray:
    """Of each film; a film as it is shows grey there, but for what came in from outside."""
    background = masks[..., 0] > 0
    return ((images[..., 0] == 0) & background).sum(axis=(1, 2)) > 0.6 * background.sum(axis=(1, 2))


def test_half_of_the_segmenters_films_have_a_black_background(films):
    batches = take(segmentation_batches(films, 20, seed=0), 10)
    black = sum(int(has_black_background(*batch).sum()) for batch in batches)
    # 200 tosses have a standard deviation of 7.
    assert abs(black - 200 / 2) < 4 * 7


def test_the_segmenter_may_see_kept_backgrounds_only(films):
    batch = take(segmentation_batches(films, 40, seed=0, keep_background=True), 1)[0]
    assert not has_black_background(*batch).any()


def test_validation_is_one_plain_pass_in_order(films):
    batches = take(validation_batches(films, 3), 99)
    assert [len(images) for images, _ in batches] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate([images for images, _ in batches])[..., 0], films.images / 255, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([masks for _, masks in batches]).argmax(axis=-1), films.label_maps)
    kept = take(validation_batches(films, 3, keep_background=True), 1)[0][0]
    np.testing.assert_allclose(kept[..., 0], films.films[:3] / 255, rtol=1e-6)


def test_select_keeps_everything_of_a_film_together(films):
    chosen = films.select(["film5", "film2"])
    assert len(chosen) == 2
    assert (chosen.ids, chosen.patients) == (("film5", "film2"), ("patient2", "patient1"))
    for name in ("images", "films", "label_maps", "labels"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(films, name)[[5, 2]])


def test_select_names_what_is_missing(films):
    with pytest.raises(DataError, match="received: a folder without film8, film9"):
        films.select(["film8", "film1", "film9"])


def test_films_are_loaded_as_they_were_prepared(mias_tree, monkeypatch):
    listed = load_mias(mias_tree)
    expected = read_prepared(prepare_films(listed, SIDE))
    for limit in (pipeline.MEMORY_LIMIT, 0):  # In memory, and in a file that is mapped into it.
        monkeypatch.setattr(pipeline, "MEMORY_LIMIT", limit)
        loaded = load_films(listed, SIDE)
        for name in ("images", "films", "label_maps"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(expected, name))
    assert loaded.ids == tuple(film.id for film in listed)
    assert loaded.labels.tolist() == [film.label for film in listed]
    assert loaded.patients[:3] == ("mias001", "mias001", "mias002")
    assert len(take(gan_batches(loaded, 2, seed=0), 2)) == 2
