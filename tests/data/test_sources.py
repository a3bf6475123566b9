import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.sources import find_data, load_all, load_data
from mammogan_tf.errors import DataError


def write_folder(root, *films, **description):
    (root / "images").mkdir(parents=True)
    for film in films:
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(root / "images" / f"{film}.png")
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def ids(films):
    return [film.id for film in films]


def test_either_kind_is_known_by_what_explains_it(mias_tree, tmp_path):
    assert ids(load_data(mias_tree))[:2] == ["mdb001", "mdb002"]
    assert ids(load_data(write_folder(tmp_path / "mine", "a", "b"))) == ["mine-a", "mine-b"]


def test_suffixes_are_known_in_any_case(tmp_path):
    root = write_folder(tmp_path / "mine")
    for name in ("a.PNG", "b.Tif"):
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(root / "images" / name)
    assert ids(load_data(root)) == ["mine-a", "mine-b"]


def test_films_of_one_name_in_several_data_sets(mias_tree, tmp_path):
    """A folder's own name keeps apart what has the same file names."""
    paths = [mias_tree, *(write_folder(tmp_path / name, "1", "mdb001") for name in ("old", "new"))]
    films = load_all(paths)
    assert ids(films) == [*ids(load_data(mias_tree)), "old-1", "old-mdb001", "new-1", "new-mdb001"]
    assert len({film.patient for film in films}) == 12 / 2 + 2 + 2


def test_films_that_two_data_sets_have(mias_tree, tmp_path):
    paths = [write_folder(tmp_path / place, "1", name="mine") for place in ("old", "new")]
    with pytest.raises(DataError, match=r'received: mine-1, as in .*old; give each dataset\.json a "name" of its own'):
        load_all(paths)
    with pytest.raises(DataError, match="received: mdb001, as in"):
        load_all([mias_tree, mias_tree])


@pytest.mark.parametrize("place", ["", "images"])
def test_images_that_nothing_explains(tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "a.PNG").touch()
    with pytest.raises(DataError, match=r"received: images such as a\.PNG alone; .*dataset\.json: \{") as error:
        load_data(tmp_path)
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="mammogan-tf data fetch data/mias"):
            load_data(path)


def test_find_data_prefers_paths_then_environment_then_default(monkeypatch):
    monkeypatch.delenv("MAMMOGAN_DATA", raising=False)
    assert find_data() == (Path("data/mias"),)
    monkeypatch.setenv("MAMMOGAN_DATA", "named")
    assert find_data() == (Path("named"),)
    monkeypatch.setenv("MAMMOGAN_DATA", "~/films")
    assert find_data() == (Path.home() / "films",)
    assert find_data(["one", Path("two")]) == (Path("one"), Path("two"))
