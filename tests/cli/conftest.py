import pytest

from mammogan_tf.serving.server import Server


@pytest.fixture(scope="session")
def server(exports):
    with Server(exports, port=0) as server:
        yield server
