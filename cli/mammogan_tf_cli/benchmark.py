"""``benchmark``: how fast it is, as ratios in one run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mammogan_tf.config import PRECISIONS, GANConfig, UNetConfig, preset
from mammogan_tf.console import Console
from mammogan_tf.files import write_json
from mammogan_tf_cli.options import DETERMINISTIC, ResultFile, data_option, folder, preset_option
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["benchmark"]


json_option = click.option("--json", "report", type=ResultFile(), help="Write the figures there.")


def rounds_option(default: int) -> Callable[[Any], Any]:
    return click.option("--rounds", type=click.IntRange(min=1), default=default, help="Measurements of each kind.")


def step_options(batch_sizes: list[int]) -> Callable[[Any], Any]:
    """What the benchmarks of a training step have in common."""

    def add(command: Any) -> Any:
        for option in (
            json_option,
            rounds_option(10),
            click.option("--compile/--no-compile", "compiled", default=True, help="Try torch.compile too: minutes."),
            click.option(
                "--precision",
                type=click.Choice(PRECISIONS),
                default="auto",
                help="Ours; PyTorch's is float32 (TF32 on a GPU).",
            ),
            click.option(
                "--batch-size",
                "batch_sizes",
                type=click.IntRange(min=1),
                multiple=True,
                default=batch_sizes,
                help="May be given several times.",
            ),
            click.option("--deterministic/--fast", default=False, help=DETERMINISTIC),
            preset_option("default", "name"),
        ):
            command = option(command)
        return command

    return add


@click.group()
def benchmark() -> None:
    """Measure speed against the alternative, in turns and in one run."""


@benchmark.command()
@step_options([16, 64])
@click.option("--n-critic", type=click.IntRange(min=1), show_default="that of the preset", help="Critic updates.")
def train_gan(
    name: str,
    batch_sizes: list[int],
    n_critic: int | None,
    precision: str,
    deterministic: bool,
    compiled: bool,
    rounds: int,
    report: Path | None,
) -> None:
    """One generator step with its critic updates: ours, the textbook's, and PyTorch's where it is installed.

    \b
    Example:
      mammogan-tf benchmark train-gan --n-critic 5 --json train-gan.json
    """
    import_tensorflow(onednn=True)
    from mammogan_tf.benchmark.training import benchmark_gan_training, format_training

    changes = {"precision": precision, "deterministic": deterministic} | ({"n_critic": n_critic} if n_critic else {})
    config = preset(GANConfig, name, changes)
    progress = Console().progress("batch sizes")
    _tell(benchmark_gan_training(config, batch_sizes, rounds, compiled, progress), format_training, report)


@benchmark.command()
@step_options([UNetConfig.batch_size, 16])
def train_unet(
    name: str,
    batch_sizes: list[int],
    precision: str,
    deterministic: bool,
    compiled: bool,
    rounds: int,
    report: Path | None,
) -> None:
    """One step of the U-Net: ours, and PyTorch's where it is installed.

    \b
    Example:
      mammogan-tf benchmark train-unet --json train-unet.json
    """
    import_tensorflow(onednn=True)
    from mammogan_tf.benchmark.training import benchmark_unet_training, format_training

    config = preset(UNetConfig, name, {"precision": precision, "deterministic": deterministic})
    progress = Console().progress("batch sizes")
    _tell(benchmark_unet_training(config, batch_sizes, rounds, compiled, progress), format_training, report)


@benchmark.command("input")
@data_option()
@preset_option("default", "name")
@rounds_option(5)
@click.option("--steps", type=click.IntRange(min=1), default=10, help="Training steps in each measurement.")
@json_option
def input_(data: tuple[Path, ...], name: str, rounds: int, steps: int, report: Path | None) -> None:
    """Films a second, prepared anew and from the cache, and the share of training that waits for them.

    \b
    Example:
      mammogan-tf benchmark input --data data/mias --json input.json
    """
    from mammogan_tf.data.sources import find_data, load_all

    films = load_all(find_data(data))
    import_tensorflow(onednn=True)
    from mammogan_tf.benchmark.input_pipeline import benchmark_input, format_input

    configs = preset(GANConfig, name), preset(UNetConfig, name)
    progress = Console().progress("trainings")
    _tell(benchmark_input(films, *configs, rounds=rounds, steps=steps, progress=progress), format_input, report)


@benchmark.command()
@click.argument("model", type=folder)
@click.option("--count", type=click.IntRange(min=1), default=256, help="Films in each measurement.")
@rounds_option(10)
@json_option
def generate(model: Path, count: int, rounds: int, report: Path | None) -> None:
    """Films to PNGs on disk, as by generate, against the bare forward pass.

    \b
    Example:
      mammogan-tf benchmark generate runs/train-gan/00001 --json generate.json
    """
    import_tensorflow(onednn=True)
    from mammogan_tf.benchmark.generation import benchmark_generation, format_generation

    _tell(benchmark_generation(model, count, rounds), format_generation, report)


@benchmark.command()
@click.option("--models", type=folder, default=Path("saved_models"), help="Folder of <model>/<version>/.")
@rounds_option(10)
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=2.0, help="Of each measurement of throughput.")
@json_option
def serve(models: Path, rounds: int, seconds: float, report: Path | None) -> None:
    """The embedded server against the same SavedModels in process: added latency, throughput, gain by batching.

    \b
    Example:
      mammogan-tf benchmark serve --json serving.json
    """
    import_tensorflow()
    from mammogan_tf.benchmark.serving import benchmark_serving, format_serving

    _tell(benchmark_serving(models, rounds, seconds, Console().progress("models")), format_serving, report)


def _tell(result: dict[str, Any], format_: Callable[[dict[str, Any]], str], report: Path | None) -> None:
    click.echo(format_(result))
    if report:
        write_json(report, result)
