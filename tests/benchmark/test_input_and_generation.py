"""Whether it measures, not how fast it is: times prove nothing on a busy machine."""

import json
import os

import pytest

from mammogan_tf.benchmark import input_pipeline
from mammogan_tf.benchmark.machine import measured_on
from mammogan_tf.config import GANConfig, UNetConfig, preset
from mammogan_tf.data.mias import load_mias
from mammogan_tf.data.transforms import AUGMENTATIONS
from tests.command_line import call, fails


@pytest.mark.slow
def test_input(phantom_root, tmp_path):
    cache = os.environ["MAMMOGAN_CACHE"]
    asked = ["--data", phantom_root, "--preset", "tiny", "--rounds", 1, "--steps", 2, "--json", tmp_path / "input.json"]
    result = call("benchmark", "input", *asked)
    assert result.exit_code == 0, result.output
    assert "share of a step that waits, train-unet" in result.stdout
    found = json.loads((tmp_path / "input.json").read_text())
    assert found["films"] == 24
    assert found["films_per_s"]["warm"]["median"] > found["films_per_s"]["cold"]["median"] > 0
    assert found["input_wait_share"] == max(share["median"] for share in found["wait_share"].values())
    assert 0 <= found["input_wait_share"] < 1
    assert os.environ["MAMMOGAN_CACHE"] == cache, "the user's cache is left alone"


@pytest.mark.slow
def test_input_is_prepared_as_the_preset_says(phantom_root, monkeypatch):
    prepared, batched = set(), {}
    for name in ("load_films", "segmentation_batches"):
        original = getattr(input_pipeline, name)

        def spy(*arguments, name=name, original=original, **options):
            if name == "load_films":
                prepared.add(arguments[1:])
            else:
                batched.update(options)
            return original(*arguments, **options)

        monkeypatch.setattr(input_pipeline, name, spy)
    changes = {"view": "roi", "lesions": "refined", "keep_background": True}
    configs = preset(GANConfig, "tiny", changes), preset(UNetConfig, "tiny", changes)
    input_pipeline.benchmark_input(load_mias(phantom_root), *configs, rounds=1, steps=1)
    assert prepared == {(16, "roi", "refined")}
    assert (batched["keep_background"], batched["limits"]) == (True, AUGMENTATIONS["roi"])


def test_generate(gan_run, tmp_path):
    asked = [gan_run, "--count", 8, "--rounds", 1, "--json", tmp_path / "generate.json"]
    result = call("benchmark", "generate", *asked)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "generate.json").read_text())
    rates = found["films_per_s"]
    assert found["generate_ratio"]["median"] == pytest.approx(rates["written"]["median"] / rates["bare"]["median"])
    assert found.items() >= measured_on().items()
    assert found["device"]
    assert found["cores"] >= 1
    assert found["versions"]["tensorflow"]
    assert found["TF_ENABLE_ONEDNN_OPTS"] == os.environ.get("TF_ENABLE_ONEDNN_OPTS")


def test_there_is_nothing_to_generate_with(tmp_path):
    fails("benchmark", "generate", tmp_path, says="expected a run directory or an exported generator")
