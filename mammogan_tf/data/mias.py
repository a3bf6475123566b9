"""The mini-MIAS mammograms (Suckling et al. 1994): 322 films of 161 patients, described in ``Info.txt``.

A record of ``Info.txt`` is a line such as ``mdb001 G CIRC B 535 425 197``: film, tissue (F fatty, G fatty-glandular,
D dense-glandular), class, and for a lesion its severity (B, M) and mostly a circle: column, height above the *bottom*
edge, radius. A film with several lesions has several records.
"""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mammogan_tf.config import BENIGN, LABELS, MALIGNANT, NORMAL
from mammogan_tf.data.film import TISSUES, Film, Lesion, read_size
from mammogan_tf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXTENT",
    "FETCH",
    "PLACES",
    "Record",
    "build_film",
    "find_images",
    "find_root",
    "group_records",
    "load_mias",
    "paper_table",
    "parse_record",
    "patient_of",
    "read_info",
    "side_of",
]

EXTENT = 1024
"""Height and width of every film, in pixels (200 micrometres each)."""

KINDS = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM")
SEVERITIES = {"B": BENIGN, "M": MALIGNANT}

FETCH = "name the folder of your films (--data of a training), or get some with: mammogan-tf data fetch data/mias"


@dataclass(frozen=True)
class Record:
    """One line of ``Info.txt``: the film's tissue and, unless it is normal, one lesion (``circle`` where located).

    ``circle`` is (column, row, radius) in pixels, with the row counted from the top.
    """

    film: str
    tissue: str
    kind: str | None = None
    label: int = NORMAL
    circle: tuple[float, float, float] | None = None


def patient_of(number: int) -> int:
    """The number of the patient of film ``mdb<number>``: each has two films in a row."""
    return (number + 1) // 2


def side_of(number: int) -> str:
    """Where the chest wall is in the picture ``mdb<number>``: on the right where the number is odd."""
    return "right" if number % 2 else "left"


PLACES = ("", "all-mias")
"""Where the films and ``Info.txt`` may be in the folder of the data: at its top, or where the archive unpacks."""


def find_root(root: str | os.PathLike[str]) -> Path:
    """The folder that holds ``Info.txt``: ``root`` itself or its ``all-mias``, as the archive unpacks.

    Raises:
        DataError: there is no such folder, it is a file, or ``Info.txt`` is in neither.
    """
    folder = Path(root)
    if folder.is_file():
        unpack = f"unpack an archive with: mammogan-tf data fetch data/mias --url {shlex.quote(str(folder))}"
        raise DataError(f"{folder}: expected a folder of mammograms, received: a file; {unpack}")
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of mammograms, received: no such folder; {FETCH}")
    for place in PLACES:
        if (folder / place / "Info.txt").is_file():
            return folder / place
    raise DataError(f"{folder}: expected Info.txt beside the films, received: a folder without it; {FETCH}")


def load_mias(root: str | os.PathLike[str]) -> list[Film]:
    """All films of a folder in the MIAS layout (PGM, or PNG of the same names), in the order of their numbers.

    Pixels are not decoded; the size that each file's header states is checked.

    Raises:
        DataError: no ``Info.txt``, a record that makes no sense, a film without a record or a record without a film,
            a file that is no image or not 1024x1024.
    """
    folder = find_root(root)
    info = folder / "Info.txt"
    records = group_records(parse_record(text, f"{info} line {number}") for number, text in read_info(info))
    images = find_images(folder)
    for film in sorted(records.keys() - images.keys()):
        raise DataError(f"{folder / film}.pgm: expected the film that Info.txt lists, received: nothing there; {FETCH}")
    for film in sorted(images.keys() - records.keys()):
        raise DataError(f"{images[film]}: expected a record in Info.txt, received: none; add it or remove the film")
    return [build_film(images[film], records[film]) for film in sorted(records)]


