from collections import Counter

import pytest
from PIL import Image

from mammogan_tf.data.film import Lesion
from mammogan_tf.data.mias import load_mias, paper_table, parse_record
from mammogan_tf.errors import DataError

BENIGN, MALIGNANT, NORMAL = 0, 1, 2


def test_films_of_the_drawn_tree(mias_tree):
    films = load_mias(mias_tree)
    assert [film.id for film in films] == [f"mdb{number:03d}" for number in range(1, 13)]
    assert all(film.path == mias_tree / f"{film.id}.pgm" for film in films)
    assert [film.tissue for film in films] == list("GGDDFFDDFFFF")
    benign, malignant = {1, 5, 9}, {4, 7, 11}
    expected = [BENIGN if n in benign else MALIGNANT if n in malignant else NORMAL for n in range(1, 13)]
    assert [film.label for film in films] == expected


def test_rows_count_from_the_top(mias_tree):
    film = load_mias(mias_tree)[0]
    assert film.lesions == (Lesion("CIRC", BENIGN, column=900, row=1023 - 523, radius=40),)


def test_pairs_are_patients_and_parity_is_the_side(mias_tree):
    films = load_mias(mias_tree)
    for odd, even in zip(films[::2], films[1::2], strict=True):
        assert odd.patient == even.patient
        assert (odd.side, even.side) == ("right", "left")
    assert len({film.patient for film in films}) == 12 / 2


def test_several_lesions_and_lesions_without_a_place(mias_tree):
    films = {film.id: film for film in load_mias(mias_tree)}
    assert [lesion.label for lesion in films["mdb004"].lesions] == [BENIGN, MALIGNANT]
    assert [lesion.kind for lesion in films["mdb005"].lesions] == ["CIRC", "ASYM"]
    assert films["mdb007"].lesions == films["mdb009"].lesions == films["mdb002"].lesions == ()


def test_paper_table(mias_tree):
    table = paper_table(load_mias(mias_tree))
    assert list(table.columns) == ["filename", "label"]
    assert table.values.tolist()[:4] == [
        ["mdb001.pgm", "benign"],
        ["mdb002.pgm", "normal"],
        ["mdb003.pgm", "normal"],
        ["mdb004.pgm", "malignant"],
    ]


def test_png_films_and_the_folder_of_the_archive(draw_tree, tmp_path):
    tree = draw_tree("mdb001 G NORM \nmdb002 G NORM\n")
    with Image.open(tree / "mdb001.pgm") as image:
        image.save(tree / "mdb001.png")
    assert [film.path.name for film in load_mias(tree)] == ["mdb001.pgm", "mdb002.pgm"]
    (tree / "mdb001.pgm").unlink()
    tree.rename(tmp_path / "all-mias")
    assert [film.path.name for film in load_mias(tmp_path)] == ["mdb001.png", "mdb002.pgm"]


def test_windows_line_ends_and_stray_bytes(draw_tree):
    tree = draw_tree("")
    films = draw_tree("mdb001 G NORM\n")
    (films / "Info.txt").write_bytes(b"\xef\xbb\xbfmdb001 G CIRC M 9 8 7 \r\n\xff prose\r\n")
    assert load_mias(tree)[0].lesions == (Lesion("CIRC", MALIGNANT, 9, 1023 - 8, 7),)


def test_pixels_are_not_decoded(draw_tree):
    tree = draw_tree("mdb001 G NORM\n")
    (tree / "mdb001.pgm").write_bytes(b"P5\n1024 1024\n255\n")
    assert load_mias(tree)[0].id == "mdb001"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("mdb001 G", "expected film, tissue and class"),
        ("mdb001 X NORM", "expected a tissue of F G D, received: X"),
        ("mdb001 G LUMP B 1 2 3", "expected a class of CALC CIRC SPIC MISC ARCH ASYM NORM, received: LUMP"),
        ("mdb001 G NORM B", "expected nothing after NORM, received: B"),
        ("mdb001 G CIRC Q 1 2 3", "expected severity B or M, received: Q"),
        ("mdb001 G CIRC", "expected severity B or M, received: the end of the line"),
        ("mdb001 G CIRC B 1 two 3", "expected x, y and radius, received: 1 two 3"),
        ("mdb001 G CIRC B 1 nan 3", "expected x, y and radius, received: 1 nan 3"),
        ("mdb001 G CIRC B 1 2", "expected x, y and radius, received: 1 2"),
        ("mdb001 G CIRC B 1 2 3 4", "expected x, y and radius, received: 1 2 3 4"),
        ("mdb001 G CIRC B 1 1024 3", "expected a circle on 1024x1024 pixels, received: 1 1024 3"),
        ("mdb001 G CIRC B 1 2 0", "expected a circle on 1024x1024 pixels, received: 1 2 0"),
        ("mdb001 G CIRC B 1 2 1024", "expected a circle on 1024x1024 pixels, received: 1 2 1024"),
    ],
)
def test_records_that_make_no_sense(record, expected):
    with pytest.raises(DataError) as error:
        parse_record(record, "Info.txt line 7")
    assert str(error.value).startswith(f"Info.txt line 7: {expected}")
    assert "\n" not in str(error.value)


