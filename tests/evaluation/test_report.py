import dataclasses
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import CrossValidationConfig, DataConfig, GANConfig, UNetConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.label_maps import save_label_map
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.splits import split_patients
from mammogan_tf.errors import DataError, ModelError
from mammogan_tf.evaluation.compare import read_report
from mammogan_tf.evaluation.reference import evaluators_folder, prepare_reference
from mammogan_tf.evaluation.report import _require_trained_on, evaluate, evaluate_images
from mammogan_tf.evaluation.writing import write_card
from mammogan_tf.files import read_json, write_json
from mammogan_tf.pictures import save_picture
from mammogan_tf.training.card import with_measured
from mammogan_tf.training.conditioning import with_condition_masks
from mammogan_tf.training.run import Run, patient_digits
from mammogan_tf.training.split_films import load_split, mean_grey
from tests.report_schema import SCHEMA

DATA = DataConfig(size=16, test=0.3)
EVALUATOR_CONFIG = UNetConfig(widths=(4, 8), epochs=1, batch_size=4, seed=1)


@pytest.fixture(scope="module")
def films(phantom_root) -> list[Film]:
    return load_mias(phantom_root)


@pytest.fixture(scope="module")
def run(films, tmp_path_factory) -> Run:
    """A finished run whose generator is as it was initialised."""
    from mammogan_tf.models.dcgan import build_critic, build_generator

    config = GANConfig(data=DATA, masks="annotation")
    split = split_patients(films, DATA.validation, DATA.test)
    made = Run.create(tmp_path_factory.mktemp("runs"), config, split, [films[0].path.parent])
    made.write_json(
        "report.json",
        {
            "films": {"train": 16, "validation": 2, "test": 6, "variants": 0},
            "best_step": 4,
            "seconds": 1.0,
            "last": {"step": 4},
        },
    )
    training = with_condition_masks(made, load_split(made, films)[0]).cropped()
    label_maps = training.label_maps.copy()
    label_maps[0, 0, 0] ^= 1  # As by a U-Net on another device, which rounds otherwise.
    np.savez_compressed(made.masks_path, label_maps=label_maps, labels=training.labels, ids=np.array(training.names))
    build_critic(16, widths=(4, 4, 4)).save(made.path / "critic.keras")
    build_generator(16, z_dim=4, widths=(4, 4, 4)).save(made.model_path)
    return made


