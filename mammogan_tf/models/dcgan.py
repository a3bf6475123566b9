"""The conditional DCGAN (after Radford, Metz and Chintala 2015): both networks see the segmentation mask and the label."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from mammogan_tf.models.blocks import Foreground, LesionMean, MinibatchDeviation, convolution_block, normalised
from mammogan_tf.validated import require

__all__ = [
    "build_critic",
    "build_generator",
    "build_plain_generator",
    "label_code_length",
    "noise_map_count",
    "residual_blocks",
    "seeded_noise",
]


def build_generator(
    size: int = 64,
    *,
    z_dim: int,
    widths: Sequence[int],
    classes: int = 5,
    labels: int = 3,
    black_background: bool = True,
) -> keras.Model:
    """Builds the generator: noise, mask and label to a film.

    The mask enters at every resolution, with softened edges, so that no layer has to remember where the anatomy is.
    Maps of the noise enter at every resolution, too: texture needs a source of variation at its own scale. The two finest
    resolutions have residual blocks besides. Upsampling is bilinear: transposed convolutions leave a lattice in the film, and
    so does repetition of pixels.

    Args:
        size: height and width S; the network starts at 4x4 and doubles until it gets there.
        z_dim: length Z of the noise vector.
        widths: channels at 4x4, 8x8, ..., S x S.
        classes: number C of channels of the mask.
        labels: number of film labels.
        black_background: multiply the film by the mask's foreground, for training films whose background is black.

    Returns:
        A functional model of a dict ``noise`` float32 [B, Z], ``mask`` float32 one-hot [B, S, S, C], ``label`` int32 [B]
        to ``image`` float32 [B, S, S, 1] in [-1, 1].

    Raises:
        ConfigError: not as many widths as there are resolutions.
    """
    _require_widths(size, widths)
    inputs = _generator_inputs(size, z_dim, classes)
    noise, mask = inputs["noise"], inputs["mask"]
    x = _start(noise, inputs["label"], widths[0], labels)
    for level, width in enumerate(widths):
        side = 4 * 2**level
        if level:
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{side}")(x)
        condition = [_shrink(mask, size // side, f"mask{side}"), _noise_maps(noise, side)]
        x = layers.Concatenate(name=f"condition{side}")([x, *condition])
        x = convolution_block(x, width, f"block{side}")
        for number in range(residual_blocks(side, size)):
            name = f"detail{side}_{number}"
            x = layers.Add(name=name)([x, convolution_block(x, width, name)])

    x = layers.Conv2D(1, 3, padding="same", dtype="float32", name="film")(x)
    return keras.Model(inputs, _grey(x, mask, black_background), name="generator")


def build_plain_generator(
    size: int = 64,
    *,
    z_dim: int,
    widths: Sequence[int],
    classes: int = 5,
    labels: int = 3,
    black_background: bool = True,
) -> keras.Model:
    """Builds the generator of a plain DCGAN (Radford, Metz and Chintala 2015, section 3): noise, mask and label to a film.

    Transposed convolutions of 4x4 pixels with stride 2, batch normalisation and ReLU, from 4x4 to the film. The mask enters
    once: strided convolutions, the same in reverse, bring it to 4x4, where it joins the noise. The paper of Tripathi et al.
    says that both are inputs, and not how.

    Args:
        size: as in :func:`build_generator`.
        z_dim: as there.
        widths: channels at 4x4, 8x8, ..., S/2 x S/2, of the noise's and of the mask's way; the film has one.
        classes: as there.
        labels: as there.
        black_background: as there.

    Returns:
        A functional model with the inputs and the output of :func:`build_generator`.

    Raises:
        ConfigError: not as many widths as there are resolutions below that of the film.
    """
    _require_widths(size // 2, widths)
    inputs = _generator_inputs(size, z_dim, classes)
    anatomy = inputs["mask"]
    for level, width in reversed(list(enumerate(widths))):
        name = f"mask{4 * 2**level}"
        anatomy = layers.Conv2D(width, 4, 2, padding="same", use_bias=False, name=name)(anatomy)
        anatomy = normalised(anatomy, name)
    x = normalised(_start(inputs["noise"], inputs["label"], widths[0], labels), "start")
    x = layers.Concatenate(name="noise_and_mask")([x, anatomy])
    for level, width in enumerate(widths[1:], start=1):
        name = f"up{4 * 2**level}"
        x = layers.Conv2DTranspose(width, 4, 2, padding="same", use_bias=False, name=name)(x)
        x = normalised(x, name)
    x = layers.Conv2DTranspose(1, 4, 2, padding="same", dtype="float32", name="film")(x)
    return keras.Model(inputs, _grey(x, inputs["mask"], black_background), name="generator")


def _generator_inputs(size: int, z_dim: int, classes: int) -> dict[str, keras.KerasTensor]:
    return {
        "noise": keras.Input((z_dim,), name="noise"),
        "mask": keras.Input((size, size, classes), name="mask"),
        "label": keras.Input((), dtype="int32", name="label"),
    }


def _start(noise: keras.KerasTensor, label: keras.KerasTensor, width: int, labels: int) -> keras.KerasTensor:
    """Maps [B, 4, 4, width] of the noise and the label."""
    z_dim = noise.shape[-1]
    code = layers.Concatenate(name="code")(
        [noise, layers.Embedding(labels, label_code_length(z_dim), name="label_code")(label)]
    )
    x = layers.Dense(4 * 4 * width, name="start")(code)
    return layers.Reshape((4, 4, width), name="start_map")(x)


def _grey(x: keras.KerasTensor, mask: keras.KerasTensor, black_background: bool) -> keras.KerasTensor:
    """Grey levels [B, S, S, 1] in [-1, 1], black where the mask says background if that is asked for."""
    image = layers.Activation("tanh", dtype="float32", name="grey")(x)
    return Foreground(dtype="float32", name="foreground")([image, mask]) if black_background else image


def build_critic(
    size: int = 64,
    *,
    widths: Sequence[int],
    patches: bool = True,
    channels: int = 1,
    classes: int = 5,
    labels: int = 3,
) -> keras.Model:
    """Builds the critic: film, mask and label to a score. It has no batch normalisation (Gulrajani et al. 2017, section 4).

    It scores patches; the score of a film is their mean (after Isola et al. 2017, section 3.2.2). A critic of whole films can
    identify the training film by its mask, and memorises the films. Patches are scored at every resolution from S/2 down to
    8x8; at 64x64 they are 10, 20 and 40 pixels wide. The finest features are averaged once more over the lesions, which cover
    about a hundredth of the film and hardly change the mean over all of it. The label enters by projection (Miyato and Koyama
    2018). The standard deviation within the batch reveals a collapse; a critic of whole films does without it, since its
    training diverges, as the penalty takes the deviation for a constant.
    It is float32 whatever the precision of the generator: its gradient penalty overflows in float16, and a bfloat16
    critic stops telling real from synthetic.

    Args:
        size: height and width S of film and mask.
        widths: channels at S x S, S/2 x S/2, ..., 4x4; patches end at 8x8. What is scored has those of its resolution.
        patches: False scores the film as a whole, from 4x4 features of known place.
        channels: of a film as the critic sees it, F (:class:`mammogan_tf.models.blocks.Emphasis`).
        classes: number C of channels of the mask.
        labels: number of film labels.

    Returns:
        A functional model of a dict ``image`` float32 [B, S, S, F], ``mask`` float32 [B, S, S, C], ``label`` int32 [B]
        to ``score`` float32 [B, 1].

    Raises:
        ConfigError: not as many widths as there are resolutions, or patches of less than 16 x 16 pixels.
    """
    _require_widths(size, widths)
    require(not patches or size >= 16, "size", "16 or more for patches", size)
    image = keras.Input((size, size, channels), name="image")
    mask = keras.Input((size, size, classes), name="mask")
    label = keras.Input((), dtype="int32", name="label")
    exact = {"dtype": "float32"}

    def convolution(x: keras.KerasTensor, width: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
        x = layers.Conv2D(
            width, kernel, stride, padding="same", kernel_initializer="he_normal", name=f"conv{name}", **exact
        )(x)
        return layers.LeakyReLU(0.2, name=f"relu{name}", **exact)(x)

    x = layers.Concatenate(name="film_and_mask", **exact)([image, mask])
    levels = {}
    for level, width in enumerate(widths[:-1] if patches else widths):
        side = size // 2**level
        x = levels[side] = convolution(x, width, *((4, 2) if level else (3, 1)), str(side))

    scored = [side for side in levels if side <= size // 2] if patches else [min(levels)]
    seen = []
    for side in scored:
        top = MinibatchDeviation(name=f"deviation{side}", **exact)(levels[side]) if patches else levels[side]
        seen.append(convolution(top, levels[side].shape[-1], 3, 1, f"{side}_top"))
    if patches:
        means = [layers.GlobalAveragePooling2D(name=f"mean{top.shape[1]}", **exact)(top) for top in seen]
        lesion_mean = LesionMean(name="lesion_mean", **exact)([seen[0], mask])
        features = layers.Concatenate(name="features", **exact)([*means, lesion_mean])
    else:
        features = layers.Flatten(name="features", **exact)(seen[0])
        features = layers.Dense(widths[-1], kernel_initializer="he_normal", name="summary", **exact)(features)
        features = layers.LeakyReLU(0.2, name="summary_relu", **exact)(features)
    realism = layers.Dense(1, name="realism", **exact)(features)
    direction = layers.Embedding(labels, features.shape[-1], name="label_direction", **exact)(label)
    agreement = layers.Dot(axes=1, name="agreement", **exact)([features, direction])
    score = layers.Add(name="score", **exact)([realism, agreement])
    return keras.Model({"image": image, "mask": mask, "label": label}, score, name="critic")


def _require_widths(size: int, widths: Sequence[int]) -> None:
    expected = f"a width for each resolution from 4 x 4 to {size} x {size} pixels, each twice the one before"
    require(size == 4 * 2 ** (len(widths) - 1), "widths", expected, tuple(widths))


def seeded_noise(seeds: tf.Tensor, z_dim: int) -> tf.Tensor:
    """Noise that depends on each seed alone: int64 [B] to float32 [B, z_dim], standard normal."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_normal([z_dim], tf.stack([seed, 0])),
        tf.cast(seeds, tf.int64),
        fn_output_signature=tf.TensorSpec([z_dim], tf.float32),
    )


