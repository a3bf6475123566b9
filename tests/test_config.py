import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from mammogan_tf.config import (
    PRESETS,
    PURPOSES,
    CrossValidationConfig,
    DataConfig,
    GANConfig,
    UNetConfig,
    preset,
)
from mammogan_tf.errors import ConfigError
from mammogan_tf.validated import from_dict, to_dict
from tests.conformance import check_config_round_trip

KINDS = (UNetConfig, CrossValidationConfig, GANConfig)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_preset_survives_a_json_round_trip(kind, name):
    check_config_round_trip(preset(kind, name))


def test_every_preset_says_what_it_is_for():
    assert list(PURPOSES) == list(PRESETS)


def test_nothing_is_lost_in_a_round_trip():
    check_config_round_trip(
        GANConfig(
            DataConfig(128, "roi", "refined", True, 0.5, 0.2, 0.25, 7),
            8,
            "mixed_float16",
            3,
            True,
            "annotation",
            64,
            16,
            gp=0.5,
        )
    )


def test_the_method_of_the_paper_is_a_preset():
    config = preset(GANConfig, "paper")
    assert (config.data.size, config.gp, config.n_critic, config.emphasis) == (64, 10, 5, 0)
    assert (config.beta_1, config.beta_2) == (0, 0.9)
    assert config.data.keep_background
    assert (config.generator, config.generator_widths) == ("plain", (192, 192, 96, 48))
    assert (config.critic, config.critic_widths) == ("film", (24, 48, 96, 192, 192))


def test_quality_is_the_default_with_more_of_it():
    default, quality = GANConfig(), preset(GANConfig, "quality")
    assert quality == dataclasses.replace(default, variants=32, steps=6000)
    assert default.generator_widths == (192, 192, 96, 48, 48)
    assert default.critic_widths == (24, 48, 96, 192, 192)


def test_a_preset_with_changes():
    config = preset(UNetConfig, "tiny", {"size": 32, "epochs": 7})
    assert config == dataclasses.replace(preset(UNetConfig, "tiny"), data=DataConfig(size=32), epochs=7)
    assert preset(UNetConfig, "default") == UNetConfig()


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNetConfig().epochs = 1  # type: ignore[misc]


def test_widths_double_with_each_halving():
    config = GANConfig(DataConfig(size=64), width=32, max_width=128)
    # At 64, 32, 16, 8 and 4 pixels; 4 * 32 is the limit.
    assert config.critic_widths == (32, 2 * 32, 4 * 32, 4 * 32, 4 * 32)
    assert config.generator_widths == (128, 128, 128, 64, 48), "not fewer than 48"
    assert len(GANConfig(DataConfig(size=256)).critic_widths) == 2 + len(config.critic_widths)
    assert [GANConfig(DataConfig(size=size)).octaves for size in (16, 64, 128, 256)] == [1, 1, 2, 3]


