import dataclasses
import itertools

import numpy as np
import pytest

from mammogan_tf.data.pipeline import gan_batches, segmentation_batches, validation_batches
from mammogan_tf.data.transforms import Augmentation
from tests.data.conftest import COUNT, SIDE


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


def test_the_segmenters_films_move_within_the_limits(films):
    still = Augmentation(rotation=0.0, scale=0.0, shift=0.0, gamma=1.0, noise=0.0)
    images, masks = take(segmentation_batches(films, COUNT, seed=0, limits=still, keep_background=True), 1)[0]
    numbers = np.rint(images[:, 0, -1, 0] * 255 / 20).astype(int) - 1
    assert sorted(numbers) == list(range(COUNT))
    np.testing.assert_array_equal(masks.argmax(axis=-1), films.label_maps[numbers])


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


def test_films_as_they_are_get_another_label(films):
    def labelled(**way) -> int:
        """Films out of 200 with something on their background that is brighter than any film."""
        batches = take(segmentation_batches(cleaned, 20, seed=0, **way), 10)
        return sum(((images[..., 0] > 0.7) & (masks[..., 0] > 0)).any(axis=(1, 2)).sum() for images, masks in batches)

    cleaned = dataclasses.replace(films, raw=films.images)
    # Of the labels 3 in 5 are brighter than that; tissue, which covers half of the film, hides some of them.
    assert 200 * 0.6 * 0.3 < labelled(keep_background=True) < 200 * 0.6
    assert 200 * 0.6 * 0.3 / 2 < labelled() < 200 * 0.6 / 2


def test_validation_is_one_plain_pass_in_order(films):
    batches = take(validation_batches(films, 3), 99)
    assert [len(images) for images, _ in batches] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate([images for images, _ in batches])[..., 0], films.images / 255, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([masks for _, masks in batches]).argmax(axis=-1), films.label_maps)
    kept = take(validation_batches(films, 3, keep_background=True), 1)[0][0]
    np.testing.assert_allclose(kept[..., 0], films.raw[:3] / 255, rtol=1e-6)


def test_windows_are_cut_at_random_out_of_their_canvas(films):
    """Film n has grey 20 (n + 1) in its right half alone: how far that half reaches tells where the window began."""
    margin = 4
    windows = dataclasses.replace(films, size=SIDE - margin, corners=np.zeros((COUNT, 2), int))
    batch = take(gan_batches(windows, 60, seed=0), 1)[0]
    assert batch["image"].shape == (60, SIDE - margin, SIDE - margin, 1)
    begins = SIDE // 2 - (batch["image"][..., 0] == -1).all(axis=1).sum(axis=1)
    assert set(begins) == set(range(margin + 1))
    np.testing.assert_array_equal(batch["mask"].argmax(axis=-1) == 0, batch["image"][..., 0] == -1)
    images, _ = take(segmentation_batches(windows, 5, seed=0), 1)[0]
    assert images.shape == (5, SIDE - margin, SIDE - margin, 1)
