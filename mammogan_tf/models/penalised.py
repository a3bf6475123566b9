"""The critic as its gradient penalty sees it: with the same weights and scores, and derivatives that cost less."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers, ops

from mammogan_tf.models.blocks import MinibatchDeviation

__all__ = ["with_constant_deviation", "without_second_derivatives"]


def with_constant_deviation(critic: keras.Model) -> keras.Model:
    """The critic with the deviation within the batch held constant, by the same weights.

    The penalty is about the slope at each film, whatever the other films of the batch are (Gulrajani et al. 2017, section 4).

    Args:
        critic: a functional model.

    Returns:
        A model that shares the weights of ``critic`` and scores as it does. It is for training: save ``critic``.
    """
    return _replace(critic, MinibatchDeviation, lambda layer, **common: _ConstantDeviation(**common))


def without_second_derivatives(critic: keras.Model) -> keras.Model:
    """The critic :func:`with_constant_deviation`, whose LeakyReLU layers have no second derivative.

    LeakyReLU is piecewise linear, so that its second derivative is zero wherever there is one. TensorFlow's returns a tensor of
    zeros, and the backward pass of a gradient penalty then runs through the whole critic once more, with zeros. Here it
    returns None, and the pass stops there: the same values and gradients by fewer convolutions.

    Args:
        critic: a functional model whose only non-linearities are LeakyReLU and the deviation within the batch.

    Returns:
        A model that shares the weights of ``critic`` and scores as it does. It is for training: save ``critic``.
    """
    return _replace(
        with_constant_deviation(critic),
        layers.LeakyReLU,
        lambda layer, **common: _PiecewiseLinear(layer.negative_slope, **common),
    )


def _replace(model: keras.Model, kind: type[layers.Layer], substitute: Callable[..., layers.Layer]) -> keras.Model:
    """The model with its own layers, and a substitute for each of one kind."""

    def choose(layer: layers.Layer) -> layers.Layer:
        return substitute(layer, name=layer.name, dtype=layer.dtype_policy) if isinstance(layer, kind) else layer

    return keras.models.clone_model(model, clone_function=choose)


class _ConstantDeviation(MinibatchDeviation):
    def deviation(self, x):
        return ops.stop_gradient(super().deviation(x))


class _PiecewiseLinear(layers.LeakyReLU):
    """LeakyReLU whose gradient is a constant factor of its input, as far as a second derivative is concerned."""

    def call(self, x):
        slope = self.negative_slope

        @tf.custom_gradient
        def leaky_relu(x):
            def backward(upstream):
                return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=tf.stop_gradient(x), alpha=slope)

            return tf.nn.leaky_relu(x, slope), backward

        return leaky_relu(x)