def label_code_length(z_dim: int) -> int:
    """Length of the label's embedding, which joins the noise vector."""
    return z_dim // 4 or 1


def noise_map_count(side: int) -> int:
    """Maps of noise at a resolution: two where texture has its scale."""
    return 2 if 16 <= side <= 64 else 1


def residual_blocks(side: int, size: int) -> int:
    """Residual blocks at a resolution: two at each of the two finest."""
    return 2 if side >= size // 2 else 0


def _noise_maps(noise: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Maps of the noise [B, side, side, count]: linear, so that a film stays a function of its noise vector alone.

    They start as white as the noise, of deviation 1 at every resolution; Glorot's start would leave 0.2 at 64 x 64.
    """
    white = keras.initializers.RandomNormal(stddev=noise.shape[-1] ** -0.5)
    count = noise_map_count(side)
    flat = layers.Dense(side * side * count, use_bias=False, kernel_initializer=white, name=f"noise{side}")(noise)
    return layers.Reshape((side, side, count), name=f"noise{side}_maps")(flat)


def _shrink(mask: keras.KerasTensor, factor: int, name: str) -> keras.KerasTensor:
    """The mask at a lower resolution; at the full one its edges are softened, or lesions come out with a ring."""
    if factor == 1:
        return layers.AveragePooling2D(3, strides=1, padding="same", name=name)(mask)
    return layers.AveragePooling2D(factor, name=name)(mask)
