"""The shipped networks in PyTorch, with the same layers: what a user would write there."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from mammogan_tf.models.blocks import Emphasis
from mammogan_tf.models.dcgan import label_code_length, noise_map_count, residual_blocks

__all__ = ["Critic", "Generator", "PlainGenerator", "TorchEmphasis", "UNet", "parameters"]


def parameters(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


class Block(nn.Sequential):
    """3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            *normalised(width),
        )


class Start(nn.Module):
    """Maps [B, width, 4, 4] of the noise and the label."""

    def __init__(self, z_dim: int, width: int, labels: int) -> None:
        super().__init__()
        self.label_code = nn.Embedding(labels, label_code_length(z_dim))
        self.map = nn.Linear(z_dim + label_code_length(z_dim), 16 * width)

    def forward(self, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.map(torch.cat([noise, self.label_code(label)], 1)).view(len(noise), -1, 4, 4)


class Generator(nn.Module):
    """As :func:`mammogan_tf.models.dcgan.build_generator`, with channels first."""

    def __init__(
        self, size: int, z_dim: int, widths: Sequence[int], classes: int, labels: int, black_background: bool
    ) -> None:
        super().__init__()
        self.size, self.black_background = size, black_background
        self.start = Start(z_dim, widths[0], labels)
        self.noise, self.blocks, self.details = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            side = 4 * 2**level
            maps = noise_map_count(side)
            self.noise.append(nn.Linear(z_dim, maps * side * side, bias=False))
            self.blocks.append(Block(channels + classes + maps, width))
            self.details.append(nn.ModuleList(Block(width, width) for _ in range(residual_blocks(side, size))))
            channels = width
        self.film = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, noise: torch.Tensor, mask: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.start(noise, label)
        for level, (maps, block, details) in enumerate(zip(self.noise, self.blocks, self.details, strict=True)):
            side = 4 * 2**level
            if level:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
            factor = self.size // side
            if factor == 1:
                shrunk = F.avg_pool2d(mask, 3, stride=1, padding=1, count_include_pad=False)
            else:
                shrunk = F.avg_pool2d(mask, factor)
            x = block(torch.cat([x, shrunk, maps(noise).view(len(noise), -1, side, side)], 1))
            for detail in details:
                x = x + detail(x)
        return grey(self.film(x), mask, self.black_background)


class PlainGenerator(nn.Module):
    """As :func:`mammogan_tf.models.dcgan.build_plain_generator`, with channels first."""

    def __init__(
        self, size: int, z_dim: int, widths: Sequence[int], classes: int, labels: int, black_background: bool
    ) -> None:
        super().__init__()
        self.black_background = black_background
        self.start = Start(z_dim, widths[0], labels)
        self.start_norm = normalised(widths[0])
        self.mask, self.up = nn.Sequential(), nn.Sequential()
        channels = classes
        for width in widths[::-1]:
            self.mask.extend([nn.Conv2d(channels, width, 4, 2, 1, bias=False), *normalised(width)])
            channels = width
        channels *= 2  # The noise's maps and the mask's.
        for width in widths[1:]:
            self.up.extend([nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=False), *normalised(width)])
            channels = width
        self.film = nn.ConvTranspose2d(channels, 1, 4, 2, 1)

    def forward(self, noise: torch.Tensor, mask: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.start_norm(self.start(noise, label)), self.mask(mask)], 1)
        return grey(self.film(self.up(x)), mask, self.black_background)


def normalised(width: int) -> nn.Sequential:
    """Batch normalisation and ReLU."""
    return nn.Sequential(nn.BatchNorm2d(width, eps=1e-3, momentum=0.1), nn.ReLU())


def grey(x: torch.Tensor, mask: torch.Tensor, black_background: bool) -> torch.Tensor:
    """The film in [-1, 1], black where the mask says background if that is asked for."""
    image = torch.tanh(x)
    return (image + 1) * (1 - mask[:, :1]) - 1 if black_background else image


