"""``quickstart``: the whole path on phantoms, from nothing to a synthetic film served over gRPC."""

import time
from pathlib import Path
from typing import Any

import click

from mammogan_tf.config import GANConfig, UNetConfig, preset
from mammogan_tf.console import Console, duration
from mammogan_tf.files import require_new_folder
from mammogan_tf_cli.options import folder, preset_option
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["quickstart"]

PATIENTS = 48
ROWS = 16
IMAGES = 48
"""Synthetic ones that the report looks at."""


@click.command()
@click.option("--out", type=folder, default=Path("quickstart"), help="New folder for everything that is made.")
@preset_option("quickstart", "name")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0)
def quickstart(out: Path, name: str, seed: int) -> None:
    """Phantoms, U-Net, GAN, images, report, SavedModels, and a round trip over gRPC: minutes on two CPU cores.

    \b
    Example:
      mammogan-tf quickstart
    """
    require_new_folder(out)
    begin = time.monotonic()
    console = Console()

    def step(number: int, text: str) -> None:
        console.line(f"[{number}/7 after {duration(time.monotonic() - begin)}] {text}")

    step(1, f"drawing phantom mammograms of {PATIENTS} patients")
    from mammogan_tf.data.mias import load_mias
    from mammogan_tf.data.phantom import write_phantoms

    data = write_phantoms(out / "data", PATIENTS, seed, console.progress("film"))
    films = load_mias(data)

    step(2, "training a U-Net on their automatic masks (TensorFlow starts)")
    import_tensorflow(onednn=True)
    from mammogan_tf.evaluation.report import evaluate
    from mammogan_tf.inference import load_generator
    from mammogan_tf.inference.generate import generate_folder
    from mammogan_tf.inference.mask_sets import masks_of_model
    from mammogan_tf.serving.export import export_runs
    from mammogan_tf.training.conditioning import create_gan_run
    from mammogan_tf.training.gan import train_gan
    from mammogan_tf.training.segmentation import create_unet_run, train_unet

    unet = create_unet_run(out / "runs", preset(UNetConfig, name, {"seed": seed}), films, [data])
    train_unet(unet, films, console)

    step(3, "training a GAN on the masks that the U-Net draws")
    gan = create_gan_run(out / "runs", preset(GANConfig, name, {"seed": seed}), films, [data], unet)
    train_gan(gan, films, console)

    step(4, "generating synthetic films")
    generator = load_generator(gan.path)
    generate_folder(generator, masks_of_model(generator), ROWS, out / "synthetic", seed=seed)

    step(5, "judging them on patients that no training has seen")
    evaluator_config = preset(UNetConfig, name)
    evaluate(gan, films, out / "report", count=IMAGES, seed=seed, evaluator_config=evaluator_config, console=console)

    step(6, "exporting both networks as SavedModels")
    models = export_runs([unet.path, gan.path], out / "saved_models")
    console.line("  " + "\n  ".join(map(str, models)))

    step(7, "serving them, and asking over gRPC")
    milliseconds = _round_trip(out, gan, films, seed)
    console.line(f"  one film out of its mask in {milliseconds:.0f} ms, over gRPC")
    console.line(f"Done in {duration(time.monotonic() - begin)}.")
    click.echo(f"picture  {out / 'picture.png'}   (mask | nearest real film | synthetic, as the server sent it)")
    click.echo(f"report   {out / 'report' / 'report.html'}")


def _round_trip(out: Path, gan: Any, films: Any, seed: int) -> float:
    """Serves the exports, asks for the picture's films and for a segmentation; milliseconds for one film."""
    import numpy as np

    from mammogan_tf.arrays import to_float
    from mammogan_tf.errors import ServingError
    from mammogan_tf.evaluation.sheet import comparison_sheet
    from mammogan_tf.metrics.memorisation import nearest
    from mammogan_tf.serving.client import MammoganClient
    from mammogan_tf.serving.server import Server
    from mammogan_tf.training.conditioning import with_condition_masks
    from mammogan_tf.training.split_films import load_split

    training, _, test = load_split(gan, films)
    training, unseen = (with_condition_masks(gan, part).cropped() for part in (training, test))
    rows = np.arange(ROWS) % len(unseen)
    with Server(out / "saved_models", port=0) as server, MammoganClient(server.address) as client:
        asked = time.monotonic()
        client.generate([seed], unseen.label_maps[:1], unseen.labels[:1])
        milliseconds = (time.monotonic() - asked) * 1000
        images = client.generate(seed + np.arange(ROWS), unseen.label_maps[rows], unseen.labels[rows])
        found = client.segment(images).label_map
    if not np.isfinite(images).all() or not found.any():
        raise ServingError("quickstart: expected films from the server, received: empty ones")
    real = to_float(training.images)
    comparison_sheet(
        unseen.label_maps[rows],
        real[nearest(images, real)[1]],
        images,
        out / "picture.png",
        ("mask", "nearest real film", "synthetic"),
    )
    return milliseconds
