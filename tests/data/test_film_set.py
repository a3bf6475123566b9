import dataclasses
import resource
import tempfile

import numpy as np
import pytest

from mammogan_tf.config import NORMAL
from mammogan_tf.data import film_set
from mammogan_tf.data.anatomy import DOUBTFUL
from mammogan_tf.data.cache import prepare_films, read_metadata, read_pixels
from mammogan_tf.data.film_set import load_films
from mammogan_tf.data.mias import load_mias
from mammogan_tf.errors import DataError
from tests.data.conftest import COUNT, SIDE


def test_select_keeps_everything_of_a_film_together(films):
    chosen = films.select(["film5", "film2"])
    assert len(chosen) == 2
    assert (chosen.ids, chosen.patients) == (("film5", "film2"), ("patient2", "patient1"))
    for name in ("images", "raw", "label_maps", "labels", "corners", "confidences"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(films, name)[[5, 2]])


def test_select_names_what_is_missing(films):
    with pytest.raises(DataError, match=r"received: a folder without film8, film9; .* old name .* in dataset\.json"):
        films.select(["film8", "film1", "film9"])


def test_films_are_loaded_as_they_were_prepared(mias_tree, monkeypatch):
    listed = load_mias(mias_tree)
    paths = prepare_films(listed, SIDE)
    expected = [read_pixels(path) for path in paths]
    for limit in (film_set.MEMORY_LIMIT, 0):  # In memory, and in a file that is mapped into it.
        monkeypatch.setattr(film_set, "MEMORY_LIMIT", limit)
        loaded = load_films(listed, SIDE)
        for place, name in enumerate(("images", "raw", "label_maps")):
            np.testing.assert_array_equal(getattr(loaded, name), np.concatenate(expected)[..., place])
    assert loaded.ids == tuple(film.id for film in listed)
    assert loaded.labels.tolist() == [film.label for film in listed]
    assert loaded.patients[:3] == ("mias001", "mias001", "mias002")
    assert loaded.tissues == tuple(film.tissue for film in listed)
    assert loaded.confidences.tolist() == [np.float32(read_metadata(path).confidence) for path in paths]


def test_a_blank_film_is_not_to_be_trusted(make_film):
    plain, blank = make_film(), make_film("mdb004", np.zeros((256, 256), np.uint8))
    assert load_films([blank, plain], SIDE).confident(DOUBTFUL).ids == (plain.id,)


@pytest.mark.parametrize("view", ["whole", "roi"])
def test_a_set_that_lies_in_a_file_stays_in_one(mias_tree, monkeypatch, view):
    """Whatever is chosen or cut out of it; else it would end up in memory after all."""
    everything = load_films(load_mias(mias_tree), SIDE, view=view)
    monkeypatch.setattr(film_set, "MEMORY_LIMIT", 0)
    ids = list(dict.fromkeys(everything.ids))[:2]
    for part in (everything.select(ids), everything.cropped(), everything.spaced(2), everything.of_labels(["normal"])):
        assert len(part)
        assert all(isinstance(pictures, np.memmap) for pictures in (part.images, part.raw, part.label_maps))


def test_what_is_changed_in_slices_is_as_if_changed_at_once(films, monkeypatch):
    slices = []

    def change(some):
        slices.append(some.ids)
        return dataclasses.replace(some, images=some.images // 2, label_maps=some.label_maps + 1)

    monkeypatch.setattr(film_set, "SLICE", 3)
    monkeypatch.setattr(film_set, "MEMORY_LIMIT", 0)
    changed = films.in_slices(change)
    assert slices == [films.ids[:3], films.ids[3:6], films.ids[6:]]
    assert changed.ids == films.ids
    assert isinstance(changed.images, np.memmap)
    np.testing.assert_array_equal(changed.images, films.images // 2)
    np.testing.assert_array_equal(changed.raw, films.raw)
    np.testing.assert_array_equal(changed.label_maps, films.label_maps + 1)


def test_a_disk_without_room(films, monkeypatch):
    """It is asked for all of the room at once: a memory that is mapped to a full disk would end the process."""
    monkeypatch.setattr(film_set, "MEMORY_LIMIT", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * COUNT * SIDE**2 - 1, hard))
    try:
        with pytest.raises(DataError) as error:
            films.select(films.ids)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value) == (
        f"{tempfile.gettempdir()}: expected 0.0 GB for the films, received: File too large; "
        "free some space or set TMPDIR to another folder"
    )


