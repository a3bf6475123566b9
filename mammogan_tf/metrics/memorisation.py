"""Does a generator hand out its training images? Nearest neighbours in pixels (NumPy only)."""

import numpy as np

from mammogan_tf.errors import DataError

__all__ = ["median_ratio", "nearest"]

BATCH = 256


def nearest(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest reference of every query, by root-mean-square difference of the pixels.

    Args:
        queries: float images [N, H, W] in [0, 1].
        references: float images [M, H, W].

    Returns:
        Distances float64 [N] in [0, 1], and the index of the nearest reference, int [N].

    Raises:
        DataError: the sizes differ, or there is no reference.
    """
    if queries.ndim != 3 or queries.shape[1:] != references.shape[1:] or len(references) == 0:
        raise DataError(
            f"images: expected two stacks [N, H, W] of one size, received: {queries.shape} and {references.shape}"
        )
    flat = references.reshape(len(references), -1).astype(np.float64)
    indices, distances = [], []
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH].reshape(-1, flat.shape[1]).astype(np.float64)
        index = ((flat**2).sum(axis=1) - 2 * batch @ flat.T).argmin(axis=1)
        indices.append(index)
        distances.append(np.sqrt(((batch - flat[index]) ** 2).mean(axis=1)))
    return np.concatenate(distances), np.concatenate(indices)


def median_ratio(synthetic: np.ndarray, unseen: np.ndarray) -> float:
    """Median training-neighbour distance of synthetic images over that of unseen real ones.

    About 1: as far from the training images as real films of new patients are. Well below 1: training images are
    copied, or the synthetic images are smoother than real ones, which lowers every distance: look at the pairs.

    Args:
        synthetic: distances [N] from :func:`nearest`; unseen: distances [M].

    Returns:
        A number >= 0; nan where the unseen images are themselves training images (median distance 0).
    """
    reference = float(np.median(unseen))
    return float(np.median(synthetic)) / reference if reference > 0 else float("nan")
