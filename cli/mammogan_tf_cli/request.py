"""``request``: questions to a server, answered as files."""

import functools
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mammogan_tf.config import LABELS, VIEWS
from mammogan_tf.console import Console
from mammogan_tf.errors import DataError, ServingError
from mammogan_tf.files import require_new_folder, require_separate_folder
from mammogan_tf.serving.channel import ADDRESS, MAX_SECONDS, SECONDS
from mammogan_tf_cli.options import OF_A_MASK, Command, UserPath, folder
from mammogan_tf_cli.quiet import import_tensorflow

if TYPE_CHECKING:
    import numpy as np

    from mammogan_tf.data.preparation import Geometry
    from mammogan_tf.inference.segment import ReadableFilms

__all__ = ["request"]

MAX_SIDE = 2048
"""Side of the largest square that is sent, in pixels: more than any network sees, less than any server refuses."""

GROUP = 16
"""Films that are read, sent and answered, before the next ones are read."""

pem = UserPath(dir_okay=False)
images_argument = click.argument("images", type=UserPath(), nargs=-1, required=True)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**62), default=0, help="Of the first image; the next one adds 1."
)


@click.group()
def request() -> None:
    """Ask a server for label maps or synthetic films."""


def client_options(command: Command) -> Command:
    """Options that say where the server is; the command gets ``connect``, which makes its client."""

    @functools.wraps(command)
    def run(server: str, timeout: float, tls: bool, **others: Any) -> None:
        import_tensorflow()
        from mammogan_tf.serving.client import MammoganClient, tls_credentials

        files = [others.pop(name) for name in ("tls_ca", "tls_cert", "tls_key")]
        credentials = tls_credentials(*files) if tls or any(files) else None
        command(connect=functools.partial(MammoganClient, server, timeout, credentials), **others)

    for option in reversed(
        [
            click.option("--server", default=ADDRESS, metavar="HOST:PORT", help="Where the server listens."),
            click.option(
                "--timeout", type=click.FloatRange(0, MAX_SECONDS, min_open=True), default=SECONDS, help="Seconds."
            ),
            click.option("--tls", is_flag=True, help="Speak TLS; implied by the files below."),
            click.option("--tls-ca", type=pem, help="PEM file: the authority that signed the server's certificate."),
            click.option("--tls-cert", type=pem, help="PEM file: a certificate to show to the server."),
            click.option("--tls-key", type=pem, help="PEM file: its key."),
        ]
    ):
        run = option(run)
    return run


@request.command("segment")
@images_argument
@client_options
@click.option(
    "--out", type=folder, required=True, help="Folder for label maps, not that of the films; replaces namesakes."
)
@click.option("--view", type=click.Choice(VIEWS), default="whole", help="What the served model was trained on.")
def request_segment(connect: Command, images: tuple[Path, ...], out: Path, view: str) -> None:
    """Have films of any size outlined; writes NAME_mask.png at the size of the film.

    \b
    Example:
      mammogan-tf request segment data/mias/mdb001.pgm --server 127.0.0.1:8500 --out segmented
    """
    from mammogan_tf.data.label_maps import save_label_map
    from mammogan_tf.inference.models import newest_version
    from mammogan_tf.inference.segment import ReadableFilms, film_to_png

    require_separate_folder(images, out)
    readable = ReadableFilms(images, Console(), "segmenting")
    with connect() as client:
        version = newest_version(client, "unet")
        for names, geometries, films in _in_groups(readable, view):
            label_maps = client.segment([*map(film_to_png, films)], version).label_map
            for name, geometry, label_map in zip(names, geometries, label_maps, strict=True):
                on_film = geometry.to_film(label_map)
                save_label_map(out / f"{name}_mask.png", on_film, as_its_film=view == "whole")
    readable.require_all()
    click.echo(out)


@request.command("generate")
@client_options
@click.option(
    "--masks", type=folder, required=True, help="Index PNGs (values 0-4) of the model's size, chest wall on the left."
)
@click.option("--label", type=click.Choice(LABELS), show_default=OF_A_MASK, help="Label of every image.")
@click.option("--count", type=click.IntRange(min=1), default=1, help="Number of images.")
@seed_option
@click.option("--out", type=folder, required=True, help="New folder for images, masks and manifest.csv.")
def request_generate(connect: Command, masks: Path, label: str | None, count: int, seed: int, out: Path) -> None:
    """Have synthetic films made from masks.

    \b
    Example:
      mammogan-tf request generate --masks synthetic/masks --count 4 --out received
    """
    from mammogan_tf.inference.generate import generate_folder
    from mammogan_tf.inference.mask_sets import masks_of_folder
    from mammogan_tf.inference.models import remote_generator

    conditions = masks_of_folder(masks)
    with connect() as client:
        generator = remote_generator(client, conditions.label_maps.shape[1])
        number = None if label is None else LABELS.index(label)
        try:
            click.echo(generate_folder(generator, conditions, count, out, seed=seed, label=number))
        except ServingError as error:
            if "label_map: expected shape" not in str(error):
                raise
            raise ServingError(
                f"{error}; write masks of the model's size with mammogan-tf data masks --size"
            ) from error


