import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.distribution import frechet_distance, kid, standardise


def normal(seed: int, count: int, mean: float = 0.0, dimensions: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (count, dimensions))


def test_frechet_distance_by_hand():
    # one feature: (m1 - m2)^2 + (s1 - s2)^2; variances with n - 1: 2 and 8
    first, second = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])
    assert frechet_distance(first, second) == pytest.approx((1 - 5) ** 2 + (2**0.5 - 8**0.5) ** 2)


def test_frechet_distance_of_correlated_features():
    # C2 = 4 C1, equal means: Tr(C1 + 4 C1 - 2 * 2 C1) = Tr(C1)
    first = normal(0, 50) @ np.random.default_rng(1).normal(size=(4, 4))
    first -= first.mean(axis=0)
    assert frechet_distance(first, 2 * first) == pytest.approx(np.trace(np.cov(first, rowvar=False)))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_kid_by_hand():
    # D = 1, k(x, y) = (x y + 1)^3; pairs within: k(0, 1) = 1, k(1, 2) = 27; across: k(0,1), k(0,2), k(1,1), k(1,2)
    first, second = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert kid(first, second) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kid_is_unbiased():
    values = [kid(normal(2 * seed, 12), normal(2 * seed + 1, 12)) for seed in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_kid_grows_with_the_distance():
    values = [kid(normal(0, 60), normal(1, 60, mean)) for mean in (0, 0.5, 1)]
    assert values[0] < values[1] < values[2]


def test_standardise():
    reference, other = standardise(np.array([[0.0, 7.0], [2.0, 7.0]]), np.array([[5.0, 1.0], [1.0, 1.0]]))
    assert reference.tolist() == [[(0 - 1) / 1], [(2 - 1) / 1]]
    assert other.tolist() == [[(5 - 1) / 1], [(1 - 1) / 1]]
    with pytest.raises(DataError, match="constant"):
        standardise(np.ones((3, 2)))


def test_wrong_features_are_refused():
    for function in (kid, frechet_distance):
        with pytest.raises(DataError, match="received"):
            function(normal(0, 5), normal(0, 5, dimensions=3))
        with pytest.raises(DataError, match="received"):
            function(normal(0, 5), normal(0, 1))