def test_pictures_of_one_film_go_together_and_have_names_of_their_own(mias_tree):
    listed = load_mias(mias_tree)
    windows = load_films(listed, SIDE, view="roi")
    counts = {film.id: windows.ids.count(film.id) for film in listed}
    for film in listed:
        placed = film.lesions or film.label == NORMAL
        assert counts[film.id] == (max(1, len(film.lesions)) if placed else 0)
        assert (film.id in windows.unplaced) == (not placed)
    assert len(set(windows.names)) == len(windows)
    several = next(film for film in listed if len(film.lesions) > 1)
    assert set(windows.select([several.id]).names) == {f"{several.id}-{n + 1}" for n in range(len(several.lesions))}
    assert len(windows.select(sorted(windows.unplaced))) == 0
    last = windows.names.index(f"{several.id}-{len(several.lesions)}")
    assert windows._rows([last]).names == (windows.names[last],), "also where only one of them was chosen"


def test_no_film_has_the_name_of_anothers_window(mias_tree):
    listed = load_mias(mias_tree)
    several = next(film for film in listed if len(film.lesions) > 1)
    normal = next(film for film in listed if film.label == NORMAL)
    windows = load_films([several, dataclasses.replace(normal, id=f"{several.id}-1")], SIDE, view="roi")
    assert windows.names[-1] == f"{several.id}-1"
    assert windows.names[:2] == (f"{several.id}-2", f"{several.id}-3")
    assert len(set(windows.names)) == len(windows)


def test_cropped_pictures_begin_at_their_corners(films):
    corners = np.array([(number % 3, number % 4) for number in range(COUNT)])
    cropped = dataclasses.replace(films, size=SIDE - 4, corners=corners).cropped()
    for name in ("images", "raw", "label_maps"):
        for part, whole, (row, column) in zip(getattr(cropped, name), getattr(films, name), corners, strict=True):
            np.testing.assert_array_equal(part, whole[row : row + SIDE - 4, column : column + SIDE - 4])
    np.testing.assert_array_equal(films.cropped().images, films.images)


def test_pictures_of_other_labels_are_left_out(films):
    labelled = dataclasses.replace(films, labels=np.arange(COUNT, dtype=np.int32) % 3)
    chosen = labelled.of_labels(("malignant", "normal"))
    assert set(chosen.labels) == {1, 2}
    assert chosen.ids == tuple(id_ for number, id_ in enumerate(films.ids) if number % 3)
    assert chosen.select(films.ids).ids == chosen.ids


def test_spaced_pictures_are_those_of_every_kth_patient(films):
    pairs = dataclasses.replace(films, patients=tuple(f"patient{number // 2}" for number in range(COUNT)))
    assert pairs.spaced(COUNT).ids == films.ids
    assert set(pairs.spaced(COUNT // 2).patients) == {"patient0", "patient3"}
    assert len(pairs.spaced(1)) == 2


def test_films_whose_mask_is_not_to_be_trusted_are_left_out(films):
    doubtful = dataclasses.replace(films, confidences=np.linspace(0, 0.6, COUNT, dtype=np.float32))
    assert doubtful.confident(0.25).ids == ("film3", "film4", "film5", "film6")
    with pytest.raises(DataError, match=r"expected films of 0\.7 or more, received: 0\.60 at best"):
        doubtful.confident(0.7)
