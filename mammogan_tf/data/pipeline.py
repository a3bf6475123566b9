"""``tf.data`` pipelines over prepared films.

Every batch is a function of the seed and of its number alone: the order of an epoch and each augmentation are drawn from
``(seed, counter)``. A pipeline that starts at batch n therefore goes on exactly as one that ran up to there.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from mammogan_tf.data.film import Film
from mammogan_tf.data.masks import prepare_films
from mammogan_tf.data.transforms import augment_film, one_hot, to_network_range
from mammogan_tf.errors import DataError

__all__ = ["FilmSet", "gan_batches", "load_films", "segmentation_batches", "validation_batches"]

MEMORY_LIMIT = 2**31
"""Bytes of decoded films that are kept in memory; a larger set lies in a file that is mapped into memory."""


@dataclass(frozen=True)
class FilmSet:
    """Prepared films of one side length S: ``images`` with a black background, ``films`` as they are, ``label_maps``.

    All three are uint8 [N, S, S] and ``labels`` is int32 [N]; the other fields have one entry a film.
    """

    images: np.ndarray
    films: np.ndarray
    label_maps: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    tissues: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, ids: Sequence[str]) -> "FilmSet":
        """The films with these ids, in this order.

        Raises:
            DataError: an id is not among the films.
        """
        place = {id_: index for index, id_ in enumerate(self.ids)}
        missing = [id_ for id_ in ids if id_ not in place]
        if missing:
            raise DataError(
                f"films: expected those of the run's split, received: a folder without {', '.join(missing[:5])}; "
                "give the data back as it was, or start another run"
            )
        rows = np.array([place[id_] for id_ in ids], dtype=np.int64)
        return FilmSet(
            images=self.images[rows],
            films=self.films[rows],
            label_maps=self.label_maps[rows],
            labels=self.labels[rows],
            ids=tuple(self.ids[row] for row in rows),
            patients=tuple(self.patients[row] for row in rows),
            tissues=tuple(self.tissues[row] for row in rows),
        )


def load_films(films: Sequence[Film], size: int, progress: Callable[[int, int], None] | None = None) -> FilmSet:
    """Prepares the films, or takes them from the cache, and decodes them in parallel."""
    paths = prepare_films(films, size, progress)
    pixels = _allocate((3, len(paths), size, size))

    def decode(item: tuple[int, Path]) -> None:
        with Image.open(item[1]) as image:
            pixels[:, item[0]] = np.moveaxis(np.asarray(image), -1, 0)

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, enumerate(paths)))
    images, raw_films, label_maps = pixels
    return FilmSet(
        images=images,
        films=raw_films,
        label_maps=label_maps,
        labels=np.array([film.label for film in films], np.int32),
        ids=tuple(film.id for film in films),
        patients=tuple(film.patient for film in films),
        tissues=tuple(film.tissue for film in films),
    )


def segmentation_batches(
    films: FilmSet, batch_size: int, *, seed: int, start: int = 0, keep_background: bool = False
) -> tf.data.Dataset:
    """Endless augmented batches of (image float32 [B, S, S, 1] in [0, 1], one-hot mask float32 [B, S, S, 5]).

    Unless ``keep_background`` is set, half of the films come with their background black and half as they are, so that the
    network outlines a cleaned film and a raw one alike.

    Args:
        films: the training films.
        batch_size: B.
        seed: of order and augmentation.
        start: number of the first batch, to resume.
    """
    pictures = np.stack([films.films, films.films if keep_background else films.images])

    def example(index: tf.Tensor, counter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(seed, tf.int64), counter])
        kind = tf.random.stateless_uniform([], key + 2, 0, 2, tf.int64)
        image, label_map = _fetch(lambda i, k: (pictures[k, i], films.label_maps[i]), [index, kind], films)
        image, label_map = augment_film(_to_float(image), label_map, key, films.images.shape[-1])
        return image, one_hot(label_map)

    return _batches(len(films), batch_size, seed, start, example)


def validation_batches(films: FilmSet, batch_size: int, *, keep_background: bool = False) -> tf.data.Dataset:
    """One pass over the films in order, without augmentation, in the format of :func:`segmentation_batches`."""
    pictures = films.films if keep_background else films.images
    dataset = tf.data.Dataset.from_tensor_slices((pictures, films.label_maps)).batch(batch_size)
    return dataset.map(lambda image, label_map: (_to_float(image), one_hot(label_map))).prefetch(1)


def gan_batches(films: FilmSet, batch_size: int, *, seed: int, start: int = 0) -> tf.data.Dataset:
    """Endless batches for the GAN: dict of ``image`` [-1, 1] [B, S, S, 1], one-hot ``mask`` [B, S, S, 5], ``label`` [B].

    Args:
        films: the training films, with the masks to condition on.
        batch_size: B; one training step takes ``n_critic`` times its batch size.
        seed: of the order.
        start: number of the first batch, to resume.
    """

    def example(index: tf.Tensor, counter: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label_map = _fetch(lambda i: (films.images[i], films.label_maps[i]), [index], films)
        return {
            "image": to_network_range(_to_float(image)),
            "mask": one_hot(label_map),
            "label": tf.gather(tf.constant(films.labels), index),
        }

    return _batches(len(films), batch_size, seed, start, example)


def _batches(count: int, batch_size: int, seed: int, start: int, example: Callable) -> tf.data.Dataset:
    """Batches of ``example(index, counter)`` over seeded permutations of ``range(count)``, one after the other."""
    first = start * batch_size
    epochs = tf.data.Dataset.range(first // count, 2**62)

    def permutation(epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), key)
        return tf.data.Dataset.from_tensor_slices(order)

    order = epochs.flat_map(permutation).skip(first % count)
    numbered = tf.data.Dataset.zip(order, tf.data.Dataset.counter(first))
    examples = numbered.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size, drop_remainder=True).prefetch(2)


def _fetch(read: Callable, arguments: list[tf.Tensor], films: FilmSet) -> list[tf.Tensor]:
    """Two uint8 pictures [S, S] out of NumPy arrays, which may be larger than memory."""
    pictures = tf.numpy_function(read, arguments, [tf.uint8, tf.uint8], stateful=False)
    return [tf.ensure_shape(picture, films.images.shape[1:]) for picture in pictures]


def _to_float(picture: tf.Tensor) -> tf.Tensor:
    return tf.cast(picture[..., None], tf.float32) / 255.0


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    if np.prod(shape, dtype=np.int64) <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="mammogan-tf-") as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)
