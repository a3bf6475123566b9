"""What happens beside the training steps: history, progress, TensorBoard, checkpoints, the best weights."""

import csv
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mammogan_tf.errors import ModelError, reason_of_tensorflow
from mammogan_tf.files import write_text

__all__ = [
    "BestWeights",
    "History",
    "Interruption",
    "StepCallback",
    "Stopwatch",
    "require_finite_values",
]


class History:
    """``history.csv`` and TensorBoard scalars: one row for each step or epoch that is recorded.

    The file is written anew, atomically, with every row; a resumed run drops the rows after its checkpoint from it.
    TensorBoard's files only grow: where a step comes twice, TensorBoard shows the later value.

    Args:
        run_path: where to write.
        index: what the rows count, ``step`` or ``epoch``.
        resumed_at: the last step or epoch of the checkpoint, 0 of a new run.
        first: the step or epoch of the first row.
        resume_from: the run that is resumed, where that is not what is written to.

    Raises:
        ModelError: the file is not as the run left it, or TensorBoard's cannot be written; the last checkpoint is left as
            it is.
    """

    def __init__(
        self, run_path: Path, index: str, resumed_at: int = 0, *, first: int = 1, resume_from: Path | None = None
    ) -> None:
        self._file = run_path / "history.csv"
        self._index = index
        self.rows: list[dict[str, float]] = []
        if resumed_at >= first:
            self._read((resume_from or run_path) / "history.csv", resumed_at)
            self._write()
        self._folder = run_path / "tensorboard"
        with self._writing():
            self.writer = tf.summary.create_file_writer(str(self._folder))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            raise ModelError(
                f"{self._folder}: expected to write there, received: {reason_of_tensorflow(error)}; "
                "free some space or change its permissions, then go on with --resume"
            ) from error

    def _read(self, file: Path, last: int) -> None:
        """Takes the rows up to ``last`` over, bit by bit."""
        try:
            with file.open(newline="") as stream:
                for cells in csv.DictReader(stream):
                    number = int(cells.pop(self._index))
                    if number <= last:
                        values = {name: float(cell or "nan") for name, cell in cells.items()}
                        self.rows.append({self._index: number, **values})
        except FileNotFoundError:
            pass
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{file}: expected the rows that the run wrote, received: others ({error}); "
                "put the file back, or start another run"
            ) from error
        if not self.rows:
            raise ModelError(
                f"{file}: expected the rows that the run wrote, received: none; put the file back, or start another run"
            )

    def record(self, number: int, values: Mapping[str, float]) -> None:
        """Appends a row.

        Raises:
            ModelError: a value is not finite; the last checkpoint is left as it is.
        """
        require_finite_values(self._index, number, values)
        row = {name: float(value) for name, value in values.items()}
        self.rows.append({self._index: number, **row})
        self._write()
        with self._writing(), self.writer.as_default(step=number):
            for name, value in row.items():
                tf.summary.scalar(name, value)

    def _write(self) -> None:
        write_text(self._file, pd.DataFrame(self.rows).to_csv(index=False))

    def text(self, name: str, text: str, number: int) -> None:
        """A text for TensorBoard."""
        with self._writing(), self.writer.as_default(step=number):
            tf.summary.text(name, text)

    def picture(self, name: str, pixels: np.ndarray, number: int) -> None:
        """A uint8 picture [H, W, 3] for TensorBoard."""
        with self._writing(), self.writer.as_default(step=number):
            tf.summary.image(name, pixels[None])


def require_finite_values(index: str, number: int, values: Mapping[str, float]) -> None:
    """Raises ModelError where a value is not finite. A Dice of nan is none: its region is in no film."""
    broken = [
        name for name, value in values.items() if not (math.isfinite(value) or (math.isnan(value) and "dice" in name))
    ]
    if broken:
        raise ModelError(
            f"{index} {number}: expected finite losses, received: {', '.join(broken)} not finite; "
            "start another run with another --seed"
        )


class Stopwatch:
    """Seconds of training, over all resumptions: ``seconds`` is a variable to keep in the checkpoint."""

    def __init__(self) -> None:
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="seconds")
        self._begin = time.monotonic()

    def start(self) -> None:
        self._begin = time.monotonic()

    def lap(self) -> float:
        """Adds the time since the last lap, and returns the sum."""
        now = time.monotonic()
        self.seconds.assign_add(now - self._begin)
        self._begin = now
        return float(self.seconds.numpy())


class StepCallback(keras.callbacks.Callback):
    """Calls ``action(step)`` at ``last`` and at the multiples of each ``every``; the model counts them in ``model.step``."""

    def __init__(self, action: Callable[[int], None], last: int, *every: int) -> None:
        super().__init__()
        self._action, self._last, self._every = action, last, every

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        step = int(self.model.step.numpy())
        if step == self._last or any(step % every == 0 for every in self._every):
            self._action(step)


class BestWeights:
    """Keeps the weights that a network had at its best step or epoch.

    Unlike ``keras.callbacks.EarlyStopping`` it holds its state in ``variables``, so that a resumed run keeps the same ones.

    Args:
        source: the network to keep a copy of the weights of.
    """

    def __init__(self, source: keras.Model) -> None:
        self._source = source
        self._value = tf.Variable(-np.inf, dtype=tf.float64, trainable=False)
        self._number = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._weights = [tf.Variable(weight.numpy(), trainable=False) for weight in source.weights]

    @property
    def variables(self) -> list[tf.Variable]:
        return [self._value, self._number, *self._weights]

    @property
    def best_step(self) -> int:
        """The step or epoch that the weights are of; 0 before the first update."""
        return int(self._number.numpy())

    def steps_since_best(self, number: int) -> int:
        """Steps or epochs, up to this one, without a better value."""
        return number - self.best_step

    def update(self, number: int, value: float) -> None:
        """Keeps the weights of a step or epoch if its value is the highest so far."""
        if value > float(self._value.numpy()):
            self._value.assign(value)
            self._number.assign(number)
            for kept, weight in zip(self._weights, self._source.weights, strict=True):
                kept.assign(weight.numpy())

    def restore(self) -> None:
        """Gives the network its best weights.

        Raises:
            ModelError: there are none yet.
        """
        if not self.best_step:
            raise ModelError(
                "expected a run that has validated its network, received: one that has not yet; go on with it first"
            )
        self._source.set_weights([weight.numpy() for weight in self._weights])


class Interruption(keras.callbacks.Callback):
    """While it is entered, Ctrl-C or SIGTERM ends ``fit`` after the running step and what is written at it.

    ``save(step)`` is called first, then KeyboardInterrupt is raised. A second signal takes effect at once. Outside the
    main thread, where Python delivers no signals, it does nothing.

    Args:
        save: writes a checkpoint of a step, which the model counts in ``model.step``.
        any_worker: whether any of the processes that train together was asked to stop, by whether this one was.
    """

    def __init__(self, save: Callable[[int], None], any_worker: Callable[[bool], bool] = bool) -> None:
        super().__init__()
        self._save, self._any_worker = save, any_worker
        self._requested = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _request(self, *signal_and_frame: object) -> None:
        self._requested = True
        self.__exit__()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if self._any_worker(self._requested):
            self._save(int(self.model.step.numpy()))
            raise KeyboardInterrupt
