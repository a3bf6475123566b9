import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.models.blocks import FusedNormalization
from mammogan_tf.training.averaging import update_batch_norm, update_ema
from mammogan_tf.training.gan import build_wgan_gp


def test_weights_are_averaged_over_the_steps():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    averaged = keras.models.clone_model(network)
    averaged.set_weights([np.array([[0.0]]), np.array([0.0])])
    average = 0.0
    for step, weight in enumerate([1.0, 3.0, 2.0, 7.0] * 4):
        network.set_weights([np.array([[weight]]), np.array([-weight])])
        update_ema(averaged, network, step, 0.5)
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        assert averaged.get_weights()[0].item() == pytest.approx(average)
        assert averaged.get_weights()[1].item() == pytest.approx(-average)


def test_a_training_step_takes_the_average_towards_the_generator_by_its_share():
    size, films = 16, 2
    model = build_wgan_gp(preset(GANConfig, "tiny", {"ema": 0.75, "n_critic": 1, "batch_size": films}))
    model.step.assign(1000)  # The decay has risen to 0.75.
    model.ema_generator.set_weights([weight + 1 for weight in model.ema_generator.get_weights()])
    before = model.ema_generator.get_weights()
    mask = tf.one_hot(tf.ones((films, size, size), tf.int32), 5)
    model.train_step({"image": mask[..., :1], "mask": mask, "label": tf.zeros(films, tf.int32)})
    for was, now, trained in zip(before, model.ema_generator.get_weights(), model.generator.get_weights(), strict=True):
        np.testing.assert_allclose(now, 0.75 * was + 0.25 * trained, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [keras.layers.BatchNormalization, FusedNormalization])
def test_statistics_are_the_means_over_the_batches(kind):
    inputs = keras.Input((1, 1, 1))
    norm = kind(name="norm")
    network = keras.Model(inputs, norm(inputs))
    network.trainable = False
    films = np.array([[0.0, 2.0], [4.0, 8.0], [5.0, 5.0]], np.float32).reshape(3, 2, 1, 1, 1)
    update_batch_norm(network, films)
    assert norm.moving_mean.numpy().item() == pytest.approx((1 + 6 + 5) / 3)
    assert norm.moving_variance.numpy().item() == pytest.approx((1 + 4 + 0) / 3)
    assert (norm.trainable, norm.momentum) == (False, 0.99)
