"""How well label maps found by a network match those of the films, for the reports of trainings."""

import math
from typing import Any

import numpy as np

from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import LESION
from mammogan_tf.metrics.detection import free_response
from mammogan_tf.metrics.intervals import Estimate, bootstrap, ratio_of_means
from mammogan_tf.metrics.segmentation import dice, region_dice

__all__ = ["compare_with_disc", "estimate_dice", "estimate_lesions", "lesion_scores", "mean_dice"]

DETECTION = ("sensitivity", "false_positives_per_image", "clear_images_with_false_positives")


def mean_dice(films: FilmSet, found: np.ndarray) -> dict[str, dict[str, Any]]:
    """For each region the ``mean`` Dice over the ``films`` in which it is, or is found; None where it is in none."""
    table = {}
    for region, values in region_dice(films.label_maps, found).items():
        judged = values[~np.isnan(values)]
        table[region] = {"mean": float(judged.mean()) if len(judged) else None, "films": len(judged)}
    return table


def estimate_dice(films: FilmSet, found: np.ndarray) -> dict[str, Estimate]:
    """For each region the mean Dice of :func:`mean_dice` with its interval over patients."""
    patients = np.array(films.patients)
    return {region: bootstrap(values, patients) for region, values in region_dice(films.label_maps, found).items()}


def lesion_scores(films: FilmSet, found: np.ndarray) -> dict[str, float | None]:
    """Free-response figures of the lesions (IoU 0.1 or more finds one); None where there is nothing to divide by."""
    response = free_response(films.label_maps, found)
    values = (
        response.sensitivity,
        response.false_positives_per_image,
        response.share_of_clear_images_with_false_positives,
    )
    return {name: None if math.isnan(value) else float(value) for name, value in zip(DETECTION, values, strict=True)}


def estimate_lesions(films: FilmSet, found: np.ndarray) -> dict[str, Estimate]:
    """:func:`lesion_scores` with their intervals over patients."""
    lesions, hits, false = free_response(films.label_maps, found).per_image.T
    clear = lesions == 0
    ratios = ((hits, lesions), (false, np.ones_like(false)), ((false > 0) & clear, clear))
    patients = np.array(films.patients)
    return {
        name: bootstrap(np.stack(ratio, axis=1).astype(float), patients, ratio_of_means)
        for name, ratio in zip(DETECTION, ratios, strict=True)
    }


def compare_with_disc(training: FilmSet, films: FilmSet, found: np.ndarray) -> dict[str, float | int | None]:
    """Mean lesion Dice over the windows that show a lesion: of the network, and of a disc in the middle of each.

    A window lies about its lesion: a network that does not beat the disc has learned nothing.

    Args:
        training: cropped windows; the disc has the radius that fits their lesions best.
        films: cropped windows to judge.
        found: uint8 [N, S, S].

    Returns:
        ``{"network", "disc", "radius", "films"}``; the first two None where no window shows a lesion.
    """
    radius = max(range(1, training.size // 2), key=lambda radius: _disc_dice(training, radius).sum())
    network, disc = _lesion_dice(films, found), _disc_dice(films, radius)
    means = [float(values.mean()) if len(values) else None for values in (network, disc)]
    return {"network": means[0], "disc": means[1], "radius": radius, "films": len(disc)}


def _disc_dice(films: FilmSet, radius: int) -> np.ndarray:
    places = np.arange(films.size) - (films.size - 1) / 2
    disc = np.where(places[:, None] ** 2 + places**2 <= radius**2, LESION, 0)
    return _lesion_dice(films, np.broadcast_to(disc, films.label_maps.shape))


def _lesion_dice(films: FilmSet, found: np.ndarray) -> np.ndarray:
    """Dice of the lesion in each window that shows one."""
    rows = (films.label_maps == LESION).any(axis=(1, 2))
    return dice(films.label_maps[rows], found[rows], LESION)
