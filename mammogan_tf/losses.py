"""Losses as pure functions. The names follow the papers; every formula stands in its docstring."""

from collections.abc import Callable

import tensorflow as tf

from mammogan_tf.replicas import all_reduce_sum
from mammogan_tf.validated import require

__all__ = [
    "anatomy_loss",
    "cross_entropy",
    "dice_loss",
    "energy_score",
    "focal_tversky",
    "gradient_penalty",
    "wasserstein_critic",
    "wasserstein_generator",
]


def dice_loss(truth: tf.Tensor, probabilities: tf.Tensor, smooth: float = 1.0) -> tf.Tensor:
    """Soft Dice loss: ``1 - mean over classes of (2 sum(t p) + s) / (sum(t) + sum(p) + s)``.

    The sums run over each film, as Dice is evaluated, so that a little dense tissue counts as much as a lot of it; then comes
    the mean over films. Lesions are in few films: their sums run over the whole batch, however many replicas share it.
    Example: truth (1, 0), probabilities (0.5, 0.5), both of one class, s = 0: 1 - 2 * 0.5 / (1 + 1) = 0.5.

    Args:
        truth: one-hot float32 [B, H, W, C], lesion last.
        probabilities: float32 [B, H, W, C] in [0, 1].
        smooth: s; with 0 the loss is undefined for a class in neither.

    Returns:
        A scalar in [0, 1].
    """
    overlap = tf.reduce_sum(truth * probabilities, [1, 2])
    both = tf.reduce_sum(truth, [1, 2]) + tf.reduce_sum(probabilities, [1, 2])
    tissues = tf.reduce_mean((2.0 * overlap[:, :-1] + smooth) / (both[:, :-1] + smooth), axis=0)
    overlap, both = (
        all_reduce_sum(tf.reduce_sum(overlap[:, -1:], axis=0)),
        all_reduce_sum(tf.reduce_sum(both[:, -1:], axis=0)),
    )
    lesions = (2.0 * overlap + smooth) / (both + smooth)
    return 1.0 - tf.reduce_mean(tf.concat([tissues, lesions], axis=0))


