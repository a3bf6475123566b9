"""Bad input, as a user meets it: one clear line, the right exit status, no traceback, no half-written file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import assert_one_line, call, fails, start, unfinished_files
from tests.mias_tree import draw_mias_tree

PATIENTS = "".join(f"mdb{number:03d} G NORM\n" for number in range(1, 7))
GRADIENT = np.add.outer(np.arange(64), 3 * np.arange(64)).astype(np.uint8)


def netpbm(kind: str, largest: int, content: bytes, size: str = "1024 1024") -> bytes:
    return f"{kind}\n{size}\n{largest}\n".encode() + content


BROKEN_FILMS = {
    "truncated": (netpbm("P5", 255, bytes(1000)), "truncated"),
    "empty": (b"", "received: an empty file"),
    "colour": (netpbm("P6", 255, bytes([1, 2, 3]) * 1024**2), "expected greyscale of 8 or 16 bits, received: mode RGB"),
    "a bomb": (netpbm("P5", 255, b"", "100000 100000"), "exceeds limit"),
    "no image": (b"<html>not found</html>", "received: no image format"),
}


@pytest.fixture
def tree(tmp_path):
    """Three patients, the fewest that can be split."""
    return draw_mias_tree(tmp_path / "tree", PATIENTS)


@pytest.fixture(autouse=True)
def nothing_half_written(tmp_path):
    yield
    assert not unfinished_files(tmp_path)


@pytest.mark.parametrize("kind", BROKEN_FILMS)
def test_a_broken_film(unet_run, tmp_path, tree, kind):
    content, says = BROKEN_FILMS[kind]
    film = tree / "mdb004.pgm"
    film.write_bytes(content)
    fails("segment", unet_run, film, "--out", tmp_path / "out", says=f"{film}: expected ... {says}")
    options = ["--preset", "tiny", "--data", tree, "--workdir", tmp_path / "runs"]
    fails("train-unet", *options, says=f"{film}: expected ... {says}")
    audit = call("data", "audit", tree)
    assert audit.exit_code == 1
    assert "mdb004.pgm: expected" in audit.stdout
    assert says in audit.stdout
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "runs").rglob("model.keras"))


def test_a_film_of_another_size_is_segmented_but_no_part_of_mini_mias(unet_run, tmp_path, tree):
    film = tree / "mdb004.pgm"
    film.write_bytes(netpbm("P5", 255, GRADIENT.tobytes(), "64 64"))
    assert call("segment", unet_run, film, "--out", tmp_path / "out").exit_code == 0
    options = ["--preset", "tiny", "--data", tree, "--workdir", tmp_path / "runs"]
    fails("train-unet", *options, says=f"{film}: expected 1024x1024 pixels, received: 64x64")
    audit = call("data", "audit", tree)
    assert audit.exit_code == 1
    assert "mdb004.pgm: expected 1024x1024 pixels, received: 64x64" in audit.stdout
    assert not (tmp_path / "runs").exists()


def test_two_films_of_one_name(unet_run, tmp_path, tree):
    shutil.copytree(tree, tmp_path / "other")
    films = [tree / "mdb001.pgm", tmp_path / "other" / "mdb001.pgm"]
    fails("segment", unet_run, *films, "--out", tmp_path / "out", says="expected distinct names, received: mdb001")


BROKEN_RECORDS = {
    "letters for numbers": ("mdb004 G CIRC B 500 four 30", "x, y and radius, received: 500 four 30"),
    "an unknown class": ("mdb004 G BLOB B 500 400 30", "CALC CIRC SPIC MISC ARCH ASYM NORM, received: BLOB"),
    "an unknown tissue": ("mdb004 X NORM", "F G D, received: X"),
    "a circle off the film": ("mdb004 G CIRC B 1500 400 30", "a circle on 1024x1024 pixels, received: 1500 400 30"),
}


@pytest.mark.parametrize("kind", BROKEN_RECORDS)
@pytest.mark.parametrize("command", ["train-unet", "train-gan"])
def test_a_broken_record(tmp_path, tree, command, kind):
    record, says = BROKEN_RECORDS[kind]
    info = tree / "Info.txt"
    info.write_text(info.read_text().replace("mdb004 G NORM", record))
    line = 1 + info.read_text().splitlines().index(record)
    options = ["--data", tree, "--workdir", tmp_path / "runs"]
    fails(command, *options, says=f"{info} line {line}: expected ... {says} ... correct the line")
    assert not (tmp_path / "runs").exists()


def test_missing_films_and_records(tmp_path, tree):
    command = ["train-unet", "--data", tree, "--workdir", tmp_path / "runs"]
    (tree / "mdb007.pgm").write_bytes(netpbm("P5", 255, bytes(1024**2)))
    fails(*command, says="mdb007.pgm: expected a record in Info.txt, received: none")
    (tree / "mdb004.pgm").unlink()
    fails(*command, says="mdb004.pgm: expected the film that Info.txt lists, received: nothing there")
    (tree / "Info.txt").write_text("no records\n")
    fails(*command, says="Info.txt: expected records such as ... received: none")
    (tree / "Info.txt").unlink()
    fails(*command, says="expected Info.txt beside the films ... data fetch")
    assert not (tmp_path / "runs").exists()


def test_too_few_patients(tmp_path):
    tree = draw_mias_tree(tmp_path / "tree", "mdb001 G NORM\nmdb002 G NORM\n")
    options = ["--data", tree, "--workdir", tmp_path / "runs"]
    fails("train-unet", *options, says="expected patients for training, validation and test, received: 1")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.full((16, 16), 9, np.uint8), "values 0-4, received: 9"),
        (np.full((16, 16), 255, np.uint8), "values 0-4, received: 255"),
        (np.zeros((16, 16, 3), np.uint8), "received: mode RGB"),
        (np.zeros((16, 16), np.uint16), "received: mode I;16"),
    ],
)
def test_a_mask_that_is_no_label_map(gan_run, tmp_path, pixels, says):
    masks = tmp_path / "masks"
    save(masks / "a.png", pixels)
    out = tmp_path / "out"
    fails("generate", gan_run, "--count", 1, "--masks", masks, "--out", out, says=f"{masks / 'a.png'}: ... {says}")
    fails("request", "generate", "--masks", masks, "--out", out, says=f"{masks / 'a.png'}: ... {says}")
    assert not out.exists()


def test_no_masks(gan_run, tmp_path):
    options = ["--count", 1, "--out", tmp_path / "out"]
    fails("generate", gan_run, *options, "--masks", tmp_path / "none", says="received: no such folder")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").touch()
    fails("generate", gan_run, *options, "--masks", tmp_path / "masks", says="a.png: expected an index PNG")
    shutil.copytree(gan_run, tmp_path / "run", ignore=shutil.ignore_patterns("masks.npz"))
    fails("generate", tmp_path / "run", *options, says="expected the training masks ... --masks")
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_wrong_kind(unet_run, gan_run, exports, tree, tmp_path):
    film, out = tree / "mdb001.pgm", tmp_path / "out"
    for_films, for_masks = [film, "--out", out], ["--count", 1, "--out", out]
    fails("generate", unet_run, *for_masks, says="expected a finished train-gan run, received: a train-unet run")
    fails("segment", gan_run, *for_films, says="expected a finished train-unet run, received: a train-gan run")
    fails("generate", exports / "unet", *for_masks, says="expected an exported generator, received: ")
    fails("segment", exports / "generator" / "1", *for_films, says="expected an exported unet, received: ")
    fails("evaluate", "--gan", unet_run, "--data", tree, "--out", out, says="expected a finished train-gan run")
    for folder in (tree, tmp_path / "none", exports):
        fails("generate", folder, *for_masks, says="expected a run directory or an exported generator")
        fails("segment", folder, *for_films, says="expected a run directory or an exported unet")
    fails("segment", film, *for_films, says="'MODEL' ... is a file", status=2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        *((content, "expected a run directory, received: broken") for content in ("", "[]", "{}")),
        (
            '{"command": "train-gan", "data_path": "x", "colour": "red"}',
            "expected a run of this version of mammogan-tf, received: one with colour",
        ),
    ],
)
def test_the_configuration_of_another_program(tmp_path, content, says):
    (tmp_path / "config.json").write_text(content)
    options = ["--count", 1, "--out", tmp_path / "out"]
    fails("generate", tmp_path, *options, says=f"{tmp_path}: {says}")


def test_a_broken_model(gan_run, tmp_path):
    shutil.copytree(gan_run, tmp_path / "run")
    options = ["--count", 1, "--out", tmp_path / "out"]
    (tmp_path / "run" / "model.keras").write_bytes((gan_run / "model.keras").read_bytes()[:5000])
    fails(
        "generate", tmp_path / "run", *options, says="model.keras: expected a trained network, received: a broken file"
    )
    (tmp_path / "run" / "model.keras").unlink()
    fails("generate", tmp_path / "run", *options, says="expected a finished train-gan run ... --resume")
    assert not (tmp_path / "out").exists()


def test_a_broken_export(exports, tmp_path):
    version = tmp_path / "generator" / "1"
    options = ["--count", 1, "--out", tmp_path / "out"]
    shutil.copytree(exports / "generator" / "1", version)
    shutil.rmtree(version / "variables")
    fails("generate", version, *options, says="expected a whole SavedModel ... export it again")
    for content in (b"broken" * 9, b""):
        (version / "saved_model.pb").write_bytes(content)
        fails("generate", version, *options, says="expected a whole SavedModel ... export it again")
    (version / "saved_model.pb").unlink()
    fails("generate", version, *options, says="expected a run directory or an exported generator, received: neither")
    assert not (tmp_path / "out").exists()


def test_what_the_system_sees(tmp_path, tree, monkeypatch):
    """A process of its own, as a shell starts it: TensorFlow's own lines do not hide the error."""
    (tree / "mdb004.pgm").write_bytes(b"P5\n1024 1024\n255\n")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    process = start("train-unet", "--preset", "tiny", "--data", tree, "--workdir", tmp_path / "runs")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert stdout == ""
    assert_one_line(stderr, "mdb004.pgm: expected a readable image, received: ... truncated")
    others = [line for line in stderr.splitlines()[:-1] if not line.startswith(("preset tiny", "preparing films"))]
    assert not others
