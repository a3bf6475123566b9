import pytest


@pytest.fixture(scope="module")
def generator(gan_run):
    """The tiny GAN as a user loads it."""
    from mammogan_tf.inference import load_generator

    return load_generator(gan_run)


@pytest.fixture(scope="module")
def masks(generator):
    """The masks that it was trained on."""
    from mammogan_tf.inference.mask_sets import masks_of_model

    return masks_of_model(generator)
