"""The base class of both models in training, and a ``fit`` that can be interrupted and resumed at any step."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from mammogan_tf.errors import ModelError
from mammogan_tf.training.callbacks import Interruption
from mammogan_tf.training.workers import any_worker

__all__ = ["ResumableModel", "fit"]


class ResumableModel(keras.Model):
    """A Keras model that counts its training steps, and accumulates metrics until :meth:`pop_metrics` reads and resets them.

    Keras resets metrics every epoch; here an interrupted run records the same rows as an uninterrupted one.
    ``save_weights`` works; ``save``, ``evaluate`` and ``validation_data`` are not supported.

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
        """Compiles without XLA. Keras would use XLA on a single GPU only, where it draws different random numbers."""
        super().compile(*arguments, jit_compile=False, **options)

    def _maybe_symbolic_build(self, *arguments, **options) -> None:
        """Does nothing; Keras would call the model on a batch averaged over the workers. The networks are built already."""

    def reset_metrics(self) -> None:
        """Does nothing: :meth:`pop_metrics` resets the trackers."""

    @property
    def optimizers(self) -> list[keras.Optimizer]:
        """Those that ``compile`` was given."""
        return [self.optimizer]

    @property
    def state_variables(self) -> list[keras.Variable]:
        """What training changes: weights, metrics, optimizers; in an order that depends on the configuration alone."""
        of_optimizers = (variable for optimizer in self.optimizers for variable in optimizer.variables)
        return [*self.variables, *self.metrics_variables, *of_optimizers]

    def logs(self) -> dict[str, tf.Tensor]:
        """What ``train_step`` returns: metrics with a leading axis of length 1, over which Keras averages several workers."""
        return {name: tracker.result()[None] for name, tracker in self.trackers.items()}

    def pop_metrics(self) -> dict[str, float]:
        """The values of the trackers over all replicas since the last call."""
        values = {name: float(tracker.result()) for name, tracker in self.trackers.items()}
        for tracker in self.trackers.values():
            tracker.reset_state()
        return values

    def require_finite_weights(self) -> None:
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
    model: ResumableModel,
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
    with Interruption(save, lambda requested: any_worker(strategy, requested)) as interruption:
        model.fit(
            strategy.distribute_datasets_from_function(batches),
            steps_per_epoch=last - int(model.step.numpy()),
            callbacks=[*callbacks, interruption],
            shuffle=False,
            verbose=0,
        )
