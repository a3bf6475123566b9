"""``evaluate``: the report. ``compare``: several of them side by side."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mammogan_tf.console import Console
from mammogan_tf_cli.options import ResultFile, UserPath, config_file, data_option, folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["compare", "evaluate"]


@click.command()
@config_file
@click.option("--gan", type=folder, metavar="RUN", help="A finished train-gan run.")
@click.option("--images", type=folder, help="Folder of square PNGs of one size, whoever made them.")
@click.option("--masks", type=folder, help="Folder of the masks that the images were made from, of the same names.")
@click.option(
    "--split-of",
    type=folder,
    metavar="RUN",
    show_default="the default split of the data",
    help="For images: compare with the films of this run, prepared and split as it did.",
)
@data_option("--gan", "--split-of")
@click.option("--out", type=folder, required=True, help="Folder for report.html, report.json and what belongs to them.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=500,
    help="Synthetic images, about: two or more from the mask of each test film.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of noise, pairs and bootstrap samples.")
@click.option(
    "--features",
    type=click.Choice(["inception"]),
    help="Evaluate in this space too; Keras downloads its weights where they are not in its cache.",
)
@click.option(
    "--quick", is_flag=True, help="Leave out whether training with the images is of use, which takes longest."
)
def evaluate(
    gan: Path | None,
    images: Path | None,
    masks: Path | None,
    split_of: Path | None,
    data: tuple[Path, ...],
    out: Path,
    count: int,
    seed: int,
    features: str | None,
    quick: bool,
) -> None:
    """Evaluate synthetic films against the real films of patients that no training has seen.

    Of a GAN, or of any folder of images. Trains a segmenter of its own first, to find the masks in the synthetic films;
    for a GAN also small networks with and without its films, unless --quick is given. Stopped, it goes on when called again.

    \b
    Example:
      mammogan-tf evaluate --gan runs/train-gan/00001 --out report
      mammogan-tf evaluate --images synthetic/images --masks synthetic/masks --out report-of-images
    """
    if (gan is None) == (images is None):
        raise click.UsageError("expected one of --gan and --images, received: " + ("both" if gan else "neither"))
    if gan and (masks or split_of):
        raise click.UsageError("--masks, --split-of: expected with --images, received: --gan, which has its own")
    context = click.get_current_context()
    if images and any(context.get_parameter_source(name) != ParameterSource.DEFAULT for name in ("count", "quick")):
        raise click.UsageError(
            "--count, --quick: expected with --gan, received: --images, which are evaluated as they are"
        )
    import_tensorflow(onednn=True)
    from mammogan_tf.data.sources import find_data, load_all
    from mammogan_tf.evaluation.downstream import Recipe
    from mammogan_tf.evaluation.report import evaluate as evaluate_run
    from mammogan_tf.evaluation.report import evaluate_images
    from mammogan_tf.evaluation.words import in_words
    from mammogan_tf.training.run import Run

    path = gan or split_of
    run = Run.open(path) if path else None
    sources = data or (run.data if run else find_data())
    films = load_all(sources)
    options: dict[str, Any] = {"seed": seed, "console": Console(), "inception": features == "inception"}
    try:
        if images is None:
            assert run
            report = evaluate_run(run, films, out, count=count, recipe=None if quick else Recipe(), **options)
        else:
            report = evaluate_images(images, masks, films, sources, out, run, **options)
    except KeyboardInterrupt as error:
        raise click.ClickException("stopped; go on with the same command") from error
    for line in in_words(report):
        click.echo(line)
    click.echo(out / "report.html")


@click.command()
@click.argument("reports", type=UserPath(), nargs=-1, required=True)
@click.option("--out", type=ResultFile(), help="File to write the table to, as Markdown.")
def compare(reports: tuple[Path, ...], out: Path | None) -> None:
    """Put reports side by side, with the differences to the first and their intervals.

    REPORTS are report.json files, folders that hold one, or runs that were evaluated into a folder of their own.
    Differences on films of the same patients are paired.

    \b
    Example:
      mammogan-tf compare report-of-a report-of-b
    """
    from mammogan_tf.evaluation.compare import compare as side_by_side

    click.echo(side_by_side(reports, out), nl=False)
