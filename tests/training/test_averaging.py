import keras
import numpy as np
import pytest

from mammogan_tf.models.blocks import FusedNormalization
from mammogan_tf.training.averaging import average_into, estimate_statistics


def test_weights_are_averaged_over_the_steps():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    averaged = keras.models.clone_model(network)
    averaged.set_weights([np.array([[0.0]]), np.array([0.0])])
    average = 0.0
    for step, weight in enumerate([1.0, 3.0, 2.0, 7.0] * 4):
        network.set_weights([np.array([[weight]]), np.array([-weight])])
        average_into(averaged, network, step, 0.5)
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        assert averaged.get_weights()[0].item() == pytest.approx(average)
        assert averaged.get_weights()[1].item() == pytest.approx(-average)


@pytest.mark.parametrize("kind", [keras.layers.BatchNormalization, FusedNormalization])
def test_statistics_are_the_means_over_the_batches(kind):
    inputs = keras.Input((1, 1, 1))
    norm = kind(name="norm")
    network = keras.Model(inputs, norm(inputs))
    network.trainable = False
    films = np.array([[0.0, 2.0], [4.0, 8.0], [5.0, 5.0]], np.float32).reshape(3, 2, 1, 1, 1)
    estimate_statistics(network, films)
    assert norm.moving_mean.numpy().item() == pytest.approx((1 + 6 + 5) / 3)
    assert norm.moving_variance.numpy().item() == pytest.approx((1 + 4 + 0) / 3)
    assert (norm.trainable, norm.momentum) == (False, 0.99)
