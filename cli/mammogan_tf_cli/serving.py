"""``export`` and ``serve``: SavedModels over gRPC."""

from pathlib import Path
from typing import Any

import click

from mammogan_tf.serving.settings import MAX_BATCH_TIMEOUT_MS, ServerSettings
from mammogan_tf_cli.options import UserPath, folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["export", "serve"]


@click.command()
@click.argument("runs", type=folder, nargs=-1, required=True, metavar="RUN...")
@click.option("--to", type=folder, default=Path("saved_models"), help="Folder of <model>/<version>/.")
def export(runs: tuple[Path, ...], to: Path) -> None:
    """Export runs as SavedModels for TensorFlow Serving, each as the next version of its model.

    A U-Net together with a generator of whole films also gives synthesize: a film in, a synthetic one of its anatomy out. The
    generator has to know benign and normal films.

    \b
    Example:
      mammogan-tf export runs/train-unet/00001 runs/train-gan/00001
    """
    import_tensorflow()
    from mammogan_tf.serving.export import export_runs

    versions = export_runs(runs, to)
    for version in versions:
        click.echo(version)
    if len(runs) > 1 and len(versions) == len(runs):
        click.echo(
            "no synthesize: it takes a U-Net and a generator of whole films that knows benign and normal ones", err=True
        )


file = UserPath(dir_okay=False)


@click.command()
@click.option("--models", type=folder, default=Path("saved_models"), help="Folder of <model>/<version>/.")
@click.option("--host", default=ServerSettings.host, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=ServerSettings.port, help="0 takes a free one.")
@click.option("--engine", type=click.Choice(["auto", "tensorflow_model_server", "embedded"]), default="auto")
@click.option(
    "--max-batch-size",
    type=click.IntRange(min=1),
    default=ServerSettings.max_batch_size,
    help="Examples in a pass; 1: one by one.",
)
@click.option(
    "--batch-timeout-ms",
    type=click.FloatRange(0, MAX_BATCH_TIMEOUT_MS),
    default=ServerSettings.batch_timeout_ms,
    help="How long a pass waits to fill up.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=1),
    default=ServerSettings.max_queue,
    help="Waiting requests; more are refused.",
)
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
