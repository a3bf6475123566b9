"""Moving averages of a network's weights, and statistics of normalisation that fit them."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

__all__ = ["average_into", "decay_at", "estimate_statistics"]


def decay_at(step: tf.Tensor, ema: float) -> tf.Tensor:
    """Decay of a moving average after ``step`` updates: ``ema``, less while there is little to average over."""
    step = tf.cast(step, tf.float32)
    return tf.minimum(ema, (1.0 + step) / (10.0 + step))


def average_into(averaged: keras.Model, trained: keras.Model, step: tf.Tensor, ema: float) -> None:
    """Moves the weights of a network towards those of another one, which has been trained for ``step`` steps before."""
    decay = decay_at(step, ema)
    for average, weight in zip(averaged.weights, trained.weights, strict=True):
        average.assign(decay * average + (1.0 - decay) * tf.cast(weight, average.dtype))


def estimate_statistics(network: keras.Model, batches: Iterable[Any]) -> None:
    """Sets the statistics of every batch normalisation to their means over batches (Izmailov et al. 2018, algorithm 1).

    Averaged weights make calmer maps than any of the weights that they are the average of. Divided by the average of
    *their* deviations, the maps come out too flat.

    Args:
        network: a functional model.
        batches: its inputs, one by one.
    """
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [(layer.trainable, layer.momentum) for layer in norms]
    try:
        for number, batch in enumerate(batches):
            for layer in norms:
                layer.trainable, layer.momentum = True, number / (number + 1)
            network(batch, training=True)
    finally:
        for layer, (trainable, momentum) in zip(norms, before, strict=True):
            layer.trainable, layer.momentum = trainable, momentum
