"""Whether it measures, not how fast it is: times prove nothing on a busy machine."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from mammogan_tf.benchmark import training
from mammogan_tf.benchmark.textbook import TextbookWGANGP
from mammogan_tf.config import CLASSES, CRITICS, LABELS, GANConfig, UNetConfig, preset
from mammogan_tf.errors import DataError
from mammogan_tf.models.blocks import Emphasis, LesionMean
from mammogan_tf.training.gan import build_wgan_gp
from mammogan_tf.training.strategy import set_up_device
from mammogan_tf.training.wgan_gp import WGANGP
from tests.command_line import call, fails

KINDS = ("ours_step_s", "textbook_step_s", "torch_step_s")


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "mammogan_tf.benchmark.torch_training", None)


def measured(tmp_path, command, *options) -> dict:
    path = tmp_path / "figures.json"
    result = call("benchmark", command, "--rounds", 2, "--json", path, *options)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())


@pytest.mark.slow
def test_a_step_of_the_gan_against_the_textbooks(tmp_path, without_torch):
    found = measured(tmp_path, "train-gan", "--preset", "tiny", "--batch-size", 2)
    assert [batch["batch"] for batch in found["batches"]] == [2]
    for batch in found["batches"]:
        assert batch["ours_step_s"]["n"] == 2
        ratios = [batch["textbook_step_s"][end] / batch["ours_step_s"][end] for end in ("p10", "p90")]
        assert min(ratios) / 2 < batch["ratio_textbook"]["median"] < 2 * max(ratios)
        assert batch["torch_step_s"] is batch["ratio_torch"] is None
    assert found["precision"] == "float32"
    assert found["versions"]["tensorflow"] == tf.__version__


def test_a_step_of_the_unet(tmp_path, without_torch):
    (batch,) = measured(tmp_path, "train-unet", "--preset", "tiny", "--batch-size", 2)["batches"]
    assert batch["ours_step_s"]["p10"] > 0
    assert "textbook_step_s" not in batch


@pytest.mark.parametrize(
    ("command", "kind", "changes"),
    [("train-gan", GANConfig, {"n_critic": 3}), ("train-unet", UNetConfig, {})],
)
def test_options_reach_the_benchmark(monkeypatch, command, kind, changes):
    asked = []

    def stop(*arguments):
        asked.extend(arguments[:-1])  # The last one shows progress.
        raise DataError("enough: expected nothing more, received: nothing")

    monkeypatch.setattr(training, f"benchmark_{command.removeprefix('train-')}_training", stop)
    options = [part for name, value in changes.items() for part in (f"--{name.replace('_', '-')}", value)]
    options += ["--precision", "mixed_bfloat16", "--batch-size", 2, "--rounds", 3, "--no-compile"]
    fails("benchmark", command, "--preset", "tiny", *options, says="enough")
    assert asked == [preset(kind, "tiny", {**changes, "precision": "mixed_bfloat16"}), (2,), 3, False]


def test_the_textbook_has_the_same_algorithm():
    """One critic update from the same weights, with the same films and draws, moves both critics alike."""
    set_up_device("float32", 0, deterministic=False)
    config = preset(GANConfig, "tiny", {"n_critic": 1})
    models = [build_wgan_gp(config, kind) for kind in (WGANGP, TextbookWGANGP)]
    models[1].critic.set_weights(models[0].critic.get_weights())
    random = np.random.default_rng(0)
    real, fake = (tf.constant(random.uniform(-1, 1, (4, 16, 16, 1)), tf.float32) for _ in range(2))
    mask, label = tf.one_hot(random.integers(0, 5, (4, 16, 16)), 5), tf.constant([0, 1, 2, 0])
    for model in models:
        model._critic_step(real, fake, mask, label)
    for one, other in zip(models[0].critic.weights, models[1].critic.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)


class TestTorch:
    """The same layers in PyTorch; what is measured is in the extra ``bench``."""

    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch", reason="needs PyTorch: pip install 'mammogan-tf[bench]'")

    @pytest.mark.slow
    def test_the_gan(self):
        (batch,) = training.benchmark_gan_training(preset(GANConfig, "tiny"), [2], rounds=1, compiled=False)["batches"]
        assert set(batch["torch_variants"]) == {"eager", "channels_last"}
        assert all(isinstance(figure, dict) for figure in batch["torch_variants"].values()), batch["torch_variants"]
        fastest = min(figure["median"] for figure in batch["torch_variants"].values())
        assert batch["torch_step_s"]["median"] == fastest
        assert batch["ratio_torch"]["median"] == pytest.approx(fastest / batch["ours_step_s"]["median"])

    def test_beside_a_gpu_that_torch_does_not_see_it_is_left_out(self, torch, monkeypatch):
        if torch.cuda.is_available():
            pytest.skip("PyTorch sees a GPU here")
        gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"device_name": "some GPU"})
        found = training.benchmark_unet_training(preset(UNetConfig, "tiny", {"precision": "float32"}), [2], rounds=1)
        (batch,) = found["batches"]
        assert batch["torch_step_s"] is batch["ratio_torch"] is None
        text = training.format_training(found)
        assert "PyTorch not measured" in text
        assert "not installed" not in text

    def test_the_unet(self):
        (batch,) = training.benchmark_unet_training(preset(UNetConfig, "tiny"), [2], rounds=1, compiled=False)[
            "batches"
        ]
        assert all(isinstance(figure, dict) for figure in batch["torch_variants"].values()), batch["torch_variants"]

    @pytest.mark.parametrize("critic", CRITICS)
    @pytest.mark.parametrize(
        ("generator", "size"), [*(("residual", size) for size in (16, 32, 64, 128)), ("plain", 16), ("plain", 64)]
    )
    def test_the_networks_have_as_many_parameters(self, size, generator, critic):
        from mammogan_tf.benchmark import torch_networks

        config = preset(GANConfig, "default", {"size": size, "generator": generator, "critic": critic})
        ours = build_wgan_gp(config)
        common = len(CLASSES), len(LABELS)
        kinds = {"residual": torch_networks.Generator, "plain": torch_networks.PlainGenerator}
        theirs = {
            "generator": kinds[generator](size, config.z_dim, config.generator_widths, *common, True),
            "critic": torch_networks.Critic(
                size, config.critic_widths, ours.emphasis.channels, *common, patches=critic == "patches"
            ),
        }
        assert {name: torch_networks.parameters(network) for name, network in theirs.items()} == {
            name: training.trained_parameters(getattr(ours, name)) for name in theirs
        }

    @pytest.mark.parametrize("gain", [0.0, 8.0])
    def test_the_critic_sees_films_in_the_same_way(self, torch, gain):
        from mammogan_tf.benchmark.torch_networks import TorchEmphasis

        films = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 1)).astype("float32")
        ours = Emphasis(gain)(films)
        theirs = TorchEmphasis(gain)(torch.from_numpy(films).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        np.testing.assert_allclose(theirs[:, 3:-3, 3:-3], ours[:, 3:-3, 3:-3], rtol=1e-3, atol=1e-4)

    def test_the_critic_sees_lesions_in_the_same_way(self, torch):
        from mammogan_tf.benchmark.torch_networks import lesion_mean

        random = np.random.default_rng(0)
        features = random.normal(size=(2, 8, 8, 3)).astype("float32")
        mask = np.eye(5, dtype="float32")[random.integers(0, 5, (2, 16, 16))]
        theirs = lesion_mean(*(torch.from_numpy(x).permute(0, 3, 1, 2) for x in (features, mask)))
        np.testing.assert_allclose(theirs, LesionMean()([features, mask]), rtol=1e-4, atol=1e-5)

    def test_other_parameters_are_refused(self):
        from mammogan_tf.benchmark import torch_training

        config = replace(preset(UNetConfig, "tiny"), widths=(4, 8))
        picture = np.zeros((2, 16, 16, 1), np.float32)
        with pytest.raises(AssertionError):
            torch_training.unet_step(config, picture, np.zeros((2, 16, 16, 5), np.float32), 1, "eager")

    def test_a_variant_that_fails_is_named(self, monkeypatch):
        from mammogan_tf.benchmark import torch_training

        def breaks(*arguments):
            raise RuntimeError("no compiler\nat all")

        monkeypatch.setattr(torch_training, "unet_step", lambda *arguments: breaks)
        (batch,) = training.benchmark_unet_training(preset(UNetConfig, "tiny"), [2], rounds=1, compiled=False)[
            "batches"
        ]
        assert batch["torch_step_s"] is None
        assert batch["torch_variants"]["eager"] == "fails: no compiler"
