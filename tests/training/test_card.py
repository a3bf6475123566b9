"""What a card says of a report in which no two figures are the same."""

from pathlib import Path

import pytest

from mammogan_tf.config import CrossValidationConfig, DataConfig, GANConfig, UNetConfig
from mammogan_tf.data.splits import Split
from mammogan_tf.training.card import cross_validation_card, gan_card, unet_card
from mammogan_tf.training.run import Run

FILMS = {"train": 242, "validation": 32, "test": 48}


def run_of(command: str, config) -> Run:
    return Run(Path("run"), command, config, Split(("a",), ("b",), ("c",)), ())


def estimate(number: int) -> dict:
    """0.1 for 1, with an interval that is wider above than below."""
    return {"value": number / 10, "low": number / 10 - 0.01, "high": number / 10 + 0.02}


def test_card_of_a_unet():
    report = {
        "films": FILMS,
        "seconds": 90,
        "epochs": 51,
        "best_epoch": 39,
        "parameters": 1234567,
        "dice": {
            "cleaned": {"breast": {"mean": 0.9, "films": 48}, "lesion": {"mean": 0.5, "films": 2}},
            "as_it_is": {"breast": {"mean": 0.8, "films": 47}, "lesion": {"mean": None, "films": 0}},
        },
        "disc": {"cleaned": {"network": 0.7, "disc": 0.6, "films": 11}},
    }
    config = UNetConfig(data=DataConfig(size=128, view="roi"), widths=(8, 24), seed=7)
    card = unet_card(run_of("train-unet", config), report)
    assert "| region | background black | film as it is |" in card
    assert "| breast | 0.900 (48) | 0.800 (47) |" in card
    assert "| lesion | 0.500 (2) | no films |" in card
    assert "On the 11 windows that show a lesion: 0.700; a disc in the middle of each: 0.600." in card
    assert "a square of a film around a lesion, or around some tissue, 128 x 128 px" in card
    assert "Levels of 8, 24 channels, 1,234,567 parameters;" in card
    assert "weights of epoch 39, the best on validation films of 51 (at most 60)." in card
    assert "242 windows trained, 32 validated and 48 were kept apart" in card
    assert f"{90 / 60} minutes; seed 7" in card
    assert "Never for diagnosis" in card


def test_card_of_a_cross_validation():
    report = {
        "films": 322,
        "seconds": 600,
        "folds": [{"seconds": 90}, {"seconds": 510}],
        "dice": {"cleaned": {"breast": estimate(1)}, "as_it_is": {"breast": estimate(2)}},
        "tissue": {"F": {"breast": estimate(3)}, "G": {"breast": {"not computed": "one patient"}}},
        "clear": {"breast": estimate(4)},
        "lesions": {"cleaned": {"found_at_0.25": estimate(5)}, "as_it_is": {"found_at_0.25": estimate(6)}},
        "disc": {"cleaned": {"disc": estimate(7)}, "as_it_is": {"disc": estimate(8)}},
    }
    card = cross_validation_card(run_of("cross-validate", CrossValidationConfig(folds=2, seed=3)), report)
    assert "| | background black | film as it is | tissue F | tissue G | clear masks |" in card
    of = [f"{n / 10:.3f} [{n / 10 - 0.01:.3f}, {n / 10 + 0.02:.3f}]" for n in range(9)]
    assert f"| breast | {of[1]} | {of[2]} | {of[3]} | not computed | {of[4]} |" in card
    assert f"| found at 0.25 | {of[5]} | {of[6]} |" in card
    assert f"| disc | {of[7]} | {of[8]} |" in card
    assert "2 folds by patient" in card
    assert f"trained for {600 / 60}\nminutes in all and {510 / 60} at most; seed 3" in card


@pytest.mark.parametrize(
    ("last", "variants", "words"),
    [
        ({"anatomy_loss": 0.1}, 3872, "beside a loss for anatomy, on the films and 3872 that were moved"),
        (
            {"energy_score": 3, "anatomy_loss": 0.1},
            0,
            "beside a loss for anatomy and an energy score for variety at one mask;",
        ),
        ({}, 0, "without a loss for anatomy; averaged weights"),
    ],
)
def test_card_of_a_generator(last, variants, words):
    report = {
        "films": {**FILMS, "variants": variants},
        "seconds": 3600,
        "best_step": 1600,
        "last": {"step": 3000, **last},
    }
    config = GANConfig(gp=5, n_critic=3, steps=3000, seed=9, labels=("benign", "malignant"))
    card = " ".join(gan_card(run_of("train-gan", config), report).split())
    assert "a label (benign, malignant)" in card
    assert "lambda 5, 3 critic updates to one of the generator, 3000 generator updates" in card
    assert words in card
    assert "averaged weights of step 1600" in card
    assert "242 films trained, 32 validated and 48 were kept apart" in card
    assert "60.0 minutes; seed 9" in card


def test_card_of_a_generator_that_was_finished_early():
    report = {"films": {**FILMS, "variants": 0}, "seconds": 60, "best_step": 1600, "last": {"step": 1900}}
    assert ",\n1900 of 3000 generator updates," in gan_card(run_of("train-gan", GANConfig(steps=3000)), report)
