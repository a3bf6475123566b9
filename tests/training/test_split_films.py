import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import BENIGN, MALIGNANT, GANConfig, UNetConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.splits import Split
from mammogan_tf.errors import DataError
from mammogan_tf.training.run import Run
from mammogan_tf.training.split_films import fingerprint, load_split


@pytest.mark.parametrize("part", ["images", "raw", "label_maps", "labels"])
def test_a_fingerprint_is_of_every_pixel_mask_and_label_of_all_parts(part, films):
    one, other = (load_films(films[half], 16) for half in (slice(2, 4), slice(4, 6)))
    values = getattr(other, part).copy()
    values.flat[-1] += 1
    assert fingerprint(one, other) == fingerprint(one, replace(other, label_maps=other.label_maps.copy()))
    assert fingerprint(one, replace(other, **{part: values})) != fingerprint(one, other)


@pytest.fixture
def load(tmp_path, films):
    """Loads the parts of a run with these options; each film shows a benign and a malignant lesion, at one place."""
    both = [
        replace(film, lesions=tuple(replace(film.lesions[0], label=label) for label in (0, 1)))
        for film in films
        if film.lesions
    ]
    patients = [*dict.fromkeys(film.patient for film in both)]

    def of(*chosen):
        return tuple(film.id for film in both if film.patient in chosen)

    split = Split(of(*patients[2:]), of(patients[0]), of(patients[1]))

    def parts(**options):
        return load_split(Run(tmp_path, "train-gan", preset(GANConfig, "tiny", options), split, ()), both)

    return parts


def test_films_whose_masks_are_less_to_be_trusted_than_asked_do_not_train(load):
    everything, *others = load()
    least = float(np.median(everything.confidences))
    training, *as_before = load(min_mask_confidence=least)
    assert training.ids == everything.confident(least).ids
    assert 0 < len(training) < len(everything)
    assert [part.ids for part in as_before] == [part.ids for part in others]


def test_lesions_are_outlined_as_asked(load):
    circles, refined = (load(lesions=lesions, view="roi") for lesions in ("circle", "refined"))
    for circle, outline in zip(circles, refined, strict=True):
        assert outline.names == circle.names
        assert (outline.label_maps != circle.label_maps).any()


def test_windows_of_other_labels_take_no_part(load):
    for part, everything in zip(load(labels=("malignant",), view="roi"), load(view="roi"), strict=True):
        assert part.labels.tolist() == [MALIGNANT] * (len(everything) // 2)
        assert set(part.ids) == set(everything.ids)


def test_films_without_a_window_are_told_of(tmp_path, films):
    """A lesion at an unknown place: on whole films it counts."""
    first, second, third, *others = {film.patient: film for film in films}.values()
    split = Split(*(tuple(film.id for film in part) for part in ([*others], [first], [second])))
    hidden = [*others, first, second, replace(third, lesions=(), label=BENIGN)]

    def said(view):
        stream = io.StringIO()
        load_split(
            Run(tmp_path, "train-unet", preset(UNetConfig, "tiny", {"view": view}), split, ()), hidden, Console(stream)
        )
        return [line for line in stream.getvalue().splitlines() if not line.startswith("preparing")]

    assert said("whole") == []
    assert said("roi") == [f"1 of {len(hidden)} films have no window: their lesions are at no known place"]


def test_a_film_that_two_data_sets_have_stands_in_one_part(tmp_path, films):
    first, second, third, *_ = {film.patient: film for film in films}.values()
    again = replace(first, id="other:7", patient="other:7")
    config = preset(UNetConfig, "tiny")

    def load(train, validation, test):
        ids = (tuple(film.id for film in part) for part in (train, validation, test))
        return load_split(Run(tmp_path, "train-unet", config, Split(*ids), ()), [*train, *validation, *test])

    received = rf"{first.id} \(training\) with the pixels of other:7 \(test\); give both the same patient"
    with pytest.raises(DataError, match=received):
        load([first, second], [third], [again])
    assert load([first, again], [second], [third])[0].ids == (first.id, "other:7")
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    black = [Film(name, tmp_path / "black.png", name, 2) for name in "ab"]
    load([first, black[0]], [third], [black[1]])  # Which says nothing of whose they are.
