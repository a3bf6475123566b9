"""Images as feature vectors, kept on disk by the content of the images."""

import hashlib
import io
from collections.abc import Callable

import numpy as np

from mammogan_tf.console import Console
from mammogan_tf.data.cache import cache_folder
from mammogan_tf.errors import ModelError
from mammogan_tf.files import write_bytes
from mammogan_tf.metrics.features import radiomics_features

__all__ = ["SPACES", "FeatureSpace", "texture_space"]

SPACES = {"texture": "texture", "segmenter": "segmenter", "inception": "Inception-v3"}
"""Display names of the feature spaces: handcrafted, of the evaluation U-Net, and of Inception-v3 (trained on photographs)."""

PART = 64
"""Images whose features are kept together: what a killed report has to do again at most."""

TEXTURE_VERSION = 1
"""Part of the cache key: raise it whenever the handcrafted features change."""


class FeatureSpace:
    """A function from images float32 [N, S, S] to features float64 [N, D], computed once for each content.

    They lie in ``features`` below :func:`mammogan_tf.data.cache.cache_folder`.

    Args:
        key: names the function and everything that its result depends on but the images.
        extract: images [B, S, S] to features [B, D].
        console: where to show progress.

    Raises:
        ModelError: at a call, where the function gives another shape, or features that are not finite.
    """

    def __init__(self, key: str, extract: Callable[[np.ndarray], np.ndarray], console: Console) -> None:
        self.key, self._extract, self._console = key, extract, console

    def __call__(self, images: np.ndarray) -> np.ndarray:
        parts = []
        progress = self._console.progress(f"features: {self.key.partition(' ')[0]}")
        for start in range(0, len(images), PART):
            parts.append(self._features(np.ascontiguousarray(images[start : start + PART], np.float32)))
            progress(min(start + PART, len(images)), len(images))
        return np.concatenate(parts)

    def _features(self, images: np.ndarray) -> np.ndarray:
        digest = hashlib.sha256(f"{self.key} float64 {images.shape}".encode() + images.tobytes()).hexdigest()
        path = cache_folder() / "features" / f"{digest}.npy"
        try:
            return np.load(path)
        except (OSError, ValueError, EOFError):  # Not there, or broken.
            features = np.asarray(self._extract(images), np.float64)
            if features.ndim != 2 or len(features) != len(images) or not np.isfinite(features).all():
                raise ModelError(
                    f"features, {self.key}: expected finite ones [{len(images)}, D], received: shape {features.shape}"
                    f"{'' if np.isfinite(features).all() else ' with NaN or infinity'}; is the network whole?"
                ) from None
            stream = io.BytesIO()
            np.save(stream, features)
            write_bytes(path, stream.getvalue())
            return features


def texture_space(console: Console) -> FeatureSpace:
    """The handcrafted features of :func:`mammogan_tf.metrics.features.radiomics_features`."""
    return FeatureSpace(f"texture {TEXTURE_VERSION}", radiomics_features, console)
