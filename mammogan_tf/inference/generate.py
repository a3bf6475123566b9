"""A folder of synthetic films with their masks and a manifest."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from mammogan_tf import __version__
from mammogan_tf.config import LABELS
from mammogan_tf.console import Progress
from mammogan_tf.data.label_maps import save_label_map
from mammogan_tf.data.mask_editing import deform_label_map
from mammogan_tf.files import require_new_folder, write_text
from mammogan_tf.inference.mask_sets import MaskSet
from mammogan_tf.inference.models import BATCH, Generator
from mammogan_tf.pictures import save_picture, synthetic_notes, to_bytes
from mammogan_tf.validated import require

__all__ = ["generate_folder", "save_synthetic"]

MAX_COUNT = 10_000_000
"""Images of one call: more than anybody looks at, and few enough to plan all of them at once."""

WRITERS = 8
"""Threads that write PNGs while the next films are computed: a file that is written safely waits for the disk."""


def generate_folder(
    generator: Generator,
    masks: MaskSet,
    count: int,
    out: Path,
    *,
    seed: int = 0,
    label: int | None = None,
    varied: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes ``images/N.png``, ``masks/N.png`` and ``manifest.csv`` (file, seed, mask_source, label, model, version).

    Whatever ends it early, an error (but for a full disk) or Ctrl-C, the manifest lists the images that are whole by then.

    The seeds follow each other from ``seed`` on, and the masks in an order shuffled by it; a seed that meets a mask that is
    not usable is left out. Each PNG says in its metadata that it is synthetic, by which model and from which seed.

    Args:
        generator: the model.
        masks: to condition on.
        count: number of images.
        out: a folder that does not exist yet or is empty.
        seed: of the first image.
        label: 0-2 for every image; the label of each mask where None.
        varied: every image has an anatomy of its own, made from its mask and its seed
            (:func:`mammogan_tf.data.mask_editing.deform_label_map`).
        progress: called with (images done, images).

    Returns:
        The manifest.

    Raises:
        ConfigError: a count below 1 or above :data:`MAX_COUNT`, or a seed that is no 64-bit integer.
        DataError: ``out`` is not empty, or a label is none that the generator was trained on.
    """
    require(1 <= count <= MAX_COUNT, "count", f"1 to {MAX_COUNT}", count)
    rounds = -(-count // int(masks.usable.sum()))
    most = 2**63 - rounds * len(masks.names)
    require(0 <= seed <= most, "seed", f"0 to {most}", seed)
    out = Path(out)
    require_new_folder(out)
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(masks.names)) for _ in range(rounds)])
    places = np.flatnonzero(masks.usable[order])[:count]
    order, seeds = order[places], places + seed
    labels = masks.labels[order] if label is None else np.full(count, label)
    generator.require_labels(labels)
    width = max(6, len(str(count - 1)))
    names = [f"{number:0{width}d}.png" for number in range(count)]
    saved: list[int] = []

    def save(row: int, image: np.ndarray, label_map: np.ndarray) -> None:
        save_synthetic(out / "images" / names[row], image, generator.name, int(seeds[row]), int(labels[row]))
        save_label_map(out / "masks" / names[row], label_map)
        saved.append(row)

    manifest = pd.DataFrame(
        {
            "file": [f"images/{name}" for name in names],
            "seed": seeds,
            "mask_source": [masks.names[row] for row in order],
            "label": [LABELS[kind] for kind in labels],
            "model": generator.name,
            "version": __version__,
        }
    )
    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            written: Iterator[None] = iter(())
            for begin in range(0, count, BATCH):
                part = slice(begin, begin + BATCH)
                label_maps = masks.label_maps[order[part]]
                if varied:
                    label_maps = np.stack(
                        [deform_label_map(map_, one) for map_, one in zip(label_maps, seeds[part], strict=True)]
                    )
                images = to_bytes(generator(seeds[part], label_maps, labels[part]))
                list(written)  # Waits for the batch before, and raises what went wrong there.
                if progress and begin:
                    progress(begin, count)
                written = pool.map(save, range(count)[part], images, label_maps)
            list(written)
    finally:
        if saved:
            write_text(out / "manifest.csv", manifest.iloc[sorted(saved)].to_csv(index=False))
    if progress:
        progress(count, count)
    return out / "manifest.csv"


def save_synthetic(path: Path, image: np.ndarray, model: str, seed: int, label: int) -> None:
    """Writes uint8 [S, S] as a PNG whose text chunks say that it is synthetic."""
    notes = synthetic_notes()
    notes.add_text("Model", model)
    notes.add_text("Seed", str(seed))
    notes.add_text("Label", LABELS[label])
    save_picture(path, image, notes)
