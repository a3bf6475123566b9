"""The film of a phantom: how it darkens, its grain, and what else is on it: labels, numbers, strips, dust."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mammogan_tf.data.phantom_tissue import HEIGHT, Build, skin_column

__all__ = ["Marks", "add_marks", "expose", "mount", "sample_marks"]

_FOG = 4.35
_BRIGHTEST = 236


@dataclass(frozen=True)
class Marks:
    """What is on a film beside the breast: a bright label, a faint number, a bright strip of so many columns, a noisy
    band of so many rows at the top. Lettering is mirrored where the film was digitised from behind."""

    label: bool
    number: str
    strip: int
    noisy_rows: int
    mirrored: bool


def sample_marks(rng: np.random.Generator) -> Marks:
    """Marks about as frequent as in mini-MIAS: labels on nearly half of the films, strips on 1 of 18."""
    return Marks(
        label=rng.random() < 0.45,
        number=str(rng.integers(1, 100)) if rng.random() < 0.35 else "",
        strip=int(rng.integers(12, 197)) if rng.random() < 18 / 322 else 0,
        noisy_rows=int(rng.integers(12, 90)) if rng.random() < 0.015 else 0,
        mirrored=rng.random() < 0.9,
    )


def expose(attenuation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey levels of a digitised film, float32, for an X-ray attenuation that is 0 in air and about 5 in fat.

    The characteristic (Hurter-Driffield) curve of film is a sigmoid of the logarithm of exposure, and that logarithm
    falls linearly with attenuation. Grain and digitiser noise are added.
    """
    grey = _BRIGHTEST / (1 + np.exp(_FOG - attenuation)) - _BRIGHTEST / (1 + np.exp(_FOG))
    fine = rng.standard_normal(grey.shape, dtype=np.float32)
    grain = ndimage.uniform_filter(fine, (1, 2)) * (0.8 + 1.2 * (grey / 60).clip(0, 1))
    return grey - 0.1 + grain


def _lettering(text: str, height: int, mirrored: bool) -> Image.Image:
    """Text as a mode L image of ink (255) on nothing (0), cropped to the ink."""
    font = ImageFont.load_default(height)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    tile = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(tile).text((1 - left, 1 - top), text, fill=255, font=font)
    return tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else tile


def _add_label(film: Image.Image, letter: str, column: int, mirrored: bool, rng: np.random.Generator) -> None:
    """A bright plate with the side and the view (ML), a little askew, often cut off by the edge of the film."""
    plate = Image.new("L", (100, 142), 0)
    ImageDraw.Draw(plate).rounded_rectangle((1, 1, 98, 140), 5, fill=int(rng.integers(228, 253)))
    for text, row in ((letter, 26), ("ML", 84)):
        ink = _lettering(text, 42, mirrored)
        plate.paste(22, (50 - ink.width // 2, row), ink)
    stencil = Image.new("L", plate.size, 255)
    angle = float(rng.normal(0, 3))
    plate, stencil = (
        image.rotate(angle, Image.Resampling.BILINEAR, expand=True).convert("L") for image in (plate, stencil)
    )
    film.paste(plate, (column, int(rng.integers(-90, 60))), stencil)


def _add_strip(film: Image.Image, width: int, column: int, rng: np.random.Generator) -> None:
    """A bright full-height strip beside the breast, where the film was not exposed; its edge is often aslant."""
    slant = int(rng.integers(0, max(2, width // 2)))
    edge = max(column, film.width - width)
    corners = [(edge + slant, 0), (edge, HEIGHT), (edge + width, HEIGHT), (edge + width, 0)]
    ImageDraw.Draw(film).polygon(corners, fill=int(rng.integers(232, 250)))


def add_marks(grey: np.ndarray, marks: Marks, build: Build, side: str, rng: np.random.Generator) -> np.ndarray:
    """Adds the marks to a film whose chest wall, now column 0, will be on ``side``: float32 [H, W] -> uint8 [H, W]."""
    film = Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
    skin = skin_column(build, np.arange(HEIGHT))
    mirrored = marks.mirrored != (side == "right")
    beside = int(min(max(skin[:180].max() + rng.integers(10, 150), film.width - 260), film.width - 35))
    if marks.noisy_rows:
        band = rng.normal(55, 16, (marks.noisy_rows, film.width)).clip(0, 255).astype(np.uint8)
        film.paste(Image.fromarray(band), (0, 0))
    if marks.strip:
        _add_strip(film, marks.strip, int(skin.max()) + 12, rng)
    if marks.label:
        _add_label(film, "L" if side == "right" else "R", beside, mirrored, rng)
    if marks.number:
        ink = _lettering(" ".join(marks.number), 38, mirrored)
        film.paste(int(rng.integers(22, 110)), (beside + 10, int(rng.integers(205, 290))), ink)
    for _ in range(rng.poisson(5)):
        column, row, size = (int(rng.integers(0, end)) for end in (film.width, HEIGHT, 3))
        ImageDraw.Draw(film).ellipse((column, row, column + size, row + 1), fill=int(rng.integers(190, 240)))
    return np.asarray(film)


def mount(film: np.ndarray, side: str) -> np.ndarray:
    """Centres a film [1024, W] on black [1024, 1024], and turns its chest wall to the ``side`` of the picture."""
    room = HEIGHT - film.shape[1]
    picture = np.pad(film, ((0, 0), (room // 2, room - room // 2)))
    return np.ascontiguousarray(picture[:, ::-1]) if side == "right" else picture
