import math
import signal
import threading
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mammogan_tf.errors import ModelError
from mammogan_tf.training.callbacks import (
    BestWeights,
    History,
    Interruption,
    StepCallback,
    Stopwatch,
    require_finite_values,
)


class Counting(keras.Model):
    """Counts its steps and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.step = self.add_weight((), "zeros", dtype="int64", trainable=False, name="step")

    def train_step(self, data):
        self.step.assign_add(1)
        return {"loss": tf.cast(self.step, tf.float32)}


def fit(steps: int, *callbacks: keras.callbacks.Callback) -> int:
    model = Counting()
    model.compile()
    dataset = tf.data.Dataset.from_tensors(0).repeat()
    model.fit(dataset, steps_per_epoch=steps, callbacks=list(callbacks), shuffle=False, verbose=0)
    return int(model.step.numpy())


def test_a_step_callback_acts_each_few_steps_and_at_the_last():
    seen = []
    fit(8, StepCallback(seen.append, 8, 3, 4))
    assert seen == [3, 4, 6, 8]


def test_history_is_written_row_by_row(tmp_path):
    history = History(tmp_path, "step")
    history.record(10, {"loss": 0.1, "dice_lesion": math.nan})
    history.record(20, {"loss": 1 / 3, "dice_lesion": 0.5})
    assert (tmp_path / "history.csv").read_text() == f"step,loss,dice_lesion\n10,0.1,\n20,{1 / 3},0.5\n"
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_resumed_history_ends_with_its_checkpoint_in_the_file_too(tmp_path):
    history = History(tmp_path, "step")
    for step in (10, 20, 30):
        history.record(step, {"loss": step / 3})
    History(tmp_path, "step", resumed_at=20)
    assert (tmp_path / "history.csv").read_text() == f"step,loss\n10,{10 / 3}\n20,{20 / 3}\n"


def test_a_text_is_for_tensorboard(tmp_path):
    history = History(tmp_path, "step")
    history.text("warning", "it collapses", 40)
    history.writer.close()
    (event,) = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tensors("warning")
    assert (event.step, tf.make_ndarray(event.tensor_proto).item()) == (40, b"it collapses")


@pytest.mark.parametrize("text", ["garbage\n1\n", "step;loss\n1;2\n", "\ufeffstep,loss\n1,2\n", "step,loss\n1,abc\n"])
def test_a_history_that_was_changed_is_one_line(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(
        ModelError, match=r"history\.csv: expected the rows that the run wrote, received: others"
    ) as caught:
        History(tmp_path, "step", resumed_at=5)
    assert "\n" not in str(caught.value)


def test_a_history_that_is_gone(tmp_path):
    for resumed_at in (0, 9):
        assert History(tmp_path, "step", resumed_at, first=10).rows == []
    with pytest.raises(
        ModelError, match=r"history\.csv: expected the rows that the run wrote, received: none; put the"
    ):
        History(tmp_path, "step", resumed_at=10, first=10)


def test_a_history_that_is_written_elsewhere(tmp_path):
    History(tmp_path / "run", "step").record(10, {"loss": 1})
    History(tmp_path / "copy", "step", 10, resume_from=tmp_path / "run").record(20, {"loss": 2})
    assert (tmp_path / "run" / "history.csv").read_text() == "step,loss\n10,1.0\n"
    assert (tmp_path / "copy" / "history.csv").read_text() == "step,loss\n10,1.0\n20,2.0\n"


def test_a_resumed_history_is_the_same_to_the_last_bit(tmp_path):
    losses = np.random.default_rng(0).lognormal(sigma=20, size=300)
    history = History(tmp_path, "step")
    for number, loss in enumerate(losses, start=1):
        history.rows.append({"step": number, "loss": float(loss), "val_dice": math.nan})
    history.record(301, {"loss": 1.0, "val_dice": 0.25})
    whole = (tmp_path / "history.csv").read_text()
    history = History(tmp_path, "step", resumed_at=300)
    assert len(history.rows) == 300
    history.record(301, {"loss": 1.0, "val_dice": 0.25})
    assert (tmp_path / "history.csv").read_text() == whole


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    history = History(tmp_path, "step")
    for step in (10, 20, 30):
        history.record(step, {"loss": step})
    history = History(tmp_path, "step", resumed_at=20)
    history.record(30, {"loss": 31})
    assert (tmp_path / "history.csv").read_text() == "step,loss\n10,10.0\n20,20.0\n30,31.0\n"
    History(tmp_path, "step", resumed_at=0).record(10, {"loss": 1})
    assert (tmp_path / "history.csv").read_text() == "step,loss\n10,1.0\n"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_refused(tmp_path, value):
    history = History(tmp_path, "epoch")
    with pytest.raises(ModelError, match="epoch 3: expected finite losses, received: val_loss not finite; start"):
        history.record(3, {"loss": 1.0, "val_loss": value})
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.parametrize("name", ["dice_lesion", "val_dice_lesion"])
def test_a_dice_of_nothing_is_no_failure(name):
    require_finite_values("epoch", 1, {name: math.nan})
    with pytest.raises(ModelError):
        require_finite_values("epoch", 1, {name: math.inf})


def shown_by_tensorboard(history: History) -> list[tuple[int, Any]]:
    """Step and value of all that was written."""
    history.writer.flush()
    (file,) = history._folder.iterdir()
    events = tf.compat.v1.train.summary_iterator(str(file))
    return [(event.step, value) for event in events for value in event.summary.value]


def test_pictures_go_to_tensorboard(tmp_path):
    history = History(tmp_path, "step")
    history.picture("samples", np.zeros((4, 4, 3), np.uint8), 7)
    assert [(step, value.tag) for step, value in shown_by_tensorboard(history)] == [(7, "samples")]


def test_every_row_goes_to_tensorboard_at_its_step(tmp_path):
    history = History(tmp_path, "step")
    history.record(10, {"loss": 0.5, "kid": 3.0})
    history.record(20, {"loss": 0.25, "kid": 2.0})
    shown = [(step, value.tag, tf.make_ndarray(value.tensor).item()) for step, value in shown_by_tensorboard(history)]
    assert shown == [(10, "loss", 0.5), (10, "kid", 3.0), (20, "loss", 0.25), (20, "kid", 2.0)]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"tensorboard: expected to write there, received: .+; free some") as caught:
        History(tmp_path, "step")
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_is_one_line(tmp_path, monkeypatch):
    def fill_up(name, value):
        raise tf.errors.ResourceExhaustedError(None, None, "{{node}} events.v2; No space left on device\n\tat a flush")

    history = History(tmp_path, "step")
    monkeypatch.setattr(tf.summary, "scalar", fill_up)
    with pytest.raises(ModelError, match=r"received: No space left on device; free some space .* --resume$"):
        history.record(1, {"loss": 0.5})


def test_a_stopwatch_goes_on_from_its_variable(monkeypatch):
    times = iter([100.0, 103.0, 107.0, 200.0, 201.0])
    monkeypatch.setattr("mammogan_tf.training.callbacks.time.monotonic", lambda: next(times))
    watch = Stopwatch()
    assert watch.lap() == 3
    watch.start()
    watch.seconds.assign(50)
    assert watch.lap() == 50 + (200 - 107)
    assert float(watch.seconds) == watch.lap() - (201 - 200)


@pytest.fixture
def network():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.set_weights([np.array([[0.0]]), np.array([0.0])])
    return network


def epochs(best: BestWeights, network: keras.Model, *values: float, begin: int = 0) -> list[int]:
    """Runs epochs with these values, and their number for a weight; returns how long each is without a better one."""
    waited = []
    for epoch, value in enumerate(values, start=begin + 1):
        network.set_weights([np.array([[float(epoch)]]), np.array([0.0])])
        best.update(epoch, value)
        waited.append(best.steps_since_best(epoch))
    return waited


def test_the_first_of_the_best_weights_is_kept(network):
    best = BestWeights(network)
    assert epochs(best, network, 0.1, 0.5, 0.5, math.nan, 0.4) == [0, 0, 1, 2, 3]
    assert best.best_step == 2
    best.restore()
    assert network.get_weights()[0].item() == 2


def test_a_better_epoch_ends_the_wait(network):
    best = BestWeights(network)
    assert epochs(best, network, 0.5, 0.4, 0.6, math.nan, 0.6) == [0, 1, 0, 1, 2]
    assert best.best_step == 3


def test_a_resumed_run_keeps_the_same_weights(network):
    first, resumed = BestWeights(network), BestWeights(network)
    epochs(first, network, 0.3, 0.5, 0.4)
    for target, source in zip(resumed.variables, first.variables, strict=True):
        target.assign(source)
    assert resumed.steps_since_best(3) == 1
    assert epochs(resumed, network, 0.4, 0.5, begin=3) == [2, 3]
    assert resumed.best_step == 2
    resumed.restore()
    assert network.get_weights()[0].item() == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_all_that_a_step_writes_and_a_checkpoint(number):
    before, written = signal.getsignal(number), []

    def act(step):
        if step == 3:
            signal.raise_signal(number)
        written.append(step)

    with (
        Interruption(lambda step: written.append(f"checkpoint {step}")) as interruption,
        pytest.raises(KeyboardInterrupt),
    ):
        fit(9, StepCallback(act, 9, 1), interruption)
    assert written == [1, 2, 3, "checkpoint 3"]
    assert signal.getsignal(number) is before


def test_a_second_signal_takes_effect_at_once():
    written = []

    def act(step):
        signal.raise_signal(signal.SIGINT)
        written.append(step)
        signal.raise_signal(signal.SIGINT)
        written.append("not reached")

    with Interruption(written.append) as interruption, pytest.raises(KeyboardInterrupt):
        fit(9, StepCallback(act, 9, 1), interruption)
    assert written == [1]


def test_a_signal_to_another_process_ends_this_one_too():
    written = []
    with Interruption(written.append, lambda requested: True) as interruption, pytest.raises(KeyboardInterrupt):
        fit(9, interruption)
    assert written == [1]


def test_undisturbed_and_in_another_thread():
    results = []

    def work() -> None:
        with Interruption(results.append) as interruption:
            results.append(fit(2, interruption))

    before = signal.getsignal(signal.SIGINT)
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [2, 2]
    assert signal.getsignal(signal.SIGINT) is before
