"""The table of a folder of films: what a CSV file says of each film, as spreadsheets write it."""

import csv
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammogan_tf.errors import DataError

__all__ = ["COLUMNS", "compose", "fault", "read_table"]

COLUMNS = ("film", "patient", "side", "label", "tissue")

BESIDE = re.compile(
    "a|anon|breast|class|code|film|ids?|image|key|l|left|lesion|name|nr?|no|number|of|r|right|site|the|true|type|uid|view"
)
"""Words beside a column's name in a heading that means it, such as *Image label* or *side (L/R)*; *label by* does not."""

OF_A_PATIENT = re.compile("age|birth|date|dob|gender|height|history|orientation|position|race|remarks?|sex|weight|year")
"""Words by which a heading means something else of a patient than who she is; all others do: one passed over splits her up."""


def read_table(path: Path, columns: Mapping[str, str], images: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Rows by film. A column is found under the heading that ``columns`` gives, else under its own name, in any case.

    Empty rows, which spreadsheets write at the end, are none. A table may name films alone, but one of which nothing else is
    understood was meant to say more.

    Args:
        path: the CSV file.
        columns: headings by names out of :data:`COLUMNS`.
        images: files by film; a row may name a film by its file.

    Raises:
        DataError: no CSV in UTF-8, an open quote, another separator, a column that is missing or nearly there, or two rows of a
            film.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader((_close_quotes(compose(line)) for line in stream), skipinitialspace=True, strict=True)
            rows_read = list(reader) or [[]]
            excel_says_so = rows_read[0][:1] == ["sep="]  # In a line of its own before the headings.
            headings, *lines = rows_read[excel_says_so:] or [[]]
    except csv.Error as error:
        received = f"{error} (line {reader.line_num})"
        if "field larger" in str(error):  # Often of a quote that is never closed.
            raise fault(path, "cells of ordinary length", received, "shorten it, or close its quote") from error
        raise fault(path, "quotes that close at the end of their cell", received, "correct them") from error
    except OSError as error:
        expected, advice = "the CSV file that dataset.json names", "put it there or correct the name"
        raise fault(path, expected, error.strerror or error, advice) from error
    except ValueError as error:
        received = "an Excel workbook" if path.read_bytes()[:2] == b"PK" else str(error)
        raise fault(path, "a CSV file in UTF-8", received, 'save it anew, in Excel as "CSV UTF-8"') from error
    if len(headings) == 1 and re.search(r"[;\t]", headings[0]):
        raise fault(path, "commas between the columns", headings[0], "save it with commas")
    places, exact = {}, [heading.strip() for heading in headings]
    in_any_case = [heading.lower() for heading in exact]
    for column in COLUMNS:
        heading = compose(columns.get(column, column)).strip()
        found, sought = (exact, heading) if heading in exact else (in_any_case, heading.lower())
        if found.count(sought) > 1:
            raise fault(path, f"one column {heading}", "two of them", "rename the one that is not meant")
        if sought in found:
            places[column] = found.index(sought)
        elif column in columns or column == "film":
            received = ", ".join(headings) or "an empty file"
            raise fault(path, f"a column {heading}", received, "name it under columns in dataset.json")
    for column in COLUMNS:
        alike = [name for place, name in enumerate(exact) if place not in places.values() and _means(name, column)]
        if column not in places and alike:
            advice = f'rename it, or say in dataset.json "columns": {{"{column}": "{alike[0]}"}}'
            raise fault(path, f"a column {column}", f"one that is named {alike[0]}", advice)
    if [*places] == ["film"] and sum(map(bool, exact)) > 1:
        expected = f"a column {', '.join(COLUMNS[1:-1])} or {COLUMNS[-1]}"
        raise fault(path, expected, ", ".join(headings), "name them under columns in dataset.json")
    names = {compose(image.name): film for film, image in images.items()}
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        if not any(cell.strip() for cell in line):
            continue
        if any(cell.strip() for cell in line[len(headings) :]):
            advice = "put cells with a comma in them into quotes"
            raise fault(path, f"{len(headings)} cells in a row", f"{len(line)} in that of {line[0]}", advice)
        row = {column: line[place].strip() if place < len(line) else "" for column, place in places.items()}
        if not row["film"]:
            others = ", ".join(filter(None, row.values())) or ", ".join(filter(None, line))
            raise fault(path, "a film in each row", f"none in that of {others}", "name it, or remove the row")
        film = names.get(row["film"], row["film"])
        if film in rows:
            raise fault(path, "one row for each film", f"two of {film}", "keep one")
        rows[film] = row
    return rows


def _means(heading: str, column: str) -> bool:
    """Whether a heading means a column: by its name, whole or with a word of :data:`BESIDE` behind it, and the words around."""
    words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", heading).lower())
    named = re.compile(f"{column}s?({BESIDE.pattern})?")
    others = [word for word in words if not named.fullmatch(word)]
    if len(others) == len(words):
        return False
    return not any(map(OF_A_PATIENT.fullmatch, words)) if column == "patient" else all(map(BESIDE.fullmatch, others))


def _close_quotes(line: str) -> str:
    """A line of CSV without the spaces between a quote and the comma or the end, which a strict reader refuses."""
    return re.sub(r'"[ \t]+(?=,|\r?\n?$)', '"', line)


def compose(text: str) -> str:
    """The same text with each letter and its accents as one character: macOS spells names apart, tables do not (NFD, NFC)."""
    return unicodedata.normalize("NFC", text)


def fault(where: Path, expected: str, received: Any, advice: str) -> DataError:
    """What is wrong with a data set of one's own, in one line."""
    return DataError(f"{where}: expected {expected}, received: {' '.join(str(received).splitlines())}; {advice}")
