"""What both trainings do beside their steps: keep the best weights, the history and the time, and go on where they were."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import keras
import tensorflow as tf

from mammogan_tf.console import Console
from mammogan_tf.training.callbacks import BestWeights, History, Stopwatch
from mammogan_tf.training.checkpoint import Checkpoints
from mammogan_tf.training.resumable import ResumableModel, fit
from mammogan_tf.training.run import Run
from mammogan_tf.training.workers import require_same

__all__ = ["Session"]

M = TypeVar("M", bound=ResumableModel)


class Session(Generic[M]):
    """A training of a run, at the newest checkpoint of that run. Every worker makes one at the same point.

    Args:
        run: the run, whose checkpoints are read.
        output_run: the run that this worker writes to, out of :func:`writable_run`.
        model: compiled; its weights become those of the checkpoint.
        averaged: the network of ``model`` whose best weights are kept.
        run_settings: what may not change from one checkpoint to the next (:class:`Checkpoints`).
        console: for messages.
        keep: checkpoints that stay.
        index: what the rows of the history count, ``step`` or ``epoch``.
        steps_per_row: steps that the index counts as one.
        first_row: the step or epoch of the first row.

    Attributes:
        model: the model.
        output_run: the run that this worker writes to.
        console: for messages.
        begin: the step of the checkpoint, 0 of a new run.
        best: the best weights so far.
        history: the rows so far.

    Raises:
        ConfigError: the settings are not those of the checkpoint.
        ModelError: no checkpoint is whole, the history is broken, or the workers have different checkpoints.
    """

    def __init__(
        self,
        run: Run,
        output_run: Run,
        model: M,
        averaged: keras.Model,
        run_settings: Mapping[str, Any],
        console: Console,
        *,
        keep: int,
        index: str,
        steps_per_row: int = 1,
        first_row: int = 1,
    ) -> None:
        self.model, self.output_run, self.console = model, output_run, console
        self.best, self._watch = BestWeights(averaged), Stopwatch()
        variables = [*model.state_variables, *self.best.variables, self._watch.seconds]
        self._checkpoints = Checkpoints(
            run.path / "checkpoints", variables, run_settings, keep, console, output_run.path / "checkpoints"
        )
        self._checkpoints.restore(run.finished)
        self.begin = int(model.step.numpy())
        require_same(model.distribute_strategy, {"checkpoint": self.begin})
        resumed_at = self.begin // steps_per_row
        self.history = History(output_run.path, index, resumed_at, first=first_row, resume_from=run.path)

    def save(self, step: int) -> None:
        """Writes a checkpoint.

        Raises:
            ModelError: a weight is not finite, or there is no room; the checkpoints before stay.
        """
        self.model.require_finite_weights()
        self._watch.lap()
        self._checkpoints.save(step)

    def fit(
        self,
        batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        last: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Trains to step ``last``, as :func:`mammogan_tf.training.resumable.fit` does; not at all where it is past."""
        self._watch.start()
        if self.begin < last:
            fit(self.model, batches, last, callbacks, self.save)

    @property
    def seconds(self) -> float:
        """Seconds of training up to the last checkpoint, over all resumptions."""
        return float(self._watch.seconds.numpy())
