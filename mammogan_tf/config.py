"""Every hyper-parameter, in frozen dataclasses that validate themselves, and presets of them."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mammogan_tf.validated import Validated, from_dict, require

__all__ = [
    "ADIPOSE",
    "ANATOMIES",
    "BACKGROUND",
    "BENIGN",
    "CLASSES",
    "CRITICS",
    "FIBROGLANDULAR",
    "GENERATORS",
    "KEEP",
    "LABELS",
    "LESION",
    "LESION_LOSSES",
    "LESION_OUTLINES",
    "MALIGNANT",
    "MASK_SOURCES",
    "NORMAL",
    "PARTS",
    "PECTORAL",
    "PRECISIONS",
    "PRESETS",
    "PURPOSES",
    "STRATEGIES",
    "VIEWS",
    "WALKS",
    "CrossValidationConfig",
    "DataConfig",
    "GANConfig",
    "UNetConfig",
    "in_order",
    "is_size",
    "preset",
]

CLASSES = ("background", "adipose", "fibroglandular", "pectoral", "lesion")
"""Classes of a label map, in the order of its values 0-4."""

BACKGROUND, ADIPOSE, FIBROGLANDULAR, PECTORAL, LESION = range(len(CLASSES))
"""Their values."""

LABELS = ("benign", "malignant", "normal")
"""Labels of a film, in the order of their numbers 0-2."""

BENIGN, MALIGNANT, NORMAL = range(len(LABELS))
"""Their numbers."""

VIEWS = ("whole", "roi")
"""What a network sees: the whole film, or a square around a lesion (on a normal film, around some tissue)."""

LESION_OUTLINES = ("circle", "refined")
"""How a lesion known by a circle is drawn into a mask: as the circle, or as an outline found inside it."""

ANATOMIES = ("automatic", "unet")
"""Who outlines breast, muscle and dense tissue on a film that is segmented; lesions are the U-Net's."""

LESION_LOSSES = ("none", "focal-tversky")
"""What the U-Net's loss adds for lesions, beside their share of Dice and cross-entropy."""

MASK_SOURCES = ("unet", "annotation")
"""What predicts the anatomy that the GAN is conditioned on."""

GENERATORS = ("residual", "plain")
"""How the generator is built: mask and noise at every resolution and residual blocks, or as in a plain DCGAN, that sees both
once."""

CRITICS = ("patches", "film")
"""What the critic scores: patches of a film, averaged over places, or the film as a whole."""

PARTS = ("train", "validation", "test")
"""Parts of a split."""

WALKS = ("noise", "mask")
"""What changes on a walk between two synthetic films."""

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

STRATEGIES = ("auto", "one", "mirrored", "multiworker")
"""On how many devices a training runs: those of this machine, or of all machines that ``TF_CONFIG`` names."""

KEEP = 2
"""Checkpoints that stay: where the newest is broken, a run resumes from the one before."""

MAX_BATCH_SIZE = 65536
"""Films: more than a machine holds, and far fewer than what makes the sizes of tensors overflow."""

C = TypeVar("C")


def is_size(side: int) -> bool:
    """Whether networks can be built for images of this side: a power of two, 16 or more."""
    return side >= 16 and side & (side - 1) == 0


def in_order(labels: Collection[str]) -> tuple[str, ...]:
    """Labels in the order of :data:`LABELS`, each once."""
    return tuple(label for label in LABELS if label in labels)


@dataclass(frozen=True)
class DataConfig(Validated):
    """How films are prepared and split.

    Attributes:
        size: height and width in pixels, a power of two.
        view: one of :data:`VIEWS`.
        lesions: one of :data:`LESION_OUTLINES`.
        keep_background: leaves film markers and bright strips on the film, as in the paper.
        min_mask_confidence: films whose automatic mask has less are left out of training.
        validation: share of the *patients* whose films select the model.
        test: share of the *patients* that no training sees.
        split_seed: seed of the split.
    """

    size: int = 64
    view: str = "whole"
    lesions: str = "circle"
    keep_background: bool = False
    min_mask_confidence: float = 0.0
    validation: float = 0.10
    test: float = 0.15
    split_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_size(self.size), "size", "a power of two, 16 or more", self.size)
        require(self.view in VIEWS, "view", " | ".join(VIEWS), self.view)
        require(self.lesions in LESION_OUTLINES, "lesions", " | ".join(LESION_OUTLINES), self.lesions)
        least = self.min_mask_confidence
        require(0 <= least < 1, "min_mask_confidence", "a number in [0, 1)", least)
        for name in ("validation", "test"):
            share = getattr(self, name)
            require(0 < share < 0.5, name, "a share of the patients between 0 and 0.5", share)
        require(self.split_seed >= 0, "split_seed", "0 or more", self.split_seed)


