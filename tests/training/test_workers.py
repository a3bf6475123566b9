"""Two processes that train together, by the command, on ports of this machine."""

import json
import os
import shutil
import signal
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.data.sources import load_all
from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.training import workers
from mammogan_tf.training.conditioning import create_gan_run
from mammogan_tf.training.strategy import make_strategy
from mammogan_tf.training.workers import anywhere, cluster, from_chief, is_chief, one_run
from tests.command_line import assert_one_line, start
from tests.disturbed import final_weights, train

KILLS = os.environ.get("MAMMOGAN_TEST_KILLS")


@pytest.fixture
def make_run(tmp_path, phantom_root):
    def make(steps):
        # Where the critic sees whole grey levels, a sum in another order can tip a pixel over to the next one.
        changes = {"masks": "annotation", "steps": steps, "checkpoint_every": 3, "n_critic": 1, "emphasis": 0.0}
        config = preset(GANConfig, "tiny", changes)
        return create_gan_run(tmp_path, config, load_all([phantom_root]), [phantom_root]).path

    return make


def start_two(*arguments):
    """Starts the command twice, as two workers that know each other."""
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, two)]
    configs = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": n}} for n in (0, 1)]
    return [start(*arguments, environment={"TF_CONFIG": json.dumps(config)}) for config in configs]


@pytest.mark.slow
def test_two_processes_train_as_one_and_end_together(make_run):
    alone, together = make_run(steps=6), make_run(steps=6)
    together = together.rename(together.with_name("a copy"))
    assert train(alone)[0] == 0
    processes = start_two("train-gan", "--resume", together)
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "trained 6 steps" in outputs[0][0]
    assert outputs[1][0] == "", "only the chief reports"
    before, after = final_weights(alone), final_weights(together)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train-gan", "train-unet"])
def test_workers_of_a_finished_run_that_are_started_again_end_well(command, gan_run, unet_run, tmp_path):
    run = shutil.copytree({"train-gan": gan_run, "train-unet": unet_run}[command], tmp_path / "00001")
    processes = start_two(command, "--resume", run)  # As a cluster does that starts all of them again.
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs


def test_a_run_that_the_chief_cannot_make_ends_all_with_one_line(tmp_path, phantom_root):
    options = ["--data", phantom_root, "--workdir", tmp_path, "--preset", "tiny", "--masks", "unet"]
    processes = start_two("train-gan", *options)
    chief, other = (process.communicate(timeout=120)[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert_one_line(
        chief, "masks from a U-Net: expected a finished train-unet or cross-validate run ... run train-unet"
    )
    assert_one_line(other, "expected a run that the chief made, received: none; see what the chief says")


@pytest.mark.skipif(not KILLS, reason="takes a minute: set MAMMOGAN_TEST_KILLS")
def test_a_worker_that_is_killed_ends_the_other_and_both_resume(make_run):
    run = make_run(steps=400)
    chief, other = start_two("train-gan", "--resume", run)
    while not list((run / "checkpoints").glob("step-*")):
        assert chief.poll() is None, chief.communicate()
        time.sleep(0.2)
    other.kill()
    killed_at = time.monotonic()
    _, stderr = chief.communicate(timeout=120)
    seconds = time.monotonic() - killed_at
    print(f"the other ended after {seconds:.1f} s")
    assert seconds < 60
    assert chief.returncode == 1
    assert_one_line(stderr, f"expected 2 workers, received: one of them is gone ... --resume {run}")
    other.communicate()

    first = max(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))
    chief, other = start_two("train-gan", "--resume", run)
    for line in chief.stderr:
        if line.startswith("step "):
            break
    other.send_signal(signal.SIGTERM)
    endings = [process.communicate(timeout=120) for process in (chief, other)]
    for process, (_, stderr) in zip((chief, other), endings, strict=True):
        assert process.returncode == 1
        assert_one_line(stderr, f"stopped ... train-gan --resume {run}")
    assert max(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*")) > first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "multiworker: expected TF_CONFIG such as"),
        ("{", "TF_CONFIG: expected JSON with cluster and task, received: {"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "a task of its cluster .worker 0.",
        ),
    ],
)
def test_no_cluster_to_join(monkeypatch, text, says):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=says):
        make_strategy("multiworker")


@pytest.fixture
def together(monkeypatch):
    """Makes the strategy of one of a chief and two workers, with two devices each; the chief's value is given."""

    def make(kind, index, chiefs_value=0.0):
        machines = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": machines, "task": {"type": kind, "index": index}}))
        monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", SimpleNamespace)
        other = 2 * chiefs_value if kind != "chief" else 0.0
        monkeypatch.setattr(workers, "_sum_over_replicas", lambda strategy, value: 2 * value + other)
        resolver = SimpleNamespace(task_type=kind, task_id=index)
        return SimpleNamespace(num_replicas_in_sync=3 * 2, cluster_resolver=resolver)

    return make


def test_the_first_of_all_tasks_is_the_chief(together):
    tasks = [("chief", 0), ("worker", 0), ("worker", 1)]
    assert [is_chief(together(*task)) for task in tasks] == [True, False, False]
    assert cluster() == ["chief 0", "worker 0", "worker 1"]


def test_all_processes_get_the_value_of_the_chief_however_many_devices_each_has(together):
    assert from_chief(together("chief", 0), 7.0) == 7
    assert from_chief(together("worker", 1, chiefs_value=7.0), 3.0) == 7
    assert anywhere(together("worker", 1), True)
    assert not anywhere(together("worker", 1), False)


@pytest.mark.parametrize("resumed", [True, False])
def test_a_worker_that_is_told_to_resume_another_run_than_the_chief_is_refused(together, tmp_path, resumed):
    run = None
    if resumed:
        (tmp_path / "config.json").write_text("{}")
        run = SimpleNamespace(path=tmp_path)
    with pytest.raises(
        ModelError, match=f"--resume: expected the run of the chief, received: {tmp_path if resumed else 'none'}"
    ):
        one_run(together("worker", 0, chiefs_value=12345.0), run, list, tmp_path)
