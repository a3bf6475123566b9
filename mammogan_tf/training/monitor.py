"""Validation metrics of the GAN during training: they select the best generator and warn of mode collapse."""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import tensorflow as tf

from mammogan_tf.arrays import to_float
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.data.transforms import from_network_range, one_hot, to_network_range
from mammogan_tf.errors import ModelError
from mammogan_tf.losses import wasserstein_critic
from mammogan_tf.metrics.distribution import kid, standardise
from mammogan_tf.metrics.features import radiomics_features
from mammogan_tf.metrics.similarity import pairwise_ssim
from mammogan_tf.models.dcgan import seeded_noise
from mammogan_tf.training.wgan_gp import WGANGP

__all__ = ["COLLAPSE_THRESHOLD", "ValidationMonitor"]

COLLAPSE_THRESHOLD = 1 / 3
"""Diversity below which a warning is given, unless it rises."""

COLLAPSE_PATIENCE = 3
"""Validations in a row that have to be below it: early in a training diversity falls below, and rises again."""

FILMS_PER_MASK = 4
"""Synthetic films of each validation mask."""

MAX_TRAINING, MAX_VALIDATION = 1000, 250
"""At most about so many films are used, which bounds the time of a validation."""


class ValidationMonitor:
    """Watches the averaged generator and the critic on validation films. It draws nothing from the training's random state.

    Args:
        model: the GAN.
        training: the training films.
        films: validation films with the masks to condition on, cropped.
        batch: most films that a network sees at once, as in training: more would take more memory than the training, and
            show the critic another deviation within the batch.
        warn: called once, with the step and a text, where the generator may have collapsed.

    Raises:
        DataError: the training films are all the same.
    """

    def __init__(
        self, model: WGANGP, training: FilmSet, films: FilmSet, batch: int, warn: Callable[[int, str], None]
    ) -> None:
        self._model, self._warn, self._warned = model, warn, False
        self._low: list[float] = []
        films = films.spaced(MAX_VALIDATION)
        self._parts = np.array_split(np.arange(len(films)), -(-len(films) // batch))
        self._condition = {"mask": one_hot(tf.constant(films.label_maps)), "label": tf.constant(films.labels)}
        self._images = to_float(films.images)
        self._texture = radiomics_features(to_float(training.spaced(MAX_TRAINING).cropped().images))
        standardise(self._texture)  # Fails here, and not at the first step that is looked at.
        patients, ids = np.array(films.patients), np.array(films.ids)
        breasts = np.argwhere(np.triu((patients[:, None] == patients) & (ids[:, None] != ids)))
        self._real = float(np.mean(1 - pairwise_ssim(self._images, breasts))) if len(breasts) else float("nan")

    @property
    def measures_diversity(self) -> bool:
        """Whether a validation patient has two different films to compare with."""
        return self._real > 0

    def __call__(self, step: int) -> dict[str, float]:
        """What history keeps.

        ``validation_kid``: KID of texture features between the training films and four synthetic films of each validation
        mask; the lowest says which state of the generator is the best. Pairs of films of one mask count, unlike in the
        report's KID, so that it is the higher, the more these are alike.
        ``validation_wasserstein``: mean score of the real films less that of synthetic ones of the same masks. Far below
        the training's own estimate, the critic has memorised the training films.
        ``diversity``: 1 - SSIM of two synthetic films of one mask, over 1 - SSIM of the two breasts of a patient; left out
        where no patient has two different films.

        Raises:
            ModelError: the generator makes films that are not finite.
        """
        count = len(self._images)
        synthetic = np.concatenate([self._synthetic(draw * count) for draw in range(FILMS_PER_MASK)])
        if not np.isfinite(synthetic).all():
            raise ModelError(
                f"step {step}: expected finite films, received: others; start another run with another --seed, or with "
                "--precision float32"
            )
        real, fake = (self._scores(to_network_range(films)) for films in (self._images, synthetic[:count]))
        values = {
            "validation_kid": kid(*standardise(self._texture, radiomics_features(synthetic))),
            "validation_wasserstein": -float(wasserstein_critic(real, fake)),
        }
        if self.measures_diversity:
            pairs = np.arange(2 * count).reshape(2, -1).T
            values["diversity"] = float(np.mean(1 - pairwise_ssim(synthetic, pairs))) / self._real
            if self._collapses(values["diversity"]):
                self._warn(
                    step,
                    f"films of one mask differ {values['diversity']:.2f} times as much as the two breasts of a "
                    f"patient, expected {COLLAPSE_THRESHOLD:.2f} or more, and no more than before: the generator may have "
                    "collapsed; try another --seed",
                )
        return values

    def recall(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Replays the history of a resumed run, so that it warns as an uninterrupted run would."""
        for row in rows:
            if math.isfinite(diversity := row.get("diversity", math.nan)):
                self._collapses(diversity)

    def _synthetic(self, seed: int) -> np.ndarray:
        noise = seeded_noise(tf.range(seed, seed + len(self._images)), self._model.z_dim)
        return from_network_range(self._by_parts(self._model.ema_generator, noise=noise)[..., 0])

    def _scores(self, films: np.ndarray) -> np.ndarray:
        image = self._model.emphasis(tf.constant(films[..., None], tf.float32))
        return self._by_parts(self._model.critic, image=image)

    def _by_parts(self, network: Callable, **inputs: tf.Tensor) -> np.ndarray:
        """What a network gives for the inputs beside mask and label, float32."""
        everything = {**inputs, **self._condition}
        parts = ({name: tf.gather(value, part) for name, value in everything.items()} for part in self._parts)
        return np.concatenate([np.asarray(network(part, training=False), np.float32) for part in parts])

    def _collapses(self, diversity: float) -> bool:
        """Whether to warn now: the first time that diversity has stayed low without rising."""
        self._low = [*self._low, diversity][-COLLAPSE_PATIENCE:] if diversity < COLLAPSE_THRESHOLD else []
        if self._warned or len(self._low) < COLLAPSE_PATIENCE or diversity > self._low[0]:
            return False
        self._warned = True
        return True
