"""``benchmark``: how fast it is, as ratios in one run."""

from pathlib import Path

import click

from mammogan_tf.console import Console
from mammogan_tf_cli.options import folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["benchmark"]


@click.group()
def benchmark() -> None:
    """Measure speed against the alternative, in turns and in one run."""


@benchmark.command()
@click.option("--models", type=folder, default=Path("saved_models"), help="Folder of <model>/<version>/.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, help="Measurements of each kind.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=2.0, help="Of each measurement of throughput.")
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def serve(models: Path, rounds: int, seconds: float, report: Path | None) -> None:
    """The embedded server against the same SavedModels in process: added latency, throughput, gain by batching.

    \b
    Example:
      mammogan-tf benchmark serve --json serving.json
    """
    import_tensorflow()
    from mammogan_tf.benchmark.serving import benchmark_serving, format_serving
    from mammogan_tf.files import write_json

    result = benchmark_serving(models, rounds, seconds, Console().progress("models"))
    click.echo(format_serving(result))
    if report:
        write_json(report, result)
