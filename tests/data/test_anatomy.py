import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from mammogan_tf.data.anatomy import DOUBTFUL, find_anatomy
from mammogan_tf.data.density import _without_folds, find_dense
from mammogan_tf.data.film import read_grey
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.outline import chest_wall_side, find_outline, find_outline_and_steadiness
from mammogan_tf.data.pectoral import find_pectoral

SIDE = 256


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def film_and_truth(muscle_grey=200.0):
    """A half-ellipse of fat with a dense disc and a bright corner, on dark film, softly drawn, chest wall on the left."""
    row, column = np.mgrid[:SIDE, :SIDE]
    breast = ((row - 128) / 110) ** 2 + (column / 120) ** 2 < 1
    muscle = breast & (column + 0.5 * row < 75)
    dense = (row - 150) ** 2 + (column - 70) ** 2 < 28**2
    grey = np.select([muscle, dense, breast], [muscle_grey, 180.0, 110.0], 5.0)
    truth = np.select([muscle, dense, breast], [3, 2, 1], 0).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 3, grey.shape)
    return np.clip(gaussian_filter(grey, (2, 2), mode="nearest") + noise, 0, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def drawn():
    return film_and_truth()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("told", [True, False])
def test_finds_what_was_drawn_on_either_side(drawn, side, told):
    turn = slice(None, None, 1 if side == "left" else -1)
    grey, truth = (np.ascontiguousarray(picture[:, turn]) for picture in drawn)
    anatomy = find_anatomy(grey, side if told else None)
    assert anatomy.side == side
    assert anatomy.label_map.dtype == np.uint8
    assert dice(anatomy.label_map > 0, truth > 0) > 0.97
    assert dice(anatomy.label_map == 3, truth == 3) > 0.95
    assert dice(anatomy.label_map == 2, truth == 2) > 0.80


def test_label_map_keeps_the_aspect_ratio_at_working_size(drawn):
    grey = np.asarray(Image.fromarray(drawn[0]).resize((300, 600)))
    assert find_anatomy(grey, working_size=128).label_map.shape == (128, 128 * 300 // 600)


@pytest.mark.parametrize("shape", [(1000, 10), (1000, 4), (10, 1000), (300, 3), (1, 1)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_picture_of_almost_no_width(shape, side):
    grey = np.full(shape, 150, np.uint8)
    grey[:, : shape[1] // 2] = 0
    label_map = find_anatomy(grey, side).label_map
    assert max(label_map.shape) == 256


@pytest.mark.parametrize("padding", [0, 20])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_corner_of_chest_wall_and_top_is_not_rounded_off(side, padding):
    row, column = np.mgrid[:SIDE, :SIDE]
    grey = np.pad(np.where(column + 0.5 * row < 120, 150, 5), ((0, 0), (padding, 0)))[:, :SIDE].astype(np.uint8)
    grey = grey if side == "left" else np.ascontiguousarray(grey[:, ::-1])
    outline = find_outline(grey, side)
    turned = outline if side == "left" else outline[:, ::-1]
    assert turned[:8, padding : padding + 8].all()
    assert not turned[:, :padding].any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_where_the_side_is_known_the_breast_is_what_reaches_it(side):
    """Not the larger block of 130 x 90 pixels in the middle."""
    row, column = np.mgrid[:SIDE, :SIDE]
    breast = ((row - 128) / 60) ** 2 + (column / 60) ** 2 < 1
    grey = np.where(breast, 150, 5)
    grey[60:190, 110:200] = 150
    turn = slice(None, None, 1 if side == "left" else -1)
    assert dice(find_outline(grey[:, turn], side), breast[:, turn]) > 0.97


def test_a_short_bright_place_at_the_other_side_is_no_strip():
    """A strip takes more than 0.3 of the film's rows; beside a nipple at the edge it would take tissue away."""
    grey = np.full((SIDE, 120), 5)
    grey[20:240] = 150
    short = grey.copy()
    short[110:170, 105:] = 240
    assert find_outline(short, "left")[112:168].all()


@pytest.mark.parametrize("padding", [0, 20])
def test_a_fold_of_skin_below_the_breast_is_cut_off_beside_padding(padding):
    row, column = np.mgrid[:SIDE, :SIDE]
    tissue = (((row - 100) / 90) ** 2 + (column / 110) ** 2 < 1) | (column < 4)
    grey = np.pad(np.where(tissue, 150, 5), ((0, 0), (padding, 0)))[:, :SIDE].astype(np.uint8)
    outline = find_outline(grey, "left")
    assert outline[40:160, padding : padding + 60].all()
    assert outline[220:, padding].any() == (padding == 0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("reach", [150, 250])
def test_saturated_tissue_on_true_black_is_no_strip(side, told, reach):
    """As of a digital mammogram in a bright window: the film seems to end where the breast does."""
    row, column = np.mgrid[:SIDE, :SIDE]
    breast = ((row - 128) / 110) ** 2 + (column / reach) ** 2 < 1
    turn = slice(None, None, 1 if side == "left" else -1)
    outline = find_outline(np.where(breast, 255, 0).astype(np.uint8)[:, turn], side if told else None)
    assert dice(outline[:, turn], breast) > 0.97


@pytest.mark.parametrize("told", [True, False])
def test_a_strip_at_the_other_edge_is_left_out(told):
    row, column = np.mgrid[:SIDE, :SIDE]
    breast = ((row - 128) / 110) ** 2 + (column / 120) ** 2 < 1
    grey = np.where(column >= SIDE - 150, 250, np.where(breast, 120, 5)).astype(np.uint8)
    outline = find_outline(grey, "left" if told else None)
    assert not outline[:, SIDE - 150 :].any()
    assert dice(outline, breast & (column < SIDE - 150)) > 0.9


def test_leaves_labels_strips_and_padding_out(drawn):
    grey, truth = drawn
    marked = grey.copy()
    marked[10:40, 200:225] = 250
    marked[:, 240:] = 245
    padded = np.pad(marked[:, :-6], ((0, 0), (6, 0)))
    outline = find_anatomy(padded, "left").label_map > 0
    assert dice(outline, np.pad(truth[:, :-6], ((0, 0), (6, 0))) > 0) > 0.97
    assert not outline[:, 200:].any()


def test_a_lit_scanner_edge_ties_no_label_to_the_breast(drawn):
    grey, truth = drawn
    marked = grey.copy()
    marked[:8] = 160
    marked[8:40, 200:225] = 250
    assert not find_outline(marked, "left")[:, 195:].any()
    assert dice(find_outline(marked, "left")[8:], truth[8:] > 0) > 0.97


def test_no_muscle_is_drawn_where_no_edge_is_seen():
    plain, _ = film_and_truth(muscle_grey=110.0)
    assert not (find_anatomy(plain, "left").label_map == 3).any()


def test_muscle_edge_is_followed_where_it_bends():
    row, column = np.mgrid[:SIDE, :160]
    muscle = column < 70 - 0.5 * row + 6 * np.sin(row / 25)
    found, clearness = find_pectoral(np.where(muscle, 200.0, 120.0), np.ones(muscle.shape, bool))
    assert dice(found, muscle) > 0.97
    assert clearness > 0.85


def test_an_island_at_the_lower_chest_wall_is_a_fold(drawn):
    grey, truth = drawn
    row, column = np.mgrid[:SIDE, :SIDE]
    fold = (row > 195) & (row < 225) & (column < 14)
    label_map = find_anatomy(np.where(fold, 235, grey).astype(np.uint8), "left").label_map
    assert (label_map[fold] == 1).mean() > 0.9
    assert dice(label_map == 2, truth == 2) > 0.80


def test_an_island_at_the_upper_chest_wall_is_none():
    dense = np.zeros((100, 100), bool)
    dense[10:20, :15] = dense[80:90, :15] = True
    np.testing.assert_array_equal(_without_folds(dense, np.ones_like(dense)).nonzero()[0], np.arange(10, 20).repeat(15))


def test_confidence_is_in_proportion_to_the_steadiness_of_the_outline(drawn, monkeypatch):
    grey, _ = drawn
    outline, steadiness = find_outline_and_steadiness(grey, "left")
    sure = find_anatomy(grey, "left").confidence
    monkeypatch.setattr("mammogan_tf.data.anatomy.find_outline_and_steadiness", lambda *_: (outline, steadiness / 2))
    assert find_anatomy(grey, "left").confidence == pytest.approx(sure / 2)


@pytest.mark.parametrize("spoil", ["fade the muscle", "blur the skin"])
def test_confidence_falls_where_an_edge_is_lost(drawn, spoil):
    grey, truth = drawn
    if spoil == "fade the muscle":
        worse, _ = film_and_truth(muscle_grey=130.0)
    else:
        worse = np.where(truth > 0, grey, gaussian_filter(np.where(truth > 0, 110.0, 5.0), 15))
    sure, unsure = (find_anatomy(film.astype(np.uint8), "left").confidence for film in (grey, worse))
    assert 0 < unsure < sure
    assert DOUBTFUL < sure <= 1


def test_dense_tissue_is_ranked_by_its_area():
    row, column = np.mgrid[:SIDE, :130]
    breast = ((row - 128) / 120) ** 2 + (column / 120) ** 2 < 1
    shares = []
    for radius in (15, 30, 50):
        grey = np.where((row - 140) ** 2 + (column - 55) ** 2 < radius**2, 180.0, 110.0)
        shares.append(find_dense(np.where(breast, grey, 5.0), breast, breast)[0].sum() / breast.sum())
    assert shares[0] < shares[1] < shares[2]


def test_chest_wall_is_the_straight_edge():
    outline = film_and_truth()[1] > 0
    assert chest_wall_side(outline) == "left"
    assert chest_wall_side(outline[:, ::-1]) == "right"


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_blank_film_has_no_breast(value):
    anatomy = find_anatomy(np.full((100, 80), value, np.uint8))
    assert anatomy.label_map.shape == (256, round(256 * 80 / 100))
    assert not anatomy.label_map.any()
    assert anatomy.confidence == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (8, 8), (20, 900), (900, 9)])
def test_odd_shapes_are_no_error(shape):
    anatomy = find_anatomy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    assert max(anatomy.label_map.shape) == 256
    assert 0 <= anatomy.confidence <= 1


def test_hand_drawn_films_are_matched(ddsm_root):
    """All 33 hand-labelled films, the side not told; ``pytest -s`` prints the table of docs/masks.md."""
    scores, confidence = [], []
    for path in sorted((ddsm_root / "images").glob("*.png")):
        label = read_grey(ddsm_root / "labels" / path.name)
        anatomy = find_anatomy(read_grey(path))
        found = np.asarray(Image.fromarray(anatomy.label_map).resize(label.shape[::-1], Image.Resampling.NEAREST))
        drawn = {
            "breast with pectoral": label > 64,
            "breast": (label == 128) | (label == 192),
            "pectoral": label == 255,
            "dense": label == 192,
        }
        ours = {
            "breast with pectoral": found > 0,
            "breast": (found == 1) | (found == 2),
            "pectoral": found == 3,
            "dense": found == 2,
        }
        scores.append({"film": path.stem} | {name: dice(ours[name], drawn[name]) for name in drawn})
        confidence.append(anatomy.confidence)
    table = pd.DataFrame(scores).set_index("film")
    three = spearmanr(confidence, table[["breast", "pectoral", "dense"]].mean(axis=1)).statistic
    pectoral = spearmanr(confidence, table["pectoral"]).statistic
    print("\n" + table.describe(percentiles=[0.1, 0.5]).loc[["mean", "50%", "10%", "min"]].round(3).to_string())
    for name in table:
        print(f"worst {name}:", table[name].nsmallest(5).round(3).to_dict())
    print(f"Spearman of the confidence with the mean Dice {three:.2f}, with the muscle's {pectoral:.2f}")
    assert table["breast with pectoral"].mean() > 0.975
    assert table["breast"].mean() > 0.958
    assert table["pectoral"].mean() > 0.948
    assert (table["pectoral"] < 0.8).sum() <= 1
    assert table["dense"].mean() > 0.77
    assert table["dense"].median() > 0.85
    assert three > 0.4
    assert pectoral > 0.4


@pytest.mark.slow
def test_dense_tissue_agrees_with_the_tissue_letters(mias_root):
    """On all of mini-MIAS: letters F < G < D, and left against right breast; no letter was used in fitting."""
    films = load_mias(mias_root)
    shares, doubtful = [], 0
    for film in films:
        anatomy = find_anatomy(read_grey(film.path), film.side)
        doubtful += anatomy.confidence < DOUBTFUL
        label_map = anatomy.label_map
        shares.append((label_map == 2).sum() / np.isin(label_map, (1, 2)).sum())
    letters = spearmanr(["FGD".index(film.tissue or "") for film in films], shares).statistic
    sides = np.corrcoef(shares[0::2], shares[1::2])[0, 1]
    print(f"\nSpearman with F < G < D {letters:.3f}, left against right {sides:.3f}, {doubtful} films doubtful")
    assert letters > 0.72
    assert sides > 0.88
    assert 20 < doubtful < 45
