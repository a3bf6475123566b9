"""What the commands that serve and ask share."""

import pytest

from mammogan_tf.serving.server import Server
from tests.command_line import call, unfinished_files


@pytest.fixture(scope="session")
def exports(unet_run, gan_run, tmp_path_factory):
    """Both networks, and both in a row, exported by the command."""
    folder = tmp_path_factory.mktemp("saved_models")
    result = call("export", unet_run, gan_run, "--to", folder)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(folder / model / "1") for model in ("unet", "generator", "synthesize")]
    assert not unfinished_files(folder)
    return folder


@pytest.fixture(scope="session")
def server(exports):
    with Server(exports, port=0) as server:
        yield server
