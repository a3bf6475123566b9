"""How well label maps found by a network match those of the films, for the reports of trainings."""

import math
from typing import Any

import numpy as np

from mammogan_tf.config import LESION
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.label_maps import has_lesion
from mammogan_tf.metrics.detection import free_response
from mammogan_tf.metrics.intervals import Estimate, bootstrap, ratio_of_means
from mammogan_tf.metrics.segmentation import dice, region_dice

__all__ = [
    "compare_with_disc",
    "estimate_against_disc",
    "estimate_dice",
    "estimate_lesions",
    "fitted_disc",
    "lesion_scores",
    "mean_dice",
]

RATES = {"sensitivity_at_0.25_per_image": 0.25, "sensitivity_at_1_per_image": 1.0}
"""False positives per image at which the free-response curve is read."""

MIN_LESION_PROBABILITY = 0.1
"""Pixels of at least this probability form the candidates of the free-response curve."""


def mean_dice(films: FilmSet, found: np.ndarray) -> dict[str, dict[str, Any]]:
    """For each region the ``mean`` Dice over the ``films`` in which it is, or is found; None where it is in none."""
    table = {}
    for region, values in region_dice(films.label_maps, found).items():
        scored = values[~np.isnan(values)]
        table[region] = {"mean": float(scored.mean()) if len(scored) else None, "films": len(scored)}
    return table


def estimate_dice(films: FilmSet, found: np.ndarray) -> dict[str, Estimate]:
    """For each region the mean Dice of :func:`mean_dice` with its interval over patients."""
    patients = np.array(films.patients)
    return {region: bootstrap(values, patients) for region, values in region_dice(films.label_maps, found).items()}


def lesion_scores(films: FilmSet, found: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Free-response figures of the lesions; None where there is nothing to divide by.

    The first are of the label maps ``found``; those of :data:`RATES` are of the curve that the ``probabilities`` of a lesion,
    float [N, S, S], give.
    """
    ratios = _lesion_ratios(films, found, probabilities)
    values = {name: ratio_of_means(ratio, np.ones(len(films))) for name, ratio in ratios.items()}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def estimate_lesions(films: FilmSet, found: np.ndarray, probabilities: np.ndarray) -> dict[str, Estimate]:
    """:func:`lesion_scores` with their intervals over patients; those of :data:`RATES` at thresholds that stay the same."""
    patients = np.array(films.patients)
    ratios = _lesion_ratios(films, found, probabilities)
    return {name: bootstrap(ratio, patients, ratio_of_means) for name, ratio in ratios.items()}


def _lesion_ratios(films: FilmSet, found: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """For each figure what is divided by what, image by image: float [N, 2]."""
    candidates = np.where(probabilities >= MIN_LESION_PROBABILITY, LESION, 0)
    response = free_response(films.label_maps, candidates, probabilities)
    return free_response(films.label_maps, found).ratios() | {
        name: response.at(rate).ratios()["sensitivity"] for name, rate in RATES.items()
    }


def compare_with_disc(training: FilmSet, films: FilmSet, found: np.ndarray) -> dict[str, float | int | None]:
    """Mean lesion Dice over the windows that show a lesion: of the network, and of a disc in the middle of each.

    A window lies about its lesion: a network that does not beat the disc has learned nothing.

    Args:
        training: cropped windows; the disc has the radius that fits their lesions best.
        films: cropped windows to score.
        found: uint8 [N, S, S].

    Returns:
        ``{"network", "disc", "radius", "films"}``; the first two None where no window shows a lesion.
    """
    radius, network, disc = _beside_disc(training, films, found)
    means = [float(values.mean()) if len(values) else None for values in (network, disc)]
    return {"network": means[0], "disc": means[1], "radius": radius, "films": len(disc)}


def estimate_against_disc(films: FilmSet, found: np.ndarray) -> dict[str, Estimate]:
    """:func:`compare_with_disc` with intervals over patients, and the difference of the two with its own.

    The disc has the radius that fits the lesions of these very windows best.
    """
    _, network, disc = _beside_disc(films, films, found)
    patients = np.array(films.patients)[has_lesion(films.label_maps)]
    values = {"network": network, "disc": disc, "difference": network - disc}
    return {name: bootstrap(each, patients) for name, each in values.items()}


def _beside_disc(training: FilmSet, films: FilmSet, found: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The radius that fits best, and the Dice of network and disc on each window that shows a lesion."""
    radius = _fitting_radius(training)
    return radius, _lesion_dice(films, found), _disc_dice(films, radius)


def fitted_disc(windows: FilmSet) -> np.ndarray:
    """Label map [S, S] of a lesion that is a disc in the middle, of the radius that fits the lesions of windows best."""
    return _disc(windows.size, _fitting_radius(windows))


def _fitting_radius(windows: FilmSet) -> int:
    return max(range(1, windows.size // 2), key=lambda radius: _disc_dice(windows, radius).sum())


def _disc(size: int, radius: int) -> np.ndarray:
    places = np.arange(size) - (size - 1) / 2
    return np.where(places[:, None] ** 2 + places**2 <= radius**2, LESION, 0)


def _disc_dice(films: FilmSet, radius: int) -> np.ndarray:
    return _lesion_dice(films, np.broadcast_to(_disc(films.size, radius), films.label_maps.shape))


def _lesion_dice(films: FilmSet, found: np.ndarray) -> np.ndarray:
    """Dice of the lesion in each window that shows one."""
    rows = has_lesion(films.label_maps)
    return dice(films.label_maps[rows], found[rows], LESION)
