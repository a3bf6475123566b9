"""The critic as its gradient penalty sees it."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers, ops

from mammogan_tf.models.blocks import MinibatchDeviation

__all__ = ["film_by_film", "piecewise_linear"]


def film_by_film(critic: keras.Model) -> keras.Model:
    """The critic with the deviation within the batch held constant, by the same weights.

    The penalty is about the slope at each film, whatever the other films of the batch are (Gulrajani et al. 2017, section 4).

    Args:
        critic: a functional model.

    Returns:
        A model that shares the weights of ``critic`` and scores as it does. It is for training: save ``critic``.
    """
    return _with_twins(critic, MinibatchDeviation, lambda layer, **common: _ConstantDeviation(**common))


def piecewise_linear(critic: keras.Model) -> keras.Model:
    """The critic :func:`film_by_film`, each LeakyReLU of which says that its second derivative is none.

    TensorFlow's says that it is zero, and the backward pass of a gradient penalty then runs through the whole critic once
    more, with zeros. Here it stops at each layer, with the same result.

    Args:
        critic: a functional model whose only non-linearities are LeakyReLU and the deviation within the batch.

    Returns:
        A model that shares the weights of ``critic`` and scores as it does. It is for training: save ``critic``.
    """
    return _with_twins(
        film_by_film(critic), layers.LeakyReLU, lambda layer, **common: _Kink(layer.negative_slope, **common)
    )


def _with_twins(model: keras.Model, kind: type[layers.Layer], twin: Callable[..., layers.Layer]) -> keras.Model:
    """The model with its own layers, but for those of one kind."""

    def choose(layer: layers.Layer) -> layers.Layer:
        return twin(layer, name=layer.name, dtype=layer.dtype_policy) if isinstance(layer, kind) else layer

    return keras.models.clone_model(model, clone_function=choose)


class _ConstantDeviation(MinibatchDeviation):
    def deviation(self, x):
        return ops.stop_gradient(super().deviation(x))


class _Kink(layers.LeakyReLU):
    def call(self, x):
        slope = self.negative_slope

        @tf.custom_gradient
        def kink(x):
            def backward(upstream):
                return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=tf.stop_gradient(x), alpha=slope)

            return tf.nn.leaky_relu(x, slope), backward

        return kink(x)
