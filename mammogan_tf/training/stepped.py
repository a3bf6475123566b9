"""Training step by step: a model that counts its steps, and ``fit`` that can be broken off and resumed at any of them."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from mammogan_tf.errors import ModelError
from mammogan_tf.training.callbacks import Interruption
from mammogan_tf.training.workers import anywhere

__all__ = ["Stepped", "fit"]


class Stepped(keras.Model):
    """A model whose trackers run on until somebody takes their values, so that a resumed run writes the same rows.

    What ``fit`` logs are means since :meth:`take` was last called, not of an epoch. Of Keras's own ways to keep and evaluate a
    model ``save_weights`` works; ``save``, ``evaluate`` and ``validation_data`` do not.

    Attributes:
        step: a variable, the number of steps trained.
        trackers: metrics by name, which ``train_step`` updates.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.step = self.add_weight((), "zeros", dtype="int64", trainable=False, name="step")
        self.built = True  # Its networks are built already; Keras refuses save_weights otherwise.
        self.trackers: dict[str, keras.metrics.Metric] = {}

    def compile(self, *arguments, **options) -> None:
        """Without XLA, which Keras would take on one GPU alone: there it draws other random numbers."""
        super().compile(*arguments, jit_compile=False, **options)

    def _maybe_symbolic_build(self, *arguments, **options) -> None:
        """Does nothing, where Keras 3 averages the first batch over the machines and calls the model: it is built."""

    def reset_metrics(self) -> None:
        """Does nothing: :meth:`take` resets the trackers."""

    def logs(self) -> dict[str, tf.Tensor]:
        """What a ``train_step`` returns. Several machines average it over its first axis, so that it needs one."""
        return {name: tracker.result()[None] for name, tracker in self.trackers.items()}

    def take(self) -> dict[str, float]:
        """The values of the trackers over all replicas since the last call."""
        values = {name: float(tracker.result()) for name, tracker in self.trackers.items()}
        for tracker in self.trackers.values():
            tracker.reset_state()
        return values

    def require_finite(self) -> None:
        """Raises ModelError where a weight is not finite."""
        broken = [weight.path for weight in self.weights if not tf.reduce_all(tf.math.is_finite(_floats(weight)))]
        if broken:
            raise ModelError(
                f"step {int(self.step.numpy())}: expected finite weights, received: {broken[0]} not finite; "
                "start another run with another --seed"
            )


def _floats(weight: keras.Variable) -> tf.Tensor:
    return tf.cast(weight.value, tf.float32)


def fit(
    model: Stepped,
    batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    last: int,
    callbacks: Sequence[keras.callbacks.Callback],
    save: Callable[[int], None],
) -> None:
    """Trains a model from its step to ``last``, unless a callback stops it.

    Args:
        model: compiled, in the scope of its strategy.
        batches: the part of an endless dataset that a process reads, from the model's step on.
        last: number of the last step.
        callbacks: what happens beside the steps.
        save: writes a checkpoint of a step.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM in any process, after a checkpoint.
    """
    strategy = model.distribute_strategy
    with Interruption(save, lambda requested: anywhere(strategy, requested)) as interruption:
        model.fit(
            strategy.distribute_datasets_from_function(batches),
            steps_per_epoch=last - int(model.step.numpy()),
            callbacks=[*callbacks, interruption],
            shuffle=False,
            verbose=0,
        )
