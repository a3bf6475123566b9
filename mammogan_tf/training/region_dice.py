"""Dice of regions as a Keras metric."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mammogan_tf.metrics.segmentation import REGIONS

__all__ = ["RegionDice"]


@keras.saving.register_keras_serializable("mammogan_tf")
class RegionDice(keras.metrics.Metric):
    """Dice of some regions over all the films seen since the last reset, averaged over the regions.

    Args:
        regions: names out of :data:`mammogan_tf.metrics.segmentation.REGIONS`.
    """

    def __init__(self, regions: Sequence[str], name: str = "dice", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.regions = tuple(regions)
        self.overlap = self.add_variable((len(self.regions),), "zeros", name="overlap")
        self.total = self.add_variable((len(self.regions),), "zeros", name="total")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "regions": self.regions}

    def update_state(self, truth: tf.Tensor, probabilities: tf.Tensor, sample_weight: None = None) -> None:
        """``truth`` one-hot [B, H, W, 5], ``probabilities`` [B, H, W, 5]; all films weigh alike."""
        classes = truth.shape[-1]
        found = tf.one_hot(tf.argmax(probabilities, -1, tf.int32), classes)
        confusion = tf.matmul(*(tf.reshape(mask, [-1, classes]) for mask in (truth, found)), transpose_a=True)
        members = tf.constant([[value in REGIONS[region] for value in range(classes)] for region in self.regions])
        members = tf.cast(members, tf.float32)
        both = members[:, :, None] * members[:, None, :]  # No product of matrices: a GPU may round large counts.
        self.overlap.assign_add(2 * tf.reduce_sum(both * confusion, [1, 2]))
        either = tf.reduce_sum(confusion, 0) + tf.reduce_sum(confusion, 1)
        self.total.assign_add(tf.reduce_sum(members * either, 1))

    def result(self) -> tf.Tensor:
        """A scalar in [0, 1], over the regions that are in a film or were found in one; nan where there is none."""
        overlap, total = tf.convert_to_tensor(self.overlap), tf.convert_to_tensor(self.total)
        counted = tf.cast(total > 0, tf.float32)
        return tf.reduce_sum(tf.math.divide_no_nan(overlap, total)) / tf.reduce_sum(counted)
