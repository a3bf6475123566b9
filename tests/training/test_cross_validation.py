import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mammogan_tf.config import CrossValidationConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.anatomy import DOUBTFUL
from mammogan_tf.errors import ConfigError, DataError, ModelError
from mammogan_tf.files import locked
from mammogan_tf.training import cross_validation
from mammogan_tf.training.checkpoint import load_network
from mammogan_tf.training.cross_validation import create_cross_validation_run, cross_validate
from mammogan_tf.training.prediction import lesion_probabilities, predict_label_maps
from mammogan_tf.training.run import Run
from mammogan_tf.training.scores import estimate_against_disc, estimate_dice, estimate_lesions

QUIET = Console(quiet=True)


def folds_of(run: Run) -> list[Run]:
    return [Run.open(path) for path in sorted((run.path / "train-unet").iterdir())]


def masks_of(run: Run) -> dict[str, np.ndarray]:
    with np.load(run.masks_path) as masks:
        return dict(masks)


def test_every_film_is_tested_in_one_fold(cross_validated, films):
    assert cross_validated.finished
    assert cross_validated.config.folds == len(folds_of(cross_validated)) == 2
    tested = [id_ for fold in folds_of(cross_validated) for id_ in fold.split.test]
    assert sorted(tested) == sorted(film.id for film in films) == list(cross_validated.split.test)
    for fold in folds_of(cross_validated):
        assert fold.finished
        asked = vars(cross_validated.config)
        assert vars(fold.config) == {name: asked[name] for name in vars(fold.config)}


def test_each_mask_comes_from_the_network_that_never_saw_the_patient(cross_validated, windows):
    masks = masks_of(cross_validated)
    assert tuple(masks["ids"]) == windows.names
    for fold in folds_of(cross_validated):
        network, part = load_network(fold.model_path), windows.select(fold.split.test)
        assert not {*part.patients} & {*windows.select(fold.split.train).patients}
        rows = [list(masks["ids"]).index(name) for name in part.names]
        np.testing.assert_array_equal(masks["label_maps"][rows], predict_label_maps(network, part.cropped().images))
        np.testing.assert_array_equal(masks["anatomy"][rows], predict_label_maps(network, part.images, lesions=False))


def test_the_report_is_over_all_films(cross_validated, windows):
    report = json.loads((cross_validated.path / "report.json").read_text())
    pictures = windows.cropped()
    parts = [(load_network(fold.model_path), pictures.select(fold.split.test)) for fold in folds_of(cross_validated)]
    for name, way in (("cleaned", "images"), ("as_it_is", "raw")):
        maps, probabilities = (
            np.concatenate([look(unet, getattr(part, way)) for unet, part in parts])
            for look in (predict_label_maps, lesion_probabilities)
        )
        assert report["dice"][name] == estimate_dice(pictures, maps)
        assert report["lesions"][name] == estimate_lesions(pictures, maps, probabilities)
        assert report["disc"][name] == estimate_against_disc(pictures, maps)
    assert report["dice"]["cleaned"] != report["dice"]["as_it_is"]
    assert set(report["tissue"]) == {*windows.tissues}
    assert report["films"] == len(windows)
    folds = [json.loads(fold.report_path.read_text()) for fold in folds_of(cross_validated)]
    assert report["seconds"] == pytest.approx(sum(fold["seconds"] for fold in folds), abs=0.05)
    assert report["folds"] == [
        {
            "run": f"train-unet/0000{number}",
            "best_epoch": fold["best_epoch"],
            "seconds": fold["seconds"],
            "dice": fold["dice"]["cleaned"],
        }
        for number, fold in enumerate(folds, start=1)
    ]
    card = (cross_validated.path / "MODEL_CARD.md").read_text()
    assert f"| breast | {report['dice']['cleaned']['breast']['value']:.3f} [" in card
    assert f"| disc | {report['disc']['cleaned']['disc']['value']:.3f} [" in card
    assert "Never for diagnosis" in card
    with Image.open(cross_validated.path / "samples" / "breast.png") as sheet:
        assert sheet.mode == "RGB"


