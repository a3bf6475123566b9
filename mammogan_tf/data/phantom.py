"""Phantom mammograms: procedural films in the official mini-MIAS layout, so that everything runs with no download.

A patient's two breasts share their build and most of their texture; a film depends on nothing but the seed, the patient
and the side. No phantom shows a real person; they are for tests, demonstrations and teaching.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from mammogan_tf.config import (
    ADIPOSE,
    BACKGROUND,
    BENIGN,
    FIBROGLANDULAR,
    LABELS,
    LESION,
    MALIGNANT,
    NORMAL,
    PECTORAL,
)
from mammogan_tf.console import Progress
from mammogan_tf.data.film import Lesion
from mammogan_tf.data.mias import patient_of, side_of
from mammogan_tf.data.phantom_details import draw_lesion, draw_vessels, place_lesion
from mammogan_tf.data.phantom_film import add_marks, expose, mount, sample_marks
from mammogan_tf.data.phantom_tissue import (
    FIELDS,
    HEIGHT,
    Build,
    PhantomAnatomy,
    draw_anatomy,
    other_breast,
    sample_build,
)
from mammogan_tf.files import require_new_folder, write_bytes, write_text
from mammogan_tf.validated import require

__all__ = ["PhantomFilm", "draw_film", "write_phantoms"]

MIAS_SIDES = side_of(1), side_of(2)
"""Where the chest wall is in the two pictures of a patient."""

_BLOCK_STREAM, _PATIENT_STREAM, _FILM_STREAM = range(1, 4)

_KINDS = {
    BENIGN: {"CIRC": 21, "CALC": 15, "SPIC": 11, "MISC": 7, "ARCH": 9, "ASYM": 6},
    MALIGNANT: {"CIRC": 4, "CALC": 15, "SPIC": 8, "MISC": 8, "ARCH": 10, "ASYM": 9},
}
"""Records of each class in mini-MIAS."""

_HEADER = """\
              PHANTOM MAMMOGRAMS
              in the layout of the mini-MIAS database

These films were drawn by a program (seed {seed}). They show no person.

1st column: reference number. Odd and even numbers are the two breasts of a patient.
2nd column: background tissue: F - Fatty, G - Fatty-glandular, D - Dense-glandular
3rd column: class: CALC, CIRC, SPIC, MISC, ARCH, ASYM or NORM
4th column: severity: B - Benign, M - Malignant
5th, 6th columns: x, y of the centre; the origin is the bottom-left corner.
7th column: radius in pixels of a circle that encloses the abnormality.

=================================================================

"""


@dataclass(frozen=True)
class PhantomFilm:
    """A drawn film and the truth about it.

    ``pixels`` is uint8 [1024, 1024]; ``label_map`` is uint8 [1024, 1024] with the values 0-4 of
    :data:`mammogan_tf.config.CLASSES`; ``tissue`` is F, G or D; ``lesions`` count rows from the top.
    """

    pixels: np.ndarray
    label_map: np.ndarray
    tissue: str
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class _Patient:
    tissue: str
    label: int
    affected: tuple[str, ...]
    build: Build
    white: np.ndarray


def _patient_label(seed: int, patient: int) -> int:
    """Each six successive patients hold a benign, a malignant and a normal one; the others are drawn at random."""
    block, place = divmod(patient - 1, 6)
    rng = np.random.default_rng([_BLOCK_STREAM, seed, block])
    labels = [BENIGN, MALIGNANT, NORMAL, *rng.choice(3, 3, p=[0.40, 0.28, 0.32])]
    return int(rng.permutation(labels)[place])


def _sample_patient(seed: int, patient: int) -> _Patient:
    rng = np.random.default_rng([_PATIENT_STREAM, seed, patient])
    label = _patient_label(seed, patient)
    tissue = "FGD"[rng.integers(3)]
    affected = MIAS_SIDES if rng.random() < 0.06 else (MIAS_SIDES[rng.integers(2)],)
    build = sample_build(rng, tissue)
    white = rng.standard_normal((FIELDS, HEIGHT // 2, build.film_width // 2), dtype=np.float32)
    return _Patient(tissue, label, () if label == NORMAL else affected, build, white)


def _place_lesions(label: int, anatomy: PhantomAnatomy, build: Build, rng: np.random.Generator) -> list[Lesion]:
    """One lesion, or now and then several of one kind."""
    kinds = _KINDS[label]
    kind = str(rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))
    lesions: list[Lesion] = []
    for _ in range(1 + int(rng.choice(3, p=[0.94, 0.05, 0.01]))):
        lesions.append(place_lesion(kind, label, anatomy, build, lesions, rng))
    return lesions


def _full_size(field: np.ndarray, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(field).resize((width, HEIGHT), Image.Resampling.BICUBIC))


def _in_picture(lesion: Lesion, film_width: int, side: str) -> Lesion:
    """The lesion's place after the film was mounted."""
    column = lesion.column + (HEIGHT - film_width) // 2
    column = HEIGHT - 1 - column if side == "right" else column
    return Lesion(lesion.kind, lesion.label, column, lesion.row, lesion.radius)


