"""``export``, ``serve`` and ``request``: SavedModels over gRPC."""

from pathlib import Path
from typing import Any

import click

from mammogan_tf.config import VIEWS
from mammogan_tf_cli.options import folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["export", "request", "serve"]


@click.command()
@click.argument("runs", type=folder, nargs=-1, required=True, metavar="RUN...")
@click.option("--to", type=folder, default=Path("saved_models"), help="Folder of <model>/<version>/.")
def export(runs: tuple[Path, ...], to: Path) -> None:
    """Export runs as SavedModels for TensorFlow Serving, each as the next version of its model.

    A U-Net together with a generator of whole films also gives synthesize: a film in, a synthetic one of its anatomy out.

    \b
    Example:
      mammogan-tf export runs/train-unet/00001 runs/train-gan/00001
    """
    import_tensorflow()
    from mammogan_tf.serving.export import export_runs

    for version in export_runs(runs, to):
        click.echo(version)


file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--models", type=folder, default=Path("saved_models"), help="Folder of <model>/<version>/.")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8500, help="0 takes a free one.")
@click.option("--engine", type=click.Choice(["auto", "tensorflow_model_server", "embedded"]), default="auto")
@click.option("--max-batch-size", type=click.IntRange(min=1), default=32, help="Examples in a pass; 1: one by one.")
@click.option("--batch-timeout-ms", type=click.FloatRange(min=0), default=0.0, help="How long a pass waits to fill up.")
@click.option("--max-queue", type=click.IntRange(min=1), default=256, help="Waiting requests; more are refused.")
@click.option("--tls-cert", type=file, help="PEM file: the server's certificate.")
@click.option("--tls-key", type=file, help="PEM file: its key.")
@click.option("--tls-client-ca", type=file, help="PEM file: whose certificates clients must show.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serves Prometheus metrics over HTTP.")
def serve(models: Path, engine: str, **settings: Any) -> None:
    """Serve exported models over gRPC, until Ctrl-C.

    auto takes tensorflow_model_server where it is installed, else the embedded server of the same API.

    \b
    Example:
      mammogan-tf serve --models saved_models --port 8500 --metrics-port 9100
    """
    import_tensorflow()
    from mammogan_tf.serving.engines import serve as run

    run(models, engine, **settings)


@click.group()
def request() -> None:
    """Ask a server for label maps or synthetic films."""


server_option = click.option(
    "--server", default="127.0.0.1:8500", metavar="HOST:PORT", help="Where the server listens."
)
timeout_option = click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, help="Seconds.")


@request.command("segment")
@server_option
@timeout_option
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=folder, required=True, help="Folder for the label maps.")
@click.option("--view", type=click.Choice(VIEWS), default="whole", help="What the served model was trained on.")
def request_segment(server: str, timeout: float, images: tuple[Path, ...], out: Path, view: str) -> None:
    """Have films of any size outlined; writes NAME_mask.png at the size of the film.

    \b
    Example:
      mammogan-tf request segment data/mias/mdb001.pgm --server 127.0.0.1:8500 --out segmented
    """
    import_tensorflow()
    from mammogan_tf.data.film import read_grey
    from mammogan_tf.data.label_maps import save_label_map
    from mammogan_tf.data.preparation import find_geometry
    from mammogan_tf.inference.segment import distinct_names, film_to_png
    from mammogan_tf.serving.client import MammoganClient

    names = distinct_names(images)
    films = [read_grey(image) for image in images]
    geometries = [find_geometry(film, view) for film in films]
    pngs = [film_to_png(geometry.to_square(film)) for film, geometry in zip(films, geometries, strict=True)]
    with MammoganClient(server, timeout) as client:
        label_maps = client.segment(pngs).label_map
    for name, geometry, label_map in zip(names, geometries, label_maps, strict=True):
        save_label_map(out / f"{name}_mask.png", geometry.to_film(label_map))
    click.echo(out)


@request.command("generate")
@server_option
@timeout_option
@click.option("--masks", type=folder, required=True, help="Folder with index PNGs (values 0-4) of the model's size.")
@click.option("--count", type=click.IntRange(min=1), default=1, help="Number of images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the first image; the next one adds 1.")
@click.option("--out", type=folder, required=True, help="New folder for images, masks and manifest.csv.")
def request_generate(server: str, timeout: float, masks: Path, count: int, seed: int, out: Path) -> None:
    """Have synthetic films made from masks.

    \b
    Example:
      mammogan-tf request generate --masks synthetic/masks --count 4 --out received
    """
    import_tensorflow()
    from mammogan_tf.inference.generate import generate_folder, masks_of_folder
    from mammogan_tf.inference.models import remote_generator
    from mammogan_tf.serving.client import MammoganClient

    conditions = masks_of_folder(masks)
    with MammoganClient(server, timeout) as client:
        generator = remote_generator(client, conditions.label_maps.shape[1])
        click.echo(generate_folder(generator, conditions, count, out, seed=seed))
