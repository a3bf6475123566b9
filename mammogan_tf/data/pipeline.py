"""``tf.data`` pipelines over prepared films.

Every batch is a function of the seed and of its number alone: the order of an epoch and each augmentation are drawn from
``(seed, counter)``. A pipeline that starts at batch n therefore goes on exactly as one that ran up to there, and each of
several processes that share a batch makes its own part of it.
"""

from collections.abc import Callable

import tensorflow as tf

from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.transforms import (
    AUGMENTATIONS,
    Augmentation,
    augment_film,
    one_hot,
    paste_film_marker,
    to_network_range,
)

__all__ = ["gan_batches", "segmentation_batches", "validation_batches"]


def segmentation_batches(
    films: FilmSet,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    keep_background: bool = False,
    limits: Augmentation = AUGMENTATIONS["whole"],
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Endless augmented batches of (image float32 [B, S, S, 1] in [0, 1], one-hot mask float32 [B, S, S, 5]).

    Unless ``keep_background`` is set, half of the films come with their background black and half as they are, so that the
    network outlines a cleaned film and a raw one alike. A film as it is gets one more label on its background.

    Args:
        films: the training films.
        batch_size: B.
        seed: of order and augmentation.
        start: number of the first batch, to resume.
        keep_background: leave every film as it is.
        limits: of the augmentation.
        context: which part of a batch this process reads, for how many replicas; all of it, for one, by default.
    """
    pictures = films.raw, films.pictures(keep_background)

    def example(index: tf.Tensor, counter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(seed, tf.int64), counter])
        kind = tf.random.stateless_uniform([], key + 2, 0, 2, tf.int64)
        image, label_map = _fetch(lambda i, k: (pictures[k][i], films.label_maps[i]), [index, kind], films)
        image, label_map = augment_film(_to_float(image), label_map, key, films.size, limits)
        raw = keep_background | (kind == 0)
        image = tf.cond(raw, lambda: paste_film_marker(image, label_map, key), lambda: image)
        return image, one_hot(label_map)

    return _batches(len(films), batch_size, seed, start, example, context)


def validation_batches(films: FilmSet, batch_size: int, *, keep_background: bool = False) -> tf.data.Dataset:
    """One pass over cropped films in order, without augmentation, in the format of :func:`segmentation_batches`."""
    pictures = films.pictures(keep_background)
    dataset = tf.data.Dataset.from_tensor_slices((pictures, films.label_maps)).batch(batch_size)
    return dataset.map(lambda image, label_map: (_to_float(image), one_hot(label_map))).prefetch(1)


def gan_batches(
    films: FilmSet,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Endless batches for the GAN: dict of ``image`` [-1, 1] [B, S, S, 1], one-hot ``mask`` [B, S, S, 5], ``label`` [B].

    Args:
        films: the training films, with the masks to condition on.
        batch_size: B; one training step takes ``n_critic`` times its batch size.
        seed: of the order, and of where a window is cut out of its canvas.
        start: number of the first batch, to resume.
        context: which part of a batch this process reads, for how many replicas; all of it, for one, by default.
    """
    room = films.images.shape[-1] - films.size

    def example(index: tf.Tensor, counter: tf.Tensor) -> dict[str, tf.Tensor]:
        pictures = _fetch(lambda i: (films.images[i], films.label_maps[i]), [index], films)
        corner = tf.random.stateless_uniform(
            [2], tf.stack([tf.constant(seed, tf.int64), counter]), 0, room + 1, tf.int32
        )
        image, label_map = (tf.slice(picture, corner, [films.size, films.size]) for picture in pictures)
        return {
            "image": to_network_range(_to_float(image)),
            "mask": one_hot(label_map),
            "label": tf.gather(tf.constant(films.labels), index),
        }

    return _batches(len(films), batch_size, seed, start, example, context)


def _batches(
    count: int,
    batch_size: int,
    seed: int,
    start: int,
    example: Callable,
    context: tf.distribute.InputContext | None,
) -> tf.data.Dataset:
    """Batches of ``example(index, counter)`` over seeded permutations of ``range(count)``, one after the other.

    Each process makes the examples of its own rows of a batch, cut into the batches of its replicas.
    """
    context = context or tf.distribute.InputContext()
    rows = batch_size // context.num_input_pipelines

    def own(index: tf.Tensor, counter: tf.Tensor) -> tf.Tensor:
        return counter % batch_size // rows == context.input_pipeline_id

    first = start * batch_size
    epochs = tf.data.Dataset.range(first // count, 2**62)

    def permutation(epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), key)
        return tf.data.Dataset.from_tensor_slices(order)

    order = epochs.flat_map(permutation).skip(first % count)
    numbered = tf.data.Dataset.zip(order, tf.data.Dataset.counter(first))
    if context.num_input_pipelines > 1:
        numbered = numbered.filter(own)
    examples = numbered.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True).prefetch(2)


def _fetch(read: Callable, arguments: list[tf.Tensor], films: FilmSet) -> list[tf.Tensor]:
    """Two uint8 pictures [S, S] out of NumPy arrays, which may be larger than memory."""
    pictures = tf.numpy_function(read, arguments, [tf.uint8, tf.uint8], stateful=False)
    return [tf.ensure_shape(picture, films.images.shape[1:]) for picture in pictures]


def _to_float(picture: tf.Tensor) -> tf.Tensor:
    return tf.cast(picture[..., None], tf.float32) / 255.0
