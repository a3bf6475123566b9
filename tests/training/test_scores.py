import numpy as np
import pytest

from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.training.scores import (
    compare_with_disc,
    estimate_against_disc,
    estimate_dice,
    estimate_lesions,
    lesion_scores,
    mean_dice,
)

SIDE = 8


def disc(row: float, column: float, radius: float, value: int = 4) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.where((rows - row) ** 2 + (columns - column) ** 2 <= radius**2, value, 0).astype(np.uint8)


def film_set(label_maps: list[np.ndarray]) -> FilmSet:
    """Films of which every two belong to one patient."""
    count = len(label_maps)
    blank = np.zeros((count, SIDE, SIDE), np.uint8)
    return FilmSet(
        images=blank,
        raw=blank,
        label_maps=np.stack(label_maps),
        labels=np.zeros(count, np.int32),
        ids=(names := tuple(f"film{number}" for number in range(count))),
        names=names,
        patients=tuple(f"patient{number // 2}" for number in range(count)),
        tissues=(None,) * count,
        size=SIDE,
        corners=np.zeros((count, 2), np.int64),
        confidences=np.ones(count, np.float32),
    )


EMPTY = np.zeros((SIDE, SIDE), np.uint8)
MUSCLE = disc(0, 0, 3, value=3)
MIDDLE = disc(3.5, 3.5, 2)


def test_dice_is_averaged_over_the_films_with_a_region():
    films = film_set([MUSCLE, EMPTY, MUSCLE])
    table = mean_dice(films, np.stack([MUSCLE, EMPTY, EMPTY]))
    assert table["pectoral"] == {"mean": (1 + 0) / 2, "films": 2}
    assert table["lesion"] == {"mean": None, "films": 0}


def test_dice_has_an_interval_over_patients():
    films = film_set([MUSCLE] * 6)
    estimate = estimate_dice(films, np.stack([MUSCLE] * 4 + [EMPTY] * 2))
    assert estimate["pectoral"]["value"] == pytest.approx(4 / 6)
    assert (estimate["pectoral"]["n"], estimate["pectoral"]["patients"]) == (6, 3)
    assert estimate["pectoral"]["low"] < 4 / 6 < estimate["pectoral"]["high"]
    assert "not computed" in estimate["lesion"]


def test_lesions_are_found_missed_and_false():
    corner = disc(0, 0, 1)
    films = film_set([MIDDLE, MIDDLE, EMPTY, EMPTY, EMPTY, EMPTY] * 4)
    found = np.stack([MIDDLE, corner, corner, EMPTY, EMPTY, EMPTY] * 4)
    probabilities = (found == 4) * np.array([0.8, 0.9, 0.4, 0, 0, 0] * 4)[:, None, None]
    probabilities[1::6, MIDDLE == 4] = 0.1
    expected = {
        "sensitivity": 1 / 2,
        "false_positives_per_image": 2 / 6,
        "clear_images_with_false_positives": 1 / 4,
        "sensitivity_at_0.25_per_image": 1 / 2,  # 6 false positives on 24 films: what is surer than 0.4.
        "sensitivity_at_1_per_image": 2 / 2,
    }
    assert lesion_scores(films, found, probabilities) == expected
    estimates = estimate_lesions(films, found, probabilities)
    assert {name: estimate["value"] for name, estimate in estimates.items()} == pytest.approx(expected)


def test_lesion_figures_have_intervals_over_patients():
    films = film_set([MIDDLE] * 6)
    estimates = estimate_lesions(films, films.label_maps, (films.label_maps == 4).astype(float))
    assert (estimates["sensitivity"]["n"], estimates["sensitivity"]["patients"]) == (6, 3)


def test_without_lesions_there_is_no_sensitivity():
    scores = lesion_scores(film_set([EMPTY, EMPTY]), np.stack([EMPTY, MIDDLE]), np.zeros((2, SIDE, SIDE)))
    assert scores["sensitivity"] is None


def test_the_disc_has_the_radius_that_fits_the_training_windows():
    films = film_set([MIDDLE, disc(2.5, 3.5, 2), EMPTY])
    scores = compare_with_disc(film_set([MIDDLE, EMPTY, EMPTY]), films, films.label_maps)
    pixels, both = (MIDDLE == 4).sum(), ((MIDDLE == 4) & (films.label_maps[1] == 4)).sum()
    assert scores == {"network": 1.0, "disc": pytest.approx((1 + both / pixels) / 2), "radius": 2, "films": 2}


@pytest.mark.parametrize(("radii", "best"), [([1], 1), ([3], 3), ([1, 3, 3], 3)])
def test_the_disc_fits_all_training_windows_together(radii, best):
    training = film_set([disc(3.5, 3.5, radius) for radius in radii])
    assert compare_with_disc(training, training, training.label_maps)["radius"] == best


def test_only_lesions_count_beside_the_disc():
    breast = np.ones_like(EMPTY)
    films = film_set([np.maximum(breast, MIDDLE), breast])
    scores = compare_with_disc(films, films, films.label_maps)
    assert scores == {"network": 1, "disc": 1, "radius": 2, "films": 1}


def test_without_lesions_there_is_nothing_to_compare():
    films = film_set([EMPTY])
    scores = compare_with_disc(film_set([MIDDLE]), films, films.label_maps)
    assert scores == {"network": None, "disc": None, "radius": 2, "films": 0}


def test_the_network_is_compared_with_the_disc_patient_by_patient():
    films = film_set([MIDDLE, EMPTY] * 3)
    scores = estimate_against_disc(films, films.label_maps)
    assert {name: cell["value"] for name, cell in scores.items()} == {"network": 1, "disc": 1, "difference": 0}
    assert {cell["patients"] for cell in scores.values()} == {3}
    nothing = estimate_against_disc(films, np.zeros_like(films.label_maps))
    assert {name: cell["value"] for name, cell in nothing.items()} == {"network": 0, "disc": 1, "difference": -1}
