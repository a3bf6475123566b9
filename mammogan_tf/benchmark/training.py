"""What a training step costs: the shipped step, the textbook's, and PyTorch's, in one run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mammogan_tf.benchmark.machine import measured_on
from mammogan_tf.benchmark.textbook import TextbookWGANGP
from mammogan_tf.benchmark.timing import in_turns, spread, timed
from mammogan_tf.config import CLASSES, LABELS, GANConfig, UNetConfig
from mammogan_tf.console import Progress
from mammogan_tf.errors import first_line
from mammogan_tf.training.gan import build_wgan_gp
from mammogan_tf.training.segmentation import build_segmentation_trainer
from mammogan_tf.training.strategy import set_up_device

__all__ = ["benchmark_gan_training", "benchmark_unet_training", "format_training"]

Step = Callable[[], object]


def benchmark_gan_training(
    config: GANConfig,
    batch_sizes: Sequence[int] = (16, 64),
    rounds: int = 10,
    compiled: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures one full generator step, critic updates included: ours, the textbook's and, where it is installed, PyTorch's.

    Args:
        config: its ``batch_size`` is replaced by each of ``batch_sizes``.
        batch_sizes: of one update.
        rounds: measurements of each kind, taken in turns.
        compiled: try ``torch.compile`` too, which takes minutes.
        progress: called with (batch sizes done, batch sizes).

    Returns:
        Plain JSON types: ``batches``, for each size ``ours_step_s``, ``textbook_step_s``, ``torch_step_s`` (of the fastest
        of ``torch_variants``), ``ratio_textbook`` and ``ratio_torch``, how many times as fast ours is. Without PyTorch,
        or with one that does not see the GPU that ours runs on, its figures are null.
    """
    return _benchmark(config, batch_sizes, rounds, compiled, progress, _gan_steps)


