"""Label maps from a trained U-Net."""

from collections.abc import Callable, Iterator
from functools import partial

import keras
import numpy as np

from mammogan_tf.arrays import to_float
from mammogan_tf.config import LESION
from mammogan_tf.models.unet import anatomy_of

__all__ = ["lesion_probabilities", "predict_label_maps", "shift_averaged"]


def predict_label_maps(
    model: keras.Model, images: np.ndarray, *, lesions: bool = True, tta: bool = False, batch_size: int = 32
) -> np.ndarray:
    """Label maps that a U-Net finds.

    Args:
        model: a U-Net.
        images: uint8 [N, S, S], of the size the U-Net was built for or larger, such as windows with their margins.
        lesions: False leaves lesions out, so that each pixel gets the anatomy under it.
        tta: test-time averaging, as by :func:`shift_averaged`.

    Returns:
        uint8 [N, S, S], values 0-4, or 0-3 without lesions.
    """
    decide = partial(np.argmax, axis=-1) if lesions else anatomy_of
    maps = [np.asarray(decide(batch)).astype(np.uint8) for batch in _probabilities(model, images, tta, batch_size)]
    return np.concatenate(maps) if maps else np.zeros(images.shape, np.uint8)


def lesion_probabilities(model: keras.Model, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Probability of a lesion in each pixel, float32 [N, S, S]; the arguments are those of :func:`predict_label_maps`."""
    maps = [batch[..., LESION] for batch in _probabilities(model, images, False, batch_size)]
    return np.concatenate(maps) if maps else np.zeros(images.shape, np.float32)


def _probabilities(model: keras.Model, images: np.ndarray, tta: bool, batch_size: int) -> Iterator[np.ndarray]:
    """Batches float32 [B, S, S, 5]."""
    network = partial(_at_size(model, images.shape[-1]), training=False)
    for begin in range(0, len(images), batch_size):
        batch = to_float(images[begin : begin + batch_size, ..., None])
        yield shift_averaged(network, batch) if tta else np.asarray(network(batch))


SHIFTS = ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2))
"""Rows and columns by which a film is moved for test-time averaging."""


def shift_averaged(network: Callable[[np.ndarray], np.ndarray], films: np.ndarray) -> np.ndarray:
    """Test-time averaging: mean probabilities of each film and of four copies, shifted by two pixels; five times the work.

    Args:
        network: films [B, S, S, 1] to probabilities [B, S, S, C].
        films: float32 [B, S, S, 1].
    """
    return np.mean([_shifted(network, films, *shift) for shift in SHIFTS], axis=0)


def _shifted(network: Callable[[np.ndarray], np.ndarray], films: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shifts films for the network and shifts its answer back; the pixels at the edge are repeated."""
    rows, columns = (np.arange(films.shape[1]) + shift for shift in (down, right))
    limit = films.shape[1] - 1
    moved = films[:, np.clip(rows, 0, limit)][:, :, np.clip(columns, 0, limit)]
    found = np.asarray(network(moved))
    return found[:, np.clip(rows - 2 * down, 0, limit)][:, :, np.clip(columns - 2 * right, 0, limit)]


def _at_size(unet: keras.Model, side: int) -> keras.Model:
    """The same network for pictures of another size."""
    if unet.input_shape[1] == side:
        return unet
    other = keras.models.clone_model(unet, input_tensors=keras.Input((side, side, 1), name="image"))
    other.set_weights(unet.get_weights())
    return other
