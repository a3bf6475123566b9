"""Masks to generate films from: those of a model's training, of a part of its split, or of a folder."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from mammogan_tf.config import BENIGN, LABELS, LESION, MALIGNANT, NORMAL, PARTS
from mammogan_tf.console import Console
from mammogan_tf.data.label_maps import has_lesion, lies_as_its_film, read_label_map, read_masks
from mammogan_tf.data.mask_editing import add_lesion, remove_lesions
from mammogan_tf.data.sources import load_all
from mammogan_tf.errors import DataError
from mammogan_tf.files import visible_pngs
from mammogan_tf.inference.models import Generator
from mammogan_tf.serving.orientation import find_lean
from mammogan_tf.training.conditioning import with_condition_masks
from mammogan_tf.training.run import Run
from mammogan_tf.training.split_films import load_split

__all__ = ["MaskSet", "masks_of_folder", "masks_of_model", "masks_of_split"]


class MaskSet:
    """Label maps uint8 [N, S, S] with a name and a label (0-2) each.

    Those that are not ``usable`` (bool [N], all by default) are passed over. They keep their places in any shuffled order, so
    that the others meet the same seeds with and without them. Raises DataError where none is usable.
    """

    def __init__(
        self, label_maps: np.ndarray, labels: np.ndarray, names: list[str], usable: np.ndarray | None = None
    ) -> None:
        self.label_maps, self.labels, self.names = label_maps, labels, names
        self.usable = np.ones(len(names), bool) if usable is None else usable
        if not self.usable.any():
            raise DataError("masks: expected one that is usable, received: none; choose others")

    def of_label(self, label: int) -> "MaskSet":
        """Those of one label.

        Raises:
            DataError: there are none.
        """
        rows = np.flatnonzero(self.labels == label)
        if not self.usable[rows].any():
            raise DataError(
                f"masks: expected some labelled {LABELS[label]}, received: none; give a folder with --masks"
            )
        names = [self.names[row] for row in rows]
        return MaskSet(self.label_maps[rows], self.labels[rows], names, self.usable[rows])

    def leaning_right(self) -> list[str]:
        """Names of those whose breast is wider on the right, as where the chest wall lies there."""
        lean = find_lean(tf.constant(self.label_maps, tf.int32)).numpy()
        return [name for name, each in zip(self.names, lean, strict=True) if each > 0]

    def without_lesions(self) -> "MaskSet":
        """The same anatomies, normal."""
        label_maps = np.stack([remove_lesions(label_map) for label_map in self.label_maps])
        return MaskSet(label_maps, np.full(len(self.names), NORMAL), self.names, self.usable)

    def with_lesion(self, x: float, y: float, radius: float, label: int) -> "MaskSet":
        """The same anatomies with a lesion there, usable where the circle meets the breast; malignant ones stay malignant.

        See :func:`mammogan_tf.data.mask_editing.add_lesion`.

        Raises:
            ConfigError: a circle outside the map.
            DataError: it meets no breast.
        """
        circle = add_lesion(np.ones_like(self.label_maps[0]), x, y, radius) == LESION
        drawn = circle & (self.label_maps > 0)
        usable = self.usable & drawn.any(axis=(1, 2))
        if not usable.any():
            raise DataError(f"lesion: expected a place on the breast, received: {x:g},{y:g},{radius:g}; choose another")
        label_maps = np.where(drawn, LESION, self.label_maps).astype(np.uint8)
        labels = np.where(self.labels == MALIGNANT, self.labels, label)
        return MaskSet(label_maps, labels, self.names, usable)


def masks_of_model(generator: Generator) -> MaskSet:
    """The masks that a generator was trained on; the model carries them with it.

    Raises:
        DataError: this model carries none, or broken ones.
    """
    if generator.masks is None or not generator.masks.exists():
        raise DataError(
            f"{generator.name}: expected the training masks with the model, received: none; give a folder with --masks"
        )
    label_maps, labels, names = read_masks(
        generator.masks, ("label_maps", "labels", "ids"), "give a folder with --masks"
    )
    return MaskSet(label_maps, labels, [str(name) for name in names])


def masks_of_split(path: Path, part: str, console: Console | None = None) -> MaskSet:
    """The masks that a GAN's run is conditioned on, of the films of a part of its split.

    Args:
        path: a finished ``train-gan`` run whose films are where they were.
        part: one of :data:`PARTS`.
        console: for progress messages.

    Raises:
        ModelError: it is no such run.
        DataError: films of the split are missing, or cannot be read.
    """
    run = Run.open(path)
    run.require_finished("train-gan")
    films = dict(zip(PARTS, load_split(run, load_all(run.data), console), strict=True))[part]
    chosen = with_condition_masks(run, films).cropped()
    return MaskSet(chosen.label_maps, chosen.labels, list(chosen.names))


def masks_of_folder(folder: Path, size: int | None = None) -> MaskSet:
    """Index PNGs of a folder, shrunk to ``size``; a mask with a lesion counts as benign, one without as normal.

    Masks of background alone are not usable.

    Raises:
        DataError: no such folder, no PNG there but in a folder ``masks``, what ``segment`` or ``request segment`` wrote, a name
            that is no text, one that is no label map, or, without a ``size``, masks of several sizes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of masks, received: no such folder; correct the path")
    if (folder / "masks").is_dir():
        raise DataError(
            f"{folder}: expected a folder of masks, received: one with masks inside; give {folder / 'masks'}"
        )
    files = visible_pngs(folder)
    unturned = next(filter(lies_as_its_film, files), None)
    if unturned:
        raise DataError(
            f"{folder}: expected masks with the chest wall on the left, received: {unturned.name}, which segment or request "
            "segment wrote as its film lies; write masks of the films with: mammogan-tf data masks"
        )
    if not files:
        raise DataError(
            f"{folder}: expected index PNGs with values 0-4, received: no .png file there; choose their folder"
        )
    for file in files:
        try:
            file.name.encode()
        except UnicodeEncodeError as error:  # Of an old archive, in another encoding: no manifest could name it.
            raise DataError(f"{folder}: expected names in UTF-8, received: {file.name!a}; rename it") from error
    read = [read_label_map(file, size) for file in files]
    shapes = sorted({label_map.shape for label_map in read})
    if len(shapes) > 1 or shapes[0][0] != shapes[0][1]:
        raise DataError(
            f"{folder}: expected square masks of one size, received: {', '.join(map(str, shapes))}; "
            "write them with: mammogan-tf data masks"
        )
    label_maps = np.stack(read)
    labels = np.where(has_lesion(label_maps), BENIGN, NORMAL)
    return MaskSet(label_maps, labels, [file.stem for file in files], np.any(label_maps > 0, axis=(1, 2)))
