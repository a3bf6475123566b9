"""``evaluate``: the report."""

from pathlib import Path

import click

from mammogan_tf.console import Console
from mammogan_tf_cli.options import data_option, folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["evaluate"]


@click.command()
@click.option("--gan", type=folder, required=True, metavar="RUN", help="A finished train-gan run.")
@data_option
@click.option("--out", type=folder, required=True, help="Folder for report.json, report.html and sheet.png.")
@click.option("--count", type=click.IntRange(min=1), default=500, help="Synthetic images, about.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of noise, pairs and bootstrap samples.")
def evaluate(gan: Path, data: tuple[Path, ...], out: Path, count: int, seed: int) -> None:
    """Judge synthetic films against the real films of patients that no training has seen.

    Trains a segmenter of its own first, to find the masks in the synthetic films.

    \b
    Example:
      mammogan-tf evaluate --gan runs/train-gan/00001 --out report
    """
    import_tensorflow()
    from mammogan_tf.data.sources import load_all
    from mammogan_tf.evaluation.page import format_estimate
    from mammogan_tf.evaluation.report import evaluate as judge
    from mammogan_tf.training.run import Run

    run = Run.open(gan)
    films = load_all(data or run.data)
    report = judge(run, films, out, count, seed, console=Console())
    for section, measures in report["measures"].items():
        click.echo(section)
        for name, estimate in measures.items():
            beside = [
                f"{kind} {format_estimate(estimate[kind])}"
                for kind in ("floor", "ceiling", "control")
                if kind in estimate
            ]
            click.echo(f"  {name:32} {format_estimate(estimate)}   {'   '.join(beside)}".rstrip())
    click.echo(out / "report.html")
