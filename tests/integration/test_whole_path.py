"""From films to a synthetic film served over gRPC, command by command, at the smallest size."""

import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.data.label_maps import read_label_map
from tests.command_line import call, start, unfinished_files

SIZE = 16


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def done(*arguments: object) -> str:
    """Runs a command that must succeed, and returns what it prints."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def models(work, phantom_root) -> tuple[Path, Path]:
    """Trains both networks as a user does; the GAN finds the U-Net by itself."""
    options = ["--preset", "tiny", "--data", phantom_root, "--workdir", work / "runs"]
    done("train-unet", *options)
    done("train-gan", "--gp", 10, *options)
    return work / "runs" / "train-unet" / "00001", work / "runs" / "train-gan" / "00001"


@pytest.fixture(scope="module")
def exports(work, models) -> Path:
    printed = done("export", *models, "--to", work / "saved_models")
    assert printed.splitlines() == [
        str(work / "saved_models" / name / "1") for name in ("unet", "generator", "synthesize")
    ]
    return work / "saved_models"


@pytest.fixture(scope="module")
def address(exports):
    """Where ``serve`` says that it serves; it ends on SIGTERM with status 0."""
    process = start("serve", "--models", exports, "--port", 0, "--engine", "embedded")
    try:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Serving generator 1, synthesize 1, unet 1 on (127\.0\.0\.1:\d+) \(embedded\); Ctrl-C ends\n", line
        )
        assert found, line
        yield found[1]
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in stderr


def images(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)).astype(int) for path in sorted((folder / "images").iterdir())]


def test_a_run_holds_all_that_the_training_leaves(models):
    for run in models:
        left = {path.name for path in run.iterdir()}
        assert left >= {"config.json", "split.json", "environment.json", "history.csv", "tensorboard", "samples"}
        assert left >= {"checkpoints", "model.keras", "report.json", "MODEL_CARD.md"}
        assert "diagnosis" in (run / "MODEL_CARD.md").read_text()
    assert (models[1] / "unet.keras").exists()
    unet, gan = ((run / "split.json").read_text() for run in models)
    assert unet == gan


def test_a_run_and_its_export_segment_alike(work, models, exports, phantom_root):
    films = [phantom_root / f"mdb{number:03d}.pgm" for number in (1, 2)]
    for name, model in (("run", models[0]), ("export", exports / "unet")):
        done("segment", model, *films, "--out", work / "segmented" / name)
    for film in films:
        run, export = (
            read_label_map(work / "segmented" / name / f"{film.stem}_mask.png") for name in ("run", "export")
        )
        np.testing.assert_array_equal(run, export)


def test_a_run_its_export_and_the_server_draw_the_same_films(work, models, exports, address):
    done("generate", models[1], "--count", 4, "--seed", 7, "--out", work / "run")
    masks = work / "run" / "masks"
    options = ["--masks", masks, "--count", 4, "--seed", 7]
    done("generate", models[1], *options, "--out", work / "again")
    done("generate", exports / "generator", *options, "--out", work / "export")
    done("request", "generate", *options, "--server", address, "--out", work / "served")
    for again, export, served in zip(*(images(work / name) for name in ("again", "export", "served")), strict=True):
        assert again.shape == (SIZE, SIZE)
        np.testing.assert_allclose(export, again, atol=1)
        np.testing.assert_allclose(served, export, atol=1)
    served = pd.read_csv(work / "served" / "manifest.csv")
    assert list(served["seed"]) == [7, 8, 9, 10]
    assert set(served["model"]) == {"generator/1"}
    with Image.open(work / "served" / "images" / "000000.png") as image:
        assert image.text["Synthetic"] == "true"


def test_the_server_segments(work, address, phantom_root):
    done("request", "segment", phantom_root / "mdb001.pgm", "--server", address, "--out", work / "outlined")
    assert read_label_map(work / "outlined" / "mdb001_mask.png").shape == (1024, 1024)


def test_nothing_is_left_half_written(work, models, exports):
    assert not unfinished_files(work)
