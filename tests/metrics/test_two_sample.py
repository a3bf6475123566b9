import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.two_sample import auc, classifier_auc, discriminant


def normal(seed: int, count: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (count, 6))


def test_auc_by_hand():
    # pairs (negative, positive): (1, 2) right, (1, 1) a tie, (3, 2) and (3, 1) wrong
    assert auc(np.array([1, 3]), np.array([2, 1])) == (1 + 0.5) / 4
    assert auc(np.array([0, 1]), np.array([2])) == 1
    assert np.isnan(auc(np.array([]), np.array([1])))


def test_discriminant_by_hand():
    # one feature, both variances 1 and means 0 and 4: the log odds are 4 x - 4 (0 + 4) / 2, 0 half-way
    weights, offset = discriminant(np.array([[-1.0], [1.0]]), np.array([[3.0], [5.0]]))
    assert weights == pytest.approx([(4 - 0) / 1])
    assert offset == pytest.approx(-4 * (0 + 4) / 2)


def test_a_tenth_of_the_covariance_is_the_same_in_every_direction():
    # variances 2 * 1^2 / 4 = 0.5 and 2 * 2^2 / 4 = 2, on average 1.25
    negative = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -2.0], [0.0, 2.0]])
    weights, _ = discriminant(negative, negative + 3)
    assert weights == pytest.approx([3 / (0.9 * 0.5 + 0.1 * 1.25), 3 / (0.9 * 2 + 0.1 * 1.25)])


def test_two_points_are_told_apart():
    groups = np.arange(10).astype(str)
    assert classifier_auc(np.zeros((10, 2)), np.ones((10, 2)), groups, groups).auc == 1
    with pytest.raises(DataError, match=r"the same ones of both sets, received: \(10, 2\) and \(10, 3\)"):
        classifier_auc(np.zeros((10, 2)), np.ones((10, 3)), groups, groups)


def test_equal_sets_cannot_be_told_apart():
    """Also on average over many small draws: pooled over the folds the AUC would lie below one half."""
    groups = np.arange(20)
    values = [
        classifier_auc(normal(2 * seed, 20), normal(2 * seed + 1, 20), groups, groups, seed=seed).auc
        for seed in range(100)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / np.sqrt(len(values)))


def test_grows_with_the_difference():
    values = [
        classifier_auc(normal(0, 60), normal(1, 60, mean), np.arange(60), np.arange(60)).auc for mean in (0, 0.3, 1, 5)
    ]
    assert values == sorted(values)
    assert values[-1] == 1


def test_the_easiest_have_the_highest_scores():
    synthetic = normal(1, 40, 0.3)
    synthetic[7] += 9
    found = classifier_auc(normal(0, 40), synthetic, np.arange(40), np.arange(40))
    assert found.scores_synthetic.argmax() == 7


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_together_and_every_fold_has_its_share_of_both(seed):
    groups_real, groups_synthetic = np.repeat(np.arange(10), 2), np.repeat(np.arange(5, 17), 3)
    found = classifier_auc(normal(0, 20), normal(1, 36), groups_real, groups_synthetic, folds=4, seed=seed)
    folds = np.concatenate([found.folds_real, found.folds_synthetic])
    groups = np.concatenate([groups_real, groups_synthetic])
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    assert set(found.folds_real) == set(found.folds_synthetic) == set(range(4))
    for kind in (range(5), range(5, 10), range(10, 17)):  # Only real, both, only synthetic.
        assert np.ptp(np.bincount([folds[groups == group][0] for group in kind], minlength=4)) == 1


def test_images_of_a_group_do_not_give_each_other_away():
    """Each group has a place of its own, the classes are the same: only a split group would be recognised."""
    random = np.random.default_rng(0)
    places = random.normal(0, 10, (24, 6))
    groups = np.repeat(np.arange(24), 4)
    features = places[groups] + random.normal(0, 0.1, (96, 6))
    real = groups < 12
    apart = classifier_auc(features[real], features[~real], groups[real], groups[~real]).auc
    split = classifier_auc(features[real], features[~real], np.arange(48), np.arange(48, 96)).auc
    assert split > apart + 0.1


def test_a_sample_changes_no_score_of_its_own_fold():
    real, synthetic = normal(0, 40), normal(1, 40, 0.5)
    before = classifier_auc(real, synthetic, np.arange(40), np.arange(40, 80))
    synthetic[0] += 100
    after = classifier_auc(real, synthetic, np.arange(40), np.arange(40, 80))
    beside = before.folds_real == before.folds_synthetic[0]
    assert (after.scores_real[beside] == before.scores_real[beside]).all()
    assert (after.scores_real[~beside] != before.scores_real[~beside]).all()


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match=r"received: 1 and 9; add films$"):
        classifier_auc(normal(0, 9), normal(1, 9), np.zeros(9), np.arange(9))
    with pytest.raises(DataError, match="one for each"):
        classifier_auc(normal(0, 9), normal(1, 9), np.arange(8), np.arange(9))
