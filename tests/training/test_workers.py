"""Two processes that train together, by the command, on ports of this machine."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.config import GANConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.sources import load_all
from mammogan_tf.errors import ConfigError, ModelError
from mammogan_tf.training import rendezvous, workers
from mammogan_tf.training.conditioning import create_gan_run
from mammogan_tf.training.rendezvous import wait_for_all
from mammogan_tf.training.strategy import make_strategy
from mammogan_tf.training.workers import any_worker, broadcast_from_chief, cluster, is_chief, shared_run
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


def of(cluster):
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})


def free_addresses(count):
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in free]


def listening(address):
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)))


def start_two(*arguments, second=()):
    """Starts the command twice, as two workers that know each other; the second one with arguments of its own, if any."""
    workers = free_addresses(2)
    configs = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": n}} for n in (0, 1)]
    return [
        start(*each, environment={"TF_CONFIG": json.dumps(config)})
        for each, config in zip((arguments, second or arguments), configs, strict=True)
    ]


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


@pytest.mark.slow
def test_workers_whose_films_differ_are_refused(tmp_path, phantom_root):
    darker = shutil.copytree(phantom_root, tmp_path / "darker")
    film = next(darker.glob("*.pgm"))
    film.write_bytes(film.read_bytes()[:20] + bytes(len(film.read_bytes()) - 20))
    runs = tmp_path / "runs"
    same = ["train-unet", "--preset", "tiny", "--workdir", runs, "--data"]
    processes = start_two(*same, phantom_root, second=(*same, darker))
    outputs = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    for output in outputs:
        assert_one_line(output, "films: expected the same in all workers, received: ... here, another in some")


@pytest.mark.slow
def test_workers_that_see_different_runs_at_one_place_are_refused(tmp_path, phantom_root):
    others = tmp_path / "others"
    config = preset(GANConfig, "tiny", {"masks": "annotation", "split_seed": 5})
    create_gan_run(others, config, load_all([phantom_root]), [phantom_root])
    same = ["train-gan", "--preset", "tiny", "--masks", "annotation", "--data", phantom_root, "--workdir"]
    processes = start_two(*same, tmp_path / "runs", second=(*same, others))
    outputs = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    for output in outputs:
        assert_one_line(output, "00001: expected the run that the chief made, received: another in some workers")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_others_says_so_and_ends_on_a_signal(number, tmp_path, phantom_root):
    first, second = start_two("train-unet", "--data", phantom_root, "--workdir", tmp_path, "--preset", "tiny")
    second.kill()
    second.communicate()
    assert any(line.startswith("waiting for the other workers of TF_CONFIG: 127.0.0.1:") for line in first.stderr)
    first.send_signal(number)
    first.communicate(timeout=30)
    assert first.returncode == 1
    assert not list(tmp_path.iterdir())


def test_a_port_that_another_program_has(monkeypatch):
    with socket.create_server(("", 0)) as taken:
        addresses = [f"127.0.0.1:{taken.getsockname()[1]}", "127.0.0.1:1"]
        monkeypatch.setenv("TF_CONFIG", of({"worker": addresses}))
        with pytest.raises(
            ModelError, match=f"expected a free port for {addresses[0]}, received: Address already in use"
        ):
            make_strategy("multiworker")


def test_all_are_waited_for_and_who_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "PAUSE", 0.05)
    own, there, coming = free_addresses(3)
    monkeypatch.setenv("TF_CONFIG", of({"worker": [own, there, coming]}))
    waiting = threading.Thread(target=wait_for_all, args=[Console()])
    with listening(there):
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    with listening(coming):  # The other one has gone by now.
        waiting.join(0.5)
        assert waiting.is_alive()
        with listening(there):
            waiting.join(10)
            assert not waiting.is_alive()
    said = [f"waiting for the other workers of TF_CONFIG: {who}\n" for who in (coming, there)]
    assert capsys.readouterr().err in ("".join(said), f"{said[0]}{said[0].rstrip()}, {there}\n{said[1]}")


@pytest.mark.slow
def test_no_worker_ends_well_where_the_chief_cannot_end(unet_run, tmp_path):
    run = shutil.copytree(unet_run, tmp_path / "00001")
    for file in ("model.keras", "report.json", "MODEL_CARD.md"):
        (run / file).unlink()
    (run / "MODEL_CARD.md").mkdir()
    (run / "MODEL_CARD.md" / "in the way").touch()
    processes = start_two("train-unet", "--resume", run)
    chief, other = (process.communicate(timeout=120)[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert_one_line(chief, "MODEL_CARD.md: expected to read or write it")
    assert_one_line(other, "expected 2 workers, received: one of them is gone")


def test_options_that_the_devices_cannot_share_leave_no_run(tmp_path, phantom_root):
    refused = start(
        *("train-gan", "--preset", "tiny", "--masks", "annotation", "--data", phantom_root, "--workdir", tmp_path),
        *("--energy-weight", 1, "--batch-size", 5),
    )
    _, stderr = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert_one_line(stderr, "batch_size: expected an even number for each device with an energy score, received: 5")
    assert not list(tmp_path.iterdir())


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
        own = "\n".join(line for line in stderr.splitlines() if line.startswith("Error: "))  # gRPC has its own.
        assert_one_line(own, f"stopped ... train-gan --resume {run}")
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
        ('{"cluster":\n {"worker": ["a:1"}', r'received: \{"cluster": \{"worker": \["a:1"\}$'),
        (of({"worker": "a:1"}), 'lists of addresses such as host:2222, received: {"worker": "a:1"}'),
        (of({"worker": [1, 2]}), r'lists of addresses such as host:2222, received: \{"worker": \[1, 2\]}'),
        (of({"worker": {"0": "a:1"}}), "lists of addresses such as host:2222"),
        (of({"worker": ["a"]}), "lists of addresses such as host:2222"),
        (of({"worker": ["a:99999"]}), "lists of addresses such as host:2222"),
        (of({"worker": ["a..b:1"]}), "lists of addresses such as host:2222"),
        (of({"worker": ["a:1", "a:1"]}), "an address for each task and one chief at most"),
        (of({"chief": ["a:1", "b:1"], "worker": ["c:1"]}), "an address for each task and one chief at most"),
        (of({"master": ["a:1"], "worker": ["b:1"]}), "a cluster of chief and worker, received: master"),
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
        machines = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": []}
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
    assert cluster() == {"chief 0": "a:1", "worker 0": "b:1", "worker 1": "c:1"}


def test_all_processes_get_the_value_of_the_chief_however_many_devices_each_has(together):
    assert broadcast_from_chief(together("chief", 0), 7.0) == 7
    assert broadcast_from_chief(together("worker", 1, chiefs_value=7.0), 3.0) == 7
    assert any_worker(together("worker", 1), True)
    assert not any_worker(together("worker", 1), False)


@pytest.mark.parametrize("resumed", [True, False])
def test_a_worker_that_is_told_to_resume_another_run_than_the_chief_is_refused(together, tmp_path, resumed):
    run = None
    if resumed:
        for name in ("config.json", "split.json"):
            (tmp_path / name).write_text("{}")
        run = SimpleNamespace(path=tmp_path)
    with pytest.raises(
        ModelError, match=f"--resume: expected the same run in all workers, received: {tmp_path if resumed else 'none'}"
    ):
        shared_run(together("worker", 0, chiefs_value=12345.0), run, list, tmp_path)