def cross_entropy(truth: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Cross-entropy ``-mean over pixels of sum over classes of t log p``.

    Example: a pixel of truth (1, 0) with probabilities (1/2, 1/2) costs log 2.

    Args:
        truth: one-hot float32 [B, H, W, C].
        probabilities: float32 [B, H, W, C] in [0, 1].

    Returns:
        A scalar, 0 or more.
    """
    return -tf.reduce_mean(tf.reduce_sum(truth * tf.math.log(tf.maximum(probabilities, 1e-7)), axis=-1))


def anatomy_loss(mask: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the anatomy ``-mean over pixels of log (sum(m p) / sum(p))``, 0 in lesions.

    What a segmenter finds in a film against the mask that the film was made from; the sums are over all classes but lesions.
    Neither the mask's lesions count nor the segmenter's probability of one: a lesion in fat may look like dense tissue.
    Example: a pixel of mask (1, 0, 0), the last the lesion, with probabilities (1/4, 1/4, 1/2) costs log 2.

    Args:
        mask: one-hot float32 [B, H, W, C], lesion last.
        probabilities: float32 [B, H, W, C] in [0, 1].

    Returns:
        A scalar, 0 or more.
    """
    tissue = probabilities[..., :-1]
    sums = [tf.reduce_sum(part, axis=-1) + 1e-7 for part in (mask[..., :-1] * tissue, tissue)]
    return tf.reduce_mean((1.0 - mask[..., -1]) * (tf.math.log(sums[1]) - tf.math.log(sums[0])))


def focal_tversky(
    truth: tf.Tensor,
    probabilities: tf.Tensor,
    alpha: float = 0.7,
    beta: float = 0.3,
    gamma: float = 4 / 3,
    smooth: float = 1.0,
) -> tf.Tensor:
    """Focal Tversky loss of one class (Abraham and Khan 2019, equations 3-4): ``(1 - TI)^(1 / gamma)``.

    ``TI = (sum(t p) + s) / (sum(t p) + alpha sum(t (1 - p)) + beta sum((1 - t) p) + s)``, the sums over the whole batch:
    alpha above one half penalises false negatives more than false positives, gamma above 1 puts more weight on poorly
    segmented classes. Example: truth (1, 1, 0), probabilities (1, 0, 1), s = 0: TI = 1 / (1 + 0.7 + 0.3) = 1/2, loss
    (1/2)^(3/4).

    Args:
        truth: float32 [B, H, W], 1 in the class.
        probabilities: float32 [B, H, W] in [0, 1].
        alpha: weight of false negatives.
        beta: weight of false positives.
        gamma: the focus.
        smooth: s; with 0 the loss is undefined for a class in neither.

    Returns:
        A scalar in [0, 1].
    """
    both = all_reduce_sum(tf.reduce_sum(truth * probabilities))
    missed = all_reduce_sum(tf.reduce_sum(truth * (1.0 - probabilities)))
    false = all_reduce_sum(tf.reduce_sum((1.0 - truth) * probabilities))
    index = (both + smooth) / (both + alpha * missed + beta * false + smooth)
    return tf.pow(tf.maximum(1.0 - index, 1e-6), 1.0 / gamma)  # The root has no finite slope at 0.


def wasserstein_critic(real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
    """What the critic minimises: ``mean D(fake) - mean D(real)`` (Arjovsky et al. 2017, equation 2, negated).

    Its negative estimates the Wasserstein distance. Example: real (3, 5), fake (1, 1): 1 - 4 = -3.

    Args:
        real_scores: [B, 1].
        fake_scores: [B, 1].

    Returns:
        A float32 scalar.
    """
    return tf.reduce_mean(tf.cast(fake_scores, tf.float32)) - tf.reduce_mean(tf.cast(real_scores, tf.float32))


def wasserstein_generator(fake_scores: tf.Tensor) -> tf.Tensor:
    """What the generator minimises: ``-mean D(fake)``. Example: fake (1, 3): -2.

    Args:
        fake_scores: [B, 1].

    Returns:
        A float32 scalar.
    """
    return -tf.reduce_mean(tf.cast(fake_scores, tf.float32))


def energy_score(real: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Energy score of two synthetic films of a mask, given its real film (Gneiting and Raftery 2007, section 4.3).

    ``mean over films of (|x - y| + |x' - y|) / 2 - |x - x'| / 2``, with the Euclidean norm. It is a proper score: its
    expectation is lowest where films x, x' of a mask follow the distribution of the real films y with that mask. They then
    differ from each other as much as from the real one, which the critic does not enforce, as it sees one real film of a mask.
    It is about shading and exposure: films are shrunk by area to 16 x 16 and to 8 x 8 (the mean of both counts), and the
    norm is the mean over patches of 8 x 8 there. Texture is left to the critic.
    Example: y is 0 everywhere, x and x' are 1: on S x S pixels S - 0. Where x' is -1 instead: S - 2 S / 2 = 0.

    Args:
        real: y, [B, S, S, 1]; S is 8, or 16 times a whole number: others cannot be shrunk to these sizes.
        first: x, of the same masks.
        second: x', of the same masks with other noise.

    Returns:
        A float32 scalar, in the unit of the distance between films.

    Raises:
        ConfigError: another S.
    """
    side = real.shape[1]
    require(side == 8 or side % 16 == 0, "energy_score", "films of 8 pixels, or of a multiple of 16", side)
    scores = []
    for shrunk in (16, 8):
        y, x, other = (_shrunk(film, shrunk) for film in (real, first, second))
        scores.append((_distance(x, y) + _distance(other, y)) / 2 - _distance(x, other) / 2)
    return side * tf.add_n(scores) / len(scores)


def _shrunk(film: tf.Tensor, side: int) -> tf.Tensor:
    factor = max(1, film.shape[1] // side)
    return tf.nn.avg_pool2d(tf.cast(film, tf.float32), factor, factor, "VALID")


def _distance(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Root mean square of the difference in patches of 8 x 8 that overlap by half, and its mean over patches and films."""
    squares = tf.nn.avg_pool2d(tf.square(one - other), 8, 4, "VALID")
    return tf.reduce_mean(tf.sqrt(squares + 1e-6))  # The root has no finite slope at 0.


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """Mean squared distance of the critic's gradient norm from 1 (Gulrajani et al. 2017, equation 3, without lambda).

    ``mean (||grad D(x)||_2 - 1)^2`` at ``x = real + alpha (fake - real)``, the norm over height, width and channels of
    each example, computed in float32. Example: D(x) = 2 sum(x) over four features has the gradient (2, 2, 2, 2), of
    norm 4, so the penalty is (4 - 1)^2 = 9 whatever alpha is.

    Args:
        critic: images [B, H, W, C] to scores [B, 1]; a condition is bound to it by the caller and not interpolated.
        real: [B, H, W, C].
        fake: [B, H, W, C].
        alpha: one draw of Uniform(0, 1) for each example, [B].

    Returns:
        A float32 scalar, 0 or more.
    """
    real, fake = tf.cast(real, tf.float32), tf.cast(fake, tf.float32)
    images = real + tf.reshape(tf.cast(alpha, tf.float32), [-1, 1, 1, 1]) * (fake - real)
    with tf.GradientTape() as tape:
        tape.watch(images)
        scores = tf.cast(critic(images), tf.float32)
    gradients = tf.cast(tape.gradient(scores, images), tf.float32)
    norms = tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean(tf.square(norms - 1.0))
