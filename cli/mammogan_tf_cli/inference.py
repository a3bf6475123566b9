"""``segment`` and ``generate``: trained models at work on files."""

from pathlib import Path
from typing import Any

import click

from mammogan_tf.config import ANATOMIES, LABELS, PARTS, WALKS
from mammogan_tf.console import Console
from mammogan_tf_cli.options import OF_A_MASK, Listed, UserPath, config_file, folder
from mammogan_tf_cli.quiet import import_tensorflow

__all__ = ["generate", "segment"]


@click.command()
@click.argument("model", type=folder)
@click.argument("images", type=UserPath(), nargs=-1, required=True)
@click.option(
    "--out",
    type=folder,
    required=True,
    help="Folder for masks, overlays and areas.csv, not that of the films; further films may be added later, or take the "
    "place of their namesakes.",
)
@click.option(
    "--anatomy",
    type=click.Choice(ANATOMIES),
    default=ANATOMIES[0],
    help="Whose breast, muscle and dense tissue; the lesions are the U-Net's.",
)
@click.option(
    "--tta",
    is_flag=True,
    help="Test-time averaging: the U-Net looks at each film and at four shifted copies. Five times its work, for 0.001 of "
    "Dice at most on mini-MIAS; lesions were not measured.",
)
def segment(model: Path, images: tuple[Path, ...], out: Path, anatomy: str, tta: bool) -> None:
    """Outline anatomy and lesions on films, with a train-unet run or an exported unet.

    The automatic anatomy matches outlines drawn by hand better than a U-Net that learnt from it. Around lesions (--view
    roi) everything is the U-Net's.

    \b
    Example:
      mammogan-tf segment runs/train-unet/00001 data/mias/mdb001.pgm --out segmented
    """
    import_tensorflow()
    from mammogan_tf.inference import load_segmenter
    from mammogan_tf.inference.segment import segment_files

    segmenter = load_segmenter(model, tta)
    if segmenter.view == "roi":
        click.echo(f"{model} was trained on windows (--view roi): every film is taken for one", err=True)
    click.echo(segment_files(segmenter, images, out, Console(), anatomy))


class LesionCircle(Listed):
    """``X,Y,R`` or ``X,Y,R,benign|malignant`` as (x, y, radius, label); None where no label is named."""

    name = "circle"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[float, float, float, str | None]:
        try:
            x, y, radius, *labels = (part.strip() for part in str(value).split(","))
            if labels not in ([], ["benign"], ["malignant"]):
                raise ValueError(labels)
            return float(x), float(y), float(radius), labels[0] if labels else None
        except ValueError:
            self.fail(f"expected X,Y,R or X,Y,R,benign|malignant, received: {value}", parameter, context)


@click.command()
@config_file
@click.argument("model", type=folder)
@click.option("--count", type=click.IntRange(min=1), required=True, help="Number of images.")
@click.option(
    "--out",
    type=UserPath(),
    required=True,
    help="New folder for images, masks and manifest.csv; for a walk a .gif or .png.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the first image; each further one adds 1.")
@click.option(
    "--walk",
    type=click.Choice(WALKS),
    help="One picture of films between two: the noise of --seed and the next seed, or two masks.",
)
@click.option(
    "--masks",
    type=folder,
    show_default="the model's training masks",
    help="Folder with index PNGs (values 0-4), chest wall on the left, as 'data masks' and 'generate' write them.",
)
@click.option(
    "--split",
    type=click.Choice(PARTS),
    help="Masks of these films of a run's data in place of a folder: of a run, not an export.",
)
@click.option("--label", type=click.Choice(LABELS), show_default=OF_A_MASK, help="Label of every image.")
@click.option("--vary", is_flag=True, help="Turn, scale and bend each mask at random: new anatomies.")
@click.option(
    "--no-lesion",
    is_flag=True,
    help="Take lesions out of the masks; their films are normal unless --label or --lesion says otherwise.",
)
@click.option(
    "--lesion",
    type=LesionCircle(),
    metavar="X,Y,R[,LABEL]",
    help="Put a benign or malignant lesion there: centre and radius in sides of the mask, from its top left corner. "
    "With --vary it moves with the anatomy: masks/ shows where to. A film of a malignant mask stays malignant.",
)
def generate(
    model: Path,
    count: int,
    out: Path,
    seed: int,
    masks: Path | None,
    split: str | None,
    label: str | None,
    vary: bool,
    no_lesion: bool,
    lesion: tuple[float, float, float, str | None] | None,
    walk: str | None,
) -> None:
    """Make synthetic films from masks, with a train-gan run or an exported generator.

    With --label, masks of films of that label are used; masks from a folder may have any. With the same --seed, --masks
    and --label, --lesion puts a lesion on the same films and changes little else; without --label their label goes with
    it, and all of each film changes somewhat. Seeds whose breast it would miss are left out.

    \b
    Example:
      mammogan-tf generate runs/train-gan/00001 --count 100 --out synthetic --seed 7
      mammogan-tf generate runs/train-gan/00001 --count 12 --walk mask --out walk.gif
    """
    if masks and split:
        raise click.UsageError("--masks, --split: expected one of them, received: both")
    if walk and vary:
        raise click.UsageError("--vary: expected without --walk, whose masks stay as they are, received: both")
    if lesion and label and (label == "normal" or lesion[3] not in (None, label)):
        expected = lesion[3] or "benign or malignant"
        raise click.UsageError(f"--label: expected {expected}, as --lesion says, received: {label}; leave it out")
    import_tensorflow(onednn=True)
    from mammogan_tf.inference import load_generator
    from mammogan_tf.inference.generate import generate_folder
    from mammogan_tf.inference.mask_sets import masks_of_folder, masks_of_model, masks_of_split
    from mammogan_tf.inference.walk import require_walk_file, save_walk
    from mammogan_tf.inference.walk import walk as walk_between

    if walk:
        require_walk_file(out)

    generator = load_generator(model)
    number = None if label is None else LABELS.index(label)
    if number is not None:
        generator.require_labels([number])
    if masks:
        available = masks_of_folder(masks, generator.size)
        leaning = available.leaning_right() if generator.view == "whole" else []
        if 2 * len(leaning) > len(available.names):
            click.echo(
                f"{masks}: {len(leaning)} of {len(available.names)} masks, such as {leaning[0]}, are wider on the right; "
                "the chest wall belongs on the left: mirror them if it is not",
                err=True,
            )
    else:
        available = masks_of_split(model, split, Console()) if split else masks_of_model(generator)
        available = available if number is None else available.of_label(number)
    if no_lesion:
        available = available.without_lesions()
    if lesion:
        x, y, radius, kind = lesion
        available = available.with_lesion(x, y, radius, LABELS.index(kind or label or "benign"))
    if walk:
        films, label_maps = walk_between(generator, available, walk, count, seed=seed, label=number)
        click.echo(save_walk(out, films, label_maps, generator.name))
        return
    progress = Console().progress("generating")
    click.echo(
        generate_folder(generator, available, count, out, seed=seed, label=number, varied=vary, progress=progress)
    )
