"""The masks of a data set, written out to be looked at."""

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import is_automatic, overlay, save_label_map
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path, visible_pngs

__all__ = ["write_masks"]


def write_masks(films: FilmSet, out: Path) -> Path:
    """Writes ``masks/NAME.png``, ``overlays/NAME.png`` and ``contact_sheet.png`` under ``out``; returns the last.

    Raises:
        DataError: there is no picture, or ``out`` has masks or overlays of other films, which would pass for these, or masks that
            something else drew.
    """
    out = Path(out)
    if not len(films):
        raise DataError(
            "masks: expected one picture or more, received: none; in the roi view a film needs a lesion's place"
        )
    wanted = {f"{name}.png" for name in films.names}
    for folder in (out / "masks", out / "overlays"):
        others = [file.name for file in visible_pngs(folder) if file.name not in wanted]
        if others:
            received = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
            raise DataError(
                f"{folder}: expected pictures of these films only, received: {received}; "
                "remove them or choose another folder"
            )
    drawn = [file.name for file in visible_pngs(out / "masks") if not is_automatic(file)]
    if drawn:
        raise DataError(
            f"{out / 'masks' / drawn[0]}: expected a mask that data masks wrote, received: another; choose another folder"
        )
    overlays = []
    for name, image, label_map in zip(films.names, films.images, films.label_maps, strict=True):
        save_label_map(out / "masks" / f"{name}.png", label_map, automatic=True)
        overlays.append(Image.fromarray(overlay(image, label_map)))
        _save(overlays[-1], out / "overlays" / f"{name}.png")
    sheet = out / "contact_sheet.png"
    _save(_contact_sheet(overlays, films.names), sheet)
    return sheet


def _contact_sheet(pictures: Sequence[Image.Image], names: Sequence[str], cell: int = 128) -> Image.Image:
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (columns * cell, math.ceil(len(pictures) / columns) * cell))
    pen = ImageDraw.Draw(sheet)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        corner = (index % columns * cell, index // columns * cell)
        sheet.paste(picture.resize((cell - 2, cell - 2), Image.Resampling.LANCZOS), corner)
        caption = _plain(name)
        while pen.textlength(caption) > cell - 6:
            caption = "..." + caption[4:]
        pen.text((corner[0] + cell - 4, corner[1] + cell - 4), caption, fill="white", anchor="rs")
    return sheet


def _plain(name: str) -> str:
    """The name in ASCII, without accents and with ``?`` for other letters: for them Pillow's own font has no picture."""
    letters = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    return "".join(letter if letter.isascii() else "?" for letter in letters if not unicodedata.combining(letter))


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
