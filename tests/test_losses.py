import math

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.errors import ConfigError
from mammogan_tf.losses import (
    anatomy_loss,
    cross_entropy,
    dice_loss,
    energy_score,
    focal_tversky,
    gradient_penalty,
    wasserstein_critic,
    wasserstein_generator,
)


def pixels(*rows: list[float]) -> tf.Tensor:
    """Rows of class values as [1, 1, pixels, classes]."""
    return tf.constant([[rows]], tf.float32)


def random(*shape: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.cast(np.random.default_rng(sum(shape)).normal(size=shape), dtype)


def test_dice_of_one_class():
    # t = (1, 0), p = (1/2, 1/2): overlap 1/2, total 1 + 1.
    loss = dice_loss(pixels([1.0], [0.0]), pixels([0.5], [0.5]), smooth=0.0)
    assert float(loss) == 1 - 2 * 0.5 / (1 + 1)


def test_dice_is_a_mean_over_classes_and_smooth():
    # Class 0: t = (1, 0), p = (1, 1); class 1: t = (0, 1), p = (0, 0).
    loss = dice_loss(pixels([1, 0], [0, 1]), pixels([1, 0], [1, 0]), smooth=1.0)
    assert float(loss) == pytest.approx(1 - ((2 * 1 + 1) / (1 + 2 + 1) + (0 + 1) / (1 + 0 + 1)) / 2)


def test_dice_of_lesions_sums_over_the_batch():
    # The last class is in the first film only; what is found in the second counts against it.
    truth = tf.concat([pixels([1.0]), pixels([0.0])], axis=0)
    found = tf.concat([pixels([1.0]), pixels([1.0])], axis=0)
    assert float(dice_loss(truth, found, smooth=0.0)) == pytest.approx(1 - 2 * 1 / (1 + 2))


def test_dice_of_tissues_is_a_mean_over_films():
    # A film full of dense tissue, found; one with a speck of it, missed. No lesion is there or found.
    dense, fat = [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]
    truth = tf.concat([pixels(dense, dense, dense), pixels(fat, fat, dense)], axis=0)
    found = tf.concat([pixels(dense, dense, dense), pixels(fat, fat, fat)], axis=0)
    of_fat, of_dense = (1 + (2 * 2 + 1) / (2 + 3 + 1)) / 2, (1 + (0 + 1) / (1 + 0 + 1)) / 2
    assert float(dice_loss(truth, found)) == pytest.approx(1 - (of_fat + of_dense + 1) / 3)


def test_a_class_that_is_absent_costs_nothing():
    assert float(dice_loss(pixels([1.0, 0.0]), pixels([1.0, 0.0]))) == 0


def test_cross_entropy():
    assert float(cross_entropy(pixels([1, 0]), pixels([0.5, 0.5]))) == pytest.approx(math.log(2))
    mean = (math.log(4) + math.log(1)) / 2
    assert float(cross_entropy(pixels([1, 0], [0, 1]), pixels([1 / 4, 3 / 4], [0, 1]))) == pytest.approx(mean)


def test_anatomy_loss():
    # The chance of the right tissue among the tissues; what is asked for as a lesion costs nothing.
    found = pixels([1 / 4, 1 / 4, 1 / 2], [1, 0, 0], [0.9, 0.1, 0])
    mask = pixels([1, 0, 0], [1, 0, 0], [0, 0, 1])
    assert float(anatomy_loss(mask, found)) == pytest.approx(math.log(2) / 3)


def test_anatomy_loss_pulls_where_the_network_is_sure_and_wrong():
    probabilities = tf.Variable(pixels([0.0, 1.0, 0.0]))
    with tf.GradientTape() as tape:
        loss = anatomy_loss(pixels([1, 0, 0]), probabilities)
    assert float(loss) == pytest.approx(-math.log(1e-7), rel=1e-5)
    slope = tape.gradient(loss, probabilities)
    assert np.isfinite(slope).all()
    assert slope[0, 0, 0, 0] < -1


def test_anatomy_loss_of_a_sure_lesion_is_nothing():
    assert float(anatomy_loss(pixels([1, 0, 0]), pixels([0.0, 0.0, 1.0]))) == pytest.approx(0)


def films(*greys: float, side: int = 32) -> tf.Tensor:
    """Even films [B, side, side, 1] of these grey levels."""
    return tf.reshape(tf.constant(greys, tf.float32), (-1, 1, 1, 1)) * tf.ones((1, side, side, 1))


@pytest.mark.parametrize("side", [8, 16, 64])
def test_energy_score(side):
    # |x - y| of even films is side times the difference of their grey levels.
    real, first, second = films(0, 0, side=side), films(1, 1, side=side), films(1, -1, side=side)
    apart = side * ((1 + 1) / 2 - np.array([0, 2]) / 2)
    assert float(energy_score(real, first, second)) == pytest.approx(apart.mean(), rel=1e-2)


def test_energy_score_of_films_that_cannot_be_shrunk_is_refused():
    film = tf.zeros([1, 24, 24, 1])
    with pytest.raises(
        ConfigError, match="energy_score: expected films of 8 pixels, or of a multiple of 16, received: 24"
    ):
        energy_score(film, film, film)


def test_energy_score_is_lowest_where_films_vary_as_real_ones_do():
    normal = np.random.default_rng(0).normal(size=(3, 20000))
    scores = {
        spread: float(energy_score(films(*normal[0], side=8), *(films(*spread * row, side=8) for row in normal[1:])))
        for spread in (0.25, 0.7, 1.0, 1.4, 3.0)
    }
    assert min(scores, key=lambda spread: scores[spread]) == 1


def test_energy_score_leaves_texture_alone():
    board = np.indices((32, 32)).sum(axis=0)[None, ..., None] % 2 * 2.0 - 1
    even, rough = films(0), tf.constant(board, tf.float32)
    assert float(energy_score(even, rough, -rough)) == pytest.approx(float(energy_score(even, even, even)))


def test_energy_score_has_a_slope_where_films_are_the_same():
    film = tf.Variable(films(0.5))
    with tf.GradientTape() as tape:
        score = energy_score(film.value(), film, film)
    assert np.isfinite(tape.gradient(score, film)).all()


def lesion(*values: float) -> tf.Tensor:
    """Values of the pixels of one film, [1, 1, pixels]."""
    return tf.constant([[values]], tf.float32)


def test_focal_tversky():
    # One pixel found, one missed, one false: TI = 1 / (1 + 0.7 + 0.3).
    loss = focal_tversky(lesion(1, 1, 0), lesion(1, 0, 1), smooth=0.0)
    assert float(loss) == pytest.approx((1 - 1 / (1 + 0.7 + 0.3)) ** (3 / 4))


def test_focal_tversky_with_even_weights_and_no_focus_is_dice():
    truth, found = pixels([1.0], [1.0], [0.0]), pixels([0.75], [0.5], [0.25])
    even = focal_tversky(truth[..., 0], found[..., 0], alpha=0.5, beta=0.5, gamma=1.0, smooth=0.0)
    assert float(even) == pytest.approx(float(dice_loss(truth, found, smooth=0.0)))


def test_a_missed_lesion_is_dearer_than_a_false_one():
    missed, false = focal_tversky(lesion(1, 1), lesion(1, 0)), focal_tversky(lesion(1, 0), lesion(1, 1))
    assert float(missed) == pytest.approx((1 - (1 + 1) / (1 + 0.7 + 1)) ** (3 / 4))
    assert float(false) == pytest.approx((1 - (1 + 1) / (1 + 0.3 + 1)) ** (3 / 4))


@pytest.mark.parametrize("truth", [[0, 0], [1, 1]])
def test_focal_tversky_has_a_finite_slope_where_all_is_right(truth):
    found = tf.Variable(lesion(*truth))
    with tf.GradientTape() as tape:
        loss = focal_tversky(lesion(*truth), found)
    assert float(loss) < 1e-4
    assert np.isfinite(tape.gradient(loss, found)).all()


def test_cross_entropy_is_finite_where_the_network_is_sure_and_wrong():
    probabilities = tf.Variable(pixels([0.0, 1.0]))
    with tf.GradientTape() as tape:
        loss = cross_entropy(pixels([1, 0]), probabilities)
    assert float(loss) == pytest.approx(-math.log(1e-7), rel=1e-5)
    assert np.isfinite(tape.gradient(loss, probabilities)).all()


def test_the_wasserstein_pair():
    real, fake = tf.constant([[3.0], [5.0]]), tf.constant([[1.0], [3.0]])
    assert float(wasserstein_critic(real, fake)) == (1 + 3) / 2 - (3 + 5) / 2
    assert float(wasserstein_generator(fake)) == -(1 + 3) / 2


def test_losses_are_summed_in_float32():
    scores = tf.fill([4096, 1], tf.constant(60000.0, tf.float16))
    for loss in (wasserstein_generator(scores), wasserstein_critic(0 * scores, scores)):
        assert loss.dtype == tf.float32
        assert abs(float(loss)) == pytest.approx(60000, rel=1e-3)


def doubled_sum(images: tf.Tensor) -> tf.Tensor:
    return 2 * tf.reduce_sum(images, axis=[1, 2, 3])[:, None]


@pytest.mark.parametrize("shape", [(4, 1, 1), (2, 2, 1), (1, 2, 2)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_penalty_of_a_critic_that_doubles_the_sum_of_four_features(alpha, shape):
    # Gradient (2, 2, 2, 2), norm sqrt(4 * 2^2) = 4.
    penalty = gradient_penalty(doubled_sum, random(3, *shape), random(3, *shape), tf.fill([3], alpha))
    assert float(penalty) == pytest.approx((4 - 1) ** 2, rel=1e-6)


def test_penalty_is_the_mean_over_examples():
    factors = tf.constant([1.0, 3.0])  # Norms sqrt(4) * 1 = 2 and sqrt(4) * 3 = 6.

    def critic(images: tf.Tensor) -> tf.Tensor:
        return (factors * tf.reduce_sum(images, axis=[1, 2, 3]))[:, None]

    penalty = gradient_penalty(critic, random(2, 2, 2, 1), random(2, 2, 2, 1), tf.constant([0.2, 0.9]))
    assert float(penalty) == pytest.approx(((2 - 1) ** 2 + (6 - 1) ** 2) / 2, rel=1e-6)


def test_penalty_is_taken_between_real_and_fake_by_each_examples_own_alpha():
    seen = []

    def critic(images: tf.Tensor) -> tf.Tensor:
        seen.append(images.numpy()[:, 0, 0, 0])
        return doubled_sum(images)

    real, fake = tf.fill([3, 2, 2, 1], 10.0), tf.fill([3, 2, 2, 1], 20.0)
    gradient_penalty(critic, real, fake, tf.constant([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(seen[0], [10, 10 + 0.25 * (20 - 10), 20])


def test_penalty_of_a_flat_critic_has_a_finite_gradient():
    weight = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(
            lambda x: weight * doubled_sum(x), random(2, 2, 2, 1), random(2, 2, 2, 1), [0.5, 0.5]
        )
    assert float(penalty) == pytest.approx((0 - 1) ** 2, rel=1e-5)
    assert math.isfinite(float(tape.gradient(penalty, weight)))


def test_penalty_of_half_precision_images_does_not_overflow():
    # 64 * 64 gradients of 100: the sum of squares, 4096 * 100^2, is far beyond float16's 65504.
    images = random(2, 64, 64, 1, dtype=tf.float16)
    penalty = gradient_penalty(lambda x: 50 * doubled_sum(x), images, images, [0.5, 0.5])
    assert penalty.dtype == tf.float32
    assert float(penalty) == pytest.approx((math.sqrt(64 * 64) * 100 - 1) ** 2, rel=1e-5)
