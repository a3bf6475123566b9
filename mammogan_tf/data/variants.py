"""Variants of a whole film: other anatomies, made by moving film and label map together at random (Pillow).

A film is moved before it is shrunk. Moved afterwards, it would lose its finest texture, and a critic would know it by that.
"""

import numpy as np
from PIL import Image

from mammogan_tf.data.label_maps import shrink_label_map

__all__ = ["make_variants"]

FINE = 8
"""Pixels of the film, in each direction, for one of the variant while the film is moved. With fewer, its finest waves fade."""

CELLS = 5
"""Cells of the mesh, down and across, whose knots are moved; within a cell the film is bent evenly."""

SCALE = (0.92, 1.1)
"""Range of the factors by which a film is scaled, down and across each for itself."""

BEND = 0.011
"""Standard deviation of the shift of a knot, in sides of the film."""

CROP = 1 / 64
"""Share of the side that is lost at the top and at the chest wall, at most; below and on the right, what is scaled up goes."""


def make_variants(
    image: np.ndarray, film: np.ndarray, label_map: np.ndarray, size: int, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Other anatomies like that of a film: scaled, cropped and bent at random.

    Nothing is shown that lies beyond the film's top, its chest wall or, where tissue reaches it, its lower or right edge. A
    film of fewer than FINE x size pixels loses some of its finest texture.

    Args:
        image: the film with a black background, uint8 [H, H], chest wall at the left edge.
        film: the film as it is.
        label_map: its label map, values 0-4.
        size: S.
        count: K.
        random: what to draw from.

    Returns:
        Images, films and label maps, uint8 [K, S, S] each.
    """
    side = max(size, min(len(image), FINE * size))
    layers = [Image.fromarray(layer).resize((side, side), Image.Resampling.BOX) for layer in (image, film)]
    fine = shrink_label_map(label_map, side) if len(label_map) > side else label_map  # Keeps small lesions.
    classes = Image.fromarray(fine).resize((side, side), Image.Resampling.NEAREST)
    cut_off = np.array([(label_map[-1] > 0).any(), (label_map[:, -1] > 0).any()])
    images, films, label_maps = (np.empty((count, size, size), np.uint8) for _ in range(3))
    for number in range(count):
        mesh = _to_mesh(_draw_knots(random, cut_off), side)
        for made, layer in zip((images, films), layers, strict=True):
            moved = layer.transform(layer.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
            made[number] = np.asarray(moved.resize((size, size), Image.Resampling.BOX))
        moved = classes.transform(classes.size, Image.Transform.MESH, mesh, Image.Resampling.NEAREST)
        label_maps[number] = shrink_label_map(np.asarray(moved), size)
    return images, films, label_maps


def _draw_knots(random: np.random.Generator, cut_off: np.ndarray) -> np.ndarray:
    """Where the knots of a variant come from: row and column in sides of the film, [CELLS + 1, CELLS + 1, 2].

    ``cut_off`` bool [2] says whether tissue reaches the film's lower edge, and its right one.
    """
    least, most = SCALE
    scale = random.uniform(np.where(cut_off, 1.0, least), most)
    crop = random.uniform(0, CROP, 2)
    crop = np.where(cut_off, np.minimum(crop, 1 - 1 / scale), crop)
    places = np.linspace(0, 1, CELLS + 1)
    knots = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1) / scale + crop
    bend = random.normal(0, BEND, (CELLS - 1, CELLS, 2))
    if cut_off[1]:
        bend[:, -1] = 0
    knots[1:-1, 1:] += bend
    return knots


def _to_mesh(knots: np.ndarray, side: int) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """What Pillow takes: for each cell its box, and x and y of where its four corners come from, counter-clockwise."""
    ends = np.rint(np.linspace(0, side, CELLS + 1)).astype(int).tolist()
    source = knots[..., ::-1] * side
    mesh: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for row in range(CELLS):
        for column in range(CELLS):
            corners = source[[row, row + 1, row + 1, row], [column, column, column + 1, column + 1]]
            box = (ends[column], ends[row], ends[column + 1], ends[row + 1])
            mesh.append((box, tuple(corners.ravel().tolist())))
    return mesh