def test_an_error_names_the_line(draw_tree):
    tree = draw_tree("mdb001 G NORM\nmdb002 G NORMAL\n", header="one\nmdb0012 is prose\n")
    with pytest.raises(DataError, match=r"Info\.txt line 4: expected a class of .* received: NORMAL"):
        load_mias(tree)


@pytest.mark.parametrize(
    "records",
    [
        "mdb001 G CIRC B 1 2 3\nmdb001 F CIRC B 4 5 6\n",
        "mdb001 G CIRC B 1 2 3\nmdb001 G NORM\n",
        "mdb001 G CIRC B 1 2 3\nmdb001 G CIRC B 1 2 3\n",
    ],
    ids=["two tissues", "normal with a lesion", "the same twice"],
)
def test_records_that_disagree(draw_tree, records):
    with pytest.raises(DataError, match="expected records of mdb001 that agree, received: 2"):
        load_mias(draw_tree(records))


def test_record_without_a_film(draw_tree):
    tree = draw_tree("mdb001 G NORM\nmdb002 G NORM\n")
    (tree / "mdb002.pgm").unlink()
    with pytest.raises(
        DataError, match=r"mdb002\.pgm: expected the film that Info\.txt lists, received: nothing there"
    ):
        load_mias(tree)


def test_film_without_a_record(draw_tree):
    tree = draw_tree("mdb001 G NORM\n")
    (tree / "mdb001.pgm").rename(tree / "mdb003.pgm")
    (tree / "Info.txt").write_text("mdb003 G NORM\n")
    (tree / "mdb004.pgm").write_bytes(b"")
    with pytest.raises(DataError, match=r"mdb004\.pgm: expected a record in Info\.txt, received: none"):
        load_mias(tree)


def test_film_of_another_size(draw_tree):
    tree = draw_tree("mdb001 G NORM\n")
    (tree / "mdb001.pgm").write_bytes(b"P5\n4 3\n255\n" + bytes(12))
    with pytest.raises(DataError, match=r"mdb001\.pgm: expected 1024x1024 pixels, received: 4x3"):
        load_mias(tree)


def test_folders_that_are_not_mias_tell_how_to_get_it(tmp_path):
    with pytest.raises(
        DataError, match=r"no such folder; name the folder .* \(--data .*mammogan-tf data fetch data/mias"
    ):
        load_mias(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"without it; .*mammogan-tf data fetch data/mias"):
        load_mias(tmp_path)
    (tmp_path / "Info.txt").write_text("prose alone\n")
    with pytest.raises(DataError, match=r"expected records .*, received: none; .*mammogan-tf data fetch"):
        load_mias(tmp_path)


def test_an_archive_in_place_of_a_folder_is_to_be_unpacked(mias_archive):
    with pytest.raises(DataError, match=rf"received: a file; .* mammogan-tf data fetch data/mias --url {mias_archive}"):
        load_mias(mias_archive)


def test_real_mias(mias_root):
    films = load_mias(mias_root)
    assert len(films) == 322
    assert len({film.patient for film in films}) == 322 / 2
    assert Counter(film.label for film in films) == {NORMAL: 207, BENIGN: 63, MALIGNANT: 51 + 1}
    circles = [lesion for film in films for lesion in film.lesions]
    assert len(circles) == 119
    assert sum(bool(film.lesions) for film in films) == 111
    radii = sorted(lesion.radius for lesion in circles)
    assert (radii[0], radii[119 // 2], radii[-1]) == (3, 41, 197)
    several = {film.id: len(film.lesions) for film in films if len(film.lesions) > 1}
    assert several == {f"mdb{n:03d}": 3 if n == 226 else 2 for n in (5, 132, 144, 223, 226, 239, 249)}
    by_id = {film.id: film for film in films}
    assert {lesion.label for lesion in by_id["mdb144"].lesions} == {BENIGN, MALIGNANT}
    assert by_id["mdb001"].label == by_id["mdb121"].label == BENIGN
