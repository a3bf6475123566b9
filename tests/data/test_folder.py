import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import ADIPOSE, BACKGROUND, FIBROGLANDULAR, LESION, PECTORAL
from mammogan_tf.data.film import AUTOMATIC, DrawnMask, read_drawn_mask, read_grey
from mammogan_tf.data.sources import load_all, load_data
from mammogan_tf.errors import DataError

BENIGN, MALIGNANT, NORMAL = 0, 1, 2
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
CLASSES = {"0": "automatic", "255": "lesion"}


def test_the_least_that_is_needed(write):
    root = write({})
    first, second = load_data(root)
    assert (first.id, second.id) == ("mine-a", "mine-b.one")
    assert (first.patient, second.patient) == ("mine-a", "mine-b.one")
    assert first.path == root / "images" / "a.png"
    assert (first.label, first.side, first.tissue, first.lesions, first.drawn) == (NORMAL, None, None, (), None)


def test_a_name_begins_ids_and_patients(write):
    root = write({"name": "ddsm", "table": "films.csv"}, "film,patient\na,P1\nb.one,P1\n")
    assert [(film.id, film.patient) for film in load_data(root)] == [("ddsm-a", "ddsm-P1"), ("ddsm-b.one", "ddsm-P1")]


@pytest.mark.parametrize(("on_disk", "in_words"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_are_the_same_however_their_letters_are_composed(write, on_disk, in_words):
    """macOS writes an umlaut in a file's name as two characters, and a spreadsheet as one."""

    def spell(form, text):
        return unicodedata.normalize(form, text)

    table = spell(in_words, "Gewebe,Größe,film\nF,1,Müller.png\nG,2,Öz\n")
    columns = {"tissue": "Gewebe", "patient": spell(on_disk, "Größe")}
    films, mask = ([spell(on_disk, name) for name in ("Müller.png", "Öz.png")], spell(in_words, "Müller.tif"))
    root = write({"classes": CLASSES, "table": "films.csv", "columns": columns}, table, [mask], films)
    first, second = load_data(root)
    assert (first.id, first.tissue, first.patient) == ("mine-Müller", "F", "mine-1")
    assert (second.id, second.tissue, second.patient) == ("mine-Öz", "G", "mine-2")
    assert first.drawn.path == root / "labels" / mask
    assert first.path == root / "images" / films[0]


def test_drawn_masks(write):
    root = write({"classes": CLASSES}, masks=["a.tif"])
    first, second = load_data(root)
    assert first.drawn == DrawnMask(root / "labels" / "a.tif", ((0, AUTOMATIC), (255, LESION)))
    assert second.drawn is None


def test_hidden_files_are_no_films(write):
    root = write({})
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "images" / name).touch()
    assert len(load_data(root)) == 2


def test_pixels_are_not_decoded(write):
    root = write({}, films=())
    (root / "images" / "a.pgm").write_bytes(b"P5\n4 3\n255\n")
    assert [film.id for film in load_data(root)] == ["mine-a"]


def test_dicom_says_patient_and_side_unless_the_table_does(write):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    from tests.dicom_film import make_dicom, write_dicom

    root = write({"table": "films.csv"}, "film,patient,side\n1,,\n2,,\n3.4,own,left\n", films=())
    for name in ("1.dcm", "2.dcm", "3.4"):
        dataset = make_dicom(GREY.astype(np.uint16), PatientID="secret", PatientOrientation=["P", "F"])
        write_dicom(root / "images" / name, dataset)
    first, second, third = load_data(root)
    assert first.patient == second.patient != "mine-1"
    assert "secret" not in repr((first, second))
    assert (first.side, second.side) == ("right", "right")
    assert (third.id, third.patient, third.side) == ("mine-3.4", "mine-own", "left")


def test_a_patient_whom_dicom_names_is_one_in_all_tables_and_data_sets(write, tmp_path):
    """Else the two breasts of one woman could stand on both sides of a split."""
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    from tests.dicom_film import make_dicom, write_dicom

    rows = "film,patient\n1,secret\n2,\n3,secret\na,secret\nb.one,7\n"
    mine, other, third = write({"table": "films.csv"}, rows), tmp_path / "other", tmp_path / "third"
    for root, description in ((other, "{}"), (third, '{"table": "films.csv"}')):
        (root / "images").mkdir(parents=True)
        (root / "dataset.json").write_text(description)
    Image.fromarray(GREY).save(third / "images" / "5.png")
    (third / "films.csv").write_text("film,patient\n5,secret\n")
    ids = {mine / "images" / "1.dcm": "secret", mine / "images" / "2.dcm": "secret", mine / "images" / "3.dcm": None}
    for path, id_ in {**ids, other / "images" / "4.dcm": "secret"}.items():
        write_dicom(path, make_dicom(GREY.astype(np.uint16), PatientID=id_))
    films = {film.id: film.patient for film in load_all([third, mine, other])}
    assert len({films[name] for name in ("mine-1", "mine-2", "mine-3", "mine-a", "other-4", "third-5")}) == 1
    assert films["mine-b.one"] == "mine-7"
    assert "secret" not in repr(films)


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("{", r"dataset\.json: expected JSON such as \{.*, received: Expecting"),
        ("[]", r"dataset\.json: expected an object such as \{.*, received: \[\]"),
        ({"classess": {}}, "expected the names name, classes, table, columns, received: classess"),
        ({"name": "a/b"}, "expected name: .*, received: a/b"),
        ({"name": ""}, "expected name: "),
        ({"name": 3}, "expected name: "),
        ({"classes": ["lesion"]}, "expected classes: grey values 0-255"),
        ({"classes": {"256": "lesion"}}, "expected classes: grey values 0-255"),
        ({"classes": {"007": "lesion"}}, "expected classes: grey values 0-255"),
        ({"classes": {"1": "mass"}}, "one of background, .*, lesion, automatic, received: {'1': 'mass'}"),
        ({"table": 1}, "expected table: the name of a CSV file"),
        ({"table": "none.csv"}, r"none\.csv: expected the CSV file that dataset.json names, received: No such file"),
        ({"table": "films.csv", "columns": {"wall": "side"}}, "expected columns: headings of the table for film"),
        ({"columns": {"film": "file"}}, "expected a table with the columns, received: no table"),
        (
            {"classes": CLASSES},
            "expected labels/ beside images/, as classes says, received: no such folder; make it, or take classes out",
        ),
    ],
)
def test_a_description_that_makes_no_sense(write, description, says):
    with pytest.raises(DataError, match=says) as error:
        load_data(write(description, "film\na\nb.one\n"))
    assert "\n" not in str(error.value)


