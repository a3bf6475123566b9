"""``data fetch | phantom | audit | masks``."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.config import LESION
from mammogan_tf.data.film import read_grey
from mammogan_tf.data.label_maps import read_label_map
from mammogan_tf.data.phantom import draw_film
from mammogan_tf.files import read_json, write_json
from tests.command_line import call, fails, little_room, unfinished_files
from tests.mias_tree import RECORDS, draw_mias_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_mias_tree(tmp_path_factory.mktemp("tree"))


def test_fetch_unpacks_an_archive_of_this_machine(tree, tmp_path):
    archive = tmp_path / "all-mias.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(tree, "all-mias")
    result = call("data", "fetch", tmp_path / "mias", "--url", archive)
    assert result.exit_code == 0
    found = Path(result.stdout.strip())
    assert found.is_relative_to(tmp_path / "mias")
    assert (found / "Info.txt").read_text() == (tree / "Info.txt").read_text()


def test_fetch_refuses_another_archive(tree, tmp_path):
    with tarfile.open(tmp_path / "all-mias.tar.gz", "w:gz") as tar:
        tar.add(tree / "Info.txt", "all-mias/Info.txt")
    url = tmp_path / "all-mias.tar.gz"
    fails("data", "fetch", tmp_path / "mias", "--url", url, "--sha256", 64 * "0", says=f"{64 * '0'} ... received: ")
    fails("data", "fetch", tmp_path / "mias", "--url", tmp_path / "none.tar.gz", says="received: no such file")
    assert not list((tmp_path / "mias").rglob("Info.txt"))


def test_phantom_draws_films_in_the_mias_layout(tmp_path):
    result = call("data", "phantom", tmp_path / "phantoms", "--patients", 6, "--seed", 3)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'phantoms'}\n"
    assert sorted(path.name for path in (tmp_path / "phantoms").iterdir()) == [
        "Info.txt",
        *(f"mdb{number:03d}.pgm" for number in range(1, 2 * 6 + 1)),
    ]
    drawn = draw_film(3, 1, "right").pixels
    np.testing.assert_array_equal(read_grey(tmp_path / "phantoms" / "mdb001.pgm"), drawn)


def test_phantom_wants_a_new_folder_and_enough_patients(tmp_path):
    (tmp_path / "note.txt").touch()
    fails("data", "phantom", tmp_path, says="expected a new or an empty folder")
    fails("data", "phantom", tmp_path / "new", "--patients", 5, says="--patients ... 6<=x<=499", status=2)
    fails("data", "phantom", tmp_path / "new", "--patients", 500, says="--patients ... 6<=x<=499", status=2)
    assert not (tmp_path / "new").exists()


def test_phantom_on_a_full_disk(tmp_path):
    with little_room(500_000):
        fails("data", "phantom", tmp_path / "new", "--patients", 6, says="expected to write ... free some space")
    assert not list((tmp_path / "new").iterdir())


def test_audit_prints_a_table_and_writes_json_and_the_table_of_the_paper(tree, tmp_path):
    result = call("data", "audit", tree, "--json", tmp_path / "audit.json", "--table", tmp_path / "labels.csv")
    assert result.exit_code == 0
    assert "12 of 6 patients" in result.stdout
    figures = json.loads((tmp_path / "audit.json").read_text())
    assert figures["images"] == 12
    assert figures["records"] == len(RECORDS.split("=")[0].strip().splitlines())
    table = pd.read_csv(tmp_path / "labels.csv")
    assert list(table.columns) == ["filename", "label"]
    assert table["label"].value_counts().to_dict() == figures["labels"]
    assert not unfinished_files(tmp_path)


BROKEN_FILMS = {
    "truncated": b"P5\n1024 1024\n255\n" + bytes(1000),
    "empty": b"",
    "colour": b"P6\n1024 1024\n255\n" + bytes([1, 2, 3]) * 1024 * 1024,
    "mis-sized": b"P5\n512 1024\n255\n" + bytes(512 * 1024),
    "no image": b"<html>not found</html>",
}


@pytest.mark.parametrize("content", BROKEN_FILMS.values(), ids=BROKEN_FILMS)
def test_audit_names_a_broken_film_and_exits_with_1(tmp_path, content):
    tree = draw_mias_tree(tmp_path / "tree", "mdb001 G NORM\nmdb002 G NORM\n")
    (tree / "mdb002.pgm").write_bytes(content)
    result = call("data", "audit", tree, "--json", tmp_path / "audit.json")
    assert result.exit_code == 1
    assert "corrupt                 1" in result.stdout
    assert [entry["file"] for entry in json.loads((tmp_path / "audit.json").read_text())["corrupt"]] == ["mdb002.pgm"]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("mdb002 G CIRC B five 400 30", "five 400 30"),
        ("mdb002 G BLOB B 500 400 30", "BLOB"),
        ("mdb002 X NORM", "X"),
    ],
)
def test_audit_names_a_broken_record_and_exits_with_1(tmp_path, record, why):
    tree = draw_mias_tree(tmp_path / "tree", f"mdb001 G NORM\n{record}\n")
    result = call("data", "audit", tree)
    assert result.exit_code == 1
    line = 1 + (tree / "Info.txt").read_text().splitlines().index(record)
    assert f"Info.txt line {line}: expected" in result.stdout
    assert f"received: {why}" in result.stdout


def test_audit_of_no_data(tmp_path):
    fails("data", "audit", tmp_path / "none", says="none: expected a folder ... data fetch")
    fails("data", "audit", tmp_path, says="expected Info.txt ... data fetch")


@pytest.fixture
def own_films(tree, tmp_path):
    """Two films of one's own, with a mask drawn on one of them."""
    root = tmp_path / "mine"
    for place, name, film in (("images", "a", "001"), ("images", "b", "002"), ("labels", "a", "001")):
        (root / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / f"mdb{film}.pgm", root / place / f"{name}.pgm")
    Image.fromarray(np.full((1024, 1024), 255, np.uint8)).save(root / "labels" / "a.pgm")
    (root / "dataset.json").write_text('{"classes": {"255": "adipose"}}')
    return root


