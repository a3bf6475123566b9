"""Draws small trees in the MIAS layout: films of an ellipse at the chest wall, and an ``Info.txt`` with its quirks."""

import functools
import re
from pathlib import Path

import numpy as np

__all__ = ["HEADER", "RECORDS", "draw_film", "draw_mias_tree"]

HEADER = """\
              MAMMOGRAPHIC IMAGE ANALYSIS SOCIETY
mdb is how the names of files begin; mdbNNN.pgm is a film, and so is
 mdb001 in this sentence. NORM - Normal; coordinates start at the bottom-left.

"""

RECORDS = """\
mdb001 G CIRC B 900 523 40
mdb002 G NORM
mdb003 D NORM
mdb004 D MISC B 150 623 29
mdb004 D MISC M 200 423 27
mdb005 F CIRC B 877 433 30
mdb005 F ASYM B 900 568 26
mdb006 F NORM
mdb007 D CALC M *NOTE 3*
mdb008 D NORM
mdb009 F CIRC B
mdb010 F NORM
mdb011 F SPIC M 50 1003 10
mdb012 F NORM

=================================================================
""".replace("NORM\n", "NORM \n").replace("3*\n", "3* \n")
"""Six patients: two lesions in mdb004 (mixed) and mdb005, none located in mdb007 and mdb009, one off the breast in
mdb011. As in the official file, many lines end in a space."""


@functools.cache
def _breast() -> np.ndarray:
    rows, columns = np.ogrid[:1024, :1024]
    depth = 1 - (columns / 520) ** 2 - ((rows - 512) / 430) ** 2
    return np.where(depth > 0, 90 + 90 * np.sqrt(np.maximum(depth, 0)), 6).astype(np.uint8)


def draw_film(number: int) -> np.ndarray:
    """Film ``number``, uint8 [1024, 1024]: odd ones have the chest wall on the right; no two are alike."""
    grey = _breast()[:, :: -1 if number % 2 else 1].copy()
    grey[512, 300:724] += np.uint8(number % 50)
    return grey


def draw_mias_tree(folder: Path, records: str = RECORDS, header: str = HEADER) -> Path:
    """Writes ``Info.txt`` and the films that its records name into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Info.txt").write_text(header + records)
    for film in sorted(set(re.findall(r"^mdb\d{3}\b", records, re.MULTILINE))):
        pixels = draw_film(int(film[3:]))
        (folder / f"{film}.pgm").write_bytes(b"P5\n1024 1024\n255\n" + pixels.tobytes())
    return folder