def draw_film(seed: int, patient: int, side: str) -> PhantomFilm:
    """Draws one film; the same arguments give the same pixels, whatever was drawn before.

    Args:
        patient: number of the patient, from 1.
        side: the edge of the picture where the chest wall is, ``"left"`` or ``"right"``.
    """
    person = _sample_patient(seed, patient)
    rng = np.random.default_rng([_FILM_STREAM, seed, patient, MIAS_SIDES.index(side)])
    build = other_breast(person.build, rng)
    width = build.film_width
    own = rng.standard_normal(person.white.shape, dtype=np.float32)
    anatomy = draw_anatomy(build, 0.8 * person.white + 0.6 * own)

    thickness = _full_size(anatomy.thickness, width)
    details = draw_vessels(build, rng)
    gland = _full_size(ndimage.gaussian_filter(anatomy.gland, 2.5), width)
    label_map = np.where(gland > 0.42, FIBROGLANDULAR, ADIPOSE).astype(np.uint8)
    label_map[_full_size(anatomy.muscle, width) > 0] = PECTORAL
    lesions = _place_lesions(person.label, anatomy, build, rng) if side in person.affected else []
    for lesion in lesions:
        label_map[draw_lesion(lesion, details, rng)] = LESION
    label_map[_full_size(anatomy.skin, width) <= 0.5] = BACKGROUND

    grey = expose(_full_size(anatomy.attenuation, width) + thickness * details, rng)
    grey = add_marks(grey, sample_marks(rng), build, side, rng)
    placed = tuple(_in_picture(lesion, width, side) for lesion in lesions)
    return PhantomFilm(mount(grey, side), mount(label_map, side), person.tissue, placed)


def _records(name: str, film: PhantomFilm) -> list[str]:
    """The film's lines of ``Info.txt``; y counts from the bottom edge."""
    if not film.lesions:
        return [f"{name} {film.tissue} NORM "]
    return [
        f"{name} {film.tissue} {lesion.kind} {LABELS[lesion.label][0].upper()} "
        f"{round(lesion.column)} {HEIGHT - 1 - round(lesion.row)} {round(lesion.radius)}"
        for lesion in film.lesions
    ]


def write_phantoms(
    destination: str | os.PathLike[str],
    patients: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Draws two films a patient and writes them as ``mdb001.pgm`` ... and ``Info.txt``, as mini-MIAS does.

    Args:
        destination: a folder that is empty or not there yet.
        patients: 1 to 499; any six or more hold a benign, a malignant and a normal patient.
        progress: called with (films done, films in all).

    Returns:
        The folder.

    Raises:
        ConfigError: ``patients`` or ``seed`` out of range.
        DataError: the folder holds something already.
    """
    require(1 <= patients <= 499, "patients", "1 to 499", patients)
    require(seed >= 0, "seed", "0 or more", seed)
    destination = Path(destination)
    require_new_folder(destination, "DESTINATION")

    def draw(number: int) -> list[str]:
        film = draw_film(seed, patient_of(number), side_of(number))
        name = f"mdb{number:03d}"
        write_bytes(destination / f"{name}.pgm", b"P5\n1024 1024\n255\n" + film.pixels.tobytes())
        return _records(name, film)

    lines: list[str] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for done, records in enumerate(pool.map(draw, range(1, 2 * patients + 1)), start=1):
                lines += records
                if progress is not None:
                    progress(done, 2 * patients)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    write_text(destination / "Info.txt", _HEADER.format(seed=seed) + "\n".join(lines) + "\n")
    return destination
