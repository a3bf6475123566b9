"""``data``: get films, draw phantoms, look at what is there."""

import sys
from pathlib import Path

import click

from mammogan_tf.config import LESION_OUTLINES, VIEWS
from mammogan_tf.console import Console
from mammogan_tf_cli.options import ResultFile, UserPath, folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["data"]

SOURCE = UserPath()


@click.group()
def data() -> None:
    """Fetch mini-MIAS, draw phantoms, audit a data set, write masks."""


@data.command()
@click.argument("destination", type=folder)
@click.option("--url", show_default="the official address", help="A mirror, or the archive on this machine.")
@click.option(
    "--sha256", show_default="that of the official archive; none with --url", help="Expected digest of the archive."
)
def fetch(destination: Path, url: str | None, sha256: str | None) -> None:
    """Download mini-MIAS (111 MB) and unpack it; a broken download goes on where it stopped.

    \b
    Example:
      mammogan-tf data fetch data/mias
    """
    from mammogan_tf.data.fetch import MIAS_URL
    from mammogan_tf.data.fetch import fetch as download

    click.echo(download(destination, url or MIAS_URL, sha256, Console().progress("bytes")))


@data.command()
@click.argument("destination", type=folder)
@click.option("--patients", type=click.IntRange(6, 499), default=24, help="Two films each.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
def phantom(destination: Path, patients: int, seed: int) -> None:
    """Draw phantom mammograms in the layout of mini-MIAS.

    \b
    Example:
      mammogan-tf data phantom data/phantom --patients 24
    """
    from mammogan_tf.data.phantom import write_phantoms

    click.echo(write_phantoms(destination, patients, seed, Console().progress("drawing films")))


def _require_outside(source: Path, outputs: dict[str, Path | None]) -> None:
    """Keeps what a command writes out of the data set, which takes every file for one of its own."""
    for name, path in outputs.items():
        if path and path.resolve().is_relative_to(source.resolve()):
            raise click.UsageError(f"{name}: expected a place outside of {source}, received: {path}; choose another")


@data.command()
@click.argument("source", type=SOURCE, metavar="DATA")
@click.option("--json", "report", type=ResultFile(), help="File to write the figures to.")
@click.option("--table", type=ResultFile(), help="File to write filename,label to, as CSV.")
def audit(source: Path, report: Path | None, table: Path | None) -> None:
    """Count and check films, labels, sides, circles and drawn masks. Exits with 1 where training would refuse a file.

    \b
    Example:
      mammogan-tf data audit data/mias --json audit.json
    """
    from mammogan_tf.data.audit import audit as examine
    from mammogan_tf.data.audit import format_audit
    from mammogan_tf.data.mias import paper_table
    from mammogan_tf.data.sources import load_data
    from mammogan_tf.files import write_json, write_text

    _require_outside(source, {"--json": report, "--table": table})
    found = examine(source, Console().progress("reading films"))
    click.echo(format_audit(found))
    if report:
        write_json(report, found)
    if table:
        write_text(table, paper_table(load_data(source)).to_csv(index=False))
    sys.exit(1 if found["corrupt"] else 0)


@data.command()
@click.argument("source", type=SOURCE, metavar="DATA")
@click.argument("out", type=folder)
@click.option(
    "--size", type=click.IntRange(min=16, max=1024), show_default="256, or that of the U-Net", help="Side of the masks."
)
@click.option("--view", type=click.Choice(VIEWS), default="whole", help="Whole films, or squares around lesions.")
@click.option("--lesions", type=click.Choice(LESION_OUTLINES), default="circle", help="How lesions are drawn.")
@click.option("--unet", type=folder, metavar="MODEL", help="Compare this U-Net with drawn masks as well.")
def masks(source: Path, out: Path, size: int | None, view: str, lesions: str, unet: Path | None) -> None:
    """Write the masks as index PNGs, with overlays and a contact sheet. OUT may hold those of the same films only.

    Where masks are drawn by hand, prints how well the automatic ones match them, and shows the worst films.

    \b
    Example:
      mammogan-tf data masks data/mias masks
    """
    from mammogan_tf.data.film_set import load_films
    from mammogan_tf.data.masks import write_masks
    from mammogan_tf.data.sources import load_data
    from mammogan_tf.evaluation.drawn import compare_with_drawn, format_comparison

    _require_outside(source, {"OUT": out})
    films = load_data(source)
    drawn = any(film.drawn for film in films)
    segmenters = {}
    if unet:
        if not drawn:
            raise click.UsageError(f"--unet: expected masks drawn by hand to compare with, received: none in {source}")
        import_tensorflow(onednn=True)
        from mammogan_tf.inference import load_segmenter

        segmenter = load_segmenter(unet)
        if segmenter.view != "whole":
            raise click.UsageError(f"--unet: expected one of whole films, received: one of view {segmenter.view}")
        if size not in (None, segmenter.size):
            raise click.UsageError(f"--size: expected {segmenter.size}, that of the U-Net, received: {size}")
        segmenters, size = {"unet": segmenter}, segmenter.size
    shown = load_films(films, size or 256, view, lesions, progress=Console().progress("films")).cropped()
    shown.tell_unplaced(Console())
    click.echo(write_masks(shown, out))
    if drawn:
        click.echo(
            format_comparison(
                compare_with_drawn(films, size or 256, out, segmenters, Console().progress("drawn films"))
            )
        )