def test_films_of_a_tissue_and_those_with_a_clear_mask_are_evaluated_apart(cross_validated, windows):
    films, found = windows.cropped(), masks_of(cross_validated)["label_maps"]
    films = dataclasses.replace(films, confidences=np.where(np.arange(len(films)) % 3, 1, 0).astype(np.float32))
    report = cross_validation._evaluate(films, {"cleaned": found}, {"cleaned": np.zeros(found.shape)}, "whole")

    def of(chosen):
        rows = np.flatnonzero(chosen)
        return estimate_dice(films._rows(rows.tolist()), found[rows])

    for tissue in {*films.tissues}:
        assert report["tissue"][tissue] == of([each == tissue for each in films.tissues])
    assert report["clear"] == of(films.confidences >= DOUBTFUL) != report["dice"]["cleaned"]


def test_the_worst_films_of_a_region_are_drawn_the_worst_on_top(windows, tmp_path, monkeypatch):
    films = windows.cropped().select(windows.ids[:1] * 10)
    films = dataclasses.replace(films, label_maps=np.ones_like(films.label_maps))
    found = films.label_maps.copy()
    for missed, label_map in enumerate(found):
        label_map[: (3 * missed) % 10] = 0  # Rows: of film 0 none, of film 3 nine.
    drawn = []
    monkeypatch.setattr(cross_validation, "comparison_rows", lambda *sheet: drawn.append(sheet))
    monkeypatch.setattr(cross_validation, "save_picture", lambda path, sheet: drawn.append(path))
    cross_validation._show_worst(tmp_path, films, found)
    place = drawn.index(tmp_path / "breast.png")
    assert [(label_map == 0)[:, 0].sum() for label_map in drawn[place - 1][2]] == [9, 8, 7, 6, 5, 4, 3, 2]


def test_a_unet_of_kept_backgrounds_finds_the_anatomy_of_films_as_they_are(cross_validated, windows, monkeypatch):
    fold, seen = folds_of(cross_validated)[0], []
    fold.config = dataclasses.replace(fold.config, data=dataclasses.replace(fold.config.data, keep_background=True))

    def spy(unet, pictures, lesions=True):
        if not lesions:
            seen.append(pictures)
        return pictures

    monkeypatch.setattr(cross_validation, "predict_label_maps", spy)
    monkeypatch.setattr(cross_validation, "lesion_probabilities", spy)
    cross_validation._predict([fold], windows)
    part = windows.select(fold.split.test)
    np.testing.assert_array_equal(seen, [part.raw])
    assert (part.raw != part.images).any()


def test_several_machines_are_refused(cross_validated, films, monkeypatch):
    monkeypatch.setattr(cross_validation, "num_workers", lambda strategy: 2)
    with pytest.raises(ConfigError, match="cross-validate: expected one machine, received: TF_CONFIG with several"):
        cross_validate(cross_validated, films, QUIET, strategy=tf.distribute.get_strategy())


def test_it_is_trained_by_one_process_at_a_time(cross_validated, films):
    with (
        locked(cross_validated.path),
        pytest.raises(ModelError, match="expected that nothing else trains this run, received: another process"),
    ):
        cross_validate(cross_validated, films, QUIET)


def test_lesions_are_outlined_as_the_run_says(tmp_path, films, monkeypatch):
    config = preset(CrossValidationConfig, "tiny", {"folds": 2, "view": "roi", "lesions": "refined"})
    run, asked = create_cross_validation_run(tmp_path, config, films, [tmp_path]), []

    def spy(films, *options, progress):
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validation, "load_films", spy)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(run, films, QUIET)
    assert asked == [(16, "roi", "refined")]


