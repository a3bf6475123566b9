"""The phantom films: the layout, the determinism, the geometry, and that they are like mammograms."""

import itertools
import re
import time

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data import phantom, phantom_film
from mammogan_tf.data.film import Lesion, read_grey
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.phantom import draw_film, write_phantoms
from mammogan_tf.data.phantom_details import draw_lesion
from mammogan_tf.data.phantom_film import Marks, sample_marks
from mammogan_tf.errors import ConfigError, DataError

RECORD = re.compile(r"^(mdb\d{3}) [FGD] (?:NORM |(CALC|CIRC|SPIC|MISC|ARCH|ASYM) ([BM]) (\d+) (\d+) (\d+))$")

PATIENTS = 6


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "tree", patients=PATIENTS, seed=0)


@pytest.fixture(scope="module")
def films():
    """Every film of the first patients, as written into the tree."""
    return {
        (patient, side): draw_film(0, patient, side) for patient in range(1, PATIENTS + 1) for side in ("right", "left")
    }


def records(tree):
    lines = [line for line in (tree / "Info.txt").read_text().splitlines() if re.match(r"^mdb\d{3}\b", line)]
    return [RECORD.match(line) for line in lines]


def affected_sides(seed, patient):
    return phantom._sample_patient(seed, patient).affected


def shrink(pixels, size=64):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX), dtype=float)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_layout_is_that_of_mias(tree):
    names = sorted(path.name for path in tree.iterdir())
    assert names == ["Info.txt", *(f"mdb{number:03d}.pgm" for number in range(1, 2 * PATIENTS + 1))]
    for path in tree.glob("*.pgm"):
        assert path.read_bytes()[:17] == b"P5\n1024 1024\n255\n"
        assert path.stat().st_size == 17 + 1024 * 1024
        assert read_grey(path).shape == (1024, 1024)


def test_records_have_the_format_of_mias(tree):
    found = records(tree)
    assert all(found)
    assert [match[1] for match in found] == sorted(match[1] for match in found)
    assert {match[1] for match in found} == {f"mdb{number:03d}" for number in range(1, 2 * PATIENTS + 1)}


def test_six_patients_hold_each_label(tree):
    assert {match[3] for match in records(tree)} == {"B", "M", None}
    for seed in range(20):
        assert {phantom._patient_label(seed, patient) for patient in range(1, 7)} == {0, 1, 2}


def test_records_tell_the_lesions_with_y_from_the_bottom(tree, films):
    circles = [(match[1], int(match[4]), int(match[5]), int(match[6])) for match in records(tree) if match[2]]
    expected = [
        (f"mdb{2 * patient - (side == 'right'):03d}", lesion.column, 1023 - lesion.row, lesion.radius)
        for (patient, side), film in films.items()
        for lesion in film.lesions
    ]
    assert circles
    assert sorted(circles) == sorted(expected)


def test_what_is_written_is_read_as_it_was_drawn(tree, films):
    read = {(int(film.patient.removeprefix("mias")), film.side): film for film in load_mias(tree)}
    assert read.keys() == films.keys()
    for key, film in films.items():
        assert (read[key].tissue, read[key].lesions) == (film.tissue, film.lesions)


def test_a_film_depends_on_seed_patient_and_side_alone(tree, films):
    for number in (5, 10):
        patient, side = (number + 1) // 2, "right" if number % 2 else "left"
        assert np.array_equal(read_grey(tree / f"mdb{number:03d}.pgm"), films[patient, side].pixels)
    assert not np.array_equal(films[3, "left"].pixels, draw_film(1, 3, "left").pixels)


def test_chest_wall_is_on_the_right_of_odd_films(tree, films):
    for (patient, side), film in films.items():
        number = 2 * patient - (side == "right")
        breast = (read_grey(tree / f"mdb{number:03d}.pgm") > 60) & (film.label_map > 0)
        columns = np.flatnonzero(breast.any(axis=0))
        at_left, at_right = breast[:, columns[0]].mean(), breast[:, columns[-1]].mean()
        assert (at_right > at_left) == bool(number % 2)


def contrast(film, row, column, radius):
    """How much brighter a disc is than the ring around it."""
    down, right = np.ogrid[:1024, :1024]
    distance = np.hypot(down - row, right - column)
    ring = (distance > 1.1 * radius) & (distance < 1.5 * radius)
    return film.pixels[distance < 0.5 * radius].mean() - film.pixels[ring].mean()


def test_a_bright_lesion_lies_at_its_record():
    """Circumscribed masses are brighter than the ring around them; the same places upside down are not."""
    films = (draw_film(0, patient, side) for patient in range(1, 200) for side in affected_sides(0, patient))
    masses = (
        (film, lesion) for film in films for lesion in film.lesions if lesion.kind == "CIRC" and film.tissue != "D"
    )
    here, upside_down = [], []
    for film, lesion in itertools.islice(masses, 4):
        here.append(contrast(film, lesion.row, lesion.column, lesion.radius))
        upside_down.append(contrast(film, 1023 - lesion.row, lesion.column, lesion.radius))
    assert min(here) > 8
    assert np.mean(here) > np.mean(upside_down) + 8


@pytest.mark.parametrize("kind", ["SPIC", "CALC"])
def test_malignant_lesions_are_the_rougher(kind):
    """They have more spicules, or specks: over eight lesions of each label, steeper edges beyond 0.6 of the radius."""
    outer = np.hypot(*np.mgrid[-100:100, -100:100]) > 0.6 * 40
    roughness = []
    for label in (0, 1):
        lesions = np.zeros((8, 200, 200), np.float32)
        for seed, place in enumerate(lesions):
            draw_lesion(Lesion(kind, label, 100, 100, 40), place, np.random.default_rng(seed))
        down, across = np.gradient(lesions, axis=(1, 2))
        roughness.append((down**2 + across**2)[:, outer].sum())
    assert roughness[1] > 1.5 * roughness[0]