class Critic(nn.Module):
    """As :func:`mammogan_tf.models.dcgan.build_critic`; the deviation can be held constant, for the penalty."""

    def __init__(
        self, size: int, widths: Sequence[int], film_channels: int, classes: int, labels: int, patches: bool
    ) -> None:
        super().__init__()
        levels = widths[:-1] if patches else widths
        channels = [film_channels + classes, *levels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 4 if level else 3, stride=2 if level else 1, padding=1)
            for level, (a, b) in enumerate(zip(channels, levels, strict=False))
        )
        last = len(levels) - 1
        scored = [level for level in range(len(levels)) if (patches and level >= 1) or level == last]
        self.tops = nn.ModuleDict(
            {str(level): nn.Conv2d(levels[level] + patches, levels[level], 3, padding=1) for level in scored}
        )
        features = sum(levels[level] for level in scored) + (levels[scored[0]] if patches else 0)
        self.summary = None if patches else nn.Linear((size >> last) ** 2 * features, features)
        self.realism = nn.Linear(features, 1)
        self.label_direction = nn.Embedding(labels, features)

    def forward(
        self, image: torch.Tensor, mask: torch.Tensor, label: torch.Tensor, constant_deviation: bool = False
    ) -> torch.Tensor:
        x, seen = torch.cat([image, mask], 1), []
        for level, convolution in enumerate(self.convolutions):
            x = F.leaky_relu(convolution(x), 0.2)
            if str(level) not in self.tops:
                continue
            top = x
            if self.summary is None:
                deviation = (x.var(0, correction=0) + 1e-8).sqrt().mean()
                if constant_deviation:
                    deviation = deviation.detach()
                top = torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], 1)
            seen.append(F.leaky_relu(self.tops[str(level)](top), 0.2))
        if self.summary is None:
            features = torch.cat([*(top.mean((2, 3)) for top in seen), lesion_mean(seen[0], mask)], 1)
        else:
            features = F.leaky_relu(self.summary(seen[0].flatten(1)), 0.2)
        return self.realism(features) + (features * self.label_direction(label)).sum(1, keepdim=True)


def lesion_mean(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As :class:`mammogan_tf.models.blocks.LesionMean`."""
    lesion = F.avg_pool2d(mask[:, -1:], mask.shape[-1] // features.shape[-1])
    return (features * lesion).sum((2, 3)) / lesion.sum((2, 3)).clamp(min=1e-3)


class TorchEmphasis(nn.Module):
    """As :class:`mammogan_tf.models.blocks.Emphasis`, with its blurs; an edge is not mirrored in itself."""

    def __init__(self, gain: float, octaves: int = 1) -> None:
        super().__init__()
        ours = Emphasis(gain, octaves)
        self.gain, self.channels = gain, ours.channels
        self.weights = [weight for weight, _ in ours.blurs]
        for octave, (_, row) in enumerate(ours.blurs):
            self.register_buffer(f"row{octave}", torch.from_numpy(row))

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        if not self.gain:
            return film
        film = film + (((film + 1) * 127.5).round() / 127.5 - 1 - film).detach()
        lifted = film
        for weight, row in zip(self.weights, self.buffers(), strict=True):
            mirrored = F.pad(film, [len(row) // 2] * 4, "reflect")
            detail = film - F.conv2d(F.conv2d(mirrored, row.reshape(1, 1, -1, 1)), row.reshape(1, 1, 1, -1))
            lifted = lifted + weight * detail
        right = torch.cat([film[..., 1:], film[..., -1:]], 3) - film
        down = torch.cat([film[:, :, 1:], film[:, :, -1:]], 2) - film
        return torch.cat([lifted, (127.5 * torch.cat([detail, right, down], 1)).asinh() / 4], 1)


class UNet(nn.Module):
    """As :func:`mammogan_tf.models.unet.build_unet`, without attention; it gives logits."""

    def __init__(self, widths: Sequence[int], classes: int, dropout: float) -> None:
        super().__init__()
        channels = [1, *widths]
        pairs = [nn.Sequential(Block(a, b), Block(b, b)) for a, b in zip(channels, widths[:-1], strict=False)]
        self.down = nn.ModuleList(pairs)
        self.bottom = nn.Sequential(Block(widths[-2], widths[-1]), nn.Dropout2d(dropout), Block(widths[-1], widths[-1]))
        above = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.Sequential(Block(below + width, width), Block(width, width)) for below, width in above
        )
        self.logits = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for pair in self.down:
            x = pair(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for pair in self.up:
            x = pair(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.logits(x)