@dataclass(frozen=True)
class _TrainConfig(Validated):
    """What both trainings share.

    Attributes:
        data: how the films are prepared.
        batch_size: films in a batch, of all devices together.
        precision: one of :data:`PRECISIONS`.
        seed: seed of first weights, order, augmentation, noise and interpolation.
        deterministic: uses only operations that give the same bits each time on the same device.
    """

    data: DataConfig = field(default_factory=DataConfig)
    batch_size: int = 16
    precision: str = "auto"
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.batch_size <= MAX_BATCH_SIZE, "batch_size", f"1 to {MAX_BATCH_SIZE}", self.batch_size)
        require(self.precision in PRECISIONS, "precision", " | ".join(PRECISIONS), self.precision)
        require(0 <= self.seed < 2**32, "seed", "0 to 4294967295", self.seed)


@dataclass(frozen=True)
class UNetConfig(_TrainConfig):
    """Training of the segmentation network.

    Attributes:
        widths: channels of each level, top to bottom; where there are none, 16, doubled with each halving of the side up to
            128, down to 4 x 4 (:attr:`level_widths`).
        attention: puts gates on the skips.
        dropout: spatial dropout rate at the lowest level.
        lesion_loss: one of :data:`LESION_LOSSES`.
        lesion_repeats: how often a film with a lesion appears in an epoch.
        ema: decay of the averaged weights, which are validated and kept.
        learning_rate: learning rate of Adam at the start; it falls as half a cosine.
        epochs: passes over the training films.
        patience: epochs without a better validation Dice after which training stops.
    """

    batch_size: int = 8
    widths: tuple[int, ...] = ()
    attention: bool = False
    dropout: float = 0.1
    lesion_loss: str = "none"
    lesion_repeats: int = 1
    ema: float = 0.99
    learning_rate: float = 1e-3
    epochs: int = 60
    patience: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = self.level_widths
        require(len(widths) >= 2 and min(widths) >= 1, "widths", "two or more positive channel counts", widths)
        fits = self.data.size >= 2 ** len(widths)
        require(fits, "widths", f"a depth that fits {self.data.size} px", widths)
        for name in ("dropout", "ema"):
            require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)", getattr(self, name))
        require(self.lesion_loss in LESION_LOSSES, "lesion_loss", " | ".join(LESION_LOSSES), self.lesion_loss)
        require(self.lesion_repeats >= 1, "lesion_repeats", "1 or more", self.lesion_repeats)
        require(self.learning_rate > 0, "learning_rate", "a positive number", self.learning_rate)
        require(self.epochs >= 1, "epochs", "1 or more", self.epochs)
        require(self.patience >= 1, "patience", "1 or more", self.patience)

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Channels at S x S, S/2 x S/2, ..."""
        return self.widths or tuple(min(16 * 2**level, 128) for level in range(self.data.size.bit_length() - 2))


@dataclass(frozen=True)
class CrossValidationConfig(UNetConfig):
    """Cross-validation of the segmentation network.

    Attributes:
        folds: parts of the patients, each of them the test films of one network; ``data.test`` does not count.
    """

    folds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.folds >= 2, "folds", "2 or more", self.folds)


@dataclass(frozen=True)
class GANConfig(_TrainConfig):
    """Training of the conditional DCGAN with WGAN-GP.

    Attributes:
        masks: one of :data:`MASK_SOURCES`.
        variants: how many variants of each whole film are trained on beside it (:mod:`mammogan_tf.data.variants`); windows,
            and films with masks from a cross-validation, have none.
        z_dim: length of the noise vector.
        width: channels at full resolution, doubled with each halving of the side.
        max_width: most channels at any resolution.
        generator_min_width: fewest channels of the generator at any resolution.
        labels: labels of the films that take part, in the order of :data:`LABELS`.
        generator: one of :data:`GENERATORS`.
        critic: one of :data:`CRITICS`.
        gp: lambda, the weight of the gradient penalty (Gulrajani et al. 2017, equation 3).
        n_critic: critic updates to one generator update.
        emphasis: gain of the fine detail that the critic sees (:class:`mammogan_tf.models.blocks.Emphasis`); with 0 it sees
            films as they are.
        anatomy_weight: weight of :func:`mammogan_tf.losses.anatomy_loss` in the generator's loss. Not applied without
            a U-Net that predicts the masks, nor to windows.
        energy_weight: weight of :func:`mammogan_tf.losses.energy_score` there, by which films of one mask vary more.
        steps: generator updates, over which both learning rates fall to nothing as half a cosine.
        generator_learning_rate: learning rate of the generator's Adam at the start.
        critic_learning_rate: learning rate of the critic's Adam at the start.
        beta_1: beta 1 of both.
        beta_2: beta 2 of both.
        ema: decay of the generator's averaged weights.
        sample_every: steps between validations; the generator with the lowest validation KID is kept.
        checkpoint_every: steps between checkpoints.
    """

    masks: str = "unet"
    variants: int = 16
    z_dim: int = 128
    width: int = 24
    max_width: int = 192
    generator_min_width: int = 48
    labels: tuple[str, ...] = LABELS
    generator: str = "residual"
    critic: str = "patches"
    gp: float = 10.0
    n_critic: int = 2
    emphasis: float = 8.0
    anatomy_weight: float = 10.0
    energy_weight: float = 0.0
    steps: int = 3000
    generator_learning_rate: float = 2e-4
    critic_learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.9
    ema: float = 0.995
    sample_every: int = 100
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.masks in MASK_SOURCES, "masks", " | ".join(MASK_SOURCES), self.masks)
        known = bool(self.labels) and set(self.labels) <= set(LABELS)
        require(known, "labels", f"one or more of {', '.join(LABELS)}", ", ".join(self.labels) or "none")
        object.__setattr__(self, "labels", in_order(self.labels))
        require(self.generator in GENERATORS, "generator", " | ".join(GENERATORS), self.generator)
        require(self.critic in CRITICS, "critic", " | ".join(CRITICS), self.critic)
        for name in ("gp", "emphasis", "anatomy_weight", "energy_weight", "variants"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        counts = (
            "z_dim",
            "width",
            "max_width",
            "generator_min_width",
            "n_critic",
            "steps",
            "sample_every",
            "checkpoint_every",
        )
        for name in counts:
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        for name in ("generator_learning_rate", "critic_learning_rate"):
            require(getattr(self, name) > 0, name, "a positive number", getattr(self, name))
        for name in ("beta_1", "beta_2", "ema"):
            require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)", getattr(self, name))

    @property
    def octaves(self) -> int:
        """Octaves of detail that the emphasis lifts: one up to 64 x 64, one more for each doubling of the side."""
        return max(1, self.data.size.bit_length() - 6)

    @property
    def critic_widths(self) -> tuple[int, ...]:
        """Channels at S x S, S/2 x S/2, ..., 4 x 4."""
        return tuple(min(self.width * 2**level, self.max_width) for level in range(self.data.size.bit_length() - 2))

    @property
    def generator_widths(self) -> tuple[int, ...]:
        """Channels at 4 x 4, 8 x 8, ..., S x S, where a plain generator has the film alone."""
        widths = tuple(max(width, self.generator_min_width) for width in self.critic_widths[::-1])
        return widths[:-1] if self.generator == "plain" else widths


FOR_LESIONS = {"lesion_repeats": 3, "lesion_loss": "focal-tversky"}

PRESETS: dict[str, dict[type, dict[str, Any]]] = {
    "default": {UNetConfig: {}, GANConfig: {}},
    "quality": {UNetConfig: {}, GANConfig: {"variants": 32, "steps": 6000}},
    "paper": {
        UNetConfig: {"data": DataConfig(keep_background=True)},
        GANConfig: {
            "data": DataConfig(keep_background=True),
            "variants": 0,
            "generator_min_width": 1,
            "generator": "plain",
            "critic": "film",
            "n_critic": 5,
            "emphasis": 0.0,
            "anatomy_weight": 0.0,
            "steps": 1200,
        },
    },
    "whole-128": {
        UNetConfig: {"data": DataConfig(size=128)},
        GANConfig: {"data": DataConfig(size=128), "steps": 1800},
    },
    "whole-256": {
        UNetConfig: {"data": DataConfig(size=256), "epochs": 12},
        GANConfig: {"data": DataConfig(size=256), "batch_size": 8, "variants": 4, "steps": 800},
    },
    "roi": {
        UNetConfig: {"data": DataConfig(view="roi"), **FOR_LESIONS},
        GANConfig: {"data": DataConfig(view="roi"), "variants": 0, "steps": 1200},
    },
    "roi-128": {
        UNetConfig: {"data": DataConfig(size=128, view="roi"), "epochs": 20, **FOR_LESIONS},
        GANConfig: {"data": DataConfig(size=128, view="roi"), "variants": 0, "steps": 900},
    },
    "quickstart": {
        UNetConfig: {"widths": (16, 32, 64), "epochs": 60},
        GANConfig: {
            "variants": 8,
            "width": 16,
            "max_width": 128,
            "generator_min_width": 1,
            "steps": 600,
            "generator_learning_rate": 4e-4,
            "critic_learning_rate": 2e-4,
            "ema": 0.98,
        },
    },
    "tiny": {
        UNetConfig: {"data": DataConfig(size=16), "widths": (4, 8), "epochs": 2, "batch_size": 4},
        GANConfig: {
            "data": DataConfig(size=16),
            "variants": 0,
            "width": 4,
            "max_width": 8,
            "generator_min_width": 1,
            "z_dim": 8,
            "batch_size": 4,
            "n_critic": 2,
            "steps": 4,
            "sample_every": 2,
            "checkpoint_every": 2,
        },
    },
}
"""Named starting points, as :data:`PURPOSES` says."""

PURPOSES = {
    "default": "the best found: half an hour for a GAN, two minutes for a U-Net, on two CPU cores with AVX-512",
    "quality": "for a GAN twice the steps, on twice the variants of the films, in an hour to an hour and a half on such "
    "cores; for a U-Net the same as default",
    "paper": "film markers and strips stay on the films; for a GAN the generator of a plain DCGAN, a critic of whole films as "
    "they are, five updates of it a step, no variants and no anatomy loss",
    "whole-128": "whole films of 128 x 128 pixels: a U-Net in 20 minutes and a GAN in 3 hours on slow cores",
    "whole-256": "whole films of 256 x 256 pixels: a U-Net in 3 to 10 minutes and a GAN in an hour, with few steps",
    "roi": "windows of 64 x 64 pixels around lesions: a U-Net in 3 minutes and a GAN in 20",
    "roi-128": "windows of 128 x 128 pixels around lesions: a U-Net in 6 minutes and a GAN in an hour, with few steps",
    "quickstart": "a first look within minutes",
    "tiny": "for tests, in seconds",
}
"""What each preset is for."""


def preset(kind: type[C], name: str, changes: dict[str, Any] | None = None) -> C:
    """The configuration of a preset with some values changed; those of :class:`DataConfig` are given by their own names.

    Raises:
        ConfigError: unknown preset, unknown name, or a value that is not acceptable.
    """
    require(name in PRESETS, "preset", " | ".join(PRESETS), name)
    values = dict(next(values for base, values in PRESETS[name].items() if issubclass(kind, base)))
    changes = dict(changes or {})
    data = {f.name: changes.pop(f.name) for f in dataclasses.fields(DataConfig) if f.name in changes}
    values["data"] = dataclasses.replace(values.get("data", DataConfig()), **data)
    return from_dict(kind, {**values, **changes})