def read_info(info: Path) -> list[tuple[int, str]]:
    """The records of an ``Info.txt`` as (line number from 1, line); its prose is left out.

    Raises:
        DataError: there are none.
    """
    lines = info.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    records = [(number, line) for number, line in enumerate(lines, start=1) if re.match(r"mdb\d{3}\b", line)]
    if not records:
        raise DataError(f"{info}: expected records such as 'mdb003 D NORM', received: none; {FETCH}")
    return records


def parse_record(text: str, where: str) -> Record:
    """Reads one record. ``where`` names the line in errors.

    Raises:
        DataError: an unknown tissue, class or severity, letters for numbers, a circle off the film, fields too many
            or too few.
    """

    def need(holds: bool, expected: str, received: str) -> None:
        if not holds:
            raise DataError(f"{where}: expected {expected}, received: {received}; correct the line")

    fields = text.split()
    need(len(fields) >= 3, "film, tissue and class", text.strip())
    film, tissue, kind, *rest = fields
    need(tissue in TISSUES, f"a tissue of {' '.join(TISSUES)}", tissue)
    if kind == "NORM":
        need(not rest, "nothing after NORM", " ".join(rest))
        return Record(film, tissue)
    need(kind in KINDS, f"a class of {' '.join(KINDS)} NORM", kind)
    need(bool(rest) and rest[0] in SEVERITIES, "severity B or M", rest[0] if rest else "the end of the line")
    label, place = SEVERITIES[rest[0]], rest[1:]
    if not place or place[0] == "*NOTE":
        return Record(film, tissue, kind, label)
    need(
        len(place) == 3 and all(re.fullmatch("[0-9]{1,9}", number) for number in place),
        "x, y and radius",
        " ".join(place),
    )
    x, y, radius = map(int, place)
    need(max(x, y) < EXTENT and 0 < radius < EXTENT, f"a circle on {EXTENT}x{EXTENT} pixels", " ".join(place))
    return Record(film, tissue, kind, label, (float(x), float(EXTENT - 1 - y), float(radius)))


def group_records(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by film."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.film, []).append(record)
    return groups


def find_images(folder: Path) -> dict[str, Path]:
    """Films on disk by id. Where a film is there twice, its PGM counts."""
    paths = [path for suffix in ("png", "pgm") for path in folder.glob(f"mdb[0-9][0-9][0-9].{suffix}")]
    return {path.stem: path for path in paths}


def build_film(path: Path, records: list[Record]) -> Film:
    """The film at ``path`` with the lesions of its ``records``.

    Films 2k-1 and 2k show the right and the left breast of one patient, with the chest wall at the right and the left
    edge. A film with a malignant lesion is malignant, whatever else it holds.

    Raises:
        DataError: records that contradict or repeat each other, a file that is no image or not 1024x1024.
    """
    film = path.stem
    alike = len({record.tissue for record in records}) == 1 and len(set(records)) == len(records)
    if not alike or (len(records) > 1 and any(record.label == NORMAL for record in records)):
        raise DataError(
            f"{path.parent / 'Info.txt'}: expected records of {film} that agree, "
            f"received: {len(records)} that contradict or repeat each other; correct them"
        )
    size = read_size(path)
    if size != (EXTENT, EXTENT):
        raise DataError(
            f"{path}: expected {EXTENT}x{EXTENT} pixels, received: {size[1]}x{size[0]}; "
            "keep the films as MIAS stores them"
        )
    labels = {record.label for record in records}
    number = int(film[3:])
    return Film(
        id=film,
        path=path,
        patient=f"mias{patient_of(number):03d}",
        label=SEVERITIES["M"] if SEVERITIES["M"] in labels else min(labels),
        side=side_of(number),
        tissue=records[0].tissue,
        lesions=tuple(
            Lesion(record.kind, record.label, *record.circle)
            for record in records
            if record.kind is not None and record.circle is not None
        ),
    )


def paper_table(films: Iterable[Film]) -> "pd.DataFrame":
    """File names and labels in words, as in Table 1 of the paper, but with the labels that ``Info.txt`` gives."""
    import pandas as pd

    rows = [(film.path.name, LABELS[film.label]) for film in films]
    return pd.DataFrame(rows, columns=["filename", "label"])
