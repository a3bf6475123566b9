"""The section that says what synthetic films are worth as training films."""

import dataclasses

import numpy as np
import pytest

from mammogan_tf.config import LESION
from mammogan_tf.evaluation.evidence import DownstreamResult
from mammogan_tf.evaluation.sections.downstream import ARMS, DOWNSTREAM
from tests.toy_films import draw_films, evidence_of


@pytest.fixture
def evidence():
    """Ten patients with a lesion, enough for an interval of an area."""
    return evidence_of(draw_films(range(20), 1000), draw_films(range(100, 110), 5000))


def results(films, gains: dict[str, float]):
    """Scores that are the label, or for arms without gain nothing; Dice of 0.2 and the gain."""
    for arm in ARMS:
        for seed in range(2):
            scores = films.labels * float(arm in gains) + 0.0
            dice = np.where((films.masks == LESION).any(axis=(1, 2)), 0.2 + gains.get(arm, 0) + 0.01 * seed, np.nan)
            yield DownstreamResult(arm, seed, np.where(films.labels == 2, np.nan, scores), dice)


def test_left_out(evidence):
    assert DOWNSTREAM.compute(evidence) == {}
    assert DOWNSTREAM.draw(evidence, {}) == []


def test_no_lesions(evidence):
    report = DOWNSTREAM.compute(dataclasses.replace(evidence, downstream=()))
    assert {estimate["not computed"] for estimate in report.values()} == {"no training film has a lesion"}


def test_what_was_not_computed_has_no_scatter(evidence):
    """All films benign, and without a lesion."""
    clear = dataclasses.replace(evidence.real, labels=np.zeros(40, int), masks=np.minimum(evidence.real.masks, 3))
    measured = tuple(results(clear, {}))
    report = DOWNSTREAM.compute(dataclasses.replace(evidence, real=clear, downstream=measured))
    assert all(set(report[key]) == {"not computed"} for key in ("auc_real", "auc_equal", "dice_real"))


def test_gains_are_paired(evidence):
    measured = tuple(results(evidence.real, {"equal": 0.3}))
    changed = dataclasses.replace(evidence, downstream=measured)
    report = DOWNSTREAM.compute(changed)
    assert set(report) == {measure.key for measure in DOWNSTREAM.measures}
    assert (report["auc_real"]["value"], report["auc_equal"]["value"]) == (0.5, 1)
    assert (report["auc_equal_gain"]["value"], report["auc_equal_gain"]["low"]) == (0.5, 0.5)
    assert report["auc_half_gain"]["value"] == 0
    assert report["dice_equal"]["value"] == pytest.approx(0.2 + 0.3 + 0.01 / 2)
    assert report["dice_equal"]["note"] == "2 seeds: 0.500 to 0.510"
    for end in ("value", "low", "high"):
        assert report["dice_equal_gain"][end] == pytest.approx(0.3)
    assert [picture.name for picture in DOWNSTREAM.draw(changed, report)] == ["downstream_auc", "downstream_dice"]


def test_seeds_that_differ_widen_the_interval_of_a_gain(evidence):
    """Of two seeds one gains 0.05 on every film and the other loses it: t(0.975, 1) = 12.706 errors."""
    measured = (
        dataclasses.replace(each, dice=each.dice + (0.05 - 0.1 * each.seed) * (each.arm == "half"))
        for each in results(evidence.real, {})
    )
    report = DOWNSTREAM.compute(dataclasses.replace(evidence, downstream=tuple(measured)))
    gain, dice = report["dice_half_gain"], report["dice_half"]
    assert gain["value"] == pytest.approx(0)
    error = np.std([0.05, -0.05], ddof=1) / np.sqrt(2)
    assert [gain["low"], gain["high"]] == pytest.approx([-12.706 * error, 12.706 * error], rel=1e-3)
    assert gain["note"] == "2 seeds: -0.050 to 0.050"
    assert dice["low"] == 0  # A Dice has no less, and its seeds have 0.25 and 0.16: an error of 0.045.
    assert dice["high"] == pytest.approx(0.205 + 12.706 * 0.045, rel=1e-3)
