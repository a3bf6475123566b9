import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.anatomy import DOUBTFUL, find_anatomy
from mammogan_tf.data.audit import audit, format_audit
from mammogan_tf.data.film import Film, read_grey
from mammogan_tf.data.inspection import _shares_inside
from mammogan_tf.errors import DataError
from tests.drawn_film import circle
from tests.mias_tree import RECORDS


@pytest.fixture(scope="module")
def result(mias_tree):
    return audit(mias_tree)


def test_counts_of_the_drawn_tree(result):
    assert (result["images"], result["patients"], result["records"]) == (12, 12 / 2, 12 + 2)
    assert (result["lesion_circles"], result["images_with_circles"]) == (1 + 2 + 2 + 1, 4)
    assert result["labels"] == {"benign": 3, "malignant": 3, "normal": 6}
    assert result["mixed_counted_as_malignant"] == ["mdb004"]
    assert result["tissue"] == {"F": 6, "G": 2, "D": 4}
    assert result["without_coordinates"] == ["mdb007", "mdb009"]
    assert result["corrupt"] == result["duplicates"] == result["missing"] == []


def test_circles_off_the_breast(result):
    assert result["suspect_circles"] == [{"id": "mdb011", "why": "the circle lies on empty background"}]


def test_circle_partly_off_the_breast(draw_tree):
    # The skin is at column 520 of row 512: half of this circle lies beyond it.
    (suspect,) = audit(draw_tree("mdb002 G CIRC B 520 511 60\n"))["suspect_circles"]
    share = float(suspect["why"].split(" %")[0])
    assert suspect["id"] == "mdb002"
    assert share == pytest.approx(50, abs=8)


def test_circles_are_held_against_the_breast_at_the_side_told():
    """Not against the larger block in the middle."""
    grey = np.full((256, 256), 5, np.uint8)
    grey[100:180, 200:] = grey[60:190, 60:150] = 150
    film = Film("a", Path("a.png"), "1", 0, side="right", lesions=(circle(230, 140, 15), circle(105, 125, 15)))
    assert _shares_inside(grey, film) == [1, 0]


def test_corrupt_films_and_lines_do_not_stop_it(draw_tree):
    tree = draw_tree(RECORDS)
    (tree / "mdb002.pgm").write_bytes((tree / "mdb002.pgm").read_bytes()[:-1])
    (tree / "mdb003.pgm").write_bytes(b"P5\n4 3\n255\n" + bytes(12))
    (tree / "mdb006.pgm").write_bytes(b"")
    broken = RECORDS.replace("877 433 30", "877 low 30").replace("mdb009 F CIRC B", "mdb009 F LUMP B")
    (tree / "Info.txt").write_text(broken + "mdb001 F NORM\n")
    result = audit(tree)
    why = {entry["file"]: entry["why"] for entry in result["corrupt"]}
    assert sorted(why) == ["Info.txt line 11", "Info.txt line 6"] + [f"mdb00{n}.pgm" for n in (1, 2, 3, 6)]
    assert why["Info.txt line 6"] == "expected x, y and radius, received: 877 low 30; correct the line"
    assert "that agree" in why["mdb001.pgm"]
    assert "truncated" in why["mdb002.pgm"]
    assert why["mdb003.pgm"].startswith("expected 1024x1024 pixels, received: 4x3")
    assert why["mdb006.pgm"].startswith("expected an image, received: an empty file")
    assert result["images"] == 12
    assert result["records"] == 14 - 2 + 1
    assert result["missing"] == []


def test_a_negative_is_suspect(draw_tree):
    tree = draw_tree("mdb001 G NORM\nmdb002 G NORM\n")
    with Image.open(tree / "mdb002.pgm") as film:
        grey = np.asarray(film)
    Image.fromarray(255 - grey).save(tree / "mdb002.pgm")
    (suspect,) = audit(tree)["suspect_pictures"]
    share = (grey <= 25).mean()  # Those of a negative that have nine tenths of 255.
    assert suspect == {"id": "mdb002", "why": f"{100 * share:.0f} % of it is white: invert it if it is a negative"}


def test_missing_and_duplicate_films(draw_tree):
    tree = draw_tree("mdb001 G NORM\nmdb002 G NORM\nmdb003 D NORM\n")
    (tree / "mdb002.pgm").unlink()
    (tree / "mdb004.pgm").write_bytes((tree / "mdb001.pgm").read_bytes())
    result = audit(tree)
    assert result["missing"] == [
        {"id": "mdb002", "why": "no such file, but a record in Info.txt"},
        {"id": "mdb004", "why": "no record in Info.txt"},
    ]
    assert result["duplicates"] == [["mdb001.pgm", "mdb004.pgm"]]


def test_info_without_records(draw_tree):
    tree = draw_tree("mdb001 G NORM\n")
    (tree / "Info.txt").write_text("prose\n")
    result = audit(tree)
    assert result["corrupt"][0]["file"] == "Info.txt"
    assert [entry["id"] for entry in result["missing"]] == ["mdb001"]


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="mammogan-tf data fetch data/mias"):
        audit(tmp_path / "nowhere")


def test_progress_and_json(draw_tree):
    calls = []
    result = audit(draw_tree("mdb001 G NORM\nmdb002 G NORM\n"), lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert json.loads(json.dumps(result)) == result


def test_format(result):
    text = format_audit(result)
    assert "12 of 6 patients" in text
    assert "3 benign, 3 malignant, 6 normal" in text
    assert "mdb004 (counted as malignant)" in text
    assert "mdb011: the circle lies on empty background" in text
    assert max(map(len, text.splitlines())) <= 100


def test_format_cuts_long_lists(result):
    missing = [{"id": f"mdb{number:03d}", "why": "no record"} for number in range(30)]
    text = format_audit({**result, "missing": missing})
    assert "missing                 30" in text
    assert "and 18 more" in text
    assert "mdb020" not in text


@pytest.mark.slow
def test_real_mias(mias_root):
    result = audit(mias_root)
    assert (result["images"], result["patients"], result["records"]) == (322, 161, 330)
    assert (result["lesion_circles"], result["images_with_circles"]) == (119, 111)
    assert result["labels"] == {"benign": 63, "malignant": 51 + 1, "normal": 207}
    assert result["mixed_counted_as_malignant"] == ["mdb144"]
    assert result["tissue"] == {"F": 106, "G": 104, "D": 112}
    assert result["without_coordinates"] == ["mdb059", "mdb216", "mdb233", "mdb245"]
    suspects = {entry["id"] for entry in result["suspect_circles"]}
    assert suspects == {f"mdb{number:03d}" for number in (72, 110, 126, 212, 214, 290)}
    assert result["suspect_pictures"] == []
    assert result["corrupt"] == result["duplicates"] == result["missing"] == []


def test_films_whose_masks_are_doubtful_are_listed_worst_first(draw_tree):
    """A blank film has no breast, and no confidence at all."""
    tree = draw_tree("mdb001 G NORM\nmdb002 G NORM\n")
    Image.fromarray(np.zeros((1024, 1024), np.uint8)).save(tree / "mdb002.pgm")
    confidence = find_anatomy(read_grey(tree / "mdb001.pgm"), "right").confidence
    doubtful = [{"id": "mdb002", "why": "confidence 0.00"}]
    doubtful += [{"id": "mdb001", "why": f"confidence {confidence:.2f}"}] if confidence < DOUBTFUL else []
    result = audit(tree)
    assert result["doubtful_masks"] == doubtful
    assert "doubtful masks" in format_audit(result)
