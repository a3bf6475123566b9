"""Fixtures that several test modules share."""

import os
import signal
from pathlib import Path

import pytest

from mammogan_tf.data.archive import unpack

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As in the commands that train, whose bits are compared with ours.
os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1"]))
"""Where tests ask a server of their own without the project's client, no proxy stands between."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell lets what it starts in the background ignore Ctrl-C, and the commands under test would inherit that."""

SHARED = Path(os.environ.get("MAMMOGAN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Real films to test on, where they are at hand: ``all-mias.tar.gz`` and ``ddsm_tissue``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take long, too")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and not item.config.getoption("--slow"):
        pytest.skip("takes long: add --slow")
    if item.get_closest_marker("gpu"):
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            pytest.skip("needs a GPU")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps prepared films out of the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    os.environ["MAMMOGAN_CACHE"] = str(cache)
    return cache


@pytest.fixture(scope="session")
def mias_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real mini-MIAS, unpacked."""
    archive = SHARED / "all-mias.tar.gz"
    if not archive.exists():
        pytest.skip(f"needs the real mini-MIAS archive: no {archive.name} in $MAMMOGAN_TEST_DATA")
    root = tmp_path_factory.mktemp("mias") / "unpacked"
    unpack(archive, root)
    return root / "all-mias"


@pytest.fixture(scope="session")
def ddsm_root() -> Path:
    """33 DDSM films with tissue drawn by hand."""
    root = SHARED / "ddsm_tissue"
    if not root.exists():
        pytest.skip(f"needs hand-labelled DDSM films: no {root.name} in $MAMMOGAN_TEST_DATA")
    return root


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of 12 patients, 24 films, in the layout of mini-MIAS."""
    from mammogan_tf.data.phantom import write_phantoms

    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "data", patients=12, seed=0)


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of the finished runs that tests share."""
    return tmp_path_factory.mktemp("tiny_runs")


@pytest.fixture(scope="session")
def unet_run(tiny_runs: Path, phantom_root: Path) -> Path:
    """A finished run of a tiny U-Net on the phantoms; not to be changed."""
    from mammogan_tf.config import UNetConfig, preset
    from mammogan_tf.console import Console
    from mammogan_tf.data.mias import load_mias
    from mammogan_tf.training.segmentation import create_unet_run, train_unet

    films = load_mias(phantom_root)
    run = create_unet_run(tiny_runs, preset(UNetConfig, "tiny"), films, [phantom_root])
    train_unet(run, films, Console(quiet=True))
    return run.path


@pytest.fixture(scope="session")
def gan_run(tiny_runs: Path, phantom_root: Path, unet_run: Path) -> Path:
    """A finished run of a tiny GAN with masks from the U-Net of ``unet_run``; not to be changed."""
    from mammogan_tf.config import GANConfig, preset
    from mammogan_tf.console import Console
    from mammogan_tf.data.mias import load_mias
    from mammogan_tf.training.conditioning import create_gan_run
    from mammogan_tf.training.gan import train_gan
    from mammogan_tf.training.run import Run

    films = load_mias(phantom_root)
    run = create_gan_run(tiny_runs, preset(GANConfig, "tiny"), films, [phantom_root], Run.open(unet_run))
    train_gan(run, films, Console(quiet=True))
    return run.path


@pytest.fixture(scope="session")
def exports(unet_run: Path, gan_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both networks, and both in a row, exported by the command; not to be changed."""
    from tests.command_line import call, unfinished_files

    folder = tmp_path_factory.mktemp("saved_models")
    result = call("export", unet_run, gan_run, "--to", folder)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(folder / model / "1") for model in ("unet", "generator", "synthesize")]
    assert not unfinished_files(folder)
    return folder
