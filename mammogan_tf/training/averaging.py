"""Exponential moving averages (EMA) of a network's weights, and batch normalisation statistics that fit them."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

__all__ = ["ema_decay", "update_batch_norm", "update_ema"]


def ema_decay(step: tf.Tensor, ema: float) -> tf.Tensor:
    """Decay of a moving average after ``step`` updates: ``ema``, less while there is little to average over."""
    step = tf.cast(step, tf.float32)
    return tf.minimum(ema, (1.0 + step) / (10.0 + step))


def update_ema(ema_network: keras.Model, network: keras.Model, step: tf.Tensor, ema: float) -> None:
    """Moves the averaged weights towards those of ``network``, which has been trained for ``step`` steps before."""
    decay = ema_decay(step, ema)
    for average, weight in zip(ema_network.weights, network.weights, strict=True):
        average.assign(decay * average + (1.0 - decay) * tf.cast(weight, average.dtype))


def update_batch_norm(network: keras.Model, batches: Iterable[Any]) -> None:
    """Sets the statistics of every batch normalisation to their means over batches (Izmailov et al. 2018, algorithm 1).

    Averaged weights produce activations of lower variance than the individual weights do. Normalised with the averaged
    statistics of the individual weights, they would come out too flat.

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
