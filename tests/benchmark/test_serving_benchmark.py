"""Whether it measures, not how fast it is: times prove nothing on a busy machine."""

import json

import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.serving.export import export_runs
from tests.command_line import call, fails


@pytest.mark.slow
def test_serving_is_measured_in_one_run(unet_run, gan_run, tmp_path):
    export_runs([unet_run, gan_run], tmp_path / "models")
    asked = ["--models", tmp_path / "models", "--rounds", 2, "--seconds", 0.2, "--json", tmp_path / "serving.json"]
    result = call("benchmark", "serve", *asked)
    assert result.exit_code == 0
    assert "32 clients batched, films/s" in result.stdout
    found = json.loads((tmp_path / "serving.json").read_text())
    assert set(found["models"]) == {"unet", "generator"}
    for figures in found["models"].values():
        assert figures["throughput_ratio"]["n"] == 2
        assert min(figures["films_per_s"][kind]["p10"] for kind in ("in_process", "served")) > 0
        assert min(figures[name]["p10"] for name in ("batching_gain", "batching_ceiling")) > 0
        middle = [figures["latency_s"][kind]["median"] for kind in ("served", "in_process")]
        assert figures["added_latency_ms"]["median"] == pytest.approx(1000 * (middle[0] - middle[1]))  # Of two rounds.
    worst = min(figures["throughput_ratio"]["median"] for figures in found["models"].values())
    assert found["throughput_ratio"] == worst
    assert found["added_latency_ms"] == max(each["added_latency_ms"]["median"] for each in found["models"].values())


def test_it_measures_for_as_long_as_it_is_told(tmp_path, monkeypatch):
    asked = []

    def stop(*arguments):
        asked.extend(arguments[:-1])  # The last one shows progress.
        raise DataError("enough: expected nothing more, received: nothing")

    monkeypatch.setattr("mammogan_tf.benchmark.serving.benchmark_serving", stop)
    fails("benchmark", "serve", "--models", tmp_path, "--rounds", 3, "--seconds", 0.5, says="enough")
    assert asked == [tmp_path, 3, 0.5]


@pytest.mark.parametrize("seconds", ["nan", "inf", "0"])
def test_a_time_that_is_none_is_refused(seconds):
    assert call("benchmark", "serve", "--seconds", seconds).exit_code == 2


def test_figures_that_could_not_be_written_are_not_measured(tmp_path):
    (tmp_path / "file").touch()
    fails(
        "benchmark",
        "serve",
        "--json",
        tmp_path / "file" / "figures.json",
        says="figures.json: expected to read or write it",
    )


def test_a_model_that_is_missing_is_said_before_any_is_measured(unet_run, tmp_path, monkeypatch):
    export_runs([unet_run], tmp_path)
    monkeypatch.setattr("mammogan_tf.benchmark.serving._measure", lambda *given: pytest.fail("measured"))
    fails("benchmark", "serve", "--models", tmp_path, says="expected an exported generator, received: none")


def test_there_is_nothing_to_serve(tmp_path):
    fails("benchmark", "serve", "--models", tmp_path, says="expected exported models")