def test_a_unet_goes_down_to_four_pixels_unless_told_its_widths():
    # At 64, 32, 16, 8 and 4 pixels.
    assert UNetConfig().level_widths == (16, 32, 64, 128, 128)
    assert UNetConfig(DataConfig(size=16)).level_widths == (16, 32, 64)
    assert len(UNetConfig(DataConfig(size=256)).level_widths) == 7
    assert UNetConfig(widths=(8, 16)).level_widths == (8, 16)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (DataConfig, {"size": 48}, "size: expected a power of two, 16 or more, received: 48"),
        (DataConfig, {"size": 8}, "size"),
        (DataConfig, {"validation": 0.0}, "validation: expected a share"),
        (DataConfig, {"test": 0.5}, "test: expected a share"),
        (UNetConfig, {"batch_size": 0}, "batch_size"),
        (GANConfig, {"batch_size": 65537}, "batch_size"),
        (UNetConfig, {"precision": "float16"}, r"precision: expected auto \| float32 .* received: float16"),
        (UNetConfig, {"seed": -1}, "seed"),
        (UNetConfig, {"widths": (8,)}, "widths: expected two or more"),
        (UNetConfig, {"widths": (8, 0)}, "widths"),
        (UNetConfig, {"data": {"size": 16}, "widths": (4, 4, 4, 4, 4)}, "a depth that fits 16 px"),
        (UNetConfig, {"dropout": 1.0}, "dropout"),
        (UNetConfig, {"ema": 1.0}, "ema"),
        (UNetConfig, {"lesion_loss": "dice"}, r"lesion_loss: expected none \| focal-tversky, received: dice"),
        (CrossValidationConfig, {"folds": 1}, "folds: expected 2 or more"),
        (UNetConfig, {"lesion_repeats": 0}, "lesion_repeats"),
        (UNetConfig, {"learning_rate": 0.0}, "learning_rate"),
        (UNetConfig, {"epochs": 0}, "epochs"),
        (UNetConfig, {"patience": 0}, "patience"),
        (GANConfig, {"gp": -1.0}, "gp: expected 0 or more, received: -1"),
        (GANConfig, {"gp": float("nan")}, "gp"),
        (GANConfig, {"masks": "drawn"}, r"masks: expected unet \| annotation"),
        (GANConfig, {"n_critic": 0}, "n_critic"),
        (GANConfig, {"z_dim": 0}, "z_dim"),
        (GANConfig, {"critic_learning_rate": -1e-4}, "critic_learning_rate"),
        (GANConfig, {"beta_2": 1.0}, "beta_2"),
        (GANConfig, {"ema": -0.1}, "ema"),
        (GANConfig, {"steps": 2.5}, "steps: expected a whole number, received: 2.5"),
        (GANConfig, {"steps": "many"}, "steps: expected a whole number, received: 'many'"),
        (GANConfig, {"gp": True}, "gp: expected a number, received: True"),
        (UNetConfig, {"widths": 8}, "widths: expected a list of whole numbers"),
        (UNetConfig, {"data": None}, "data: expected named values"),
        (GANConfig, {"gp": float("inf")}, "gp: expected a number, received: inf"),
        (GANConfig, {"deterministic": "no"}, "deterministic: expected true or false, received: 'no'"),
        (UNetConfig, {"learning_rate": "1e-3"}, "learning_rate: expected a number, received: '1e-3'"),
        (DataConfig, {"size": 64.0}, "size: expected a whole number, received: 64.0"),
        (DataConfig, {"split_seed": -1}, "split_seed: expected 0 or more, received: -1"),
        (
            GANConfig,
            {"labels": ("benign", "mild")},
            "labels: expected one or more of benign, .* received: benign, mild",
        ),
        (GANConfig, ["gp"], r"GANConfig: expected named values, received: \['gp'\]"),
        (UNetConfig, {"n_critic": 5}, "UNetConfig: expected the names .*, received: n_critic"),
        (UNetConfig, {"data": {"sise": 64}}, "DataConfig: expected the names .*, received: sise"),
    ],
)
def test_what_is_refused(kind, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        from_dict(kind, values)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_and_an_unknown_change():
    with pytest.raises(ConfigError, match=r"preset: expected default \| .*, received: huge"):
        preset(UNetConfig, "huge")
    with pytest.raises(ConfigError, match="received: colour"):
        preset(UNetConfig, "default", {"colour": 1})


def test_what_is_refused_is_refused_from_python_too():
    for values in ({"gp": float("inf")}, {"steps": 1.5}, {"deterministic": "no"}, {"data": 64}, {"gp": 10**400}):
        with pytest.raises(ConfigError, match=f"{next(iter(values))}: expected"):
            GANConfig(**values)


def test_one_value_has_one_form():
    for config in (GANConfig(gp=10), from_dict(GANConfig, {"gp": 10})):  # type: ignore[arg-type]
        assert repr(config.gp) == "10.0"
    assert UNetConfig(widths=[4, 8]) == UNetConfig(widths=(4, 8))  # type: ignore[arg-type]
    assert to_dict(UNetConfig(widths=(4, 8)))["widths"] == (4, 8)
    assert UNetConfig(data={"size": 32}) == UNetConfig(DataConfig(32))  # type: ignore[arg-type]
    swept = UNetConfig(learning_rate=np.float32(0.5), seed=np.int64(3))  # type: ignore[arg-type]
    assert [type(value) for value in (swept.learning_rate, swept.seed)] == [float, int]
    assert GANConfig(labels=("normal", "benign", "normal")).labels == ("benign", "normal")


def test_it_needs_the_standard_library_only():
    code = "import sys, mammogan_tf.config; assert not {'numpy', 'tensorflow', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
