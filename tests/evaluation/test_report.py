import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from mammogan_tf.config import DataConfig, GANConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.splits import split_patients
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.evaluation.measures import SECTIONS
from mammogan_tf.evaluation.report import evaluate
from mammogan_tf.training.run import Run

DATA = DataConfig(size=16, test=0.3)
JUDGE = UNetConfig(widths=(4, 8), epochs=1, batch_size=4, seed=1)


@pytest.fixture(scope="module")
def films(phantom_root) -> list[Film]:
    return load_mias(phantom_root)


@pytest.fixture(scope="module")
def run(films, tmp_path_factory) -> Run:
    """A finished run whose generator is as it was initialised."""
    from mammogan_tf.models.dcgan import build_generator

    config = GANConfig(data=DATA, masks="annotation")
    split = split_patients(films, DATA.validation, DATA.test)
    made = Run.create(tmp_path_factory.mktemp("runs"), config, split, [films[0].path.parent])
    build_generator(16, z_dim=4, widths=(4, 4, 4)).save(made.model_path)
    return made


@pytest.fixture(scope="module")
def evaluated(run, films, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("report")
    return out, evaluate(run, films, out, count=20, judge_config=JUDGE, console=Console(quiet=True))


def test_the_report_is_complete(evaluated, run):
    out, report = evaluated
    assert report == json.loads((out / "report.json").read_text())
    assert {s.key: {m.key for m in s.measures} for s in SECTIONS} == {
        section: set(rows) for section, rows in report["measures"].items()
    }
    test_films = len(run.split.test)
    per_mask = round(20 / test_films)
    assert report["synthetic"] == {"images": test_films * per_mask, "per_mask": per_mask, "seed": 0}
    assert report["films"] == {"train": len(run.split.train), "test": test_films, "test_patients": test_films // 2}
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > sheet.height / 3
    assert report["measures"]["memorisation"]["neighbour_ratio"]["value"] > 0


def test_a_second_call_trains_no_new_judge_and_says_the_same(evaluated, run, films):
    out, report = evaluated
    networks = {path: path.stat().st_mtime_ns for path in out.glob("judge/train-unet/*/model.keras")}
    assert len(networks) == 1
    again = evaluate(run, films, out, count=20, judge_config=JUDGE, console=Console(quiet=True))
    assert again == report
    assert networks == {path: path.stat().st_mtime_ns for path in out.glob("judge/train-unet/*/model.keras")}


def test_another_kind_of_run_is_refused(run, films, tmp_path):
    unet = Run.create(tmp_path, JUDGE, run.split, [tmp_path])
    unfinished = Run.create(tmp_path, run.config, run.split, [tmp_path])
    for wrong in (unet, unfinished):
        with pytest.raises(ModelError, match="finished train-gan run"):
            evaluate(wrong, films, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_films_that_the_split_names_must_be_there(run, films, tmp_path):
    gone = run.split.test[0]
    with pytest.raises(DataError, match=f"without {gone};"):
        evaluate(run, [film for film in films if film.id != gone], tmp_path)


def test_test_patients_must_be_unseen(run, films, tmp_path):
    first, *others = run.split.train
    leaky = dataclasses.replace(run.split, train=tuple(others), test=(*run.split.test, first))
    broken = Run(run.path, run.command, run.config, leaky, run.data)
    with pytest.raises(DataError, match="never seen"):
        evaluate(broken, films, tmp_path)


def test_too_few_test_patients(run, films, tmp_path):
    narrow = dataclasses.replace(run.split, test=run.split.test[:2])
    with pytest.raises(DataError, match="3 patients or more, received: 1"):
        evaluate(Run(run.path, run.command, run.config, narrow, run.data), films, tmp_path)
