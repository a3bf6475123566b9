from collections.abc import Iterator

import pytest

from mammogan_tf.config import CrossValidationConfig, GANConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.data.mias import load_mias
from mammogan_tf.training.conditioning import create_gan_run
from mammogan_tf.training.run import Run


@pytest.fixture(autouse=True)
def usual_precision() -> Iterator[None]:
    """A training sets the precision of the whole process: it ends with the test."""
    yield
    import keras

    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def films(phantom_root):
    return load_mias(phantom_root)


@pytest.fixture(scope="session")
def prepared(films):
    """The films at 16 pixels."""
    from mammogan_tf.data.film_set import load_films

    return load_films(films, 16)


@pytest.fixture(scope="session")
def cross_validated(tmp_path_factory, films, phantom_root):
    """A finished run of windows in two folds; not to be changed."""
    from mammogan_tf.training.cross_validation import create_cross_validation_run, cross_validate

    config = preset(CrossValidationConfig, "tiny", {"folds": 2, "view": "roi", "epochs": 1, "patience": 9})
    run = create_cross_validation_run(tmp_path_factory.mktemp("runs"), config, films, [phantom_root])
    cross_validate(run, films, Console(quiet=True))
    return Run.open(run.path)


@pytest.fixture(scope="session")
def windows(films, cross_validated):
    """All windows with their margins, in the order of the masks of the cross-validation."""
    from mammogan_tf.data.film_set import load_films

    data = cross_validated.config.data
    folds = [Run.open(path) for path in sorted((cross_validated.path / "train-unet").iterdir())]
    return load_films(films, data.size, data.view).select([id_ for fold in folds for id_ in fold.split.test])


@pytest.fixture
def make_run(tmp_path, films, phantom_root):
    """Makes a run of a GAN: the tiny preset with masks from the annotations, one critic update a step and some changes."""

    def make(**changes) -> Run:
        config = preset(GANConfig, "tiny", {"masks": "annotation", "n_critic": 1, **changes})
        return create_gan_run(tmp_path, config, films, [phantom_root])

    return make