@request.command("synthesize")
@images_argument
@client_options
@seed_option
@click.option(
    "--lesion",
    type=(float, float, click.FloatRange(min=0, min_open=True)),
    metavar="X Y RADIUS",
    help="A lesion to draw on the breast, in pixels of the film from its upper left corner.",
)
@click.option("--out", type=folder, required=True, help="New folder for images, masks and sheet.png.")
def request_synthesize(
    connect: Command, images: tuple[Path, ...], seed: int, lesion: tuple[float, float, float] | None, out: Path
) -> None:
    """Have a synthetic film of the same anatomy made for each film, chest wall to the left.

    Writes images/ and masks/, and sheet.png, which shows anatomy, film and synthetic film side by side.

    \b
    Example:
      mammogan-tf request synthesize data/mias/mdb001.pgm --lesion 350 480 60 --out synthesized
    """
    import numpy as np

    from mammogan_tf.data.label_maps import save_label_map
    from mammogan_tf.data.preparation import shrink
    from mammogan_tf.evaluation.sheet import comparison_sheet
    from mammogan_tf.files import write_bytes
    from mammogan_tf.inference.models import newest_version
    from mammogan_tf.inference.segment import ReadableFilms, film_to_png

    require_new_folder(out)
    readable = ReadableFilms(images, Console(), "synthesizing")
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with connect() as client:
        version = newest_version(client, "synthesize")
        for names, geometries, films in _in_groups(readable, "whole"):
            circles = (
                None if lesion is None else [_circle(*film, *lesion) for film in zip(names, geometries, strict=True)]
            )
            seeds = range(seed + len(rows), seed + len(rows) + len(films))
            try:
                answer = client.synthesize([*map(film_to_png, films)], seeds, circles, version)
            except ServingError as error:
                if lesion is None:
                    raise
                raise ServingError(f"{error}; --lesion on {', '.join(names)}") from error
            for name, png, label_map in zip(names, answer.png, answer.label_map, strict=True):
                write_bytes(out / "images" / f"{name}.png", png)
                save_label_map(out / "masks" / f"{name}.png", label_map)
            small = [shrink(film, answer.image.shape[1]) / 255 for film in films]
            rows += zip(answer.label_map, small, answer.image, strict=True)
    if rows:
        label_maps, reals, synthetics = (np.stack(column) for column in zip(*rows, strict=True))
        sheet = comparison_sheet(label_maps, reals, synthetics, out / "sheet.png", ("anatomy", "film", "synthetic"))
    readable.require_all()
    click.echo(sheet)


def _in_groups(
    films: "ReadableFilms", view: str
) -> "Iterator[tuple[tuple[str, ...], tuple[Geometry, ...], tuple[np.ndarray, ...]]]":
    """Names of films, how they lie, and their squares, turned and trimmed as the training films were; a group at a time."""
    from mammogan_tf.data.preparation import find_geometry, shrink

    def turned() -> "Iterator[tuple[str, Geometry, np.ndarray]]":
        for name, _, film, side in films:
            geometry = find_geometry(film, view, side)
            yield name, geometry, shrink(geometry.to_square(film), min(geometry.extent, MAX_SIDE))

    remaining = turned()
    while group := list(islice(remaining, GROUP)):
        names, geometries, squares = zip(*group, strict=True)
        yield names, geometries, squares


def _circle(name: str, geometry: "Geometry", column: float, row: float, radius: float) -> tuple[float, float, float]:
    """A circle in pixels of a film as x, y and radius in sides of the square that is sent."""
    from mammogan_tf.data.film import Lesion

    moved = geometry.move(Lesion("", 0, column, row, radius))
    if not (0 <= moved.column < geometry.extent and 0 <= moved.row < geometry.extent):
        raise DataError(
            f"{name}: expected a centre of --lesion on the film, without padding and dark edge, received: {column:g}, {row:g}"
        )
    if not radius <= geometry.extent / 2:
        raise DataError(
            f"{name}: expected a radius of --lesion of at most {geometry.extent / 2:g}, half of its side, received: {radius:g}"
        )
    return (moved.column + 0.5) / geometry.extent, (moved.row + 0.5) / geometry.extent, moved.radius / geometry.extent
