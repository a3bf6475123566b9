"""Automatic anatomy of a mammogram: breast outline, pectoral muscle and dense tissue."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mammogan_tf.config import FIBROGLANDULAR, PECTORAL
from mammogan_tf.data.density import find_dense
from mammogan_tf.data.outline import chest_wall_side, find_outline_and_steadiness
from mammogan_tf.data.pectoral import find_pectoral

__all__ = ["DOUBTFUL", "Anatomy", "find_anatomy"]

BLURRED_COLUMNS = 2
"""Columns at the film's edge that scanning and shrinking have mixed with the black outside it."""

DOUBTFUL = 0.62
"""Confidence below which a film's anatomy is worth a look: about a tenth of mini-MIAS."""


@dataclass(frozen=True)
class Anatomy:
    """``label_map``: uint8 [h, w], 0 background, 1 adipose, 2 fibroglandular, 3 pectoral, oriented as the input.

    ``side``: the edge of the picture with the chest wall, ``"left"`` or ``"right"``.
    ``confidence``: how far to trust the label map, in [0, 1]; films below ``DOUBTFUL`` are worth a look. It is
    s m (3 + d) / 4 of three: how steady the outline is when its threshold is raised, s (see
    :func:`find_outline_and_steadiness`), how clear the muscle is, m (:func:`find_pectoral`), and the Dice expected of
    the dense tissue, d (:func:`find_dense`), which counts less as it is low in fatty breasts without being wrong. It is
    0 where there is no breast.
    """

    label_map: np.ndarray
    side: str
    confidence: float


def find_anatomy(grey: np.ndarray, side: str | None = None, working_size: int = 256) -> Anatomy:
    """Outlines breast, dense tissue and pectoral muscle.

    Args:
        grey: uint8 [H, W], a mediolateral oblique mammogram of any size and aspect ratio.
        side: the edge with the chest wall; decided by the outline's shape where None.
        working_size: long side of the label map.
    """
    height, width = grey.shape
    scale = working_size / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX), np.float32)
    outline, steadiness = find_outline_and_steadiness(small, side)
    side = side or chest_wall_side(outline)
    label_map = outline.astype(np.uint8)
    if not outline.any():
        return Anatomy(label_map, side, 0.0)
    turn = slice(None, None, -1 if side == "right" else 1)
    clearness, expected_dice = _label_tissue(small[:, turn], label_map[:, turn])
    return Anatomy(label_map, side, steadiness * clearness * (3 + expected_dice) / 4)


def _label_tissue(grey: np.ndarray, label_map: np.ndarray) -> tuple[float, float]:
    """Marks muscle and dense tissue, in place, in an outline (0, 1) with the chest wall on the left.

    Returns how clear the muscle is, and the Dice expected of the dense tissue.
    """
    rows, columns = np.flatnonzero(label_map.any(axis=1)), np.flatnonzero(label_map.any(axis=0))
    trim = min(columns[0] + BLURRED_COLUMNS, grey.shape[1] - 1)
    grey = grey.copy()
    grey[:, :trim] = grey[:, trim : trim + 1]
    frame = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    grey, labels = grey[frame], label_map[frame]
    outline = labels > 0
    muscle, clearness = find_pectoral(grey, outline)
    dense, expected_dice = find_dense(grey, outline & ~muscle, outline)
    labels[dense] = FIBROGLANDULAR
    labels[muscle] = PECTORAL
    return clearness, expected_dice
