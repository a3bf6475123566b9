"""The training steps in plain PyTorch, as a user would write them: float32, Adam, an average of the weights.

On a GPU where there is one, with products in TF32, as TensorFlow has them.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mammogan_tf.benchmark.torch_networks import Critic, Generator, PlainGenerator, TorchEmphasis, UNet, parameters
from mammogan_tf.config import CLASSES, LABELS, GANConfig, UNetConfig

__all__ = ["VARIANTS", "gan_step", "unet_step"]

VARIANTS = ("eager", "channels_last", "compiled")
"""Ways to run the same step; the fastest that works counts."""

Step = Callable[[], object]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

torch.backends.cuda.matmul.allow_tf32 = True


def gan_step(config: GANConfig, batch: Mapping[str, np.ndarray], expected: Mapping[str, int], variant: str) -> Step:
    """One generator update with its critic updates (Gulrajani et al. 2017, algorithm 1).

    Args:
        config: the hyper-parameters.
        batch: of ``WGANGP.train_step``.
        expected: parameters of ``generator`` and ``critic``, which must be as many here.
        variant: one of :data:`VARIANTS`.
    """
    build = PlainGenerator if config.generator == "plain" else Generator
    generator = build(
        config.data.size,
        config.z_dim,
        config.generator_widths,
        len(CLASSES),
        len(LABELS),
        not config.data.keep_background,
    )
    emphasis = TorchEmphasis(config.emphasis, config.octaves)
    critic = Critic(
        config.data.size,
        config.critic_widths,
        emphasis.channels,
        len(CLASSES),
        len(LABELS),
        patches=config.critic == "patches",
    )
    assert {"generator": parameters(generator), "critic": parameters(critic)} == expected
    networks, layout = (generator, critic), _layout(variant)
    for network in networks:
        network.to(DEVICE, memory_format=layout)
    emphasis.to(DEVICE)
    average = _Average(generator, config.ema)
    betas = (config.beta_1, config.beta_2)
    generator_adam = torch.optim.Adam(generator.parameters(), config.generator_learning_rate, betas, eps=1e-7)
    critic_adam = torch.optim.Adam(critic.parameters(), config.critic_learning_rate, betas, eps=1e-7)
    generate, score = (torch.compile(network) if variant == "compiled" else network for network in networks)
    images, masks = (_images(batch[name], layout).chunk(config.n_critic) for name in ("image", "mask"))
    labels = torch.from_numpy(batch["label"]).to(DEVICE).chunk(config.n_critic)

    def noise(rows: int) -> torch.Tensor:
        return torch.randn(rows, config.z_dim, device=DEVICE)

    def critic_step(real: torch.Tensor, mask: torch.Tensor, label: torch.Tensor) -> None:
        with torch.no_grad():
            fake = emphasis(generate(noise(len(real)), mask, label))
        real = emphasis(real)
        between = (real + torch.rand(len(real), 1, 1, 1, device=DEVICE) * (fake - real)).requires_grad_()
        wasserstein = score(fake, mask, label).mean() - score(real, mask, label).mean()
        scores = score(between, mask, label, constant_deviation=True)
        (slopes,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        penalty = ((slopes.square().sum((1, 2, 3)) + 1e-12).sqrt() - 1).square().mean()
        critic_adam.zero_grad()
        (wasserstein + config.gp * penalty).backward()
        critic_adam.step()

    def generator_step(mask: torch.Tensor, label: torch.Tensor) -> None:
        critic.requires_grad_(False)
        loss = -score(emphasis(generate(noise(len(mask)), mask, label)), mask, label).mean()
        generator_adam.zero_grad()
        loss.backward()
        generator_adam.step()
        critic.requires_grad_(True)

    def step() -> None:
        for real, mask, label in zip(images, masks, labels, strict=True):
            critic_step(real, mask, label)
        generator_step(masks[0], labels[0])
        average.update()
        _wait()

    return step


def unet_step(config: UNetConfig, image: np.ndarray, mask: np.ndarray, expected: int, variant: str) -> Step:
    """One step of the U-Net on soft Dice plus cross-entropy; ``expected`` is its number of parameters."""
    network, layout = UNet(config.level_widths, len(CLASSES), config.dropout), _layout(variant)
    assert parameters(network) == expected
    network.to(DEVICE, memory_format=layout)
    average = _Average(network, config.ema)
    adam = torch.optim.Adam(network.parameters(), config.learning_rate, eps=1e-7)
    segment = torch.compile(network) if variant == "compiled" else network
    films, truth = _images(image, layout), _images(mask, layout)

    def step() -> None:
        logits = segment(films)
        found = logits.softmax(1)
        overlap, total = (truth * found).sum((2, 3)), (truth + found).sum((2, 3))
        tissues = (2 * overlap[:, :-1] + 1) / (total[:, :-1] + 1)
        lesions = (2 * overlap[:, -1:].sum(0) + 1) / (total[:, -1:].sum(0) + 1)
        loss = 1 - torch.cat([tissues.mean(0), lesions]).mean() + F.cross_entropy(logits, truth)
        adam.zero_grad()
        loss.backward()
        adam.step()
        average.update()
        _wait()

    return step


class _Average:
    """An exponential moving average of a network's weights and statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = [weight for weight in network.state_dict().values() if weight.is_floating_point()]
        self._averages = [weight.clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._averages, self._weights, 1 - self._decay)


def _layout(variant: str) -> torch.memory_format:
    return torch.channels_last if variant == "channels_last" else torch.contiguous_format


def _images(batch: np.ndarray, layout: torch.memory_format) -> torch.Tensor:
    return torch.from_numpy(batch).to(DEVICE).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def _wait() -> None:
    """Until a GPU has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