def test_a_run_that_was_stopped_trains_the_folds_that_are_missing(cross_validated, films, tmp_path, monkeypatch):
    path = shutil.copytree(cross_validated.path, tmp_path / "stopped")
    second = path / "train-unet" / "00002"
    for file in (second / "config.json", path / "masks.npz", path / "report.json"):
        file.unlink()
    trained = []

    def train(run, films, console, **options):
        trained.append((run.split, options))
        for name in ("model.keras", "report.json"):
            shutil.copyfile(folds_of(cross_validated)[1].path / name, run.path / name)
        return json.loads((run.path / "report.json").read_text())

    monkeypatch.setattr(cross_validation, "train_unet", train)
    options = {"strategy": tf.distribute.get_strategy(), "keep": 7}
    cross_validate(Run.open(path), films, QUIET, **options)
    assert trained == [(folds_of(cross_validated)[1].split, options)]
    before, after = masks_of(cross_validated), masks_of(Run.open(path))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


@pytest.mark.parametrize(("file", "content"), [("report.json", "{"), ("report.json", "{}"), ("model.keras", "half")])
def test_a_fold_whose_end_is_broken_ends_again(cross_validated, films, tmp_path, file, content):
    run = Run.open(shutil.copytree(cross_validated.path, tmp_path / "broken"))
    (run.path / "train-unet" / "00002" / file).write_text(content)
    assert cross_validate(run, films, QUIET)["dice"] == cross_validated.ended_with["dice"]


def test_films_that_are_no_json_are_one_line(cross_validated, films, tmp_path):
    run = Run.open(shutil.copytree(cross_validated.path, tmp_path / "broken"))
    (run.path / "films.json").write_text("x")
    with pytest.raises(DataError, match=r"films\.json: expected JSON, received: a broken file; start another run"):
        cross_validate(run, films, QUIET)


def test_other_films_than_at_the_beginning_are_refused(cross_validated, films):
    with pytest.raises(DataError, match=rf"the {len(films)} films that it began with, received: {len(films) - 1}"):
        cross_validate(cross_validated, films[1:], QUIET)


def test_the_order_of_the_data_sets_does_not_matter(cross_validated, films, tmp_path):
    path = shutil.copytree(cross_validated.path, tmp_path / "run")
    report = cross_validate(Run.open(path), films[len(films) // 2 :] + films[: len(films) // 2], QUIET)
    assert report["films"] == len(masks_of(cross_validated)["ids"])


def test_folds_that_would_be_dealt_otherwise_are_refused(cross_validated, films):
    others = [dataclasses.replace(film, tissue="GD"[place % 2]) for place, film in enumerate(films)]
    before = sorted(cross_validated.path.rglob("*"))
    with pytest.raises(
        DataError, match="expected the patients and tissues that it dealt the folds by, received: others"
    ):
        cross_validate(cross_validated, others, QUIET)
    assert sorted(cross_validated.path.rglob("*")) == before


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_films_that_have_changed_since_the_beginning_are_refused(state, cross_validated, films, tmp_path):
    path = shutil.copytree(cross_validated.path, tmp_path / "run")
    if state == "stopped":
        shutil.rmtree(path / "train-unet" / "00002")
        (path / "masks.npz").unlink()
    before = {file: file.read_bytes() for file in path.rglob("*.*")}
    place = next(place for place, film in enumerate(films) if film.lesions)
    lesion, *others = films[place].lesions
    moved = dataclasses.replace(films[place], lesions=(dataclasses.replace(lesion, column=lesion.column - 40), *others))
    with pytest.raises(DataError, match="expected the films and masks that it began with, received: others") as caught:
        cross_validate(Run.open(path), [*films[:place], moved, *films[place + 1 :]], QUIET)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in path.rglob("*.*")} == before


def test_a_fold_that_could_not_be_trained_is_found_before_any_is(tmp_path, films):
    shown = films[0].patient
    hidden = [
        film if film.patient == shown else dataclasses.replace(film, label=0, lesions=(), drawn=None) for film in films
    ]
    config = preset(CrossValidationConfig, "tiny", {"folds": 2, "view": "roi"})
    run = create_cross_validation_run(tmp_path / "runs", config, hidden, [tmp_path])
    with pytest.raises(DataError, match="films: expected normal films, or lesions whose place is known"):
        cross_validate(run, hidden, QUIET)
    assert not (run.path / "train-unet").exists()
