import dataclasses
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.config import LESION
from mammogan_tf.data import cache
from mammogan_tf.data.film import DrawnMask
from mammogan_tf.data.preparation import MAX_PIXELS, prepare
from mammogan_tf.errors import DataError
from tests.drawn_film import circle, draw

SIZE = 64


def test_cache_is_used_and_keyed_by_content(make_film, monkeypatch):
    film = make_film()
    (entry,) = cache.prepare_films([film], SIZE)
    again = make_film("mdb004")
    monkeypatch.setattr(cache, "prepare", lambda *_, **__: pytest.fail("prepared twice"))
    assert cache.prepare_films([film, again], SIZE) == [entry, entry]


def test_everything_that_changes_the_pixels_changes_the_entry(make_film):
    film = make_film()
    others = [
        dataclasses.replace(film, lesions=(circle(30, 128, 20),)),
        dataclasses.replace(film, side="right"),
        dataclasses.replace(film, label=1),
        make_film("mdb006", draw(padding=8)),
    ]
    entries = cache.prepare_films([film, *others], SIZE) + cache.prepare_films([film], 32)
    entries += cache.prepare_films([film], SIZE, view="roi")
    for classes in (((0, 0),), ((0, 1),)):
        drawn = DrawnMask(film.path, classes)
        entries.append(
            cache._path(dataclasses.replace(film, drawn=drawn), {"size": SIZE, "view": "whole", "variants": 0})
        )
    assert len(set(entries)) == 9


def test_a_film_that_is_labelled_anew_has_its_new_label(make_film):
    film = make_film()
    entries = cache.prepare_films([film, dataclasses.replace(film, label=1)], SIZE)
    assert [cache.read_metadata(entry).labels for entry in entries] == [(2,), (1,)]


def test_a_mask_that_is_redrawn_under_its_name_is_read_anew(make_film, tmp_path):
    drawn = DrawnMask(tmp_path / "drawn.png", ((0, 0), (200, LESION)))
    film = dataclasses.replace(make_film(), drawn=drawn)
    for grey, value in drawn.classes:
        Image.fromarray(np.full((256, 256), grey, np.uint8)).save(drawn.path)
        (entry,) = cache.prepare_films([film], SIZE)
        assert (cache.read_pixels(entry)[..., 2] == value).all()


def test_entries_of_another_version_are_not_used(make_film, monkeypatch):
    film = make_film()
    before = cache.prepare_films([film], SIZE)
    monkeypatch.setattr(cache, "PREPARE_VERSION", cache.PREPARE_VERSION + 1)
    assert cache.prepare_films([film], SIZE) != before


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_broken_entry_is_made_again(make_film, content):
    film = make_film()
    (entry,) = cache.prepare_films([film], SIZE)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert cache.prepare_films([film], SIZE) == [entry]
    assert entry.read_bytes() == whole


def test_an_entry_whose_bits_have_changed_is_made_again(make_film):
    film = make_film()
    (entry,) = cache.prepare_films([film], SIZE)
    whole = entry.read_bytes()
    for place in range(whole.index(b"IDAT") + 4, len(whole) - 20, len(whole) // 40):
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        cache.prepare_films([film], SIZE)
        assert entry.read_bytes() == whole, place


def test_an_entry_that_pillow_refuses_to_open_is_made_again(make_film, monkeypatch):
    (entry,) = cache.prepare_films([make_film()], SIZE)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", SIZE**2 // 2 - 1)
    assert not cache._is_whole(entry, SIZE)


def test_what_pillow_opens():
    """A film's pictures are kept in one PNG of at most so many pixels; above half of them it warns."""
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS // 2


def test_workers_give_what_one_process_gives(make_film, tmp_path, monkeypatch):
    films = [make_film(f"mdb{number:03d}", draw(padding=number)) for number in range(cache.FEW_FILMS)]
    alone = cache.prepare_films(films, SIZE, workers=1)
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "second"))
    seen = []
    together = cache.prepare_films(films, SIZE, progress=lambda *step: seen.append(step), workers=2)
    assert seen == [(done, len(films)) for done in range(1, len(films) + 1)]
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]


def test_what_broken_workers_leave_is_done_here(make_film, monkeypatch):
    def break_after_two(tasks, options, workers):
        for done, task in enumerate(tasks[:2], start=1):
            cache._store(task, options)
            yield done
        raise BrokenProcessPool

    monkeypatch.setattr(cache, "_store_in_pool", break_after_two)
    films = [make_film(f"mdb{number:03d}", draw(padding=number)) for number in range(cache.FEW_FILMS)]
    seen = []
    entries = cache.prepare_films(films, SIZE, progress=lambda *step: seen.append(step), workers=2)
    assert all(entry.is_file() for entry in entries)
    assert seen == [(done, len(films)) for done in range(1, len(films) + 1)]


def test_ctrl_c_is_the_parents_to_handle_and_never_reaches_a_worker():
    def is_blocked():
        script = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "True\n"

    blocked = []

    def press_ctrl_c():
        with cache._interrupts_held_back():
            signal.raise_signal(signal.SIGINT)
            blocked.append(is_blocked())

    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()
    assert blocked == [True]
    assert not is_blocked()


def test_a_film_that_is_not_there(make_film, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.pgm: expected an image file"):
        cache.prepare_films([dataclasses.replace(make_film(), path=tmp_path / "nowhere.pgm")], SIZE)


def test_a_cache_that_cannot_be_written(make_film, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MAMMOGAN_CACHE"):
        cache.prepare_films([make_film()], SIZE)


def test_without_a_home_it_asks_for_a_cache(make_film, monkeypatch):
    film = make_film()
    monkeypatch.delenv("MAMMOGAN_CACHE")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # As in a container whose user is a bare number.
    with pytest.raises(DataError, match="cache: expected a home folder, received: none; set MAMMOGAN_CACHE"):
        cache.prepare_films([film], SIZE)


@pytest.mark.parametrize("view", ["whole", "roi"])
def test_an_entry_holds_what_was_prepared(make_film, view):
    film = make_film(lesions=[circle(40, 100, 15), circle(60, 150, 15)])
    (path,) = cache.prepare_films([film], SIZE, view)
    expected = prepare(film, SIZE, view)
    assert cache.read_metadata(path) == (expected.labels, expected.corners, expected.confidence)
    layers = np.stack([expected.images, expected.raw, expected.label_maps], axis=-1)
    np.testing.assert_array_equal(cache.read_pixels(path), layers)
