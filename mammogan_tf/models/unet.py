"""The segmentation network: a U-Net (Ronneberger, Fischer and Brox 2015)."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from mammogan_tf.models.blocks import BatchDropout, attention_gate, convolution_block
from mammogan_tf.validated import require

__all__ = ["anatomy_of", "build_unet"]


def build_unet(
    size: int = 64,
    *,
    widths: Sequence[int],
    classes: int = 5,
    dropout: float = 0.1,
    attention: bool = False,
) -> keras.Model:
    """Builds a U-Net that outlines anatomy and lesions.

    Args:
        size: height and width S of the film, divisible by ``2 ** (len(widths) - 1)``.
        widths: channels of each level, from full resolution to the bottom; its length is the depth.
        classes: number of classes C.
        dropout: share of channels dropped at the bottom while training.
        attention: weigh the skips by attention gates (Oktay et al. 2018).

    Returns:
        A functional model ``image`` float32 [B, S, S, 1] in [0, 1] to ``probabilities`` float32 [B, S, S, C].

    Raises:
        ConfigError: no level, or a film that cannot be halved so often.
    """
    require(len(widths) > 0, "widths", "a channel count for each level", widths)
    deepest = 2 ** (len(widths) - 1)
    require(isinstance(size, int) and size > 0, "size", "a number of pixels, for square films", size)
    require(size % deepest == 0, "size", f"a multiple of {deepest} for {len(widths)} levels", size)
    image = keras.Input((size, size, 1), name="image")
    x = image
    skips = []
    for level, width in enumerate(widths[:-1]):
        x = convolution_block(x, width, f"down{level}_a")
        x = convolution_block(x, width, f"down{level}_b")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)

    x = convolution_block(x, widths[-1], "bottom_a")
    x = BatchDropout(dropout, name="bottom_dropout")(x)
    x = convolution_block(x, widths[-1], "bottom_b")

    for level, width in reversed(list(enumerate(widths[:-1]))):
        skip = skips.pop()
        if attention:
            skip = attention_gate(skip, layers.UpSampling2D(2, name=f"up{level}")(x), f"up{level}_attention")
        x = convolution_block(skip, width, f"up{level}_a", below=x)
        x = convolution_block(x, width, f"up{level}_b")

    logits = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(image, probabilities, name="unet")


def anatomy_of(probabilities: tf.Tensor) -> tf.Tensor:
    """The anatomy of each pixel, without lesions: under one lies the likeliest tissue, never background.

    Args:
        probabilities: float32 [B, H, W, C], background first and lesion last.

    Returns:
        int32 [B, H, W], values 0 to C - 2.
    """
    likeliest = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    tissue = 1 + tf.argmax(probabilities[..., 1:-1], axis=-1, output_type=tf.int32)
    return tf.where(likeliest == probabilities.shape[-1] - 1, tissue, likeliest)
