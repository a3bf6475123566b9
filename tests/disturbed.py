"""Trainings in processes of their own that end at a chosen moment, and what they leave behind.

A moment is the n-th time that the process touches a file of its run: opens, renames or removes it, or changes its mode;
or the end of a step; or that a file has grown to a size, as happens within a checkpoint.
"""

import itertools
import os
import resource
import signal
import sys
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np

from mammogan_tf.training.checkpoint import newest_checkpoint

__all__ = ["assert_same_end", "final_weights", "train"]

TOUCHES = ("open", "os.rename", "os.remove", "os.chmod")

FORKS = get_context("forkserver")
"""Its server imports TensorFlow once; each training is a fork of it."""

FORKS.set_forkserver_preload(["mammogan_tf.training.gan", "mammogan_tf_cli.main"])


def train(
    run_path: Path,
    ending: signal.Signals | None = None,
    *,
    moment: int | None = None,
    step: int | None = None,
    written: int | None = None,
) -> tuple[int, int]:
    """Resumes a run, which may be a new one, by the command in another process.

    Args:
        run_path: the run.
        ending: a signal that it sends itself,
        moment: when it touches a file for the n-th time,
        step: or at the end of this step.
        written: where it is given, the process dies as by SIGKILL when it has written so many bytes of any file.

    Returns:
        Its exit code as ``multiprocessing`` gives it, and the number of moments it lived.
    """
    moments = FORKS.Value("i", 0)
    process = FORKS.Process(target=_train, args=(run_path, ending, moment, step, written, moments))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, moments.value


def _train(
    run_path: Path,
    ending: signal.Signals | None,
    moment: int | None,
    step: int | None,
    written: int | None,
    moments: "Synchronized[int]",
) -> None:
    from mammogan_tf.training.callbacks import Interruption
    from mammogan_tf_cli.main import cli

    counter = itertools.count(1)
    end_of_step = Interruption.on_train_batch_end

    def touched(event: str, arguments: tuple) -> None:
        if event in TOUCHES and str(arguments[0]).startswith(str(run_path)):
            moments.value = next(counter)
            if ending and moments.value == moment:
                os.kill(os.getpid(), ending)

    def stepped(self: Interruption, batch: int, logs: dict | None = None) -> None:
        if ending and int(self.model.step.numpy()) == step:
            os.kill(os.getpid(), ending)
        end_of_step(self, batch, logs)

    sys.addaudithook(touched)
    Interruption.on_train_batch_end = stepped  # type: ignore[method-assign]
    if written is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, so that a write fails instead.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    cli([run_path.parent.name, "--resume", str(run_path)], prog_name="mammogan-tf")


def final_weights(run_path: Path) -> dict[str, np.ndarray]:
    """Everything in the last checkpoint but the seconds that the training took and the number of checkpoints."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(newest_checkpoint(run_path / "checkpoints")))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("state/")]
    values = {name: reader.get_tensor(name) for name in names}
    return {name: value for name, value in values.items() if value.dtype != np.float64 or value.shape}


def assert_same_end(undisturbed: Path, disturbed: Path) -> None:
    """Weights, averages, optimizer state, random states, history, samples and the network of two runs are the same bits."""
    import keras

    assert (disturbed / "history.csv").read_bytes() == (undisturbed / "history.csv").read_bytes()
    before, after = final_weights(undisturbed), final_weights(disturbed)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    for picture in (undisturbed / "samples").iterdir():
        assert (disturbed / "samples" / picture.name).read_bytes() == picture.read_bytes()
    networks = [keras.models.load_model(path / "model.keras", compile=False) for path in (undisturbed, disturbed)]
    for one, other in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(one, other)
