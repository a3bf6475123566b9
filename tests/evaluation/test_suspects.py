"""The images that a report shows as its worst."""

import dataclasses

import numpy as np
import pytest

from mammogan_tf.evaluation import figures
from mammogan_tf.evaluation.sections.distribution import DISTRIBUTION
from mammogan_tf.evaluation.sections.memorisation import MEMORISATION
from tests.toy_films import draw_films, evidence_of, with_images


@pytest.fixture
def shown(monkeypatch):
    """The rows and titles of each gallery."""
    galleries = []
    monkeypatch.setattr(figures, "gallery", lambda rows, titles: galleries.append((rows, titles)) or b"")
    return galleries


def test_the_image_nearest_to_a_training_film_stands_first_above_that_film(evidence, shown):
    """One a patient, by the distance over that of the real film of the same mask."""
    copied, images = 45, evidence.synthetic.images.copy()
    assert copied > len(evidence.real)
    images[5] = evidence.train.images[copied]
    changed = dataclasses.replace(with_images(evidence, images), spaces={})
    MEMORISATION.draw(changed, {})
    ((rows, titles),) = shown
    near, films = changed.neighbours["pixels"], evidence.synthetic.films
    ratios = near.made / near.unseen[films]
    of_patients = ratios.reshape(20, 4)  # Two images of each of her two films.
    suspects = (np.arange(20) * 4 + of_patients.argmin(axis=1))[of_patients.min(axis=1).argsort()][:10]
    assert suspects[0] == 5
    assert (rows["synthetic"] == images[suspects]).all()
    assert (rows["training film"] == evidence.train.images[near.nearest[suspects]]).all()
    names = [f"{ratios[suspect]:.2f}\nfilm{near.nearest[suspect]}" for suspect in suspects]
    assert titles == names
    assert titles[0] == f"0.00\nfilm{copied}"


def test_the_image_that_the_classifier_finds_easiest_stands_first(evidence, shown):
    """All are brighter than films are, one most."""
    few = evidence_of(draw_films(range(7), 1000), evidence.train)
    few = dataclasses.replace(few, spaces={"texture": few.spaces["segmenter"]})
    images = 1.1 * few.synthetic.images
    images[9] *= 1.5
    bright = with_images(few, np.clip(images, 0, 1))
    DISTRIBUTION.draw(bright, DISTRIBUTION.compute(bright))
    ((rows, _),) = shown
    assert len(rows["synthetic"]) == 10
    assert (rows["synthetic"][0] == bright.synthetic.images[9]).all()
