"""Building blocks that the networks share."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from mammogan_tf.replicas import all_reduce_sum, draw_replica_rows, num_replicas

__all__ = [
    "BatchDropout",
    "DoublingConvolution",
    "Emphasis",
    "Foreground",
    "FusedNormalization",
    "LesionMean",
    "MinibatchDeviation",
    "attention_gate",
    "convolution_block",
    "normalised",
]


def convolution_block(
    x: keras.KerasTensor, width: int, name: str, below: keras.KerasTensor | None = None
) -> keras.KerasTensor:
    """3x3 convolution, batch normalisation, ReLU: [B, H, W, C] to [B, H, W, width].

    Maps ``below``, [B, H/2, W/2, D], are doubled by repetition and joined with x before.
    """
    if below is None:
        convolution = layers.Conv2D(
            width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
        )
        x = convolution(x)
    else:
        x = DoublingConvolution(width, name=f"{name}_conv")([below, x])
    return normalised(x, name)


def normalised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch normalisation and ReLU of [B, H, W, C], by the statistics of the whole batch, however many replicas share it."""
    x = FusedNormalization(momentum=0.9, synchronized=num_replicas() > 1, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("mammogan_tf")
class DoublingConvolution(layers.Layer):
    """3x3 convolution of maps that are doubled by repetition and joined with a skip, without doubling them.

    What Conv2D without bias makes of ``Concatenate()([UpSampling2D(2)(below), skip])``, with the same kernel: below
    [B, H/2, W/2, D] and skip [B, H, W, C] to [B, H, W, width]. Where pixels come in twos, several of the nine weights meet the
    same one. Summed first, they make the 4x4 kernel of a transposed convolution of stride 2, which multiplies 4 times a
    pixel in place of 9.
    """

    def __init__(self, width: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape):
        channels = sum(shape[-1] for shape in input_shape)
        self.kernel = self.add_weight((3, 3, channels, self.width), initializer="he_normal", name="kernel")

    def call(self, inputs):
        below, skip = inputs
        of_below, of_skip = ops.split(self.kernel, [below.shape[-1]], axis=2)
        doubled = ops.conv_transpose(below, _widened(of_below), strides=2, padding="same")
        return doubled + ops.conv(skip, of_skip, padding="same")

    def compute_output_shape(self, input_shape):
        return (*input_shape[1][:-1], self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def _widened(kernel):
    """The kernel [3, 3, D, width] of a convolution of doubled maps as that of a transposed one, [4, 4, width, D]."""
    # At each of 4 places along an axis, the pair meets these of the 3 weights.
    meeting = [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]
    summed = ops.matmul(ops.cast(np.kron(meeting, meeting), kernel.dtype), ops.reshape(kernel, (9, -1)))
    return ops.transpose(ops.reshape(summed, (4, 4, *kernel.shape[2:])), (0, 1, 3, 2))


@keras.saving.register_keras_serializable("mammogan_tf")
class FusedNormalization(layers.BatchNormalization):
    """Keras' batch normalisation by TensorFlow's fused operation, which passes over the maps fewer times.

    [B, H, W, C] to the same shape, with Keras' weights and results; it takes neither masks nor another axis, and always has
    gamma and beta. A batch that replicas share is normalised by Keras.
    """

    def call(self, inputs, training=False):
        if self.synchronized:
            return super().call(inputs, training=training)
        learning = bool(training and self.trainable)
        given = (tf.zeros([0]),) * 2 if learning else (self.moving_mean.value, self.moving_variance.value)
        x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=given[0],
            variance=given[1],
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            values = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
            variance *= (values - 1) / values  # Keras keeps the variance of the batch, not of the population.
            for average, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(average * self.momentum + now * (1 - self.momentum))
        return x


def attention_gate(skip: keras.KerasTensor, gate: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Additive attention (Oktay et al. 2018, equations 1-2): weighs each pixel of a skip by what lies below it.

    ``skip * sigmoid(psi(relu(W_x skip + W_g gate)))`` with 1x1 convolutions to half the channels of the skip. The gate
    comes at the resolution of the skip.

    Args:
        skip: [B, H, W, C].
        gate: [B, H, W, D].
        name: prefix of the layers' names.

    Returns:
        [B, H, W, C].
    """
    width = max(1, skip.shape[-1] // 2)
    asked = layers.Conv2D(width, 1, name=f"{name}_gate")(gate)
    offered = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_skip")(skip)
    joint = layers.Activation("relu", name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([asked, offered]))
    weight = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name}_weight")(joint)
    return layers.Multiply(name=name)([skip, weight])


@keras.saving.register_keras_serializable("mammogan_tf")
class BatchDropout(layers.SpatialDropout2D):
    """Spatial dropout: drops channels of each film by a draw of its own. [B, H, W, C] to the same shape.

    Every replica draws for the whole batch and takes its own rows, so that a film loses the same channels however many
    replicas share the batch.
    """

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs

        def draw(rows):
            ones = ops.ones((rows, 1, 1, inputs.shape[-1]), inputs.dtype)
            return keras.random.dropout(ones, self.rate, seed=self.seed_generator)

        return inputs * draw_replica_rows(draw, ops.shape(inputs)[0])


@keras.saving.register_keras_serializable("mammogan_tf")
class Emphasis(layers.Layer):
    """The critic's view of a film: amplified fine detail, and three channels of compressed detail and differences.

    Of a film x in whole grey levels, q = 2 / 255 apart, as it is saved, the channels are

    0. the film with its fine detail amplified, ``x + g (x - b3(x)) + g / 2 (x - b7(x))``;
    1. its finest detail alone, compressed: ``asinh((x - b3(x)) / q) / 4``;
    2. the step to the right neighbour, compressed in the same way;
    3. the step to the lower neighbour.

    b3 and b7 are binomial blurs of 3 and 7 pixels. The gradient ignores the rounding (straight-through). This is for one
    octave; each further one makes the blurs twice as wide and adds ``x - b3(x)`` with twice the weight of what was the finest,
    so that a film of twice the side is seen as it was, and what only it shows is amplified further. The gradient penalty is
    that of the critic as a function of these channels, not of the film.

    The amplitude of a mammogram's spectrum falls about 550-fold from its coarsest waves to its finest. A critic whose slope is
    bounded per unit of *grey level* therefore hardly responds to texture. Seen through the linear filter all scales weigh about
    alike: the penalty then bounds the slope in a Sobolev norm (after Adler and Lunz 2018, "Banach Wasserstein GAN", section
    3). But places differ too: in fat and muscle neighbours differ by a grey level, in dense tissue by several. Compression gives
    smooth regions about the same weight as rough ones. The differences show slow gradients, which the detail leaves out.

    Args:
        gain: g; 0 leaves films as they are, and shows nothing beside them.
        octaves: 1 or more.
        dtype: that of the penalty, whatever precision the networks have.
    """

    def __init__(self, gain: float, octaves: int = 1, dtype: Any = "float32", **kwargs) -> None:
        super().__init__(dtype=dtype, **kwargs)
        self.gain, self.octaves = gain, octaves
        coarsest = octaves - 1
        self.blurs = [(gain / 2, _binomial(6 * 4**coarsest + 1))]
        self.blurs += [(gain * 2**octave, _binomial(2 * 4 ** (coarsest - octave) + 1)) for octave in range(octaves)]

    @property
    def channels(self) -> int:
        """Number of channels that a film then has."""
        return 4 if self.gain else 1

    @property
    def max_gain(self) -> float:
        """Gain of channel 0 at the highest frequencies, which the blurs leave out."""
        return 1 + sum(weight for weight, _ in self.blurs)

    def call(self, film):
        """[B, H, W, 1] in [-1, 1] to [B, H, W, channels]; beyond its edge a film goes on as in a mirror."""
        if not self.gain:
            return film
        saved = ops.round((film + 1) * 127.5) / 127.5 - 1
        film = film + ops.stop_gradient(saved - film)
        details = [film - _blur(film, row) for _, row in self.blurs]
        lifted = film
        for (weight, _), detail in zip(self.blurs, details, strict=True):
            lifted += weight * detail
        finest = details[-1]
        right = ops.concatenate([film[:, :, 1:], film[:, :, -1:]], axis=2) - film
        down = ops.concatenate([film[:, 1:], film[:, -1:]], axis=1) - film
        shown = ops.concatenate([finest, right, down], axis=-1)
        return ops.concatenate([lifted, ops.arcsinh(127.5 * shown) / 4], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        return {**super().get_config(), "gain": self.gain, "octaves": self.octaves}


def _binomial(size: int) -> np.ndarray:
    """The row of a binomial blur of ``size`` pixels, float32, of sum 1; its faint ends are cut off."""
    row = np.ones(1)
    for _ in range(size - 1):
        row = np.convolve(row, [0.5, 0.5])
    row = row[row > row.max() / 1000]
    return (row / row.sum()).astype("float32")


def _blur(film, row: np.ndarray):
    edge = [len(row) // 2] * 2
    mirrored = ops.pad(film, [[0, 0], edge, edge, [0, 0]], mode="symmetric")
    row = ops.cast(row, film.dtype)
    down = ops.conv(mirrored, row[:, None, None, None], padding="valid")
    return ops.conv(down, row[None, :, None, None], padding="valid")


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

    The critic sees by it when the films of a batch are too alike, however many replicas share it.
    [B, H, W, C] to [B, H, W, C + 1].
    """

    def call(self, x):
        return ops.concatenate([x, ops.ones_like(x[..., :1]) * self.deviation(x)], axis=-1)

    def deviation(self, x):
        films = tf.cast(tf.shape(x)[0] * num_replicas(), x.dtype)
        mean = all_reduce_sum(ops.sum(x, axis=0)) / films
        variance = all_reduce_sum(ops.sum(ops.square(x - mean), axis=0)) / films
        return ops.mean(ops.sqrt(variance + 1e-8))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)


@keras.saving.register_keras_serializable("mammogan_tf")
class LesionMean(layers.Layer):
    """Mean of features over the lesions of a mask, each place weighed by its share of lesion; 0 where there is none.

    [B, H, W, F] and a one-hot mask [B, S, S, C], lesion last, S a multiple of H and W, to [B, F].
    """

    def call(self, inputs):
        features, mask = inputs
        factor = mask.shape[1] // features.shape[1]
        lesion = ops.average_pool(mask[..., -1:], factor, factor)
        return ops.sum(features * lesion, axis=(1, 2)) / ops.maximum(ops.sum(lesion, axis=(1, 2)), 1e-3)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], input_shape[0][-1])
