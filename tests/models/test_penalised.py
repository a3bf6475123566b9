import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from mammogan_tf.losses import gradient_penalty
from mammogan_tf.models.blocks import MinibatchDeviation
from mammogan_tf.models.dcgan import build_critic
from mammogan_tf.models.penalised import without_second_derivatives

SIZE, BATCH = 16, 4


def films(seed: int = 0) -> dict[str, tf.Tensor]:
    random = np.random.default_rng(seed)
    return {
        "image": tf.constant(random.uniform(-1, 1, (BATCH, SIZE, SIZE, 1)), tf.float32),
        "mask": tf.one_hot(random.integers(0, 5, (BATCH, SIZE, SIZE)), 5),
        "label": tf.constant(random.integers(0, 3, BATCH)),
    }


@pytest.fixture(params=["patches", "film"])
def critic(request) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_critic(SIZE, widths=(4, 8, 8), patches=request.param == "patches")


def slopes(critic: keras.Model, film: int) -> tf.Tensor:
    """The slope of one film's score at all the films of the batch."""
    batch = films()
    with tf.GradientTape() as tape:
        tape.watch(batch["image"])
        score = critic(batch)[film]
    return tape.gradient(score, batch["image"])


def test_it_scores_as_the_critic_does_by_the_same_weights(critic):
    twin = without_second_derivatives(critic)
    assert {id(weight) for weight in twin.weights} == {id(weight) for weight in critic.weights}
    np.testing.assert_array_equal(twin(films()), critic(films()))


def test_it_computes_in_float32_as_the_critic_does_under_any_policy(critic):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        twin = without_second_derivatives(critic)
    finally:
        keras.config.set_dtype_policy("float32")
    computing = [layer for layer in twin.layers if not isinstance(layer, layers.InputLayer)]
    assert {layer.compute_dtype for layer in computing} == {"float32"}


def test_each_films_slope_is_its_own(critic):
    others = slopes(critic, 0)[1:]
    tied = any(isinstance(layer, MinibatchDeviation) for layer in critic.layers)
    assert (float(tf.reduce_max(tf.abs(others))) > 0) == tied, "the deviation ties the films of a batch together"
    twin = slopes(without_second_derivatives(critic), 0)
    assert float(tf.reduce_max(tf.abs(twin[0]))) > 0
    np.testing.assert_array_equal(twin[1:], tf.zeros_like(twin[1:]))


def test_the_penalty_has_the_same_gradient_without_the_way_back_through_the_critic():
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 1))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(4, 3, name="first")(image))
    x = layers.LeakyReLU(0.1)(layers.Conv2D(4, 3, strides=2)(x))
    critic = keras.Model(image, layers.Dense(1, name="score")(layers.Flatten()(x)))
    batch, found = films(), {}
    for kind, network in (("plain", critic), ("twin", without_second_derivatives(critic))):
        with tf.GradientTape() as tape:
            penalty = gradient_penalty(network, batch["image"], -batch["image"], tf.linspace(0.1, 0.9, BATCH))
        found[kind] = tape.gradient(penalty, critic.trainable_variables)
    for weight, plain, twin in zip(critic.trainable_variables, found["plain"], found["twin"], strict=True):
        if weight.name == "kernel":
            assert float(tf.reduce_max(tf.abs(twin))) > 0
            np.testing.assert_allclose(twin, plain, rtol=1e-5, atol=1e-7)
        else:
            assert twin is None, "a bias moves kinks, and no slope between them"
            assert plain is None or not np.any(plain)
