"""What the rule of memorisation sees and what it does not, and how often real films break it.

``python -m tests.evaluation.copies DATA`` prints the tables of docs/metrics.md, of mini-MIAS at 64 x 64 pixels.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from mammogan_tf.arrays import to_float
from mammogan_tf.config import DataConfig
from mammogan_tf.console import Console
from mammogan_tf.data.film_set import FilmSet, load_films
from mammogan_tf.data.sources import load_all
from mammogan_tf.data.splits import split_patients
from mammogan_tf.evaluation.spaces import FeatureSpace, texture_space
from mammogan_tf.metrics.distribution import standardise
from mammogan_tf.metrics.memorisation import (
    MAX_MEMBERSHIP,
    MIN_RATIO,
    Closeness,
    closeness,
    distance_ratio,
    membership_auc,
    near_copies,
    nearest,
    verdict,
)

DRAWS = 500
PATIENTS = 24
SHARES = (0.10, 0.15, 0.20, 0.25)

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "noise of 0.03": lambda films: np.clip(films + np.random.default_rng(0).normal(0, 0.03, films.shape), 0, 1),
    "gamma 1.2": lambda films: films**1.2,
    "10 % darker": lambda films: 0.9 * films,
    "moved by 1 pixel": lambda films: np.roll(films, 1, axis=1),
    "moved by 2 pixels": lambda films: np.roll(films, 2, axis=1),
    "upside down": lambda films: films[:, ::-1],
    "means of two patients": lambda films: (films + np.roll(films, len(films) // 2, axis=0)) / 2,
    "blurred (sigma 1)": lambda films: gaussian_filter(films, (0, 1, 1)),
}

Closenesses = dict[str, Closeness]


def closeness_in_spaces(made: np.ndarray, unseen: np.ndarray, train: np.ndarray, space: FeatureSpace) -> Closenesses:
    """Closeness in pixels and in texture."""
    scaled = standardise(*map(space, (train, unseen, made)))
    spaces = {"pixels": (train, unseen, made), "texture": scaled}
    return {
        name: closeness(nearest(made, train)[0], nearest(unseen, train)[0])
        for name, (train, unseen, made) in spaces.items()
    }


def table(train: np.ndarray, patients: np.ndarray, unseen: np.ndarray, others: np.ndarray, space: FeatureSpace) -> str:
    """What is done to the training films, which are of ``patients``, to the unseen ones, and to few among ``others``."""
    changed = {name: change(train) for name, change in CHANGES.items()}
    sets = {"training films": train} | {f"training films, {name}": films for name, films in changed.items()}
    few = np.linspace(0, len(train) - 1, len(others) // 4).astype(int)
    sets |= {
        f"{len(others)} validation films, and {len(few)} training films, {name}": np.concatenate([others, films[few]])
        for name, films in changed.items()
    }
    sets |= {"unseen films, blurred (sigma 2)": gaussian_filter(unseen, (0, 2, 2))}
    lines = [
        "| images | pixels: ratio, near, copies, near copies | texture: ratio, near, copies | verdict |",
        "| --- " * 4 + "|",
    ]
    of_unseen = distance_ratio(unseen, train, patients)
    for name, films in sets.items():
        made = films.astype(np.float32)
        found = closeness_in_spaces(made, unseen, train, space)
        near = near_copies(distance_ratio(made, train, patients), of_unseen)
        pixels, texture = (f"{each.ratio:.2f}, {each.near:.2f}, {each.copies}" for each in found.values())
        passed = "pass" if verdict(found, near=near).passed else "fail"
        lines.append(f"| {name} | {pixels}, {near} | {texture} | {passed} |")
    return "\n".join(lines)


def real_films_that_break_the_rule(films: FilmSet, space: FeatureSpace) -> dict[float, float]:
    """By limit of the share: how many of the draws break it, or that of the ratio, or have a copy.

    Films of some patients stand in for synthetic images, films of as many others are the unseen ones, and the rest is the
    training set.
    """
    random, images, features = np.random.default_rng(0), to_float(films.images), space(to_float(films.images))
    patients = np.array(films.patients)
    broken = dict.fromkeys(SHARES, 0)
    for _ in range(DRAWS):
        order = random.permutation(np.unique(patients))
        parts = order[:PATIENTS], order[PATIENTS : 2 * PATIENTS], order[2 * PATIENTS :]
        made, unseen, train = (np.isin(patients, part) for part in parts)
        scaled = standardise(features[train], features[unseen], features[made])
        found = [
            closeness(nearest(of_made, of_train)[0], nearest(of_unseen, of_train)[0])
            for of_train, of_unseen, of_made in ((images[train], images[unseen], images[made]), scaled)
        ]
        ratios = (distance_ratio(images[part], images[train], patients[train]) for part in (made, unseen))
        few = near_copies(*ratios)
        for share in SHARES:
            broken[share] += bool(few) or any(
                each.copies > 0 or each.near > share or each.ratio < MIN_RATIO for each in found
            )
    return {share: count / DRAWS for share, count in broken.items()}


def blind_scores_that_break_the_rule(train: np.ndarray, unseen: np.ndarray, draws: int = 4000) -> dict[float, float]:
    """By limit of the AUC: how many scores break it that know nothing of membership, both films of a patient alike."""
    random = np.random.default_rng(0)
    areas = []
    for _ in range(draws):
        of_train, of_unseen = (
            random.normal(size=len(np.unique(patients)))[np.unique(patients, return_inverse=True)[1]]
            for patients in (train, unseen)
        )
        areas.append(membership_auc(of_train, of_unseen))
    return {limit: float(np.mean(np.array(areas) > limit)) for limit in (0.6, MAX_MEMBERSHIP)}


def main(data: Path) -> None:
    films, config = load_all([data]), DataConfig()
    everything, space = load_films(films, config.size), texture_space(Console(quiet=True))
    split = split_patients(films, config.validation, config.test, config.split_seed)
    train, validation, test = (everything.select(part) for part in (split.train, split.validation, split.test))
    print(
        table(
            to_float(train.images), np.array(train.patients), to_float(test.images), to_float(validation.images), space
        )
    )
    shares, areas = (
        real_films_that_break_the_rule(everything, space),
        blind_scores_that_break_the_rule(np.array(train.patients), np.array(test.patients)),
    )
    print(f"\nReal films that break the rule, by limit of the share: {_percent(shares)}")
    print(f"Blind scores that exceed an AUC of: {_percent(areas)}")


def _percent(shares: dict[float, float]) -> str:
    return ", ".join(f"{limit}: {share:.1%}" for limit, share in shares.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
