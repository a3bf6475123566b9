import numpy as np
import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.metrics.distribution import (
    frechet_distance,
    kid,
    kid_of_subsets,
    manifolds,
    radiomics_frechet_distance,
    standardise,
)


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


def test_kid_of_groups_by_hand():
    # as above, and of three in the second set 1 and 3 are one patient's: k(1, 2) = 27 and k(2, 3) = 343 are left
    first, second = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0], [3.0]])
    across = (1 + 1 + 1 + 8 + 27 + 64) / 6
    found = kid(first, second, np.array(["a", "b"]), np.array(["c", "d", "c"]))
    assert found == pytest.approx(1 + (27 + 343) / 2 - 2 * across)
    with pytest.raises(DataError, match="two or more groups, received: 3 of one"):
        kid(first, second, None, np.array(["c", "c", "c"]))


def test_kid_is_unbiased_for_patients_whose_two_films_are_alike():
    def films(seed: int) -> np.ndarray:
        return np.repeat(normal(seed, 12), 2, axis=0) + 0.3 * normal(seed + 10_000, 24)

    patients = np.repeat(np.arange(12), 2)
    pairs = [(films(2 * seed), films(2 * seed + 1)) for seed in range(400)]
    values = [kid(*pair, patients, patients) for pair in pairs]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert np.mean([kid(*pair) for pair in pairs]) > 10 * error


def test_kid_grows_with_the_distance():
    values = [kid(normal(0, 60), normal(1, 60, mean)) for mean in (0, 0.5, 1)]
    assert values[0] < values[1] < values[2]


def test_standardise():
    reference, other = standardise(np.array([[0.0, 7.0], [2.0, 7.0]]), np.array([[5.0, 1.0], [1.0, 1.0]]))
    assert reference.tolist() == [[(0 - 1) / 1], [(2 - 1) / 1]]
    assert other.tolist() == [[(5 - 1) / 1], [(1 - 1) / 1]]
    with pytest.raises(DataError, match="constant"):
        standardise(np.ones((3, 2)))
    rounded = np.full((100, 1), 0.1)
    rounded[7] = np.nextafter(0.1, 1)
    with pytest.raises(DataError, match="constant"):
        standardise(rounded)


def test_radiomics_distance_is_scaled_by_the_real_films():
    # mean 1 and deviation 1 of the real ones: -1, 1 and 2, 6; variances with n - 1: 2 and 8
    real, synthetic = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])
    assert radiomics_frechet_distance(real, synthetic) == pytest.approx((0 - 4) ** 2 + (2**0.5 - 8**0.5) ** 2)


def test_radiomics_distance_does_not_depend_on_units():
    real, synthetic = normal(0, 50), normal(1, 50, 0.5)
    units = np.array([1, 10, 1000, 0.01])
    assert radiomics_frechet_distance(real * units + 7, synthetic * units + 7) == pytest.approx(
        radiomics_frechet_distance(real, synthetic)
    )


def test_kid_of_subsets():
    first, second = normal(0, 60), normal(1, 60, 0.5)
    assert kid_of_subsets(first, second, subsets=5, size=60) == pytest.approx((kid(first, second), 0), abs=1e-12)
    mean, deviation = kid_of_subsets(first, second, subsets=50, size=20, seed=3)
    assert mean == pytest.approx(kid(first, second), abs=4 * deviation / np.sqrt(50))
    assert (mean, deviation) == kid_of_subsets(first, second, subsets=50, size=20, seed=3)
    _, of_more = kid_of_subsets(first, second, subsets=300, size=20)
    assert of_more == pytest.approx(deviation, rel=0.3)  # of one subset, however many there are
    with pytest.raises(DataError, match="80 samples or more"):
        kid_of_subsets(first, second, size=80)


def test_manifolds_by_hand():
    # k = 1. Real 0, 1, 4: balls of 1, 1, 3. Synthetic 0.5, 6, 9: balls of 5.5, 3, 3.
    real, synthetic = np.array([[0.0], [1.0], [4.0]]), np.array([[0.5], [6.0], [9.0]])
    found = manifolds(real, synthetic, k=1)
    assert found.precision == 2 / 3  # 0.5 in the first two balls, 6 in the third, 9 in none
    assert found.density == pytest.approx((2 + 1 + 0) / 3 / 1)
    assert found.coverage == 3 / 3
    assert found.recall == 3 / 3  # |0 - 0.5|, |1 - 0.5| and |4 - 0.5| < 5.5


def test_manifolds_tell_fidelity_from_diversity():
    real = normal(0, 100)
    collapsed = manifolds(real, 0.1 * normal(1, 100))
    assert collapsed.precision > 0.95
    assert collapsed.density > 1
    assert max(collapsed.recall, collapsed.coverage) < 0.5
    scattered = manifolds(real, 4 * normal(1, 100))
    assert scattered.precision < 0.5
    assert scattered.recall > 0.95
    with pytest.raises(DataError, match="more samples than that, received: k 5, 100 and 5"):
        manifolds(real, real[:5])
    with pytest.raises(DataError, match="a k of 1 or more"):
        manifolds(real, real, k=0)


def test_wrong_features_are_refused():
    for function in (kid, frechet_distance, manifolds, kid_of_subsets):
        with pytest.raises(DataError, match="received"):
            function(normal(0, 5), normal(0, 5, dimensions=3))
        with pytest.raises(DataError, match="received"):
            function(normal(0, 5), normal(0, 1))
    for function in (kid, frechet_distance, manifolds, kid_of_subsets, standardise):
        broken = normal(0, 200)
        broken[3, 1] = np.nan
        with pytest.raises(DataError, match="expected finite numbers, received: others in 1 samples"):
            function(normal(1, 200), broken)
    with pytest.raises(DataError, match="groups: expected one for each of 5 samples, received: 4"):
        kid(normal(0, 5), normal(1, 5), list("abcd"))


@pytest.mark.parametrize("kind", [np.float16, np.float32, list])
def test_features_of_any_type_have_the_distances_of_float64(kind):
    first, second = ((8 * normal(seed, 20)).round() / 8 + 100 for seed in (0, 1))  # Held exactly by either type.
    given = [features.tolist() if kind is list else features.astype(kind) for features in (first, second)]
    for function in (kid, frechet_distance, lambda *sets: manifolds(*sets).density):
        assert function(*given) == function(first, second)


def test_a_constant_of_float32_is_left_out():
    features = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    features[:, 0] = 0.1
    scaled, other = standardise(features, features[:3] + np.float32(0.001))
    assert scaled.shape == (1000, 1)
    assert scaled.dtype == np.float64
    assert np.abs(other).max() < 5
