"""The anatomy of a phantom breast: outline, pectoral muscle, glandular disc and strands, as X-ray attenuation.

Everything is drawn in one frame: a film of 1024 rows, the chest wall along column 0, the nipple to the right. Smooth
things are drawn at half size, on the grid that :func:`half_grid` gives.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

__all__ = [
    "FIELDS",
    "HEIGHT",
    "Build",
    "PhantomAnatomy",
    "draw_anatomy",
    "half_grid",
    "other_breast",
    "sample_build",
    "skin_column",
]

HEIGHT = 1024
"""Rows of a film; one pixel is 0.2 mm wide."""

FIELDS = 4
"""Fields of white noise that a breast is made from."""

_FILM_WIDTHS = (400, 512, 650, 1000)
"""Columns of the four film formats of mini-MIAS."""

_WIDTH_SHARES = {"F": (0.04, 0.21, 0.56, 0.19), "G": (0.15, 0.41, 0.42, 0.02), "D": (0.25, 0.33, 0.40, 0.02)}
_GLAND_BIAS = {"F": (-3.1, 0.4), "G": (-1.6, 0.4), "D": (-0.4, 0.8)}
_GLAND_SIZE = {"F": (0.62, 0.85), "G": (0.75, 1.0), "D": (0.9, 1.15)}


@dataclass(frozen=True)
class Build:
    """The measures of one breast. Columns count from the chest wall and rows from the top, both in pixels.

    The skin line enters the film at the column ``armpit``, leaves it below the row ``waist`` as steeply as ``shoulder``
    says, turns at the nipple, which stands out by ``nipple``, and would meet the chest wall at ``fold_row``, where
    ``abdomen`` bulges. ``rim`` is the depth of skin over which the compressed breast reaches its full thickness.
    ``fat``, ``gland``, ``strands`` and ``muscle`` are attenuations through the full thickness, on the scale of
    :func:`mammogan_tf.data.phantom_film.expose`; ``gland_bias`` is a log odds, ``gland_tilt`` an angle in radians.
    """

    film_width: int
    nipple_column: float
    nipple_row: float
    nipple: float
    armpit: float
    waist: float
    shoulder: float
    fold_row: float
    roundness: float
    abdomen: float
    rim: float
    muscle_top: float
    muscle_foot: float
    muscle_curve: float
    fat: float
    gland: float
    strands: float
    muscle: float
    gland_bias: float
    gland_size: float
    gland_tilt: float
    subcutaneous: float


@dataclass(frozen=True)
class PhantomAnatomy:
    """A breast at half size, each field float32 [512, film_width / 2].

    ``thickness`` and ``gland``, the fraction of glandular tissue, are in [0, 1]; ``skin`` is the distance to the skin
    line in pixels, 0 outside; ``muscle`` the signed distance to the edge of the muscle in pixels, positive inside.
    """

    attenuation: np.ndarray
    thickness: np.ndarray
    skin: np.ndarray
    muscle: np.ndarray
    gland: np.ndarray


def _normal(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    return min(max(rng.normal(mean, spread), low), high)


def sample_build(rng: np.random.Generator, tissue: str) -> Build:
    """A breast of the tissue type F, G or D, with the spread of sizes and shapes of mini-MIAS."""
    width = int(rng.choice(_FILM_WIDTHS, p=_WIDTH_SHARES[tissue]))
    depth = width * _normal(rng, 0.86, 0.07, 0.68, 0.97)
    fullness = max(0.0, depth / 600 - 1)
    nipple_row = _normal(rng, 600, 70, 430, 740)
    armpit = depth * _normal(rng, 0.62 + 0.4 * fullness, 0.13, 0.36, 0.95)
    bias, spread = _GLAND_BIAS[tissue]
    return Build(
        film_width=width,
        nipple_column=depth,
        nipple_row=nipple_row,
        nipple=max(0.0, rng.normal(4, 4)),
        armpit=armpit,
        waist=rng.uniform(0, 190),
        shoulder=rng.uniform(1.1, 2.1),
        fold_row=nipple_row + _normal(rng, 390 + 300 * fullness, 70, 270, 600),
        roundness=rng.uniform(0.42, 0.62),
        abdomen=float(rng.choice([1.0, rng.uniform(15, 0.18 * width)])),
        rim=rng.uniform(100, 230) * (0.6 + 0.4 * depth / 500),
        muscle_top=armpit * rng.uniform(0.55, 0.88),
        muscle_foot=rng.uniform(280, 720),
        muscle_curve=rng.uniform(0.85, 1.45),
        fat=rng.normal(4.7, 0.2),
        gland=rng.uniform(1.1, 2.1),
        strands=rng.uniform(0.15, 0.4),
        muscle=rng.uniform(1.4, 2.5),
        gland_bias=rng.normal(bias, spread),
        gland_size=rng.uniform(*_GLAND_SIZE[tissue]),
        gland_tilt=rng.uniform(0.05, 0.55),
        subcutaneous=rng.uniform(14, 40),
    )


def other_breast(build: Build, rng: np.random.Generator, spread: float = 0.03) -> Build:
    """The other breast of the same woman: every measure but the film's differs by about ``spread`` of itself."""
    values = dataclasses.asdict(build)
    factors = np.exp(spread * rng.standard_normal(len(values)).clip(-2, 2))
    changed = {name: value * float(factor) for (name, value), factor in zip(values.items(), factors, strict=True)}
    changed["film_width"] = build.film_width
    changed["nipple_column"] = min(changed["nipple_column"], 0.98 * build.film_width)
    return Build(**changed)


