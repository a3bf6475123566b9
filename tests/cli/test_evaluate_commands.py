import shutil
from pathlib import Path

import numpy as np
import pytest

from mammogan_tf.evaluation.downstream import Recipe
from mammogan_tf.pictures import save_picture
from tests.command_line import call, fails

ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 8, "patients": 4}
REPORT = {
    "measures": {"fidelity": {"ssim_own_film": ESTIMATE | {"floor": ESTIMATE}}},
    "memorisation": {"passed": True, "rule": "", "checked": ["pixels", "membership"], "reasons": []},
}


@pytest.fixture
def asked(monkeypatch):
    """What the library is asked for; nothing is trained."""
    calls = []

    def stand_in(*arguments, **options):
        calls.append((arguments, {name: value for name, value in options.items() if name != "console"}))
        return REPORT

    for name in ("evaluate", "evaluate_images"):
        monkeypatch.setattr(f"mammogan_tf.evaluation.report.{name}", stand_in)
    return calls


def test_a_gan(gan_run, asked, tmp_path):
    result = call("evaluate", "--gan", gan_run, "--out", tmp_path / "out", "--count", 30, "--features", "inception")
    assert result.exit_code == 0
    (run, films, out), options = asked[0]
    assert (run.path, len(films), out) == (gan_run, 24, tmp_path / "out")
    assert options == {"count": 30, "seed": 0, "inception": True, "recipe": Recipe()}
    call("evaluate", "--gan", gan_run, "--out", tmp_path / "out", "--quick", "--seed", 5)
    assert asked[1][1] == {"count": 500, "seed": 5, "inception": False, "recipe": None}
    assert "ssim_own_film              0.500 [0.400, 0.600]   floor 0.500" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        "memorisation   PASS (pixels, membership)",
        str(tmp_path / "out" / "report.html"),
    ]


def test_a_gan_whose_films_are_elsewhere_now(gan_run, phantom_root, asked, tmp_path):
    moved = shutil.copytree(phantom_root, tmp_path / "moved")
    call("evaluate", "--gan", gan_run, "--out", tmp_path / "out", "--data", moved)
    (_, films, _), _ = asked[0]
    assert {film.path.parent for film in films} == {moved}


def test_images(phantom_root, asked, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    folders = ["--images", tmp_path / "images", "--masks", tmp_path / "masks"]
    options = ["--data", phantom_root, "--out", tmp_path / "out", "--seed", 5, "--features", "inception"]
    assert call("evaluate", *folders, *options).exit_code == 0
    (images, masks, films, sources, _, run), given = asked[0]
    assert given == {"seed": 5, "inception": True}
    assert (images.name, masks.name, len(films), sources, run) == ("images", "masks", 24, (phantom_root,), None)


def test_images_beside_the_films_of_a_run(gan_run, phantom_root, asked, tmp_path):
    options = ["--images", tmp_path, "--split-of", gan_run, "--out", tmp_path / "out"]
    assert call("evaluate", *options).exit_code == 0
    (_, _, films, sources, _, run), _ = asked[0]
    assert (len(films), [Path(source) for source in sources], run.path) == (24, [phantom_root], gan_run)


def test_one_that_is_stopped_says_how_it_goes_on(gan_run, monkeypatch, tmp_path):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mammogan_tf.evaluation.report.evaluate", stopped)
    fails("evaluate", "--gan", gan_run, "--out", tmp_path, says="stopped; go on with the same command")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "expected one of --gan and --images, received: neither"),
        (["--gan", "run", "--images", "."], "expected one of --gan and --images, received: both"),
        (["--gan", "run", "--masks", "."], "expected with --images ... received: --gan"),
        (["--gan", "run", "--split-of", "."], "expected with --images ... received: --gan"),
        (["--images", ".", "--count", "500"], "--count, --quick: expected with --gan, received: --images"),
        (["--images", ".", "--quick"], "--count, --quick: expected with --gan, received: --images"),
        (["--gan", "run", "--features", "texture"], "'texture' is not 'inception'"),
    ],
)
def test_wrong_usage(options, says):
    fails("evaluate", *options, "--out", "out", says=says, status=2)


def test_images_that_cannot_be_evaluated(phantom_root, tmp_path):
    options = ["--images", tmp_path / "images", "--data", phantom_root, "--out", tmp_path / "out"]
    save_picture(tmp_path / "images" / "one.png", np.zeros((16, 16), np.uint8))
    fails("evaluate", *options, says="expected two PNGs or more, received: 1")
    save_picture(tmp_path / "images" / "two.png", np.zeros((24, 24), np.uint8))
    fails("evaluate", *options, says="two.png: expected square images of one size")
    save_picture(tmp_path / "images" / "one.png", np.zeros((24, 24), np.uint8))
    fails("evaluate", *options, says="images: expected images of 16, 32, 64 ... pixels, received: 24; resize")
    assert not (tmp_path / "out").exists()
