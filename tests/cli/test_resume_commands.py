"""``train-unet`` and ``train-gan``: on after an interruption."""

import shutil
import signal

import pandas as pd
import pytest
from PIL import Image, ImageOps

from mammogan_tf.files import locked
from mammogan_tf.training.run import Run
from tests.command_line import assert_one_line, call, fails, little_room, start, unfinished_files


@pytest.mark.parametrize(
    ("option", "received"),
    [
        ("--gp=3", "--gp 3.0 (the run has 10.0)"),
        ("--seed=1", "--seed 1 (the run has 0)"),
        ("--size=32", "--size 32 (the run has 16)"),
        ("--split-seed=1", "--split-seed 1 (the run has 0)"),
        ("--precision=mixed_float16", "--precision mixed_float16 (the run has auto)"),
        ("--batch-size=8", "--batch-size 8 (the run has 4)"),
        ("--deterministic", "--deterministic True (the run has False)"),
        ("--preset=tiny", "--preset;"),
        ("--workdir=.", "--workdir;"),
    ],
)
def test_a_resumed_run_keeps_its_options(gan_run, option, received):
    same = ["--n-critic", 2, "--steps", 4, "--fast"]
    fails("train-gan", "--resume", gan_run, *same, option, says=f"--resume ... received: {received}", status=2)


def test_a_resumed_run_takes_nothing_from_a_file(gan_run, tmp_path):
    (tmp_path / "run.yaml").write_text("gp: 3\n")
    options = ["--resume", gan_run, "--config", tmp_path / "run.yaml"]
    fails("train-gan", *options, says="--resume ... received: --gp 3.0 (the run has 10.0)", status=2)


@pytest.mark.slow
def test_a_run_resumes_with_the_file_that_it_began_with(phantom_root, unet_run, tmp_path):
    unet = shutil.copytree(unet_run, tmp_path / "unet")
    (tmp_path / "run.yaml").write_text(
        f"preset: tiny\nworkdir: {tmp_path}\nunet: {unet}\ndata: {phantom_root}\nsteps: 1\n"
    )
    options = ["train-gan", "--config", tmp_path / "run.yaml"]
    assert call(*options).exit_code == 0
    shutil.rmtree(unet)  # The run has a copy of what it needs.
    assert call(*options, "--resume", tmp_path / "train-gan" / "00001").exit_code == 0


@pytest.mark.parametrize("run", ["unet_run", "gan_run"])
def test_a_run_does_not_go_on_with_other_test_films(run, phantom_root, request, tmp_path):
    """Its report would be of them."""
    run = Run.open(shutil.copytree(request.getfixturevalue(run), tmp_path / "run"))
    others = shutil.copytree(phantom_root, tmp_path / "others")
    film = next(others.glob(f"{run.split.test[0]}.*"))
    with Image.open(film) as image:
        picture = ImageOps.flip(image)
    picture.save(film)
    before = run.ended_with
    fails(run.command, "--resume", run.path, "--data", others, says="began with, films ... put them back", status=2)
    assert run.ended_with == before


def test_only_a_run_that_is_resumed_can_be_finished(phantom_root):
    for command in ("train-unet", "train-gan"):
        fails(command, "--data", phantom_root, "--finish", says="--finish: expected the run ... --resume RUN", status=2)


def test_a_fold_of_a_cross_validation_is_not_finished_alone(unet_run, tmp_path):
    fold = shutil.copytree(unet_run, tmp_path / "train-unet" / "00001")
    (tmp_path / "config.json").write_text("{}")
    fails(
        "train-unet",
        "--resume",
        fold,
        "--finish",
        says="--finish: expected a run of its own, received: a part",
        status=2,
    )


@pytest.mark.slow
def test_an_interrupted_training_ends_where_it_is_told_to(phantom_root, tmp_path):
    options = ["--data", phantom_root, "--workdir", tmp_path, "--preset", "tiny", "--epochs", 500, "--patience", 500]
    run = tmp_path / "train-unet" / "00001"
    interrupt(
        "train-unet", *options, by=signal.SIGINT, says="stopped ... or end it here with --finish too, once", at="epoch "
    )
    result = call("train-unet", "--resume", run, "--finish")
    assert result.exit_code == 0, result.stderr
    history = pd.read_csv(run / "history.csv")
    assert 1 <= len(history) < 500
    assert f"best epoch {history['epoch'][history['val_dice'].idxmax()]}\n" in result.stdout
    assert Run.open(run).finished


def test_only_a_run_of_the_command_can_be_resumed(unet_run, gan_run, tmp_path):
    fails("train-gan", "--resume", unet_run, says="expected a train-gan run, received: a train-unet", status=2)
    fails("train-unet", "--resume", gan_run, says="expected a train-unet run, received: a train-gan", status=2)
    fails("train-unet", "--resume", tmp_path, says="expected a run directory, received: one without config.json")


def test_a_run_is_trained_by_one_process_at_a_time(gan_run):
    with locked(gan_run, AssertionError()):
        fails(
            "train-gan",
            "--resume",
            gan_run,
            says=f"{gan_run}: expected that nothing else trains this run, received: ano",
        )
    assert call("train-gan", "--resume", gan_run).exit_code == 0


@pytest.mark.slow
def test_interrupted_by_ctrl_c_and_by_sigterm_it_resumes_and_ends(phantom_root, unet_run, tmp_path):
    steps = 200
    options = ["--data", phantom_root, "--unet", unet_run, "--workdir", tmp_path, "--preset", "tiny"]
    run = tmp_path / "train-gan" / "00001"
    one_checkpoint = ["--steps", steps, "--checkpoint-every", steps, "--sample-every", steps]
    interrupt("train-gan", *options, *one_checkpoint, by=signal.SIGINT, says=f"stopped ... train-gan --resume {run}")
    first = checkpointed_step(run)
    interrupt("train-gan", "--resume", run, by=signal.SIGTERM, says=f"stopped ... train-gan --resume {run}")
    assert 10 <= first < checkpointed_step(run) < steps
    assert not (run / "model.keras").exists()

    result = call("train-gan", "--resume", run)
    assert result.exit_code == 0
    assert f"trained {steps} steps" in result.stdout
    assert list(pd.read_csv(run / "history.csv")["step"]) == list(range(10, steps + 1, 10))
    assert Run.open(run).finished
    assert not unfinished_files(tmp_path)


def interrupt(*arguments, by: signal.Signals, says: str, at: str = "step ") -> None:
    """Starts a training and sends it a signal once it counts steps, or epochs."""
    process = start(*arguments)
    try:
        for line in process.stderr:
            if line.startswith(at):
                break
        process.send_signal(by)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert_one_line(stderr, says)


def checkpointed_step(run) -> int:
    return max(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


@pytest.mark.slow
def test_on_a_full_disk_it_stops_and_resumes_when_there_is_room(phantom_root, tmp_path):
    options = ["--preset", "tiny", "--data", phantom_root, "--workdir", tmp_path]
    run = tmp_path / "train-unet" / "00001"
    with little_room(20_000):
        fails("train-unet", *options, says="checkpoints: expected room for a checkpoint, received: ... --resume")
    assert not unfinished_files(tmp_path)
    with little_room(60_000):
        fails("train-unet", "--resume", run, says="expected to write there ... free some space")
    assert not (run / "model.keras").exists()
    assert not unfinished_files(tmp_path)
    assert call("train-unet", "--resume", run).exit_code == 0
    assert (run / "model.keras").exists()
