import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.audit import audit, format_audit
from mammogan_tf.errors import DataError
from tests.drawn_film import draw


@pytest.mark.parametrize(("modality", "suspect"), [("MG", []), ("CR", []), (None, []), ("CT", ["mine-film"])])
def test_a_picture_of_another_modality_is_suspect(tmp_path, modality, suspect):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    from tests.dicom_film import make_dicom, write_dicom

    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    (root / "dataset.json").write_text("{}")
    elements = {"Modality": modality} if modality else {}
    write_dicom(root / "images" / "film.dcm", make_dicom(np.arange(12, dtype=np.uint16).reshape(3, 4), **elements))
    found = audit(root)["suspect_pictures"]
    assert [entry["id"] for entry in found] == suspect
    assert all("modality CT, where mammograms have MG" in entry["why"] for entry in found)


@pytest.fixture
def folder(tmp_path):
    """Five films: three with a mask, two alike, two broken; a mask and a row of no film."""
    root = tmp_path / "mine"
    for place in ("images", "labels"):
        (root / place).mkdir(parents=True)
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    films = {"a": grey, "b": grey.T, "c": grey, "d": grey + 9, "e": grey + 99}
    for name, pixels in films.items():
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
    masks = {"a": 0 * grey, "b": 255 * (grey.T > 5), "d": 0 * grey + 7, "other": grey}
    for name, pixels in masks.items():
        Image.fromarray(pixels.astype(np.uint8)).save(root / "labels" / f"{name}.png")
    (root / "images" / "e.png").write_bytes(b"")
    rows = "film,patient,side,label,tissue\na,1,left,malignant,F\nb,1,right,,\nc,2,,benign,G\nd\ne\nf\n"
    (root / "films.csv").write_text(rows)
    description = {"table": "films.csv", "classes": {"0": "automatic", "255": "lesion"}}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_a_mask_that_may_be_inverted(folder):
    Image.fromarray(np.full((3, 4), 255, np.uint8)).save(folder / "labels" / "a.png")
    found = audit(folder)["suspect_labels"]
    assert {"id": "mine-a", "why": "100 % of the picture is drawn as lesion: the mask may be inverted"} in found


def test_a_mask_that_draws_all_tissue_as_background(folder):
    description = {"table": "films.csv", "classes": {"0": "background", "255": "lesion"}}
    (folder / "dataset.json").write_text(json.dumps(description))
    background = "all tissue is drawn as background: map it to automatic"
    assert audit(folder)["suspect_labels"] == [
        {"id": "mine-a", "why": background},
        {"id": "mine-b", "why": "a lesion is drawn, but the label is normal"},
        {"id": "mine-b", "why": background},
        {"id": "mine-a", "why": "the label is malignant, but no lesion is drawn"},
        {"id": "mine-c", "why": "the label is benign, but no lesion is drawn"},
    ]


def test_patients_whom_nobody_names(folder):
    assert audit(folder)["suspect_patients"] == []
    for rows in ("film,side\na,left\nb\nc\nd\ne\n", "film,patient,side\na,,left\nb\nc\nd\ne\n"):
        (folder / "films.csv").write_text(rows)
        why = "nobody is named: each film counts as a patient of its own; name them in the table"
        assert audit(folder)["suspect_patients"] == [{"id": "mine", "why": why}]