def benchmark_unet_training(
    config: UNetConfig,
    batch_sizes: Sequence[int] = (16,),
    rounds: int = 10,
    compiled: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures one step of the U-Net, as :func:`benchmark_gan_training` does; there is no textbook's."""
    return _benchmark(config, batch_sizes, rounds, compiled, progress, _unet_steps)


def format_training(result: Mapping[str, Any]) -> str:
    """The figures as a table for a terminal."""
    shown = {
        "ours_step_s": "ours, s a step",
        "textbook_step_s": "textbook, s a step",
        "torch_step_s": "PyTorch, s a step",
        "ratio_textbook": "times as fast as the textbook",
        "ratio_torch": "times as fast as PyTorch",
    }
    lines = [f"{result['precision']}{', deterministic' if result['deterministic'] else ''} on {result['device']}"]
    for batch in result["batches"]:
        lines.append(f"batch {batch['batch']}")
        for name, title in shown.items():
            if figure := batch.get(name):
                lines.append(f"  {title:32}{_in_words(figure)}")
        for name, figure in batch["torch_variants"].items():
            lines.append(f"  PyTorch {name:24}{_in_words(figure) if isinstance(figure, dict) else figure}")
    if not any(batch["torch_variants"] for batch in result["batches"]):
        lines.append("PyTorch is not installed: pip install 'mammogan-tf[bench]'")
    return "\n".join(lines)


def _in_words(figure: Mapping[str, float]) -> str:
    return f"{figure['median']:9.3f} [{figure['p10']:.3f}, {figure['p90']:.3f}]"


def _benchmark(
    config: Any,
    batch_sizes: Sequence[int],
    rounds: int,
    compiled: bool,
    progress: Progress | None,
    steps: Callable,
) -> dict:
    policy = set_up_device(config.precision, config.seed, config.deterministic)
    batches = []
    for done, size in enumerate(batch_sizes, start=1):
        tensorflow, torch = steps(replace(config, batch_size=size))
        batches.append({"batch": size, **_measure(tensorflow, _torch_steps(torch, compiled), rounds)})
        if progress:
            progress(done, len(batch_sizes))
    return {
        "batches": batches,
        "precision": policy,
        "deterministic": config.deterministic,
        **measured_on(),
    }


def _measure(tensorflow: dict[str, Step], torch: tuple[dict[str, Step], dict[str, str]], rounds: int) -> dict[str, Any]:
    """Seconds of TensorFlow's steps and of PyTorch's variants, in turns; those that failed are named, with the reason."""
    variants, failed = torch
    kinds = {**tensorflow, **variants}
    seconds = in_turns({name: timed(step, 1) for name, step in kinds.items()}, rounds)
    found = {f"{name}_step_s": spread(seconds[name]) for name in tensorflow}
    for name in tensorflow:
        if name != "ours":
            found[f"ratio_{name}"] = spread(seconds[name] / seconds["ours"])
    fastest = min(variants, key=lambda name: float(np.median(seconds[name])), default=None)
    return {
        **found,
        "torch_step_s": spread(seconds[fastest]) if fastest else None,
        "ratio_torch": spread(seconds[fastest] / seconds["ours"]) if fastest else None,
        "torch_variants": {**{name: spread(seconds[name]) for name in variants}, **failed},
    }


def _torch_steps(step: Callable[[ModuleType, str], Step], compiled: bool) -> tuple[dict[str, Step], dict[str, str]]:
    """The variants that work, each after its first step, and why others do not."""
    # What compiles for GPUs: its LLVM, loaded after TensorFlow's, ends the process.
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    try:
        from mammogan_tf.benchmark import torch_training
    except ImportError:
        return {}, {}
    if tf.config.list_physical_devices("GPU") and torch_training.DEVICE.type != "cuda":
        return {}, {"not measured": "it would run on the processor, and ours runs on a GPU"}
    working, failed = {}, {}
    for variant in torch_training.VARIANTS:
        if variant == "compiled" and not compiled:
            continue
        candidate = step(torch_training, variant)
        try:
            candidate()
            working[variant] = candidate
        except Exception as error:  # A compiler fails in many ways.
            failed[variant] = f"fails: {first_line(error)}"
    return working, failed


def _gan_steps(config: GANConfig) -> tuple[dict[str, Step], Callable]:
    rows = config.batch_size * config.n_critic
    image, mask = _films(config.data.size, rows)
    batch = {"image": 2 * image - 1, "mask": mask, "label": np.arange(rows) % len(LABELS)}
    fixed = {name: tf.constant(value) for name, value in batch.items()}
    models = {"ours": build_wgan_gp(config), "textbook": build_wgan_gp(config, TextbookWGANGP)}
    count = {name: trained_parameters(getattr(models["ours"], name)) for name in ("generator", "critic")}
    steps = {name: tf.function(model.train_step) for name, model in models.items()}

    def timed_step(step: Callable) -> Step:
        return lambda: tf.nest.map_structure(np.asarray, step(fixed))

    tensorflow = {name: timed_step(step) for name, step in steps.items()}
    return tensorflow, lambda torch, variant: torch.gan_step(config, batch, count, variant)


def _unet_steps(config: UNetConfig) -> tuple[dict[str, Step], Callable]:
    image, mask = _films(config.data.size, config.batch_size)
    model = build_segmentation_trainer(config, steps_per_epoch=15)
    step = tf.function(model.train_step)
    fixed = tf.constant(image), tf.constant(mask)

    def ours() -> None:
        tf.nest.map_structure(np.asarray, step(fixed))

    count = trained_parameters(model.network)
    return {"ours": ours}, lambda torch, variant: torch.unet_step(config, image, mask, count, variant)


def trained_parameters(network: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


def _films(size: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise in place of films [rows, S, S, 1] in [0, 1], and one-hot masks: the time of a step does not depend on them."""
    random = np.random.default_rng(0)
    mask = np.eye(len(CLASSES), dtype=np.float32)[random.integers(0, len(CLASSES), (rows, size, size))]
    return random.random((rows, size, size, 1), np.float32), mask
