"""Trainings in processes of their own that end at a chosen moment, and what they leave behind.

A moment is the n-th time that the process touches a file of its run: opens, renames or removes it, or changes its mode.
"""

import itertools
import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np

__all__ = ["final_weights", "train"]

TOUCHES = ("open", "os.rename", "os.remove", "os.chmod")

FORKS = get_context("forkserver")
"""Its server imports TensorFlow once; each training is a fork of it."""

FORKS.set_forkserver_preload(["mammogan_tf.training.gan"])


def train(run_path: Path, ending: signal.Signals | None = None, moment: int = 0) -> tuple[int, int]:
    """Begins or resumes a run in another process and sends it a signal at a moment.

    Returns:
        Its exit code as ``multiprocessing`` gives it, or 130 where Ctrl-C ended it, and the number of moments it lived.
    """
    moments = FORKS.Value("i", 0)
    process = FORKS.Process(target=_train, args=(run_path, ending, moment, moments))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, moments.value


def _train(run_path: Path, ending: signal.Signals | None, moment: int, moments: "Synchronized[int]") -> None:
    from mammogan_tf.console import Console
    from mammogan_tf.data.sources import load_all
    from mammogan_tf.training.gan import train_gan
    from mammogan_tf.training.run import Run
    from mammogan_tf.training.segmentation import train_unet

    counter = itertools.count(1)

    def touched(event: str, arguments: tuple) -> None:
        if event in TOUCHES and str(arguments[0]).startswith(str(run_path)):
            moments.value = next(counter)
            if ending is not None and moments.value == moment:
                os.kill(os.getpid(), ending)

    run = Run.open(run_path)
    films = load_all(run.data)
    sys.addaudithook(touched)
    try:
        (train_unet if run.command == "train-unet" else train_gan)(run, films, Console(quiet=True))
    except KeyboardInterrupt:
        sys.exit(130)


def final_weights(run_path: Path) -> dict[str, np.ndarray]:
    """Everything in the last checkpoint but the seconds that the training took and the number of checkpoints."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run_path / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("state/")]
    values = {name: reader.get_tensor(name) for name in names}
    return {name: value for name, value in values.items() if value.dtype != np.float64 or value.shape}
