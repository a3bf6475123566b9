"""A training that is left at a checkpoint and gone on with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import UNetConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.training.callbacks import StepCallback
from mammogan_tf.training.run import Run
from mammogan_tf.training.segmentation import build_segmentation_trainer
from mammogan_tf.training.session import Session

CONFIG = preset(UNetConfig, "tiny")
SETTINGS = {"epochs": 2}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs", CONFIG, Split(("a",), ("b",), ("c",)), [tmp_path])


def open_session(run: Run, settings=SETTINGS, **options) -> Session:
    keras.utils.set_random_seed(0)
    model = build_segmentation_trainer(CONFIG, steps_per_epoch=2)
    return Session(run, run, model, model.ema_network, settings, Console(quiet=True), keep=2, index="epoch", **options)


def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
    image = tf.random.stateless_uniform([4, 16, 16, 1], [0, 0])
    truth = tf.one_hot(tf.cast(image[..., 0] * 5, tf.int32), 5)
    return tf.data.Dataset.from_tensors((image, truth)).repeat()


def test_a_new_session_begins_at_step_0(run):
    session = open_session(run)
    assert (session.begin, session.best.best_step, session.history.rows, session.seconds) == (0, 0, [], 0)


def test_a_session_goes_on_where_the_last_one_saved(run):
    session = open_session(run, steps_per_row=2)
    session.fit(batches, 4, [])
    for epoch, value in ((1, 0.5), (2, 0.4), (3, 0.9)):
        session.best.update(epoch, value)
        session.history.record(epoch, {"loss": value})
    session.save(4)

    resumed = open_session(run, steps_per_row=2)
    assert resumed.begin == 4
    assert resumed.best.best_step == 3
    assert resumed.seconds == session.seconds > 0
    assert [row["epoch"] for row in resumed.history.rows] == [1, 2]  # The third is after the checkpoint.
    for was, now in zip(session.model.state_variables, resumed.model.state_variables, strict=True):
        np.testing.assert_array_equal(now.numpy(), was.numpy(), err_msg=was.path)


def test_what_training_changes_is_saved_once(run):
    model = open_session(run).model
    saved = [id(variable) for variable in model.state_variables]
    assert len(saved) == len(set(saved))
    changed = *model.network.variables, *model.ema_network.variables, *model.optimizer.variables
    assert {id(variable) for variable in changed} < set(saved)


def test_nothing_is_trained_past_the_last_step(run):
    session, steps = open_session(run), []
    session.fit(batches, 3, [StepCallback(steps.append, 3, 1)])
    session.history.record(1, {"loss": 1.0})
    session.save(3)
    resumed = open_session(run)
    resumed.fit(batches, 3, [StepCallback(steps.append, 3, 1)])
    assert steps == [1, 2, 3]


def test_a_checkpoint_of_other_settings_is_refused(run):
    session = open_session(run)
    session.fit(batches, 1, [])
    session.save(1)
    with pytest.raises(ConfigError, match="expected what the run began with, epochs 2, received: epochs 3"):
        open_session(run, {"epochs": 3})


def test_broken_weights_are_not_saved(run):
    session = open_session(run)
    weight = session.model.network.weights[0]
    weight.assign(np.full(weight.shape, np.nan, np.float32))
    with pytest.raises(ModelError, match="expected finite weights"):
        session.save(1)
    assert not list(run.path.glob("checkpoints/step-*"))
