"""Building blocks that the networks share."""

import keras
from keras import layers, ops

__all__ = ["Foreground", "MinibatchDeviation", "convolution_block"]


def convolution_block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """3x3 convolution, batch normalisation, ReLU: [B, H, W, C] to [B, H, W, width]."""
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("mammogan_tf")
class Foreground(layers.Layer):
    """Sets a film in [-1, 1] to black (-1) where the mask's first channel, the background, is 1."""

    def call(self, inputs):
        film, mask = inputs
        return (film + 1) * (1 - mask[..., :1]) - 1

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable("mammogan_tf")
class MinibatchDeviation(layers.Layer):
    """Appends a channel with the mean standard deviation over the batch (Karras et al. 2018, section 3).

    The critic sees by it when the films of a batch are too alike. [B, H, W, C] to [B, H, W, C + 1].
    """

    def call(self, x):
        deviation = ops.mean(ops.sqrt(ops.var(x, axis=0) + 1e-8))
        return ops.concatenate([x, ops.ones_like(x[..., :1]) * deviation], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)
