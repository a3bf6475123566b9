"""Dice of regions as a Keras metric."""

from collections.abc import Sequence

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

    def __init__(self, regions: Sequence[str], name: str, **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.regions = tuple(regions)
        self.overlap = self.add_variable((len(self.regions),), "zeros", name="overlap")
        self.total = self.add_variable((len(self.regions),), "zeros", name="total")

    def update_state(self, truth: tf.Tensor, probabilities: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """``truth`` one-hot [B, H, W, 5], ``probabilities`` [B, H, W, 5]."""
        asked, found = tf.argmax(truth, -1), tf.argmax(probabilities, -1)
        members = [[int(value in REGIONS[region]) for value in range(truth.shape[-1])] for region in self.regions]
        table = tf.transpose(tf.constant(members, tf.float32))
        in_truth, in_found = tf.gather(table, asked), tf.gather(table, found)
        axes = [0, 1, 2]
        self.overlap.assign_add(2 * tf.reduce_sum(in_truth * in_found, axes))
        self.total.assign_add(tf.reduce_sum(in_truth, axes) + tf.reduce_sum(in_found, axes))

    def result(self) -> tf.Tensor:
        """A scalar in [0, 1], over the regions that are in a film or were found in one; nan where there is none."""
        overlap, total = tf.convert_to_tensor(self.overlap), tf.convert_to_tensor(self.total)
        judged = tf.cast(total > 0, tf.float32)
        return tf.reduce_sum(tf.math.divide_no_nan(overlap, total)) / tf.reduce_sum(judged)

    def get_config(self) -> dict:
        return {**super().get_config(), "regions": self.regions}
