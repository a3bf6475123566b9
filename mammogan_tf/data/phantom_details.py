"""The fine things of a phantom breast, drawn at full size: vessels, ducts and lesions, as X-ray attenuation."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from mammogan_tf.config import MALIGNANT
from mammogan_tf.data.film import Lesion
from mammogan_tf.data.phantom_tissue import HEIGHT, Build, PhantomAnatomy, half_grid

__all__ = ["draw_lesion", "draw_vessels", "place_lesion"]

_MEDIAN_RADIUS = {"CIRC": 46, "SPIC": 41, "CALC": 26, "MISC": 37, "ARCH": 56, "ASYM": 46}


def _curve(start: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> list[tuple[float, float]]:
    """A gently wandering line from ``start`` to ``end``, as (column, row) points."""
    along = np.linspace(0, 1, 24)[:, None]
    line = end - start
    normal = np.array([-line[1], line[0]])
    bend = sum(rng.normal(0, 0.09 / k**1.5) * np.sin(np.pi * k * along) for k in (1, 2, 3, 5))
    points = start + along * line + bend * normal
    return [(float(column), float(row)) for column, row in points]


def draw_vessels(build: Build, rng: np.random.Generator) -> np.ndarray:
    """Vessels that cross the breast and ducts that leave the nipple: attenuation, float32 [1024, film_width]."""
    layer = Image.new("L", (build.film_width, HEIGHT))
    pen = ImageDraw.Draw(layer)
    nipple = np.array([build.nipple_column, build.nipple_row])
    for _ in range(rng.integers(2, 6)):
        from_wall = np.array([0, rng.uniform(0.1, 0.95) * build.fold_row])
        from_armpit = np.array([rng.uniform(0.1, 0.9) * build.armpit, 0])
        start = from_wall if rng.random() < 0.6 else from_armpit
        end = start + rng.uniform(0.35, 0.95) * (nipple + rng.normal(0, 60, 2) - start)
        pen.line(_curve(start, end, rng), fill=int(rng.integers(15, 60)), width=int(rng.integers(2, 7)), joint="curve")
    for _ in range(rng.integers(5, 14)):
        angle = np.pi + rng.normal(0, 0.75)
        end = nipple + rng.uniform(50, 230) * np.array([np.cos(angle), np.sin(angle)])
        pen.line(_curve(nipple - [12, 0], end, rng), fill=int(rng.integers(25, 80)), width=int(rng.integers(2, 5)))
    return ndimage.gaussian_filter(np.asarray(layer, dtype=np.float32), 1.2) / 160


def _room(radius: float, anatomy: PhantomAnatomy, build: Build, others: list[Lesion]) -> np.ndarray:
    """Where the centre of a lesion may lie: bool on the half-size grid."""
    rows, columns = half_grid(build.film_width)
    room = (anatomy.skin > 0.7 * radius + 15) & (anatomy.muscle < -0.5 * radius) & (columns > 0.5 * radius)
    room &= (rows > 0.7 * radius) & (rows < HEIGHT - 0.7 * radius)
    for other in others:
        room &= np.hypot(rows - other.row, columns - other.column) > radius + other.radius
    return room


def place_lesion(
    kind: str, label: int, anatomy: PhantomAnatomy, build: Build, others: list[Lesion], rng: np.random.Generator
) -> Lesion:
    """A circle inside the breast, off the muscle and the other lesions, mostly where glandular tissue is."""
    radius = float(np.clip(_MEDIAN_RADIUS[kind] * np.exp(rng.normal(0, 0.4)), 12, 120).round())
    while not (room := _room(radius, anatomy, build, others)).any():
        radius = float(round(0.7 * radius))
    weight = np.cumsum(room * (0.12 + anatomy.gland), dtype=np.float64)
    row, column = divmod(int(np.searchsorted(weight, rng.random() * weight[-1], side="right")), room.shape[1])
    return Lesion(kind, label, column=2.0 * column, row=2.0 * row, radius=radius)


def _outline(radius: float, lobes: float, span: int, rng: np.random.Generator) -> np.ndarray:
    """Distance from the centre of a patch in units of a lobed outline of the given radius: float32 [span, span]."""
    axis = np.arange(span, dtype=np.float32) - span // 2
    angle = np.arctan2(axis[:, None], axis[None, :])
    edge = np.ones_like(angle)
    for k in range(2, 7):
        edge += float(lobes * rng.normal() / k) * np.cos(k * angle + float(rng.uniform(0, 2 * np.pi)))
    return np.hypot(axis[:, None], axis[None, :]) / (radius * edge.clip(0.6, 1.3))


def _spicules(radius: float, count: int, span: int, rng: np.random.Generator) -> np.ndarray:
    """Lines that radiate from the centre and fade outwards, in [0, 1]."""
    layer = Image.new("L", (span, span))
    pen = ImageDraw.Draw(layer)
    centre = np.full(2, span // 2)
    for angle in rng.uniform(0, 2 * np.pi, count):
        end = centre + rng.uniform(0.55, 1.0) * radius * np.array([np.cos(angle), np.sin(angle)])
        pen.line(
            _curve(centre, end, rng),
            fill=int(rng.integers(40, 200)),
            width=int(rng.integers(1, 3 + round(radius / 25))),
        )
    lines = ndimage.gaussian_filter(np.asarray(layer, dtype=np.float32), 1.0) / 255
    return lines * (1.15 - _outline(radius, 0, span, rng)).clip(0, 1)


def _circumscribed(radius: float, malignant: bool, span: int, rng: np.random.Generator) -> np.ndarray:
    outline = _outline(0.82 * radius, 0.25 if malignant else 0.1, span, rng)
    body = (1 - outline**2.5).clip(0)
    halo = np.exp(-(((outline - 1.12) / 0.08) ** 2))
    return ndimage.gaussian_filter(body - (0.0 if malignant else 0.12) * halo, 0.05 * radius)


def _spiculated(radius: float, malignant: bool, span: int, rng: np.random.Generator) -> np.ndarray:
    outline = _outline((0.42 if malignant else 0.3) * radius, 0.4, span, rng)
    return np.exp(-(outline**2.5)) + 0.6 * _spicules(radius, 40 if malignant else 16, span, rng)


def _ill_defined(radius: float, malignant: bool, span: int, rng: np.random.Generator) -> np.ndarray:
    return np.exp(-(_outline(0.65 * radius, 0.45 if malignant else 0.25, span, rng) ** 3))


def _distortion(radius: float, malignant: bool, span: int, rng: np.random.Generator) -> np.ndarray:
    centre = 0.3 * np.exp(-(_outline(0.35 * radius, 0.3, span, rng) ** 2))
    return centre + 0.55 * _spicules(radius, 26 if malignant else 16, span, rng)


def _asymmetry(radius: float, malignant: bool, span: int, rng: np.random.Generator) -> np.ndarray:
    mottle = ndimage.gaussian_filter(rng.standard_normal((span, span), dtype=np.float32), 0.1 * radius)
    return (0.75 + 0.12 * mottle / mottle.std()) * np.exp(-(_outline(0.75 * radius, 0.4, span, rng) ** 2))


def _calcifications(radius: float, malignant: bool, span: int, rng: np.random.Generator) -> np.ndarray:
    """A cluster of specks: a few round ones where benign, many fine and irregular ones where malignant."""
    layer = Image.new("L", (span, span))
    pen = ImageDraw.Draw(layer)
    for _ in range(rng.integers(14, 34) if malignant else rng.integers(5, 14)):
        distance, angle = 0.85 * radius * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        column, row = span // 2 + distance * np.cos(angle), span // 2 + distance * np.sin(angle)
        size = rng.uniform(0.5, 1.5) if malignant else rng.uniform(1.0, 2.6)
        stretch = rng.uniform(0.5, 1.8) if malignant else rng.uniform(0.85, 1.15)
        box = (column - size * stretch, row - size / stretch, column + size * stretch, row + size / stretch)
        pen.ellipse(box, fill=int(rng.integers(70, 256)))
    return ndimage.gaussian_filter(np.asarray(layer, dtype=np.float32), 0.7) / 255


_PROFILES: dict[str, tuple[Callable[..., np.ndarray], tuple[float, float]]] = {
    "CIRC": (_circumscribed, (0.8, 1.5)),
    "SPIC": (_spiculated, (0.9, 1.5)),
    "MISC": (_ill_defined, (0.8, 1.3)),
    "ARCH": (_distortion, (0.7, 1.2)),
    "ASYM": (_asymmetry, (0.8, 1.3)),
    "CALC": (_calcifications, (1.8, 3.0)),
}


def draw_lesion(lesion: Lesion, attenuation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds a lesion to ``attenuation``, float32 [H, W], in place.

    Malignant ones have more spicules and irregular outlines; benign circumscribed ones have a halo.

    Returns:
        Where the lesion is, bool [H, W].
    """
    margin = round(1.5 * lesion.radius) + 4
    draw, contrast = _PROFILES[lesion.kind]
    patch = draw(lesion.radius, lesion.label == MALIGNANT, 2 * margin + 1, rng)
    extent = ndimage.gaussian_filter(patch.clip(0), 0.2 * lesion.radius)
    top, left = round(lesion.row) - margin, round(lesion.column) - margin
    height, width = attenuation.shape
    film = slice(max(top, 0), min(top + 2 * margin + 1, height)), slice(max(left, 0), min(left + 2 * margin + 1, width))
    part = slice(film[0].start - top, film[0].stop - top), slice(film[1].start - left, film[1].stop - left)
    attenuation[film] += float(rng.uniform(*contrast)) * patch[part]
    where = np.zeros(attenuation.shape, dtype=bool)
    where[film] = extent[part] > 0.25 * extent.max()
    return where
