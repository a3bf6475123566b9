"""What differs on a GPU. Nobody has run these yet: no machine with one was at hand."""

import subprocess
import sys

import pytest

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.sources import load_all
from mammogan_tf.training.conditioning import create_gan_run
from mammogan_tf.training.gan import train_gan
from mammogan_tf.training.run import Run
from mammogan_tf.training.strategy import choose_precision, make_strategy
from tests.disturbed import final_weights

pytestmark = pytest.mark.gpu


def test_a_command_takes_the_memory_that_it_needs():
    program = """
from mammogan_tf_cli.quiet import import_tensorflow
import_tensorflow()
import tensorflow as tf
print(*map(tf.config.experimental.get_memory_growth, tf.config.list_physical_devices("GPU")))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == {"True"}


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_two_deterministic_runs_are_the_same_bits(precision, tmp_path, phantom_root, unet_run):
    films = load_all([phantom_root])
    config = preset(GANConfig, "tiny", {"deterministic": True, "precision": precision})
    ends = []
    for _ in range(2):
        run = create_gan_run(tmp_path, config, films, [phantom_root], Run.open(unet_run))
        train_gan(run, films, Console(quiet=True), strategy=make_strategy("auto"))
        ends.append({name: value.tobytes() for name, value in final_weights(run.path).items()})
    assert ends[0] == ends[1]
    assert choose_precision("float32") == "float32"
