"""The serving contract as TensorFlow functions: what each signature takes, checks and returns."""

from collections.abc import Callable

import keras
import tensorflow as tf

from mammogan_tf.config import BENIGN, CLASSES, LABELS, LESION, NORMAL
from mammogan_tf.data.transforms import from_network_range
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.models.unet import anatomy_of
from mammogan_tf.serving.film_png import decode_films, encode_films
from mammogan_tf.serving.graph_checks import require_one_each, require_range
from mammogan_tf.serving.orientation import Placement, find_lean, find_placement, move_columns, paint_lesions

__all__ = ["Signature", "generator_signatures", "synthesize_signatures", "unet_signatures"]

CLEARLY = 0.02
"""Lean from which on a first look shows the chest wall on the right: it is so in all but two of the films of mini-MIAS."""

Signature = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]


def unet_signatures(model: keras.Model, size: int, view: str = "whole") -> dict[str, Signature]:
    """Signatures of a U-Net: ``image`` float32 [B, S, S, 1] in [0, 1], or ``png`` string [B], to
    ``probabilities`` float32 [B, S, S, 5] and ``label_map`` int32 [B, S, S].

    The network gets an ``image`` as it is. A ``png`` of a whole film may have its chest wall on either side.
    """
    look = _look if view == "roi" else _look_either_way

    def answer(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities, "label_map": _most_likely(probabilities)}

    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(_look(model, tf.ensure_shape(image, [None, size, size, 1])))

    def segment_png(png: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(look(model, decode_films(png, size)))

    return {
        "serving_default": (segment, [tf.TensorSpec([None, size, size, 1], tf.float32, "image")]),
        "segment_png": (segment_png, [tf.TensorSpec([None], tf.string, "png")]),
    }


def generator_signatures(model: keras.Model, size: int, z_dim: int) -> dict[str, Signature]:
    """Signatures of a generator: ``noise`` float32 [B, Z] or ``seed`` int64 [B], with ``label_map`` int32 [B, S, S] and
    ``label`` int32 [B], to ``image`` float32 [B, S, S, 1] in [0, 1] and, from a seed, ``png`` string [B]."""

    def generate(noise: tf.Tensor, label_map: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        checks = [
            require_one_each("one label_map and one label to each image", noise, label_map, label),
            require_range(label_map, "label_map", len(CLASSES) - 1),
            require_range(label, "label", len(LABELS) - 1),
        ]
        with tf.control_dependencies(checks):
            noise, label_map, label = tf.identity(noise), tf.identity(label_map), tf.identity(label)
        label_map = tf.ensure_shape(label_map, [None, size, size])
        return {"image": _draw(model, tf.ensure_shape(noise, [None, z_dim]), label_map, label)}

    def generate_seeded(seed: tf.Tensor, label_map: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        image = generate(seeded_noise(seed, z_dim), label_map, label)["image"]
        return {"image": image, "png": encode_films(image)}

    condition = [tf.TensorSpec([None, size, size], tf.int32, "label_map"), tf.TensorSpec([None], tf.int32, "label")]
    return {
        "serving_default": (generate, [tf.TensorSpec([None, z_dim], tf.float32, "noise"), *condition]),
        "generate_seeded": (generate_seeded, [tf.TensorSpec([None], tf.int64, "seed"), *condition]),
    }


def synthesize_signatures(unet: keras.Model, generator: keras.Model, size: int, z_dim: int) -> dict[str, Signature]:
    """Signatures of both networks in a row: ``png`` string [B] and ``seed`` int64 [B] to ``label_map`` int32 [B, S, S], the
    anatomy of each film, and a synthetic film of it as ``image`` float32 [B, S, S, 1] in [0, 1] and ``png`` string [B].

    ``with_lesion`` takes ``lesion`` float32 [B, 3] too: x, y and radius of a circle in sides of the label map, which has to
    meet the breast; none where the radius is 0. As in training, the lesions that the U-Net finds do not count. The film is
    normal, or benign with a lesion.
    """

    def draw(label_map: tf.Tensor, placement: Placement, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        turned = move_columns(label_map, placement.turn)  # The generator has learned from maps that lie like this.
        has_lesion = tf.reduce_any(label_map == LESION, axis=[1, 2])
        label = tf.where(has_lesion, BENIGN, NORMAL)
        image = _draw(generator, seeded_noise(seed, z_dim), turned, label)
        image = move_columns(image[..., 0], placement.back)[..., None]
        return {"label_map": label_map, "image": image, "png": encode_films(image)}

    def find_anatomy(png: tf.Tensor) -> tf.Tensor:
        return anatomy_of(_look_either_way(unet, decode_films(png, size)))

    def synthesize(png: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([require_one_each("one seed to each png", png, seed)]):
            anatomy = find_anatomy(tf.identity(png))
        return draw(anatomy, find_placement(anatomy), seed)

    def with_lesion(png: tf.Tensor, seed: tf.Tensor, lesion: tf.Tensor) -> dict[str, tf.Tensor]:
        checks = [
            require_one_each("one seed and one lesion to each png", png, seed, lesion),
            require_range(lesion, "lesion", 1),
        ]
        with tf.control_dependencies(checks):
            anatomy = find_anatomy(tf.identity(png))
        return draw(paint_lesions(anatomy, lesion), find_placement(anatomy), seed)

    film = [tf.TensorSpec([None], tf.string, "png"), tf.TensorSpec([None], tf.int64, "seed")]
    return {
        "serving_default": (synthesize, film),
        "with_lesion": (with_lesion, [*film, tf.TensorSpec([None, 3], tf.float32, "lesion")]),
    }


def _look(unet: keras.Model, image: tf.Tensor) -> tf.Tensor:
    """Probabilities float32 [B, S, S, 5] for films float32 [B, S, S, 1]."""
    return unet(image, training=False)


def _look_either_way(unet: keras.Model, image: tf.Tensor) -> tf.Tensor:
    """The same for films with the chest wall on either side: where a first look shows it on the right, a second look is taken
    at the mirrored film, which lies as the films do that the U-Net was trained on."""
    probabilities = _look(unet, image)
    others = tf.where(find_lean(_most_likely(probabilities)) > CLEARLY)

    def look_again() -> tf.Tensor:
        mirrored = _look(unet, tf.reverse(tf.gather_nd(image, others), axis=[2]))
        return tf.tensor_scatter_nd_update(probabilities, others, tf.reverse(mirrored, axis=[2]))

    return tf.cond(tf.size(others) > 0, look_again, lambda: probabilities)  # oneDNN takes no batch of none.


def _most_likely(probabilities: tf.Tensor) -> tf.Tensor:
    """Label maps int32 [B, S, S]."""
    return tf.argmax(probabilities, axis=-1, output_type=tf.int32)


def _draw(generator: keras.Model, noise: tf.Tensor, label_map: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Films float32 [B, S, S, 1] in [0, 1]."""
    inputs = {"noise": noise, "mask": tf.one_hot(label_map, len(CLASSES)), "label": label}
    return tf.clip_by_value(from_network_range(generator(inputs, training=False)), 0, 1)
