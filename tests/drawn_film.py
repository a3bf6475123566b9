"""A drawn film: a breast on one side, a film label on the other."""

import numpy as np

from mammogan_tf.data.film import Lesion

__all__ = ["circle", "draw"]


def draw(height=256, width=256, side="left", padding=0):
    row, column = np.mgrid[:height, :width]
    breast = ((row - height / 2) / (0.45 * height)) ** 2 + ((column - padding) / (0.5 * width)) ** 2 < 1
    grey = np.where(breast, 120, 6).astype(np.uint8)
    grey[:, :padding] = 0
    grey[10:30, width - 40 : width - 15] = 250
    return grey if side == "left" else np.ascontiguousarray(grey[:, ::-1])


def circle(column, row, radius):
    return Lesion("CIRC", 0, column, row, radius)
