"""Label maps from a trained U-Net."""

from collections.abc import Iterator
from functools import partial

import keras
import numpy as np

from mammogan_tf.config import LESION
from mammogan_tf.models.unet import anatomy_of

__all__ = ["lesion_chances", "predict_label_maps"]


def predict_label_maps(
    model: keras.Model, images: np.ndarray, *, lesions: bool = True, tta: bool = False, batch_size: int = 32
) -> np.ndarray:
    """Label maps that a U-Net finds.

    Args:
        model: a U-Net.
        images: uint8 [N, S, S], of the size the U-Net was built for or larger, such as windows with their margins.
        lesions: False leaves lesions out, so that each pixel gets the anatomy under it.
        tta: average over films that are shifted by a few pixels; five times the work.

    Returns:
        uint8 [N, S, S], values 0-4, or 0-3 without lesions.
    """
    decide = partial(np.argmax, axis=-1) if lesions else anatomy_of
    maps = [np.asarray(decide(batch)).astype(np.uint8) for batch in _probabilities(model, images, tta, batch_size)]
    return np.concatenate(maps) if maps else np.zeros(images.shape, np.uint8)


def lesion_chances(model: keras.Model, images: np.ndarray, *, tta: bool = False, batch_size: int = 32) -> np.ndarray:
    """Chance of a lesion in each pixel, float32 [N, S, S]; the arguments are those of :func:`predict_label_maps`."""
    maps = [batch[..., LESION] for batch in _probabilities(model, images, tta, batch_size)]
    return np.concatenate(maps) if maps else np.zeros(images.shape, np.float32)


def _probabilities(model: keras.Model, images: np.ndarray, tta: bool, batch_size: int) -> Iterator[np.ndarray]:
    """Batches float32 [B, S, S, 5]."""
    model = _at_size(model, images.shape[-1])
    shifts = SHIFTS if tta else SHIFTS[:1]
    for begin in range(0, len(images), batch_size):
        batch = images[begin : begin + batch_size, ..., None].astype(np.float32) / 255
        yield np.mean([_shifted(model, batch, *shift) for shift in shifts], axis=0)


SHIFTS = ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2))
"""Rows and columns by which a film is moved for test-time averaging."""


def _shifted(model: keras.Model, batch: np.ndarray, down: int, right: int) -> np.ndarray:
    """Probabilities for films that are moved for the network, and moved back; their edges go on as they end."""
    rows, columns = (np.arange(batch.shape[1]) + shift for shift in (down, right))
    limit = batch.shape[1] - 1
    moved = batch[:, np.clip(rows, 0, limit)][:, :, np.clip(columns, 0, limit)]
    found = np.asarray(model(moved, training=False))
    return found[:, np.clip(rows - 2 * down, 0, limit)][:, :, np.clip(columns - 2 * right, 0, limit)]


def _at_size(unet: keras.Model, side: int) -> keras.Model:
    """The same network for pictures of another size."""
    if unet.input_shape[1] == side:
        return unet
    other = keras.models.clone_model(unet, input_tensors=keras.Input((side, side, 1), name="image"))
    other.set_weights(unet.get_weights())
    return other
