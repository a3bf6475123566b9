"""WGAN-GP as a Keras model with its own ``train_step`` (Gulrajani et al. 2017, algorithm 1)."""

from functools import partial

import keras
import tensorflow as tf

from mammogan_tf.data.transforms import from_network_range
from mammogan_tf.losses import (
    anatomy_loss,
    energy_score,
    gradient_penalty,
    wasserstein_critic,
    wasserstein_generator,
)
from mammogan_tf.models.blocks import Emphasis
from mammogan_tf.models.penalised import without_second_derivatives
from mammogan_tf.replicas import draw_replica_rows, num_replicas
from mammogan_tf.training.averaging import update_ema
from mammogan_tf.training.resumable import ResumableModel

__all__ = ["WGANGP"]


class WGANGP(ResumableModel):
    """A conditional generator against a critic that sees film, mask and label together.

    One ``train_step`` takes a batch of ``n_critic * B`` real films:

    - critic update k = 0, 1, ... sees the rows ``k::n_critic``, B of them. The synthetic films of all these updates are made in
      one pass, since the generator stays as it is between them. The penalty is on the films after the emphasis;
    - the generator update has the masks of the rows ``0::n_critic``; with an energy score every other one of them, twice, with
      two noise vectors, so that each replica needs an even number of films.

    So each part is the same however many replicas share the batch. An average of the generator's weights is kept beside it.

    Args:
        generator: dict of noise [B, Z], mask [B, S, S, C], label [B] to films [B, S, S, 1] in [-1, 1].
        critic: dict of image, as it sees it, mask and label to scores [B, 1].
        gp: lambda, the weight of the gradient penalty.
        n_critic: critic updates to one generator update.
        ema: decay of the averaged weights; it rises to this as ``(1 + step) / (10 + step)``.
        emphasis: through which critic and penalty see films; as they are by default.
        unet: finds probabilities [B, S, S, C] in films [B, S, S, 1] in [0, 1]; the generator's loss then has
            ``anatomy_weight`` times the anatomy loss of what it finds in synthetic films. It is not trained.
        anatomy_weight: positive where there is a ``unet``.
        energy_weight: where it is positive, the generator's loss has this times the energy score of both films of a mask,
            given the real one.
        seed: of the noise and of the interpolation.
    """

    def __init__(
        self,
        generator: keras.Model,
        critic: keras.Model,
        *,
        gp: float,
        n_critic: int,
        ema: float,
        emphasis: Emphasis | None = None,
        unet: keras.Model | None = None,
        anatomy_weight: float = 0.0,
        energy_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__("wgan_gp")
        self.generator = generator
        self.critic = critic
        self.penalised_critic = without_second_derivatives(critic)
        self.ema_generator = keras.models.clone_model(generator)
        self.ema_generator.set_weights(generator.get_weights())
        self.ema_generator.trainable = False
        self.gp, self.n_critic, self.ema = gp, n_critic, ema
        self.emphasis = emphasis or Emphasis(0.0, name="emphasis")
        # Not as a layer, whose weights would be in every checkpoint.
        self.segment = partial(unet, training=False) if unet else None
        self.anatomy_weight, self.energy_weight = anatomy_weight, energy_weight
        self.z_dim = generator.input["noise"].shape[-1]
        self.random = keras.random.SeedGenerator(seed)
        beside = {"anatomy_loss": unet, "energy_score": energy_weight}
        names = ("wasserstein", "penalty", "generator_loss", *(name for name, counts in beside.items() if counts))
        self.trackers = {name: keras.metrics.Mean(name) for name in names}

    def compile(self, generator_optimizer: keras.Optimizer, critic_optimizer: keras.Optimizer, **kwargs) -> None:
        """Takes one optimizer for each network. Under mixed_float16 the generator's comes wrapped in a LossScaleOptimizer."""
        super().compile(**kwargs)
        self.generator_optimizer = keras.optimizers.get(generator_optimizer)
        self.critic_optimizer = keras.optimizers.get(critic_optimizer)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.critic_optimizer.build(self.critic.trainable_variables)

    @property
    def optimizers(self) -> list[keras.Optimizer]:
        return [self.generator_optimizer, self.critic_optimizer]

    def critic_of_films(self) -> keras.Model:
        """The critic with the emphasis before it: it takes films as they are."""
        inputs = {name: keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in self.critic.input.items()}
        inputs["image"] = keras.Input((*inputs["image"].shape[1:3], 1), name="image")
        score = self.critic({**inputs, "image": self.emphasis(inputs["image"])})
        return keras.Model(inputs, score, name="critic_of_films")

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """``batch`` holds image [n_critic * B, S, S, 1] in [-1, 1], mask [n_critic * B, S, S, C], label [n_critic * B]."""
        reals, masks, labels = (self._split_critic_batches(batch[name]) for name in ("image", "mask", "label"))
        for real, fake, mask, label in zip(reals, self._generate_for_critic(batch), masks, labels, strict=True):
            self._critic_step(real, fake, mask, label)
        self._generator_step(reals[0], masks[0], labels[0])
        update_ema(self.ema_generator, self.generator, self.step, self.ema)
        self.step.assign_add(1)
        return self.logs()

    def _split_critic_batches(self, batch: tf.Tensor) -> list[tf.Tensor]:
        return tf.unstack(tf.reshape(batch, [-1, self.n_critic, *batch.shape[1:]]), axis=1)

    def _generate_for_critic(self, batch: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """Synthetic films for each critic update."""
        return self._split_critic_batches(self.generator(self._generator_inputs(batch), training=True))

    def _generator_inputs(self, condition: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        def draw(rows: tf.Tensor) -> tf.Tensor:
            return keras.random.normal((rows, self.z_dim), seed=self.random)

        noise = draw_replica_rows(draw, tf.shape(condition["label"])[0])
        return {"noise": noise, "mask": condition["mask"], "label": condition["label"]}

    def _critic_step(self, real: tf.Tensor, fake: tf.Tensor, mask: tf.Tensor, label: tf.Tensor) -> None:
        def score(images: tf.Tensor, critic: keras.Model = self.critic) -> tf.Tensor:
            return critic({"image": images, "mask": mask, "label": label}, training=True)

        real, fake = self.emphasis(real), self.emphasis(fake)
        alpha = draw_replica_rows(lambda rows: keras.random.uniform((rows,), seed=self.random), tf.shape(label)[0])
        with tf.GradientTape() as tape:
            wasserstein = wasserstein_critic(score(real), score(fake))
            penalty = gradient_penalty(partial(score, critic=self.penalised_critic), real, fake, alpha)
            loss = (wasserstein + self.gp * penalty) / num_replicas()
        variables = self.critic.trainable_variables
        self.critic_optimizer.apply(tape.gradient(loss, variables), variables)
        self._track("wasserstein", -wasserstein)
        self._track("penalty", penalty)

    def _generator_step(self, real: tf.Tensor, mask: tf.Tensor, label: tf.Tensor) -> None:
        if self.energy_weight:
            # Two films of every other mask, side by side: as many films as without.
            real, mask, label = (tf.repeat(part[::2], 2, axis=0) for part in (real, mask, label))
        condition = {"mask": mask, "label": label}
        with tf.GradientTape() as tape:
            fake = self.generator(self._generator_inputs(condition), training=True)
            loss = wasserstein_generator(self.critic({"image": self.emphasis(fake), **condition}, training=True))
            if self.segment:
                anatomy = anatomy_loss(mask, self.segment(from_network_range(fake)))
                loss += self.anatomy_weight * anatomy
                self._track("anatomy_loss", anatomy)
            if self.energy_weight:
                energy = energy_score(real[::2], fake[::2], fake[1::2])
                loss += self.energy_weight * energy
                self._track("energy_score", energy)
            scaled = self.generator_optimizer.scale_loss(loss / num_replicas())
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(scaled, variables), variables)
        self._track("generator_loss", loss)

    def _track(self, name: str, mean: tf.Tensor) -> None:
        """Counts a replica's mean for its share of the batch, so that a step weighs as much on any number of devices."""
        self.trackers[name].update_state(mean, sample_weight=1 / num_replicas())