def test_audit_of_own_films(own_films, tmp_path):
    result = call("data", "audit", own_films, "--json", tmp_path / "audit.json", "--table", tmp_path / "labels.csv")
    assert result.exit_code == 0
    assert "2 of 2 patients" in result.stdout
    assert json.loads((tmp_path / "audit.json").read_text())["classes"] == {"adipose": 1}
    assert (tmp_path / "labels.csv").read_text() == "filename,label\na.pgm,normal\nb.pgm,normal\n"
    (own_films / "labels" / "a.pgm").write_bytes(b"")
    result = call("data", "audit", own_films)
    assert result.exit_code == 1
    assert "labels/a.pgm: expected an image, received: an empty file" in result.stdout


@pytest.mark.parametrize("option", ["--json", "--table"])
def test_audit_writes_nothing_into_the_data(own_films, option):
    table = own_films / "dataset.json"
    before = table.read_bytes()
    fails("data", "audit", own_films, option, table, says=f"{option}: expected a place outside of", status=2)
    assert table.read_bytes() == before


def test_masks_are_not_written_into_the_data(own_films):
    for out in (own_films, own_films / "images"):
        before = sorted(out.iterdir())
        fails("data", "masks", own_films, out, says="OUT: expected a place outside of", status=2)
        assert sorted(out.iterdir()) == before


def test_audit_of_own_films_with_a_table(own_films, tmp_path):
    """Film a has its chest wall on the right, b on the left."""
    (own_films / "dataset.json").write_text('{"classes": {"255": "adipose"}, "table": "films.csv"}')
    (own_films / "films.csv").write_text("film,side\na,right\nb,right\n")
    result = call("data", "audit", own_films, "--json", tmp_path / "audit.json")
    assert result.exit_code == 0
    assert "mine-b: the chest wall is found on the left, the table or the DICOM file says right" in result.stdout
    assert [suspect["id"] for suspect in read_json(tmp_path / "audit.json")["suspect_sides"]] == ["mine-b"]
    (own_films / "films.csv").write_text("film;side\na;right\nb;left\n")
    fails("data", "audit", own_films, says="films.csv: expected commas ... received: film;side; save it with commas")


