"""Films on the way from one noise to another, or from one mask to another."""

from pathlib import Path

import numpy as np
from PIL import Image

from mammogan_tf.config import WALKS
from mammogan_tf.data.label_maps import overlay
from mammogan_tf.data.mask_editing import interpolate_label_maps
from mammogan_tf.errors import DataError
from mammogan_tf.files import atomic_path
from mammogan_tf.inference.mask_sets import MaskSet
from mammogan_tf.inference.models import Generator
from mammogan_tf.pictures import SYNTHETIC, synthetic_notes, tile, to_bytes
from mammogan_tf.validated import require

__all__ = ["require_walk_file", "save_walk", "walk"]

SUFFIXES = (".gif", ".png")

FRAME_MS = 120


def walk(
    generator: Generator, masks: MaskSet, kind: str, frames: int, *, seed: int = 0, label: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Films between two.

    ``"noise"`` keeps a mask, and goes from the noise of ``seed`` to that of ``seed + 1`` along a great circle, on which noise
    keeps its usual length. ``"mask"`` keeps the noise, and moves the outlines of one mask to those of another. The masks
    are the first in an order shuffled by ``seed`` and, of those with the same label, the next; where two are wanted, one
    alone of its label is passed over.

    Args:
        generator: a model on disk.
        masks: to choose from.
        kind: one of :data:`mammogan_tf.config.WALKS`.
        frames: F, two or more.
        seed: of the noise and of the choice.
        label: 0-2 for every film; that of the first mask where None.

    Returns:
        Films and label maps, uint8 [F, S, S] each.

    Raises:
        ConfigError: another kind, too few frames, or a seed that is no 64-bit integer.
        DataError: two masks of one label are wanted, and there is one.
        ModelError: a generator that takes seeds only.
    """
    require(kind in WALKS, "walk", " | ".join(WALKS), kind)
    require(frames >= 2, "count", "2 or more films for a walk", frames)
    require(0 <= seed < 2**63 - 1, "seed", f"0 to {2**63 - 2}", seed)
    begin, end = generator.noise([seed, seed + 1])
    rows = np.random.default_rng(seed).permutation(len(masks.names))
    rows = rows[masks.usable[rows]]
    if label is None:
        labels = masks.labels[rows]
        if kind == "mask":
            rows = rows[np.bincount(labels)[labels] > 1]
        rows = rows[masks.labels[rows] == masks.labels[rows[:1]]]
    if kind == "mask" and len(rows) < 2:
        raise DataError("masks: expected two of one label to walk between, received: one; give a folder with more")
    shares = np.linspace(0, 1, frames)
    if kind == "noise":
        noise, label_maps = _slerp(begin, end, shares), np.repeat(masks.label_maps[rows[:1]], frames, axis=0)
    else:
        first, second = masks.label_maps[rows[:2]]
        noise = np.repeat(begin[None], frames, axis=0)
        label_maps = np.stack([interpolate_label_maps(first, second, share) for share in shares])
    labels = np.full(frames, masks.labels[rows[0]] if label is None else label)
    return to_bytes(generator.from_noise(noise, label_maps, labels)), label_maps


def _slerp(first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Vectors [F, Z] on the arc between two (spherical interpolation, Shoemake 1985)."""
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    angle, share = np.arccos(np.clip(cosine, -1, 1)), shares[:, None]
    if np.sin(angle) < 1e-3:  # On one line, as with a noise vector of length 1, there is no arc.
        return (1 - share) * first + share * second
    return (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)


def require_walk_file(path: Path) -> None:
    """Raises DataError unless a walk can be written under this name."""
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise DataError(
            f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}, received: {path.name}; choose another --out"
        )


def save_walk(path: Path, films: np.ndarray, label_maps: np.ndarray, model: str) -> Path:
    """Writes films, uint8 [F, S, S], with their masks beside them: a GIF that goes there and back, or a PNG strip.

    The file says in its metadata that it is synthetic, and by which model.

    Raises:
        DataError: a suffix other than .gif and .png.
    """
    path = Path(path)
    require_walk_file(path)
    pairs = [[film, overlay(film, label_map)] for film, label_map in zip(films, label_maps, strict=True)]
    notes = synthetic_notes()
    notes.add_text("Model", model)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".png":
            strip = Image.fromarray(tile([list(column) for column in zip(*pairs, strict=True)]))
            strip.save(temporary, pnginfo=notes)
        else:
            first, *others = [Image.fromarray(tile([pair], shortest=256)) for pair in [*pairs, *pairs[-2:0:-1]]]
            comment = f"{SYNTHETIC} Model: {model}."
            first.save(temporary, save_all=True, append_images=others, duration=FRAME_MS, loop=0, comment=comment)
    return path
