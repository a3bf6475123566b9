"""Runs that are killed again and again, at random moments: some minutes, with MAMMOGAN_TEST_KILLS=<how often>."""

import os
import signal

import numpy as np
import pytest

from mammogan_tf.config import GANConfig, UNetConfig, preset
from mammogan_tf.data.sources import load_all
from mammogan_tf.training.conditioning import create_gan_run
from mammogan_tf.training.segmentation import create_unet_run
from tests.disturbed import assert_same_end, train

KILLS = int(os.environ.get("MAMMOGAN_TEST_KILLS", "0"))

pytestmark = pytest.mark.skipif(not KILLS, reason="takes minutes: set MAMMOGAN_TEST_KILLS to a number of kills")


def gan(tmp_path, films, data):
    changes = {"masks": "annotation", "deterministic": True, "steps": 40, "checkpoint_every": 3, "sample_every": 7}
    return create_gan_run(tmp_path, preset(GANConfig, "tiny", changes), films, [data]).path


def unet(tmp_path, films, data):
    return create_unet_run(
        tmp_path, preset(UNetConfig, "tiny", {"deterministic": True, "epochs": 10}), films, [data]
    ).path


@pytest.mark.parametrize("make", [gan, unet])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(make, seed, tmp_path, phantom_root):
    films = load_all([phantom_root])
    undisturbed, disturbed = (make(tmp_path, films, phantom_root) for _ in range(2))
    code, moments = train(undisturbed)
    assert code == 0
    random = np.random.default_rng(seed)
    for _ in range(KILLS):
        ending = random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        train(disturbed, signal.Signals(ending), moment=int(random.integers(2, moments // 2)))
    assert train(disturbed)[0] == 0
    assert_same_end(undisturbed, disturbed)
