from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def usual_precision() -> Iterator[None]:
    """A training sets the precision of the whole process: it ends with the test."""
    yield
    import keras

    keras.config.set_dtype_policy("float32")
