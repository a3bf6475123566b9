import numpy as np
import pytest
from scipy import ndimage

from mammogan_tf.data.film import Lesion, read_grey
from mammogan_tf.data.lesions import FARTHEST, USUAL_REACH, refine_lesion
from mammogan_tf.data.mias import load_mias

SIZE = 300


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def distance_from(row, column, shape=(SIZE, SIZE)):
    down, across = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(down - row, across - column)


def circle(radius, row=150.0, column=150.0, kind="MISC"):
    return Lesion(kind, 0, column, row, radius)


def disc(lesion, reach=1.0):
    return distance_from(lesion.row, lesion.column) <= reach * lesion.radius


def ellipse(long, short, row=150, column=150):
    down, across = np.mgrid[:SIZE, :SIZE]
    return ((down - row) / short) ** 2 + ((across - column) / long) ** 2 <= 1


def film(lesion_mask, contrast, noise=8.0, seed=0):
    """A lesion with a soft edge on tissue of mean 100."""
    grey = 100 + contrast * ndimage.gaussian_filter(lesion_mask.astype(float), 2)
    return (grey + np.random.default_rng(seed).normal(0, noise, grey.shape)).clip(0, 255).astype(np.uint8)


EVERYWHERE = np.ones((SIZE, SIZE), bool)


@pytest.mark.parametrize("seed", range(3))
def test_finds_an_ellipse_in_a_loose_circle(seed):
    truth, lesion = ellipse(40, 27, row=155, column=146), circle(46.0)
    outline = refine_lesion(film(truth, 30, seed=seed), lesion, EVERYWHERE)
    assert outline.refined
    assert outline.mask.dtype == bool
    assert outline.mask.shape == (SIZE, SIZE)
    assert iou(disc(lesion), truth) == pytest.approx(40 * 27 / 46**2, abs=0.01)
    assert iou(outline.mask, truth) > 0.85
    assert iou(outline.mask, truth) > iou(disc(lesion, USUAL_REACH), truth) + 0.1


def test_surroundings_may_differ_from_side_to_side():
    truth, lesion = ellipse(36, 30), circle(46.0)
    grey = film(truth, 30).astype(float) + np.where(np.arange(SIZE) > 200, 50, 0)
    assert iou(refine_lesion(grey.clip(0, 255).astype(np.uint8), lesion, EVERYWHERE).mask, truth) > 0.85


@pytest.mark.parametrize("radius", [2.0, 3.0, 8.0, 21.0, 60.0, 110.0])
@pytest.mark.parametrize("kind", ["CIRC", "SPIC", "CALC"])
def test_never_leaves_the_circle_by_more_than_a_tenth(radius, kind):
    everything_bright = distance_from(150, 150) < 1.25 * radius
    for place in (150.0, 20.0):
        lesion = circle(radius, column=place, kind=kind)
        mask = refine_lesion(film(everything_bright, 90), lesion, EVERYWHERE).mask
        assert mask.any()
        assert distance_from(150, place)[mask].max() <= FARTHEST * radius


@pytest.mark.parametrize("grey", [np.full((SIZE, SIZE), 90, np.uint8), film(~EVERYWHERE, 0), film(~EVERYWHERE, 0, 30)])
def test_draws_the_usual_disc_where_nothing_stands_out(grey):
    lesion = circle(40.0)
    outline = refine_lesion(grey, lesion, EVERYWHERE)
    assert not outline.refined
    assert outline.mask.sum() / (np.pi * 40**2) == pytest.approx(USUAL_REACH**2, rel=0.02)
    assert iou(outline.mask, disc(lesion, USUAL_REACH)) > 0.95


def test_a_dark_spot_is_no_lesion():
    assert not refine_lesion(film(ellipse(30, 30), -40), circle(40.0), EVERYWHERE).refined


def test_classes_without_a_sharp_boundary_follow_the_film_less_or_not_at_all():
    grey = film(ellipse(22, 22), 40)
    area = {kind: refine_lesion(grey, circle(46.0, kind=kind), EVERYWHERE) for kind in ("CIRC", "SPIC", "ARCH")}
    assert area["CIRC"].refined
    assert area["SPIC"].refined
    assert not area["ARCH"].refined
    assert area["CIRC"].mask.sum() < 0.8 * area["SPIC"].mask.sum() < 0.8 * area["ARCH"].mask.sum()


def test_stays_on_the_breast_and_takes_no_skin_for_an_edge():
    breast = np.broadcast_to(np.arange(SIZE) < 160, EVERYWHERE.shape)
    grey = np.where(breast, film(~EVERYWHERE, 0), 0).astype(np.uint8)
    outline = refine_lesion(grey, circle(40.0), breast)
    assert not outline.refined
    assert not (outline.mask & ~breast).any()
    assert iou(outline.mask, disc(circle(40.0), USUAL_REACH) & breast) > 0.95


def test_a_circle_off_the_breast_is_kept():
    lesion = circle(30.0)
    outline = refine_lesion(np.zeros((SIZE, SIZE), np.uint8), lesion, ~EVERYWHERE)
    assert not outline.refined
    assert iou(outline.mask, disc(lesion)) > 0.97


def test_keeps_the_part_of_the_circle_that_is_on_the_breast_where_the_outline_misses_it():
    breast = np.broadcast_to(np.arange(SIZE) > 150 + 38, EVERYWHERE.shape)
    outline = refine_lesion(film(~EVERYWHERE, 0), circle(40.0), breast)
    assert outline.mask.any()
    assert not (outline.mask & ~breast).any()
    assert not outline.refined


@pytest.mark.parametrize(("row", "column"), [(0.0, 0.0), (299.0, 150.0), (150.0, -10.0), (310.0, 310.0)])
def test_a_circle_may_reach_over_the_films_edge(row, column):
    lesion = circle(30.0, row, column)
    mask = refine_lesion(film(disc(lesion, 0.7), 40), lesion, EVERYWHERE).mask
    assert mask.any()
    assert not (mask & ~disc(lesion, FARTHEST)).any()


def test_is_the_same_each_time_and_leaves_its_arguments_alone():
    grey, breast = film(ellipse(40, 30), 20), EVERYWHERE.copy()
    before = grey.copy()
    first, second = (refine_lesion(grey, circle(46.0), breast).mask for _ in range(2))
    assert (first == second).all()
    assert (grey == before).all()
    assert breast.all()


def test_masses_of_mini_mias_stand_out_and_fill_about_two_thirds_of_their_circles(mias_root):
    shares = []
    films = [film for film in load_mias(mias_root) if any(lesion.kind == "CIRC" for lesion in film.lesions)][::3]
    for one in films:
        grey = read_grey(one.path)
        for lesion in one.lesions:
            outline = refine_lesion(grey, lesion, grey > 0)
            assert outline.refined
            shares.append(outline.mask.sum() / (np.pi * lesion.radius**2))
    assert 0.5 < np.median(shares) < 0.8
