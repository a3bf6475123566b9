"""Networks whose inner layers turn images into feature vectors."""

import hashlib
import os
from pathlib import Path

import keras
import numpy as np

from mammogan_tf.console import Console
from mammogan_tf.errors import ModelError, first_line
from mammogan_tf.evaluation.spaces import FeatureSpace
from mammogan_tf.training.checkpoint import compute_in_float32, load_network

__all__ = ["INCEPTION_SIZE", "inception_space", "segmenter_space"]

INCEPTION_SIZE = 299
INCEPTION_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
"""What ``keras.applications`` calls the weights in its cache."""

BOTTOM = "bottom_b_relu"
"""The U-Net's layer with the widest view."""


def segmenter_space(path: Path, console: Console) -> FeatureSpace:
    """Means over the image of the channels at the bottom of a U-Net (``model.keras``)."""
    network = load_network(path)
    bottom = keras.layers.GlobalAveragePooling2D(dtype="float32")(network.get_layer(BOTTOM).output)
    encoder = keras.Model(network.input, bottom)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FeatureSpace(
        f"segmenter {digest}", lambda images: np.asarray(encoder(images[..., None], training=False)), console
    )


def inception_space(console: Console) -> FeatureSpace:
    """The last pooling of Inception-v3 as trained on ImageNet: 2048 features (Szegedy et al. 2016).

    Keras takes the weights (88 MB) from its cache, or downloads them into it, which is told first.

    Raises:
        ModelError: they are not there and cannot be had.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    if not (home / "models" / INCEPTION_FILE).exists():
        console.line(f"downloading the weights of Inception-v3 (88 MB) into {home / 'models'}")
    try:
        network = compute_in_float32(
            keras.applications.InceptionV3(include_top=False, pooling="avg", weights="imagenet")
        )
    except Exception as error:  # urllib, HTTP, h5py and Keras raise what they like.
        raise ModelError(
            f"{home / 'models' / INCEPTION_FILE}: expected weights or a connection to download them, "
            f"received: {first_line(error)}; put the file there, or leave --features inception out"
        ) from error

    def extract(images: np.ndarray) -> np.ndarray:
        large = keras.ops.image.resize(images[..., None] * 255, (INCEPTION_SIZE, INCEPTION_SIZE))
        prepared = keras.applications.inception_v3.preprocess_input(keras.ops.repeat(large, 3, axis=-1))
        return np.asarray(network(prepared, training=False))

    return FeatureSpace("inception-v3 imagenet", extract, console)