@pytest.fixture(scope="module")
def evaluated(run, films, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("report")
    return out, evaluate(run, films, out, count=20, evaluator_config=EVALUATOR_CONFIG, console=Console(quiet=True))


def test_the_report_is_complete(evaluated, run, films):
    out, report = evaluated
    assert report == json.loads((out / "report.json").read_text())
    assert report["step"] == 4
    jsonschema.validate(report, SCHEMA)
    test_films = len(run.split.test)
    images = test_films * round(20 / test_films)
    assert report["synthetic"] == {"images": images, "seed": 0, "tied": True, "masks_of_training": 0}
    assert report["films"] == {"train": len(run.split.train), "test": test_films, "test_patients": test_films // 2}
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > sheet.height / 3
    assert report["measures"]["memorisation"]["neighbour_ratio_pixels"]["value"] > 0
    assert report["segmented_by"] == "the evaluation U-Net"
    assert "## Does the generator copy its training films?" in (out / "report.md").read_text()
    assert (out / "report.html").read_text().count("<img") > 8
    without = read_report(out).without["obedience"]["dice_breast"]
    assert without.keys() == {patient_digits(film.patient) for film in films if film.id in run.split.test}


def test_the_schema_is_a_schema_and_refuses_what_is_wrong(evaluated):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    broken = json.loads(json.dumps(evaluated[1]))
    del broken["measures"]["obedience"]["dice_breast"]["low"]
    broken["measures"]["obedience"].pop("dice_dense")["without"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)
    broken = json.loads(json.dumps(evaluated[1]))
    broken["measures"]["obedience"]["dice_breast"]["without"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_the_model_card_says_what_was_measured(evaluated, run):
    card = (run.path / "MODEL_CARD.md").read_text()
    assert "## Measured\n\n" in card
    assert "| obedience: Breast: Dice | 0." in card
    assert "Never for diagnosis" in card


def test_a_killed_report_leaves_no_half_one(evaluated, run, films, monkeypatch):
    out, report = evaluated

    def killed(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr("mammogan_tf.evaluation.writing.write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, films, out, count=20, evaluator_config=EVALUATOR_CONFIG, console=Console(quiet=True))
    assert not (out / "report.json").exists()
    write_json(out / "report.json", report)


@pytest.mark.slow
def test_another_report_on_these_films_trains_no_new_evaluator_and_says_the_same(evaluated, run, films, tmp_path):
    out, report = evaluated
    networks = {path: path.stat().st_mtime_ns for path in evaluators_folder().rglob("model.keras")}
    assert networks
    card = run.card_path.read_text()
    run.card_path.write_text(f"{card}\n## Ours\n\nkept\n")
    again = evaluate(run, films, tmp_path, count=20, evaluator_config=EVALUATOR_CONFIG, console=Console(quiet=True))
    assert again == report
    assert run.card_path.read_text() == f"{card}\n## Ours\n\nkept\n"
    assert networks == {path: path.stat().st_mtime_ns for path in evaluators_folder().rglob("model.keras")}
    assert not [*out.rglob("model.keras")]


def test_an_evaluator_that_is_broken_is_made_again(run, films, tmp_path):
    arguments = films, DATA, run.split, run.data, tmp_path, EVALUATOR_CONFIG, Console(quiet=True)
    evaluator = prepare_reference(*arguments).evaluator
    network = evaluator.model_path.read_bytes()
    evaluator.model_path.write_bytes(network[:100])
    assert prepare_reference(*arguments).evaluator.path == evaluator.path
    assert len(evaluator.model_path.read_bytes()) == len(network)
    config = read_json(evaluator.path / "config.json")
    write_json(evaluator.path / "config.json", config | {"an_option": "of other sources"})
    assert prepare_reference(*arguments).evaluator.path.name == "00002"


def test_a_run_without_card_and_report_gets_no_card(run, tmp_path, capsys):
    broken = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    broken.card_path.unlink(missing_ok=True)
    broken.report_path.write_text("{")
    write_card(broken, {}, Console())
    assert "the model card stays as it was (Expecting property name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("# A\n\n## Measured\n\nNot yet.\n\n## Use\n\nNone.\n", "# A\n\n## Measured\n\n0.5\n\n## Use\n\nNone.\n"),
        ("# A\n\n## Measured\n\nNot yet.\n", "# A\n\n## Measured\n\n0.5\n"),
        ("# A\n\n## Use\n\nNone.\n", "# A\n\n## Use\n\nNone.\n\n## Measured\n\n0.5\n"),
        ("# A\n\n## Measured \n## Use\n\nNone.\n", "# A\n\n## Measured\n\n0.5\n\n## Use\n\nNone.\n"),
        ("# A\n\n## Measured", "# A\n\n## Measured\n\n0.5\n"),
        ("## Measured\n\nNot yet.\n\n# Ours\n", "## Measured\n\n0.5\n\n# Ours\n"),
        ("# A\n\n### Measured\n\nBy us.\n", "# A\n\n### Measured\n\nBy us.\n\n## Measured\n\n0.5\n"),
    ],
)
def test_a_card_keeps_all_else_than_what_was_measured(card, expected):
    assert with_measured(card, "## Measured\n\n0.5") == expected


def test_films_that_the_run_was_not_trained_on_are_refused(run, films, tmp_path):
    others = [dataclasses.replace(film, path=other.path) for film, other in zip(films, reversed(films), strict=True)]
    with pytest.raises(
        DataError, match="films and masks that it was trained on, received: others under the same names"
    ):
        evaluate(run, others, tmp_path / "out", evaluator_config=EVALUATOR_CONFIG, console=Console(quiet=True))
    for number in range(2):
        save_picture(tmp_path / "images" / f"{number}.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(DataError, match="films and masks that it was trained on"):
        evaluate_images(tmp_path / "images", None, others, run.data, tmp_path / "out", like=run)
    assert not (tmp_path / "out").exists()


def test_films_that_were_brighter_when_they_were_trained_on_are_refused(run, films, tmp_path):
    """As after another export of the same films, with drawn masks that are as they were."""
    copy = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    grey = float(load_split(copy, films)[0].cropped().raw.mean())
    for shift, refused in ((0.5, False), (3.0, True)):
        write_json(copy.report_path, copy.ended_with | {"mean_grey": grey + shift})
        with pytest.raises(DataError, match="films and masks that it was trained on") if refused else nullcontext():
            _require_trained_on(copy, films, Console(quiet=True))


def test_images_are_not_compared_with_films_that_the_unet_was_not_trained_on(run, films, tmp_path):
    unet = Run.create(tmp_path, dataclasses.replace(EVALUATOR_CONFIG, data=DATA), run.split, run.data)
    grey = mean_grey(load_split(unet, films)[0])
    for shift, refused in ((0.5, False), (3.0, True)):
        unet.write_json("report.json", {"mean_grey": grey + shift})
        with pytest.raises(DataError, match="films and masks that it was trained on") if refused else nullcontext():
            _require_trained_on(unet, films, Console(quiet=True))


@pytest.mark.parametrize("place", ["images", "masks", "data"])
def test_a_report_has_a_folder_of_its_own(place, films, tmp_path):
    for number in range(2):
        save_picture(tmp_path / "images" / f"{number}.png", np.zeros((16, 16), np.uint8))
        save_label_map(tmp_path / "masks" / f"{number}.png", np.zeros((16, 16), np.uint8))
    out = films[0].path.parent if place == "data" else tmp_path / place
    before = sorted(out.iterdir())
    with pytest.raises(DataError, match=f"{out}: expected a folder without the films, received: that of {out}/"):
        evaluate_images(tmp_path / "images", tmp_path / "masks", films, [], out)
    assert sorted(out.iterdir()) == before


def test_where_no_report_can_be_written_no_evaluator_is_trained(run, films, tmp_path, monkeypatch):
    monkeypatch.setattr("mammogan_tf.evaluation.report.prepare_reference", None)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        evaluate(run, films, tmp_path / "file" / "report", console=Console(quiet=True))


@pytest.mark.slow
def test_an_evaluator_is_of_the_films_as_they_are(run, films, tmp_path):
    arguments = DATA, run.split, run.data, tmp_path, EVALUATOR_CONFIG, Console(quiet=True)
    index = next(number for number, film in enumerate(films) if film.id in run.split.train and film.lesions)
    others = [*films]
    others[index] = dataclasses.replace(films[index], lesions=())
    first, second, again = (prepare_reference(known, *arguments).evaluator for known in (films, others, films))
    assert first.path == again.path
    assert first.path != second.path


def test_another_kind_of_run_is_refused(run, films, tmp_path):
    unet = Run.create(tmp_path, EVALUATOR_CONFIG, run.split, [tmp_path])
    unfinished = Run.create(tmp_path, run.config, run.split, [tmp_path])
    for wrong, says in (
        (unet, "a train-unet run$"),
        (unfinished, rf"one without model\.keras; go on with: mammogan-tf train-gan --resume {unfinished.path}$"),
    ):
        with pytest.raises(ModelError, match=f"expected a finished train-gan run, received: {says}"):
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
    with pytest.raises(DataError, match="expected each patient in one part"):
        evaluate(broken, films, tmp_path)


def test_too_few_test_patients(run, films, tmp_path):
    narrow = dataclasses.replace(run.split, test=run.split.test[:2])
    with pytest.raises(DataError, match="3 patients or more, received: 1"):
        evaluate(Run(run.path, run.command, run.config, narrow, run.data), films, tmp_path)


@pytest.fixture
def images(tmp_path) -> Path:
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(0, 255, (16, 16), dtype=np.uint8)
        save_picture(tmp_path / "images" / f"{number}.png", pixels)
    return tmp_path / "images"


def test_a_folder_of_images(run, films, images, tmp_path):
    report = evaluate_images(
        images,
        None,
        films,
        run.data,
        tmp_path / "out",
        like=run,
        evaluator_config=EVALUATOR_CONFIG,
        console=Console(quiet=True),
    )
    jsonschema.validate(report, SCHEMA)
    assert (report["kind"], report["masks"], report["synthetic"]["images"]) == ("images", "none", 12)
    assert not report["synthetic"]["tied"]
    assert "no masks" in report["measures"]["obedience"]["dice_breast"]["not computed"]
    assert report["measures"]["distribution"]["kid_segmenter"]["value"] > 0
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_images_beside_a_unet_that_sees_films_as_they_are(run, films, tmp_path):
    data = dataclasses.replace(DATA, keep_background=True)
    unet = Run.create(tmp_path, UNetConfig(data=data), run.split, run.data)
    handed_out = load_films(films, DATA.size).select(run.split.train)
    for name, pixels in zip(handed_out.names, handed_out.raw, strict=True):
        save_picture(tmp_path / "images" / f"{name}.png", pixels)
    report = evaluate_images(
        tmp_path / "images",
        None,
        films,
        run.data,
        tmp_path / "out",
        unet,
        evaluator_config=EVALUATOR_CONFIG,
        console=Console(quiet=True),
    )
    assert report["measures"]["memorisation"]["neighbour_ratio_pixels"]["value"] == 0


def test_images_beside_a_cross_validation(run, films, images, tmp_path):
    folds = Run.create(tmp_path, CrossValidationConfig(), run.split, run.data)
    with pytest.raises(ModelError, match="--split-of: expected a train-unet or train-gan run, received: a cross-val"):
        evaluate_images(images, None, films, run.data, tmp_path / "out", like=folds)
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_than_the_run(run, films, tmp_path):
    for number in range(2):
        save_picture(tmp_path / "images" / f"{number}.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(DataError, match="expected images of 16 pixels"):
        evaluate_images(tmp_path / "images", None, films, run.data, tmp_path / "out", like=run)
    assert not (tmp_path / "out").exists()