def test_a_folder(folder):
    result = audit(folder)
    assert (result["name"], result["images"], result["patients"]) == ("mine", 5, 2 + 1)
    assert result["labels"] == {"benign": 1, "malignant": 1, "normal": 2}
    assert result["tissue"] == {"F": 1, "G": 1, "D": 0}
    assert result["sizes"] == {"4x3": 2, "3x4": 1}
    assert result["sides"] == {"left": 1, "right": 1}
    assert result["masks"] == 3
    assert result["classes"] == {"lesion": 1, "automatic": 2}
    assert result["suspect_labels"] == [
        {"id": "mine-b", "why": "a lesion is drawn, but the label is normal"},
        {"id": "mine-a", "why": "the label is malignant, but no lesion is drawn"},
        {"id": "mine-c", "why": "the label is benign, but no lesion is drawn"},
    ]
    assert result["duplicates"] == [["a.png", "c.png"]]
    assert result["missing"] == [
        {"id": "f", "why": "no such file, but a row in the table"},
    ]
    why = {entry["file"]: entry["why"] for entry in result["corrupt"]}
    assert sorted(why) == ["images/e.png", "labels/d.png", "labels/other.png"]
    assert (
        why["labels/other.png"]
        == "expected a film of the same name, received: none; rename it as its film or remove it"
    )
    assert why["images/e.png"].startswith("expected an image, received: an empty file")
    assert why["labels/d.png"].startswith("expected the grey values 0, 255, received: 7")
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("name", ["a.png", "IM0001"])  # DICOM from a disc has no suffix.
def test_a_film_that_may_not_be_read_does_not_stop_it(name, folder, monkeypatch):
    table = folder / "films.csv"
    table.write_text(table.read_text().replace("\na,", f"\n{Path(name).stem},"))
    (folder / "labels" / "a.png").rename(folder / "labels" / f"{Path(name).stem}.png")
    (folder / "images" / "a.png").rename(folder / "images" / name)
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    result = audit(folder)
    why = {entry["file"]: entry["why"] for entry in result["corrupt"]}
    assert why[f"images/{name}"].startswith("expected a readable file, received: Permission denied; make it readable")


def test_many_films_of_one_patient_are_suspect(tmp_path):
    """As where the ids of all were replaced by one word."""
    (tmp_path / "images").mkdir()
    for number in range(20):
        Image.fromarray(np.full((3, 4), number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    rows = [f"{number},{'removed' if number < 17 else 'P1'}" for number in range(20)]
    (tmp_path / "films.csv").write_text("\n".join(["film,patient", *rows]))
    (tmp_path / "dataset.json").write_text('{"name": "mine", "table": "films.csv"}')
    result = audit(tmp_path)
    why = "17 films: if they are of several patients, name these in the table"
    assert result["suspect_patients"] == [{"id": "mine-removed", "why": why}]
    assert f"suspect patients        1\n{'':24}mine-removed: {why}\n" in format_audit(result)


def test_films_that_would_be_turned_the_wrong_way_round_are_suspect(tmp_path):
    """As where the table's ``side`` names the breast: of mediolateral films the right one lies either way."""
    (tmp_path / "images").mkdir()
    films = {"a": draw(side="right"), "b": draw(side="left"), "blank": np.zeros((64, 64)), "untold": draw(side="left")}
    for name, grey in films.items():
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "films.csv").write_text("film,side\na,right\nb,right\nblank,right\nuntold,\n")
    (tmp_path / "dataset.json").write_text('{"name": "mine", "table": "films.csv"}')
    result = audit(tmp_path)
    why = "the chest wall is found on the left, the table or the DICOM file says right"
    assert result["suspect_sides"] == [{"id": "mine-b", "why": why}]
    assert f"suspect sides           1\n{'':24}mine-b: {why}\n" in format_audit(result)


def test_format_of_a_folder(folder):
    text = format_audit(audit(folder))
    assert "5 of 3 patients" in text
    assert "2 4x3, 1 3x4" in text
    assert "chest wall              1 left, 1 right, 2 to be found in the picture\n" in text
    assert "drawn masks             3" in text
    assert "1 lesion, 2 automatic" in text
    assert "mine-b: a lesion is drawn, but the label is normal" in text
    assert "labels/d.png: expected the grey values" in text
    assert "records" not in text


def test_format_of_a_folder_whose_sides_are_all_known(folder):
    rows = "film,side\na,left\nb,right\nc,left\nd,left\ne,left\n"
    (folder / "films.csv").write_text(rows)
    assert "chest wall              3 left, 1 right\n" in format_audit(audit(folder))


def test_a_folder_that_nothing_explains(folder):
    (folder / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"expected dataset\.json or the Info\.txt of mini-MIAS"):
        audit(folder)
