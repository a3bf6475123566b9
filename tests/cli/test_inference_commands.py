"""``segment`` and ``generate``, on runs; the same on exports is in ``tests/integration``."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf import __version__
from mammogan_tf.config import CLASSES, LABELS, LESION, PARTS
from mammogan_tf.data.label_maps import read_label_map, save_label_map
from mammogan_tf.data.sources import load_all
from mammogan_tf.files import read_json, write_json
from mammogan_tf.training.run import Run
from tests.command_line import call, fails, little_room, unfinished_files

SIZE = 16


@pytest.fixture
def masks(tmp_path):
    """One mask with a lesion, and one without."""
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    label_map[2:14, :8] = 1
    save_label_map(tmp_path / "masks" / "clear.png", label_map)
    label_map[6:8, 3:5] = LESION
    save_label_map(tmp_path / "masks" / "lesion.png", label_map)
    return tmp_path / "masks"


def test_segment_writes_masks_at_the_films_own_size(phantom_root, unet_run, tmp_path):
    Image.fromarray(np.full((40, 30), 90, np.uint8)).save(tmp_path / "small.png")
    films = [phantom_root / "mdb001.pgm", tmp_path / "small.png"]
    result = call("segment", unet_run, *films, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out' / 'areas.csv'}\n"
    assert read_label_map(tmp_path / "out" / "mdb001_mask.png").shape == (1024, 1024)
    assert read_label_map(tmp_path / "out" / "small_mask.png").shape == (40, 30)
    areas = pd.read_csv(tmp_path / "out" / "areas.csv").set_index("file")
    assert list(areas.index) == list(map(str, films))
    np.testing.assert_allclose(areas[list(CLASSES)].sum(axis=1), 1, atol=5e-6)
    assert not unfinished_files(tmp_path)


def test_generate_names_its_images_and_says_that_they_are_synthetic(gan_run, tmp_path):
    out = tmp_path / "out"
    result = call("generate", gan_run, "--count", 3, "--out", out, "--seed", 7)
    assert result.exit_code == 0
    assert result.stdout == f"{out / 'manifest.csv'}\n"
    manifest = pd.read_csv(out / "manifest.csv")
    assert list(manifest.columns) == ["file", "seed", "mask_source", "label", "model", "version"]
    assert list(manifest["seed"]) == [7, 8, 9]
    assert set(manifest["version"]) == {__version__}
    for row in manifest.itertuples():
        with Image.open(out / row.file) as image:
            assert image.size == (SIZE, SIZE)
            assert image.text["Synthetic"] == "true"
            assert (image.text["Seed"], image.text["Model"]) == (str(row.seed), row.model)
        assert read_label_map(out / row.file.replace("images", "masks")).shape == (SIZE, SIZE)
    assert not unfinished_files(tmp_path)


def test_a_seed_gives_the_same_pixels_whatever_the_count(gan_run, masks, tmp_path):
    (masks / "lesion.png").unlink()
    for name, count, seed in (("many", 4, 5), ("again", 4, 5), ("one", 1, 7), ("other", 1, 50)):
        options = ["--count", count, "--seed", seed, "--masks", masks, "--label", "benign"]
        assert call("generate", gan_run, *options, "--out", tmp_path / name).exit_code == 0

    def pixels(path):
        return np.asarray(Image.open(tmp_path / path)).tolist()

    for number in range(4):
        assert pixels(f"many/images/{number:06d}.png") == pixels(f"again/images/{number:06d}.png")
    assert pixels("many/images/000002.png") == pixels("one/images/000000.png")
    assert pixels("other/images/000000.png") != pixels("one/images/000000.png")


def test_segment_takes_the_anatomy_from_whom_it_is_told(unet_run, phantom_root, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("mammogan_tf.inference.segment.segment_files", lambda *arguments: seen.append(arguments[-1]))
    for anatomy in ("automatic", "unet"):
        call("segment", unet_run, phantom_root / "mdb001.pgm", "--out", tmp_path, "--anatomy", anatomy)
    assert seen == ["automatic", "unet"]


def test_varied_films_have_anatomies_of_their_own(gan_run, masks, tmp_path):
    call("generate", gan_run, "--count", 4, "--masks", masks, "--vary", "--no-lesion", "--out", tmp_path / "out")
    drawn = [read_label_map(file).tobytes() for file in sorted((tmp_path / "out" / "masks").glob("*.png"))]
    assert len(set(drawn)) == 4, "of two masks that are the same without the lesion"


def test_films_of_a_label_are_made_from_training_masks_of_that_label(gan_run, tmp_path):
    run = Run.open(gan_run)
    label_of = {film.id: LABELS[film.label] for film in load_all(run.data)}
    for label in ("malignant", "normal"):
        call("generate", gan_run, "--count", 6, "--label", label, "--out", tmp_path / label)
        manifest = pd.read_csv(tmp_path / label / "manifest.csv")
        assert {label_of[name] for name in manifest["mask_source"]} == {label} == set(manifest["label"])


def test_films_are_made_from_the_masks_of_a_part_of_the_split(gan_run, tmp_path):
    run = Run.open(gan_run)
    for part in PARTS:
        call("generate", gan_run, "--count", 30, "--split", part, "--out", tmp_path / part)
        manifest = pd.read_csv(tmp_path / part / "manifest.csv")
        assert set(manifest["mask_source"]) == set(getattr(run.split, part))
    label_of = {film.id: LABELS[film.label] for film in load_all(run.data)}
    assert [*manifest["label"]] == [label_of[name] for name in manifest["mask_source"]]
    trained = np.load(run.masks_path)
    for number, name in enumerate(pd.read_csv(tmp_path / "train" / "manifest.csv")["mask_source"].head(5)):
        written = read_label_map(tmp_path / "train" / "masks" / f"{number:06d}.png")
        np.testing.assert_array_equal(written, trained["label_maps"][[*trained["ids"]].index(name)])


def test_masks_of_a_split_need_a_run_and_no_folder(gan_run, masks, tmp_path):
    options = ["--count", 1, "--split", "test", "--out", tmp_path / "out"]
    fails("generate", gan_run, *options, "--masks", masks, says="--masks, --split: expected one of them", status=2)
    call("export", gan_run, "--to", tmp_path / "models")
    fails("generate", tmp_path / "models" / "generator", *options, says="expected a run directory")


def test_options_may_come_from_a_file(gan_run, masks, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text(f"count: 3\nmasks: {masks}\nno-lesion: true\nseed: 5\n")
    call("generate", gan_run, "--config", file, "--seed", 7, "--out", tmp_path / "out")
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert [*manifest["seed"]] == [7, 8, 9]
    assert set(manifest["label"]) == {"normal"}
    file.write_text(f"count: 2\nmasks: {masks}\nlesion: [0.3, 0.5, 0.2, malignant]\n")
    call("generate", gan_run, "--config", file, "--out", tmp_path / "lesions")
    assert set(pd.read_csv(tmp_path / "lesions" / "manifest.csv")["label"]) == {"malignant"}


def test_the_label_is_that_of_the_mask_or_the_one_given(gan_run, masks, tmp_path):
    labels = {}
    for name, options in (("own", []), ("given", ["--label", "malignant"])):
        call("generate", gan_run, "--count", 2, "--masks", masks, "--out", tmp_path / name, *options)
        manifest = pd.read_csv(tmp_path / name / "manifest.csv")
        labels[name] = dict(zip(manifest["mask_source"], manifest["label"], strict=True))
    assert labels["own"] == {"clear": "normal", "lesion": "benign"}
    assert labels["given"] == {"clear": "malignant", "lesion": "malignant"}


def test_masks_that_are_mirrored_are_told(gan_run, tmp_path):
    half = np.tril(np.ones((16, 16), np.uint8))  # Widest at the left.
    for name, label_map in (("right", half), ("wrong", half[:, ::-1])):
        save_label_map(tmp_path / name / "a.png", label_map)
        told = call(
            "generate", gan_run, "--count", 1, "--masks", tmp_path / name, "--out", tmp_path / f"of-{name}"
        ).stderr
        assert ("1 of 1 masks, such as a, are wider on the right; the chest wall belongs on the left" in told) == (
            name == "wrong"
        )


def test_a_label_that_the_generator_does_not_know_is_refused_before_masks_are_looked_for(gan_run, tmp_path):
    run = shutil.copytree(gan_run, tmp_path / "run")
    config = read_json(run / "config.json")
    write_json(run / "config.json", config | {"labels": ["benign", "normal"]})
    options = ["--label", "malignant", "--masks", tmp_path, "--out", tmp_path / "out"]
    fails("generate", run, "--count", 1, *options, says="expected labels that it was trained on, benign, normal")


@pytest.mark.parametrize("kind", ["noise", "mask"])
def test_generate_a_walk(gan_run, tmp_path, kind):
    out = tmp_path / "walk.gif"
    for _ in range(2):  # A walk takes the place of one that is there.
        assert call("generate", gan_run, "--count", 4, "--walk", kind, "--out", out).stdout.strip() == str(out)
    with Image.open(out) as walk:
        assert 2 <= walk.n_frames <= 6  # A GIF leaves out frames that are alike.


def test_a_walk_is_of_its_seed_and_its_label(gan_run, masks, tmp_path):
    (masks / "clear.png").unlink()

    def walk(*options):
        asked = ["--count", 4, "--walk", "noise", "--masks", masks, "--out", tmp_path / "walk.png", *options]
        assert call("generate", gan_run, *asked).exit_code == 0
        return (tmp_path / "walk.png").read_bytes()

    assert walk() == walk("--seed", 0, "--label", "benign")
    assert len({walk(), walk("--seed", 9), walk("--label", "malignant")}) == 3


def test_a_walk_goes_into_a_picture_which_is_said_before_the_model_is_read(tmp_path):
    asked = ["--count", 4, "--walk", "noise", "--out", tmp_path / "walk.txt"]
    fails("generate", tmp_path / "none", *asked, says="expected a file that ends in .gif or .png, received: walk.txt")


def test_generate_wants_a_new_folder(gan_run, tmp_path):
    (tmp_path / "note.txt").touch()
    fails("generate", gan_run, "--count", 1, "--out", tmp_path, says="expected a new or an empty folder ... --out")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "out"], "Missing option '--count'"),
        (["--count", "0", "--out", "out"], "'--count': 0 is not in the range x>=1"),
        (["--count", "1"], "Missing option '--out'"),
        (["--count", "1", "--out", "out", "--label", "2"], "'--label': '2' is not one of"),
        (["--count", "1", "--out", "out", "--seed", "-1"], "'--seed': -1 is not in the range x>=0"),
        (["--count", "9", "--out", "out.gif", "--walk", "mask", "--vary"], "--vary: expected without --walk"),
        (
            ["--count", "1", "--out", "out", "--lesion", "0.3,0.5,0.1", "--label", "normal"],
            "expected benign or malignant, as --lesion says, received: normal",
        ),
        (
            ["--count", "1", "--out", "out", "--lesion", "0.3,0.5,0.1,malignant", "--label", "benign"],
            "expected malignant, as --lesion says, received: benign",
        ),
    ],
)
def test_generate_of_wrong_usage(options, says):
    fails("generate", "run", *options, says=says, status=2)


def test_on_a_full_disk(phantom_root, unet_run, gan_run, tmp_path):
    with little_room(500):
        film = phantom_root / "mdb001.pgm"
        fails("segment", unet_run, film, "--out", tmp_path / "segmented", says="expected to write ... free some space")
    with little_room(100):
        options = ["--count", 2, "--out", tmp_path / "synthetic"]
        fails("generate", gan_run, *options, says="expected to write ... free some space")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lesion_is_put_where_it_is_asked_for(gan_run, masks, tmp_path):
    asked = ["--masks", masks, "--count", 2, "--seed", 1]
    assert call("generate", gan_run, *asked, "--no-lesion", "--out", tmp_path / "without").exit_code == 0
    with_lesion = ["--no-lesion", "--lesion", "0.2,0.5,0.1,malignant", "--out", tmp_path / "with"]
    assert call("generate", gan_run, *asked, *with_lesion).exit_code == 0
    for number in range(2):
        before, after = (read_label_map(tmp_path / f / "masks" / f"{number:06d}.png") for f in ("without", "with"))
        assert not (before == LESION).any()
        assert after[SIZE // 2, 3] == LESION
        np.testing.assert_array_equal(after[after != LESION], before[after != LESION])
    assert set(pd.read_csv(tmp_path / "with" / "manifest.csv")["label"]) == {"malignant"}


@pytest.mark.parametrize("circle", ["0.5,0.5", "0.5,0.5,0.1,normal", "a,b,c", "0.5,0.5,0.1,benign,1"])
def test_a_lesion_that_makes_no_sense(gan_run, tmp_path, circle):
    result = call("generate", gan_run, "--count", 1, "--out", tmp_path / "out", "--lesion", circle)
    assert result.exit_code == 2
    assert f"expected X,Y,R or X,Y,R,benign|malignant, received: {circle}" in result.stderr