def test_labels_without_classes(write):
    with pytest.raises(DataError, match=r"received: labels/ alone; write it as .*automatic"):
        load_data(write({}, masks=["a.png"]))


@pytest.mark.parametrize(
    ("films", "masks", "says"),
    [
        (("a.png", "a.tif"), (), r"a\.tif: expected one file called a, received: a\.png as well"),
        (("a.png",), ("b.png",), r"labels/b\.png: expected a film of the same name, received: none"),
        ((), (), r"images: expected films \(\.dcm, .*\), received: none; put them there"),
        (("a?.png",), (), r"images: expected names that every system can hold, received: 'a\?'"),
        (("a\n.png",), (), r"images: expected names that every system can hold, received: 'a\\n'"),
    ],
    ids=["two of one film", "stray mask", "no films", "unsafe name", "line break"],
)
def test_files_that_do_not_fit_together(write, films, masks, says):
    root = write({"classes": CLASSES} if masks else {}, masks=masks, films=films)
    with pytest.raises(DataError, match=says) as error:
        load_data(root)
    assert "\n" not in str(error.value)


def test_what_is_no_film(write):
    root = write({})
    (root / "images" / "notes.txt").write_text("notes")
    with pytest.raises(DataError, match=r"notes\.txt: expected an image .* received: something else; move it out"):
        load_data(root)
    (root / "images" / "notes.txt").unlink()
    (root / "images" / "more").mkdir()
    with pytest.raises(DataError, match="more: expected an image"):
        load_data(root)


def test_what_is_no_mask(write):
    root = write({"classes": CLASSES}, masks=["a.jpg"])
    (drawn,) = (film.drawn for film in load_data(root) if film.drawn)
    with pytest.raises(
        DataError, match=r"a\.jpg: expected a mask that keeps its grey values, received: JPEG; export it"
    ):
        read_drawn_mask(drawn, (3, 4))
    (root / "labels" / "b.one.nii").write_text("a volume")
    with pytest.raises(
        DataError, match=r"b\.one\.nii: expected a mask of a film, best as PNG, received: something else"
    ):
        load_data(root)


def test_no_folder_of_films(write):
    root = write({}, films=())
    (root / "images").rmdir()
    with pytest.raises(
        DataError, match=r"images: expected a folder of films beside dataset\.json, received: no such folder"
    ):
        load_data(root)


def test_a_mask_of_another_size(write):
    root = write({"classes": CLASSES}, masks=["a.png"])
    Image.fromarray(GREY.T).save(root / "labels" / "a.png")
    with pytest.raises(DataError, match=r"labels/a\.png: expected 4x3 pixels as its film has, received: 3x4; draw it"):
        load_data(root)


@pytest.mark.parametrize("name", ["a.dcm", "a.tif"])
def test_a_mask_in_dicom(write, name):
    root = write({"classes": CLASSES}, masks=["a.png"])
    (root / "labels" / "a.png").unlink()
    (root / "labels" / name).write_bytes(bytes(128) + b"DICM")
    with pytest.raises(
        DataError, match=r"labels/a\..*: expected a mask \(PNG, TIFF or PGM\), received: DICOM; save it"
    ):
        load_data(root)


def test_a_broken_film(write):
    root = write({})
    (root / "images" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: expected an image, received: an empty file"):
        load_data(root)


def test_real_films_drawn_by_hand(ddsm_root, tmp_path):
    """All 33 films of DDSM with tissue drawn by hand."""
    classes = {"64": "background", "128": "adipose", "192": "fibroglandular", "255": "pectoral"}
    for place in ("images", "labels"):
        (tmp_path / place).symlink_to(ddsm_root / place)
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "ddsm", "classes": classes}))
    films = load_data(tmp_path)
    assert len(films) == 33
    assert films[0].id == "ddsm-A_0002_1.RIGHT_MLO"
    assert len({film.patient for film in films}) == 33
    for film in films:
        label_map = read_drawn_mask(film.drawn, read_grey(film.path).shape)
        assert label_map.shape == (960, 480)
        assert np.unique(label_map).tolist() == [BACKGROUND, ADIPOSE, FIBROGLANDULAR, PECTORAL]
