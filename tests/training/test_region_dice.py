import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.metrics.segmentation import REGIONS, region_dice
from mammogan_tf.training.region_dice import RegionDice


def one_hot(*label_maps):
    return tf.one_hot(np.array(label_maps), 5)


def test_region_dice_sums_over_films():
    metric = RegionDice(["breast"], "dice")
    # Breast is 1, 2 and 4. Film one: 2 asked, 1 found and right; film two: 1 asked, 2 found, 1 right.
    metric.update_state(one_hot([[1, 2, 0, 3]]), one_hot([[4, 0, 0, 3]]))
    metric.update_state(one_hot([[1, 0, 0, 0]]), one_hot([[1, 1, 0, 0]]))
    assert float(metric.result()) == pytest.approx(2 * (1 + 1) / ((2 + 1) + (1 + 2)))
    metric.reset_state()
    metric.update_state(one_hot([[1, 1, 1, 1]]), one_hot([[1, 1, 1, 1]]))
    assert float(metric.result()) == 1


def test_region_dice_is_the_mean_of_the_regions_that_are_there():
    metric = RegionDice(["breast", "pectoral", "lesion"], "dice")
    metric.update_state(one_hot([[1, 0, 3, 3]]), one_hot([[1, 1, 3, 0]]))
    # Breast: 1 right, 1 asked, 2 found. Pectoral: 1 right, 2 asked, 1 found. No lesion anywhere.
    assert float(metric.result()) == pytest.approx((2 * 1 / (1 + 2) + 2 * 1 / (2 + 1)) / 2)


def test_region_dice_is_a_metric_for_any_keras_model():
    metric = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(RegionDice(["breast", "pectoral"]))
    )
    assert metric.regions == ("breast", "pectoral")
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(5, 1, activation="softmax")])
    network.compile("sgd", "categorical_crossentropy", metrics=[metric])
    truth = one_hot(np.random.default_rng(0).integers(0, 5, (2, 4, 4)))
    history = network.fit(np.zeros((2, 4, 4, 1), np.float32), truth.numpy()[0], verbose=0).history
    assert 0 <= history["dice"][0] <= 1


def test_region_dice_of_nothing_is_nan():
    metric = RegionDice(["lesion"], "dice")
    metric.update_state(one_hot([[1, 0]]), one_hot([[1, 1]]))
    assert np.isnan(float(metric.result()))


def test_region_dice_agrees_with_the_metrics_of_the_report():
    truth, found = np.random.default_rng(0).integers(0, 5, (2, 1, 8, 8))
    for region, expected in region_dice(truth, found).items():
        metric = RegionDice([region], region)
        metric.update_state(one_hot(*truth), one_hot(*found))
        assert float(metric.result()) == pytest.approx(expected[0])
    assert set(REGIONS) == {"breast", "pectoral", "dense", "lesion"}
