import numpy as np
import pytest

from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.training.scores import compare_with_disc, estimate_dice, estimate_lesions, lesion_scores, mean_dice

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
        films=blank,
        label_maps=np.stack(label_maps),
        labels=np.zeros(count, np.int32),
        ids=tuple(f"film{number}" for number in range(count)),
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
    corner = disc(1, 1, 1)
    films = film_set([MIDDLE, MIDDLE, EMPTY, EMPTY, EMPTY, EMPTY])
    found = np.stack([MIDDLE, corner, corner, EMPTY, EMPTY, EMPTY])
    expected = {
        "sensitivity": 1 / 2,
        "false_positives_per_image": 2 / 6,
        "clear_images_with_false_positives": 1 / 4,
    }
    assert lesion_scores(films, found) == expected
    estimates = estimate_lesions(films, found)
    assert {name: estimate["value"] for name, estimate in estimates.items()} == pytest.approx(expected)


def test_without_lesions_there_is_no_sensitivity():
    assert lesion_scores(film_set([EMPTY, EMPTY]), np.stack([EMPTY, MIDDLE]))["sensitivity"] is None


def test_the_disc_has_the_radius_that_fits_the_training_windows():
    films = film_set([MIDDLE, disc(2.5, 3.5, 2), EMPTY])
    scores = compare_with_disc(film_set([MIDDLE, EMPTY, EMPTY]), films, films.label_maps)
    pixels, both = (MIDDLE == 4).sum(), ((MIDDLE == 4) & (films.label_maps[1] == 4)).sum()
    assert scores == {"network": 1.0, "disc": pytest.approx((1 + both / pixels) / 2), "radius": 2, "films": 2}


def test_without_lesions_there_is_nothing_to_compare():
    films = film_set([EMPTY])
    scores = compare_with_disc(film_set([MIDDLE]), films, films.label_maps)
    assert scores == {"network": None, "disc": None, "radius": 2, "films": 0}
