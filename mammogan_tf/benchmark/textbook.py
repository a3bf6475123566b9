"""The training step as the textbook has it, on the shipped networks: what ours is measured against."""

import tensorflow as tf

from mammogan_tf.models.penalised import with_constant_deviation
from mammogan_tf.training.wgan_gp import WGANGP

__all__ = ["TextbookWGANGP"]


class TextbookWGANGP(WGANGP):
    """The same algorithm step by step: fakes for one critic update at a time, derivatives as TensorFlow takes them."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.penalised_critic = with_constant_deviation(self.critic)

    def _generate_for_critic(self, batch: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        conditions = zip(
            self._split_critic_batches(batch["mask"]), self._split_critic_batches(batch["label"]), strict=True
        )
        return [
            self.generator(self._generator_inputs({"mask": mask, "label": label}), training=True)
            for mask, label in conditions
        ]
