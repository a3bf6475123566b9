"""Several devices train as one does on the same global batches."""

import numpy as np
import pytest

from tests.replicated import steps_on, weights_after_an_overflow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory, phantom_root):
    place = tmp_path_factory.mktemp("devices")
    return [steps_on(devices, phantom_root, place / f"{devices}.npz") for devices in (1, 2)]


@pytest.mark.parametrize("model", ["gan", "unet"])
def test_weights_averages_and_metrics_agree(one_and_two, model):
    one, two = ({name: v for name, v in values.items() if name.startswith(model)} for values in one_and_two)
    assert one.keys() == two.keys()
    for name, value in one.items():
        # Adam turns a rounding error of a gradient near zero into up to a hundredth of its step of 1e-3.
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=2e-5, err_msg=name)


def test_the_metrics_are_of_the_whole_batch(one_and_two):
    one, two = one_and_two
    for name in ("gan/wasserstein", "gan/penalty", "gan/generator_loss", "unet/loss", "unet/dice", "unet/dice_dense"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name


def test_a_step_counts_as_much_on_each_number_of_devices(one_and_two):
    """A mean that goes on in a run that was resumed on another number of them counts every step once."""
    one, two = ({name: count for name, count in values.items() if "count of" in name} for values in one_and_two)
    assert {name: float(count) for name, count in two.items()} == {name: float(count) for name, count in one.items()}
    assert one["gan/count of generator_loss"] == 3


@pytest.mark.parametrize("replica", [0, 1])
def test_no_replica_takes_a_step_in_which_another_overflows(tmp_path, replica):
    np.testing.assert_array_equal(weights_after_an_overflow(replica, tmp_path / "weights.npy"), [1, 1])