def test_lesions_are_marked_in_the_label_map(films):
    for film in films.values():
        assert (film.label_map == 4).any() == bool(film.lesions)
        for lesion in film.lesions:
            rows, columns = np.nonzero(film.label_map == 4)
            assert np.hypot(rows - lesion.row, columns - lesion.column).min() < lesion.radius


def test_the_two_breasts_of_a_patient_are_alike_but_not_the_same(films):
    left = {patient: shrink(films[patient, "left"].label_map.clip(0, 3) * 60) for patient in range(1, PATIENTS + 1)}
    right = {
        patient: shrink(films[patient, "right"].label_map.clip(0, 3) * 60)[:, ::-1]
        for patient in range(1, PATIENTS + 1)
    }
    own = [correlation(left[patient], right[patient]) for patient in left]
    others = [correlation(left[a], right[b]) for a in left for b in right if a != b]
    assert min(own) > 0.9
    assert np.mean(own) > np.mean(others) + 0.1
    for patient in left:
        mirrored = films[patient, "right"].pixels[:, ::-1]
        assert (films[patient, "left"].pixels != mirrored).mean() > 0.3


def dense_share(film):
    return (film.label_map == 2).sum() / np.isin(film.label_map, (1, 2)).sum()


def test_density_rises_from_fatty_to_dense():
    shares: dict[str, list[float]] = {"F": [], "G": [], "D": []}
    for patient in range(1, 25):
        film = draw_film(3, patient, "left")
        shares[film.tissue].append(dense_share(film))
    fatty, glandular, dense = (np.mean(shares[tissue]) for tissue in "FGD")
    assert fatty + 0.03 < glandular < dense - 0.1


def test_grey_levels_are_those_of_film(films):
    """Medians of mini-MIAS: background 0, breast about 150, pectoral muscle about 205."""
    for film in films.values():
        background, fat, _, muscle, _ = (film.pixels[film.label_map == value] for value in range(5))
        assert np.median(background) == 0
        assert 80 < np.median(fat) < 180
        assert 170 < np.median(muscle) < 230
        assert np.median(muscle) > np.median(fat) + 15


def test_texture_follows_a_power_law(films):
    """Mammograms have a power spectrum near 1/f^3; in mini-MIAS the exponent lies between 2.1 and 3.3."""
    window = np.hanning(256)[:, None] * np.hanning(256)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    edges = np.geomspace(4 / 256, 0.2, 12)
    slopes = []
    for film in films.values():
        top, left = (int(places.mean()) - 128 for places in np.isin(film.label_map, (1, 2)).nonzero())
        patch = film.pixels[top : top + 256, left : left + 256].astype(float)
        power = np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
        means = [power[(frequency >= low) & (frequency < high)].mean() for low, high in itertools.pairwise(edges)]
        slopes.append(-np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(means), 1)[0])
    assert 2.4 < np.median(slopes) < 3.5


def test_artefacts_are_as_frequent_as_in_mias():
    rng = np.random.default_rng(0)
    marks = [sample_marks(rng) for _ in range(4000)]
    assert abs(np.mean([mark.strip > 0 for mark in marks]) - 18 / 322) < 0.015
    assert 0.35 < np.mean([mark.label for mark in marks]) < 0.5
    assert all(12 <= mark.strip <= 196 for mark in marks if mark.strip)


def test_labels_and_padding_are_on_the_film(films):
    """Padding is exactly 0, on both sides; somewhere a bright label lies on the background."""
    for film in films.values():
        width = 1024 - 2 * np.flatnonzero(film.pixels.any(axis=0))[0]
        assert width in (400, 512, 650, 1000)
    assert any((film.pixels[film.label_map == 0] > 200).sum() > 1000 for film in films.values())


@pytest.mark.parametrize(("side", "letter"), [("right", "L"), ("left", "R")])
def test_the_label_names_the_breast(monkeypatch, side, letter):
    """The chest wall of the left breast, an odd film, is on the right of the picture."""
    texts, write = [], phantom_film._lettering
    monkeypatch.setattr(phantom_film, "_lettering", lambda text, *rest: [texts.append(text), write(text, *rest)][1])
    build, marks = phantom._sample_patient(0, 1).build, Marks(True, "", strip=0, noisy_rows=0, mirrored=False)
    dark = np.zeros((1024, build.film_width))
    phantom_film.add_marks(dark, marks, build, side, np.random.default_rng(0))
    assert texts == [letter, "ML"]


def test_progress_counts_films(tmp_path):
    seen = []
    write_phantoms(tmp_path, patients=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_a_film_is_drawn_in_a_quarter_of_a_second():
    times = []
    for patient in range(1, 8):
        start = time.thread_time()
        draw_film(0, patient, "left")
        times.append(time.thread_time() - start)
    assert np.median(times) < 0.25


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mdb001.pgm").write_bytes(b"somebody's film")
    with pytest.raises(DataError, match="expected a new or an empty folder"):
        write_phantoms(tmp_path, patients=1)
    assert (tmp_path / "mdb001.pgm").read_bytes() == b"somebody's film"
    with pytest.raises(DataError):
        write_phantoms(tmp_path / "mdb001.pgm", patients=1)


@pytest.mark.parametrize(("patients", "seed"), [(0, 0), (500, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(tmp_path, patients, seed):
    with pytest.raises(ConfigError, match="received"):
        write_phantoms(tmp_path / "tree", patients=patients, seed=seed)
    assert not (tmp_path / "tree").exists()