def test_own_films_need_an_explanation(own_films, tmp_path):
    (own_films / "dataset.json").unlink()
    for command in (["audit", own_films], ["masks", own_films, tmp_path / "out"]):
        fails(
            "data", *command, says="expected dataset.json ... received: images such as a.pgm alone ... dataset.json: {"
        )
    (own_films / "dataset.json").write_text("{")
    for command in (["audit", own_films], ["masks", own_films, tmp_path / "out"]):
        fails("data", *command, says="dataset.json: expected JSON such as {")


def test_audit_cannot_write_its_report(tree, tmp_path):
    (tmp_path / "file").touch()
    for option in ("--json", "--table"):
        result = call("data", "audit", tree, option, tmp_path / "file" / "audit")
        assert (result.exit_code, result.stdout) == (1, ""), "refused before the films are looked at"
        assert "expected to read or write it" in result.stderr
    fails("data", "audit", tree, "--json", tmp_path, says="is a directory", status=2)


def test_masks(tree, tmp_path):
    result = call("data", "masks", tree, tmp_path / "masks", "--size", 32)
    assert result.exit_code == 0
    assert Path(result.stdout.strip()).is_file()
    masks = sorted((tmp_path / "masks" / "masks").iterdir())
    assert [mask.stem for mask in masks] == [f"mdb{number:03d}" for number in range(1, 13)]
    assert read_label_map(masks[0]).shape == (32, 32)
    assert len(list((tmp_path / "masks" / "overlays").iterdir())) == 12
    assert not unfinished_files(tmp_path)


def test_masks_of_a_broken_film(tree, tmp_path):
    films, out = shutil.copytree(tree, tmp_path / "tree"), tmp_path / "masks"
    (films / "mdb007.pgm").write_bytes(BROKEN_FILMS["truncated"])
    fails("data", "masks", films, out, "--size", 32, says="mdb007.pgm: expected a readable image")
    assert not out.exists()


def test_masks_are_compared_with_drawn_ones(own_films, unet_run, tmp_path):
    result = call("data", "masks", own_films, tmp_path / "out", "--unet", unet_run)
    assert result.exit_code == 0
    assert "Dice with drawn masks" in result.stdout
    assert "automatic breast with pectoral" in result.stdout
    assert "unet      breast with pectoral" in result.stdout
    assert read_label_map(tmp_path / "out" / "masks" / "mine-a.png").shape == (16, 16)
    assert [path.name for path in (tmp_path / "out" / "worst").iterdir()] == ["mine-a.png"]
    asked = ["data", "masks", own_films, tmp_path / "other", "--unet", unet_run, "--size", 32]
    fails(*asked, says="--size: expected 16, that of the U-Net, received: 32", status=2)


def test_a_unet_of_windows_is_not_compared_on_whole_films(own_films, unet_run, tmp_path):
    run = shutil.copytree(unet_run, tmp_path / "run")
    config = read_json(run / "config.json")
    write_json(run / "config.json", {**config, "data": {**config["data"], "view": "roi"}})
    asked = ["data", "masks", own_films, tmp_path / "out", "--unet", run]
    fails(*asked, says="--unet: expected one of whole films, received: one of view roi", status=2)


def test_masks_are_of_the_view_and_size_asked_for_with_lesions_as_asked_for(tree, tmp_path):
    def write(name, *options):
        assert call("data", "masks", tree, tmp_path / name, *options).exit_code == 0
        return {file.stem: read_label_map(file) for file in (tmp_path / name / "masks").glob("*.png")}

    def lesions(masks):
        return sum((mask == LESION).sum() for mask in masks.values())

    whole, windows = write("whole"), write("windows", "--view", "roi", "--size", 16)
    assert {mask.shape for mask in whole.values()} == {(256, 256)}
    assert {mask.shape for mask in windows.values()} == {(16, 16)}
    assert {"mdb005-1", "mdb005-2"} <= set(windows), "two lesions"
    assert 0 < lesions(write("refined", "--lesions", "refined")) < lesions(whole)


def test_a_unet_has_nothing_to_be_compared_with(tree, unet_run, tmp_path):
    asked = ["data", "masks", tree, tmp_path / "out", "--unet", unet_run]
    fails(*asked, says="expected masks drawn by hand to compare with", status=2)
