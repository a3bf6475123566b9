import re

import pytest

from mammogan_tf.data.sources import load_data
from mammogan_tf.errors import DataError

BENIGN, MALIGNANT, NORMAL = 0, 1, 2


def test_a_table_with_its_own_headings(write):
    columns = {"film": "file", "patient": "case", "side": "wall", "label": "pathology", "tissue": "density"}
    rows = 'x,file,case,wall,pathology,density\n1,b.one.png,7,LEFT,Malignant,g\n\n2,"a",,right,,\n3,elsewhere,,,,\n'
    a, b = load_data(write({"table": "films.csv", "columns": columns}, "\ufeff" + rows))
    assert (b.patient, b.side, b.label, b.tissue) == ("mine-7", "left", MALIGNANT, "G")
    assert (a.patient, a.side, a.label, a.tissue) == ("mine-a", "right", NORMAL, None)


def test_columns_are_found_under_their_own_names(write):
    a, b = load_data(write({"table": "films.csv"}, "film,label\na,benign\nb.one\n"))
    assert (a.label, b.label) == (BENIGN, NORMAL)


@pytest.mark.parametrize("heading", ["film, patient, label , tissue", "Film,PATIENT,Label,Tissue"])
def test_headings_may_have_spaces_and_any_case_and_cells_spaces(write, heading):
    """Else patients and labels would be lost without a word."""
    a, b = load_data(write({"table": "films.csv"}, f"{heading}\na , 7 , benign,G \nb.one, 7, malignant,D\n,,,\n,,,\n"))
    assert (a.patient, a.label, a.tissue) == ("mine-7", BENIGN, "G")
    assert (b.patient, b.label, b.tissue) == ("mine-7", MALIGNANT, "D")


@pytest.mark.parametrize("between", [", ", " ,"])
def test_spaces_may_stand_around_quotes(write, between):
    rows = '"film", "patient", "label" \n"a", "7", "benign"\n"b.one", "7, or 8", "malignant" \n'.replace(
        '", "', f'"{between}"'
    )
    a, b = load_data(write({"table": "films.csv"}, rows))
    assert (a.patient, a.label) == ("mine-7", BENIGN)
    assert (b.patient, b.label) == ("mine-7, or 8", MALIGNANT)


def test_a_heading_that_is_spelt_alike_comes_before_one_in_another_case(write):
    description = {"table": "films.csv", "columns": {"patient": "ID"}}
    rows = "film,id,ID,Label,label\na,row-1,7,malignant,benign\nb.one,row-2,7,malignant,benign\n"
    a, b = load_data(write(description, rows))
    assert (a.patient, b.patient, a.label) == ("mine-7", "mine-7", BENIGN)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("film;label\n", r"films\.csv: expected commas between .* columns, received: film;label; save it with commas"),
        (
            "film\tlabel\n",
            r"films\.csv: expected commas between .* columns, received: film\tlabel; save it with commas",
        ),
        (
            "film,woman,pathology\na,7,benign\nb.one,7,\n",
            r"films\.csv: expected a column patient, side, label or tissue, received: film, woman, pathology; "
            r"name them under columns in dataset\.json",
        ),
        (
            "film,Patient ID,label\na,7,benign\nb.one,7,\n",
            r"films\.csv: expected a column patient, received: one that is named Patient ID; rename it, or say in dataset\.json "
            r'"columns": {"patient": "Patient ID"}',
        ),
        (
            "film,size mm,patient\na,12,5,7\nb.one,13,7,7\n",
            r"films\.csv: expected 3 cells in a row, received: 4 in that of a; put cells with a comma in them into quotes",
        ),
        (
            "film,label,Label,label\na,benign,,malignant\n",
            r"films\.csv: expected one column label, received: two of them; ",
        ),
        ("film,LABEL,Label\na,benign,malignant\n", r"films\.csv: expected one column label, received: two of them; "),
        ("film,label\na,benign\n", r"b\.one\.png: expected a row in the table of dataset\.json, received: none"),
        ("film,label\na,b\nb.one,\n", r"a\.png: expected benign, malignant, normal or nothing as its label .*: b;"),
        ("film,side\na,L\nb.one,\n", r"a\.png: expected left, right or nothing as its side .* received: L;"),
        ("film,tissue\na,C\nb.one,\n", r"a\.png: expected F, G, D or nothing as its tissue .* received: C;"),
        (
            'film,label,remark\na,benign,"large\nb.one,,\n',
            r"films\.csv: expected quotes that close at .* their cell, received: unexpected end of data \(line 3\); correct",
        ),
        ('film,remark,label\na,"5" long",benign\nb.one,,\n', r"films\.csv: expected quotes .* ',' expected after '\"'"),
        (
            f"film,label,remark\na,benign,{'x' * 200_000}\nb.one,,\n",
            r"films\.csv: expected cells of ordinary length, .* \(line 2\); shorten it, or close its quote",
        ),
        (
            "film,label\na,benign\n,normal\n",
            r"films\.csv: expected a film in each row, received: none in that of normal;",
        ),
        ("", r"films\.csv: expected a column film, received: an empty file; name it"),
        ("film\na\na.png\nb.one\n", r"films\.csv: expected one row for each film, received: two of a;"),
    ],
)
def test_a_table_that_makes_no_sense(write, table, says):
    with pytest.raises(DataError, match=says) as error:
        load_data(write({"table": "films.csv"}, table))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "heading",
    [
        "patient_id",
        "PatientID",
        "Patients",
        "patient no.",
        "breast side",
        "Image-Label",
        "tissue type",
        "patientid",
        "Patient (ID)",
        "anon_patient_id",
        "patient key of the site",
        "side (L/R)",
        "true_label",
    ],
)
def test_a_heading_that_means_a_column_is_not_passed_over(write, heading):
    with pytest.raises(DataError, match=re.escape(f"received: one that is named {heading}; rename it")):
        load_data(write({"table": "films.csv"}, f"film,{heading},remark\na,,\nb.one,,\n"))


@pytest.mark.parametrize("heading", ["resident", "patient_age", "label_by", "Residence", "tissues removed"])
def test_a_heading_that_means_something_else_is_passed_over(write, heading):
    films = load_data(write({"table": "films.csv"}, f"film,{heading},tissue\na,40,F,,\nb.one,40,G\n"))
    assert [film.tissue for film in films] == ["F", "G"]
    assert [film.patient for film in films] == ["mine-a", "mine-b.one"]


def test_a_column_that_is_not_there(write):
    description = {"table": "films.csv", "columns": {"label": "pathology"}}
    with pytest.raises(DataError, match="expected a column pathology, received: film, label"):
        load_data(write(description, "film,label\na,benign\nb.one,benign\n"))


def test_a_line_of_excel_before_the_headings(write):
    films = load_data(write({"table": "films.csv"}, "sep=,\nfilm,label\na,benign\nb.one,malignant\n"))
    assert [film.label for film in films] == [0, 1]


def test_a_workbook_is_called_one(write):
    root = write({"table": "films.csv"})
    (root / "films.csv").write_bytes(b"PK\x03\x04\xff")
    with pytest.raises(DataError, match="expected a CSV file in UTF-8, received: an Excel workbook; save it anew"):
        load_data(root)


def test_a_table_that_is_not_utf8(write):
    root = write({"table": "films.csv"})
    (root / "films.csv").write_bytes(b"film\n\xff\n")
    with pytest.raises(DataError, match=r"films\.csv: expected a CSV file in UTF-8"):
        load_data(root)
