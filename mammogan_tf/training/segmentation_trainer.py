"""A segmentation network in training: a Keras model with its own ``train_step``."""

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from mammogan_tf.metrics.segmentation import REGIONS
from mammogan_tf.replicas import num_replicas
from mammogan_tf.training.averaging import update_ema
from mammogan_tf.training.region_dice import RegionDice
from mammogan_tf.training.resumable import ResumableModel

__all__ = ["SegmentationTrainer"]

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class SegmentationTrainer(ResumableModel):
    """Trains a network on masks, and keeps an exponential moving average of its weights, batch normalisation included.

    ``keras.callbacks.SwapEMAWeights`` leaves the statistics out, and swaps by adding and subtracting, which rounds.

    Args:
        network: films [B, S, S, 1] to probabilities [B, S, S, C].
        loss: of one-hot masks and probabilities, [B, S, S, C] each.
        selection_regions: regions whose mean Dice is ``dice``, beside ``dice_<region>`` of each.
        ema: decay of the averaged weights; it rises to this as ``(1 + step) / (10 + step)``.
    """

    def __init__(self, network: keras.Model, *, loss: Loss, selection_regions: Iterable[str], ema: float) -> None:
        super().__init__("segmentation_trainer")
        self.network = network
        self.ema_network = keras.models.clone_model(network)
        self.ema_network.set_weights(network.get_weights())
        self.ema_network.trainable = False
        self.loss_function, self.selection_regions, self.ema = loss, tuple(selection_regions), ema
        self.trackers = self._new_trackers()

    def _new_trackers(self) -> dict[str, keras.metrics.Metric]:
        names = {"dice": self.selection_regions, **{f"dice_{region}": [region] for region in REGIONS}}
        dices = {name: RegionDice(regions, name) for name, regions in names.items()}
        return {"loss": keras.metrics.Mean("loss"), **dices}

    def compile(self, optimizer: keras.Optimizer) -> None:
        """Takes the optimizer. Under mixed_float16 it comes wrapped in a LossScaleOptimizer."""
        super().compile(optimizer)
        optimizer.build(self.network.trainable_variables)

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """``batch`` is a pair of films and one-hot masks."""
        films, truth = batch
        with tf.GradientTape() as tape:
            probabilities = self.network(films, training=True)
            loss = self.loss_function(truth, probabilities)
            scaled = self.optimizer.scale_loss(loss / num_replicas())
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        update_ema(self.ema_network, self.network, self.step, self.ema)
        self.step.assign_add(1)
        _update(self.trackers, truth, probabilities, loss)
        return self.logs()

    def validate(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Values of the averaged network by name, on batches in the format of ``train_step``."""
        trackers = self._new_trackers()
        for films, truth in batches:
            probabilities = self._predict(films)
            _update(trackers, truth, probabilities, self.loss_function(truth, probabilities))
        return {name: float(tracker.result()) for name, tracker in trackers.items()}

    @tf.function(reduce_retracing=True)
    def _predict(self, films: tf.Tensor) -> tf.Tensor:
        return self.ema_network(films, training=False)


def _update(
    trackers: dict[str, keras.metrics.Metric], truth: tf.Tensor, probabilities: tf.Tensor, loss: tf.Tensor
) -> None:
    for name, tracker in trackers.items():
        if name == "loss":
            tracker.update_state(loss, sample_weight=tf.shape(truth)[0])
        else:
            tracker.update_state(truth, probabilities)
