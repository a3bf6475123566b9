"""What Keras 3 has in place of tensorflow-addons, against outputs of tensorflow-addons 0.23 (``make_addons_golden.py``)."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.models.dcgan import build_critic, build_generator
from mammogan_tf.training.averaging import update_ema
from mammogan_tf.training.wgan_gp import WGANGP

Read = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def golden() -> Callable[[str], Read]:
    """``golden("part")("name")`` is an array."""
    with np.load(Path(__file__).parent / "addons.npz") as stored:
        arrays = dict(stored)
    return lambda part: lambda name: arrays[f"{part}/{name}" if part else name]


@pytest.fixture(scope="module")
def constants(golden) -> dict[str, float]:
    return dict(zip(("rate", "weight_decay", "decay"), map(float, golden("")("constants")), strict=True))


def test_spectral_normalisation(golden):
    read = golden("spectral_normalisation")
    layer = keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3), power_iterations=2)
    layer.build(read("films").shape)
    layer.layer.kernel.assign(read("kernel"))
    layer.vector_u.assign(read("vector"))
    for _ in range(3):
        layer(read("films"), training=True)
    np.testing.assert_allclose(layer.layer.kernel.numpy(), read("normalised"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer(read("films"), training=False), read("output"), rtol=1e-4, atol=1e-5)


def test_instance_normalisation(golden):
    read = golden("instance_normalisation")
    layer = keras.layers.GroupNormalization(groups=-1, epsilon=1e-3)
    layer.build(read("films").shape)
    layer.gamma.assign(read("gamma"))
    layer.beta.assign(read("beta"))
    np.testing.assert_allclose(layer(read("films")), read("output"), rtol=1e-4, atol=1e-5)


def test_moving_average(golden, constants):
    read = golden("moving_average")
    variable = keras.Variable(read("first"))
    optimizer = keras.optimizers.SGD(constants["rate"], use_ema=True, ema_momentum=constants["decay"])
    optimizer.build([variable])
    for gradient, value, average in zip(read("gradients"), read("values"), read("fixed"), strict=True):
        optimizer.apply([tf.constant(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(optimizer._model_variables_moving_average[0].numpy(), average, rtol=1e-5, atol=1e-6)


def test_the_rising_average_of_the_gan(golden, constants):
    read = golden("moving_average")
    generator = build_generator(4, z_dim=4, widths=(2,))
    model = WGANGP(generator, build_critic(4, widths=(2,), patches=False), gp=10.0, n_critic=1, ema=constants["decay"])
    place = next(index for index, weight in enumerate(generator.weights) if np.prod(weight.shape) >= 12)
    weight, average = generator.weights[place], model.ema_generator.weights[place]

    def padded(values: np.ndarray) -> np.ndarray:
        return np.resize(values, weight.shape)

    average.assign(padded(read("first")))
    for step, (value, expected) in enumerate(zip(read("values"), read("rising"), strict=True)):
        model.step.assign(step)
        weight.assign(padded(value))
        update_ema(model.ema_generator, model.generator, model.step, constants["decay"])
        np.testing.assert_allclose(average.numpy(), padded(expected), rtol=1e-5, atol=1e-6)


def test_adam_with_weight_decay(golden, constants):
    read = golden("adam_with_weight_decay")
    variable = keras.Variable(read("first"))
    rate = constants["rate"]
    # Keras multiplies the decay by the learning rate, tensorflow-addons does not.
    optimizer = keras.optimizers.AdamW(rate, weight_decay=constants["weight_decay"] / rate, beta_1=0.5, beta_2=0.9)
    optimizer.build([variable])
    for gradient, value in zip(read("gradients"), read("values"), strict=True):
        optimizer.apply([tf.constant(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4, atol=1e-5)


def test_focal_loss(golden):
    read = golden("focal_loss")
    loss = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=0.25, gamma=2.0, reduction=None, dtype="float32"
    )(read("truth"), read("probabilities"))
    # tensorflow-addons sums over the last axis, Keras takes the mean.
    np.testing.assert_allclose(np.asarray(loss) * read("truth").shape[-1], read("loss"), rtol=1e-4, atol=1e-6)