def half_grid(film_width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [512, 1] and columns [1, film_width / 2] of the half-size grid, in pixels of the film."""
    rows = np.arange(0, HEIGHT, 2, dtype=np.float32) + 0.5
    columns = np.arange(0, film_width, 2, dtype=np.float32) + 0.5
    return rows[:, None], columns[None, :]


def skin_column(build: Build, rows: np.ndarray) -> np.ndarray:
    """Column of the skin line at each row; rows beyond the film are answered too."""
    above = np.clip((rows + 50 - build.waist) / (build.nipple_row + 50 - build.waist), 0, 1)
    below = np.clip((rows - build.nipple_row) / (build.fold_row - build.nipple_row), 0, 1)
    upper = build.armpit + (build.nipple_column - build.armpit) * np.sin(np.pi / 2 * above) ** build.shoulder
    lower = np.where(below < 1, build.nipple_column * (1 - below**2.2) ** build.roundness, -40)
    breast = np.where(rows < build.nipple_row, upper, lower)
    breast += build.nipple * np.exp(-(((rows - build.nipple_row) / 20) ** 2))
    belly = build.abdomen * (1 + (rows - build.fold_row) / 300) - 30
    return np.logaddexp(breast / 12, np.minimum(belly, breast.max()) / 12) * 12


def _muscle_column(build: Build, rows: np.ndarray) -> np.ndarray:
    """Column of the edge of the pectoral muscle at each row, negative below its foot."""
    return build.muscle_top * (1 - np.sign(rows) * (np.abs(rows) / build.muscle_foot) ** build.muscle_curve)


def _skin_distance(build: Build) -> np.ndarray:
    """Distance to the skin line inside the breast, in pixels; the edges of the film are no skin."""
    margin = 64
    rows = np.arange(-2 * margin, HEIGHT + 2 * margin, 2) + 0.5
    columns = np.arange(-2 * margin, build.film_width, 2) + 0.5
    inside = columns[None, :] < skin_column(build, rows)[:, None]
    inside = np.pad(inside, ((0, 0), (0, margin)), mode="constant")
    distance = 2 * ndimage.distance_transform_edt(inside).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, 1.5)
    return distance[margin:-margin, margin:-margin]


@lru_cache(maxsize=64)
def _power_law(shape: tuple[int, int], angle: float, slope: float, stretch: float, longest: float) -> np.ndarray:
    """Amplitude filter f^(-slope/2), drawn out along ``angle``; flat below 1/``longest`` cycles a pixel."""
    down = 0.5 * np.fft.fftfreq(shape[0])[:, None]
    right = 0.5 * np.fft.rfftfreq(shape[1])[None, :]
    along = stretch * (right * np.cos(angle) + down * np.sin(angle))
    across = down * np.cos(angle) - right * np.sin(angle)
    return ((along**2 + across**2 + longest**-2) ** (-slope / 4)).astype(np.float32)


def _oriented_noise(
    white: np.ndarray, direction: np.ndarray, slope: float, stretch: float, longest: float = 400, angles: int = 7
) -> np.ndarray:
    """Noise with the 1/f^slope power spectrum of breast tissue, streaked along ``direction``.

    A steerable mixture: the white field is filtered along a few fixed angles, and each place takes the filters
    nearest to its own direction. (Spectrum: Burgess, Jacobson and Judy, Med. Phys. 28, 2001.)

    Args:
        white: white noise, float32 [h, w], on the half-size grid.
        direction: direction of the strands in radians, float32 [h, w].
        longest: longest wavelength in pixels of the film.

    Returns:
        float32 [h, w], mean 0, standard deviation 1.
    """
    spectrum = np.fft.rfft2(white)
    total = np.zeros_like(white)
    for angle in (math.pi * step / angles for step in range(angles)):
        layer = np.fft.irfft2(spectrum * _power_law(white.shape, angle, slope, stretch, longest), s=white.shape)
        total += np.square(np.square(np.cos(direction - angle))) * layer
    return (total - total.mean()) / total.std()


def _strands(noise: np.ndarray, width: float) -> np.ndarray:
    """Thin bright lines in [0, 1] where a smooth noise crosses zero."""
    return np.exp(-np.square(noise / width))


def _gland_bias(build: Build, skin: np.ndarray) -> np.ndarray:
    """Log odds of glandular tissue before its texture: an ellipse behind the nipple, under the subcutaneous fat."""
    rows, columns = half_grid(build.film_width)
    reach = 0.5 * build.gland_size * build.nipple_column
    spread = 0.5 * build.gland_size * (0.45 * build.nipple_column + 200)
    cos, sin = math.cos(build.gland_tilt), math.sin(build.gland_tilt)
    down = rows - (build.nipple_row - 0.9 * reach * sin)
    right = columns - (build.nipple_column - 0.95 * reach * cos)
    radius = np.hypot((right * cos + down * sin) / reach, (down * cos - right * sin) / spread)
    return build.gland_bias + 2.4 * (1 - radius**1.5).clip(-2) - 4 * np.exp(-skin / build.subcutaneous)


def draw_anatomy(build: Build, white: np.ndarray) -> PhantomAnatomy:
    """Draws a breast.

    Args:
        white: white noise, float32 [FIELDS, 512, film_width / 2]; like noise gives like breasts.
    """
    rows, columns = half_grid(build.film_width)
    fan = np.arctan2(rows - build.nipple_row, columns - build.nipple_column - 60)
    fan = fan + 0.4 * _oriented_noise(white[1], fan, slope=8, stretch=1.5, longest=600)
    texture = _oriented_noise(white[0], fan, slope=3.0, stretch=2.2)
    strands = _strands(_oriented_noise(white[2], fan, slope=7, stretch=6, longest=240), 0.10)
    strands += _strands(_oriented_noise(white[3], fan, slope=6, stretch=6, longest=100), 0.2)
    strands += 0.7 * _strands(_oriented_noise(white[1], fan, slope=5, stretch=5, longest=45), 0.3)
    strands *= 0.5 + 0.5 * np.tanh(texture)

    skin = _skin_distance(build)
    thickness = np.sqrt(1 - np.square((1 - skin / build.rim).clip(0)))
    gland = 1 / (1 + np.exp(-_gland_bias(build, skin) - 0.9 * texture - 0.9 * strands))
    slant = math.hypot(build.muscle_top, build.muscle_foot)
    muscle = (_muscle_column(build, rows) - columns) * (build.muscle_foot / slant)
    muscle_share = (0.6 + 0.4 * (muscle / 220).clip(0, 1)) / (1 + np.exp((-muscle / 6).clip(-60, 60)))

    soft = build.gland * gland + build.strands * strands + 0.12 * texture
    depth = build.fat + (1 - 0.5 * muscle_share) * soft + build.muscle * muscle_share
    attenuation = thickness * depth + 0.25 * np.exp(-np.square((skin - 8) / 4)) * (skin > 0)
    return PhantomAnatomy(*(field.astype(np.float32) for field in (attenuation, thickness, skin, muscle, gland)))
