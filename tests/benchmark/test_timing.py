import numpy as np
import pytest

from mammogan_tf.benchmark.timing import in_turns, spread, timed


def test_measures_are_taken_in_turns_and_the_first_round_does_not_count():
    order = []

    def measure(name):
        order.append(name)
        return float(len(order))

    values = in_turns({"a": lambda: measure("a"), "b": lambda: measure("b")}, rounds=3)
    assert order == ["a", "b"] * (1 + 3)
    np.testing.assert_array_equal(values["a"], [3, 5, 7])
    np.testing.assert_array_equal(values["b"], [4, 6, 8])


def test_timed_is_the_median_of_its_calls(monkeypatch):
    ticks = iter([0, 1, 10, 15, 20, 22])  # Calls of 1, 5 and 2 seconds.
    monkeypatch.setattr("mammogan_tf.benchmark.timing.time.perf_counter", lambda: next(ticks))
    assert timed(lambda: None, calls=3)() == 2


def test_spread():
    found = spread(np.arange(11.0))
    assert found == {"median": 5, "p10": pytest.approx(1), "p90": pytest.approx(9), "n": 11}
