"""Options that several commands share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mammogan_tf.config import (
    KEEP,
    LABELS,
    LESION_LOSSES,
    LESION_OUTLINES,
    PRECISIONS,
    PRESETS,
    PURPOSES,
    STRATEGIES,
    VIEWS,
    DataConfig,
    GANConfig,
    UNetConfig,
    in_order,
)
from mammogan_tf.errors import first_line
from mammogan_tf.files import require_place

__all__ = [
    "DETERMINISTIC",
    "OF_A_MASK",
    "RATE",
    "Labels",
    "Listed",
    "ResultFile",
    "UserPath",
    "config_file",
    "data_option",
    "finish_option",
    "folder",
    "preset_option",
    "test_share_option",
    "training_options",
    "unet_options",
]

Command = Callable[..., Any]

BATCH_SIZES = f"{UNetConfig.batch_size} for a U-Net, {GANConfig.batch_size} for a GAN"

DETERMINISTIC = "Bit-identical runs on one device, also where they were interrupted and resumed; somewhat slower."

OF_A_MASK = "that of each mask; from a folder, benign where there is a lesion, else normal"


class UserPath(click.Path):
    """A path in which ``~`` is the home folder, also where no shell has put it there: in a file, in quotes, after ``=``."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(path_type=Path, **limits)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        at_home = str(value).startswith("~/")
        return super().convert(Path(value).expanduser() if at_home else value, parameter, context)


class ResultFile(UserPath):
    """A file for results, refused where it cannot be written before the work begins, which may take many minutes."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        path = super().convert(value, parameter, context)
        require_place(path)
        return path


folder = UserPath(file_okay=False)


def preset_option(default: str, *parameter: str) -> Callable[[Any], Any]:
    """``--preset``, as ``preset`` or under another name of the ``parameter``; its help says what each preset is for."""
    purposes = ". ".join(f"{name}: {purpose}" for name, purpose in PURPOSES.items())
    return click.option(
        "--preset",
        *parameter,
        type=click.Choice(list(PRESETS)),
        default=default,
        help=f"Starting point. {purposes}.",
    )


RATE = click.FloatRange(min=0, min_open=True)

SHARE = click.FloatRange(0, 0.5, min_open=True, max_open=True)


def data_option(*runs: str) -> Command:
    """``--data`` of a command whose options ``runs`` name a run; without it, that run's films count."""
    of_a_run = [f"that of the run of {' or '.join(runs)}"] if runs else []
    return click.option(
        "--data",
        type=UserPath(),
        multiple=True,
        show_default=", else ".join([*of_a_run, "$MAMMOGAN_DATA", "data/mias"]),
        help="mini-MIAS, or a folder with dataset.json; may be given several times.",
    )


class Listed(click.ParamType):
    """Values with commas between them; in a file they may stand as a list."""


class Widths(Listed):
    """Whole numbers such as ``16,32,64,128``."""

    name = "widths"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        try:
            return tuple(int(width) for width in str(value).split(","))
        except ValueError:
            self.fail(f"expected numbers of channels such as 16,32,64,128, received: {value}", parameter, context)


class Labels(Listed):
    """Words such as ``benign,malignant``, in whatever order."""

    name = "labels"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        labels = {word.strip() for word in str(value).split(",")}
        if not labels <= {*LABELS}:
            self.fail(f"expected some of {','.join(LABELS)}, received: {value}", parameter, context)
        return in_order(labels)


def config_file(command: Command) -> Command:
    """``--config FILE``: options from a YAML file; those on the command line win."""

    def read(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
        if path is None:
            return
        import yaml

        try:
            values = yaml.safe_load(path.read_text()) or {}
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            found = first_line(error)
            if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
                found = f"line {error.problem_mark.line + 1}: {error.problem}"
            raise click.BadParameter(f"expected YAML, received: {found}", ctx, parameter) from error
        if not isinstance(values, dict):
            raise click.BadParameter(f"expected option names with values, received: {values!r}", ctx, parameter)
        known = {
            name.lstrip("-").replace("-", "_"): parameter
            for parameter in ctx.command.params
            if parameter.expose_value
            for name in (*parameter.opts, str(parameter.name))
        }
        values = {str(name).replace("-", "_"): value for name, value in values.items() if value is not None}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise click.BadParameter(
                f"expected options of this command, switches by their first name, received: {', '.join(unknown)}",
                ctx,
                parameter,
            )
        texts = {str(known[name].name): _as_typed(known[name], value) for name, value in values.items()}
        ctx.default_map = {**(ctx.default_map or {}), **texts}

    return click.option(
        "--config",
        type=UserPath(exists=True, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=read,
        help="YAML file with options; the command line wins.",
    )(command)


def _as_typed(parameter: click.Parameter, value: Any) -> str | list[str]:
    """A value of a file as it would stand on the command line."""
    if isinstance(parameter.type, Listed) and isinstance(value, list):
        return ",".join(map(str, value))
    if not parameter.multiple:
        return str(value)
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def training_options(command: Command, runs: Sequence[str] = ("--resume",)) -> Command:
    """What all trainings have in common; a value that is not given comes from the preset. ``runs``: as of ``--data``."""
    options = [
        click.option("--workdir", type=folder, default=Path("runs"), help="Where run directories are made."),
        click.option("--resume", type=folder, metavar="RUN", help="Go on with this run; it keeps its own options."),
        click.option(
            "--keep",
            type=click.IntRange(min=1),
            default=KEEP,
            help="Checkpoints that stay; where the newest is broken, a run resumes from the one before.",
        ),
        click.option(
            "--strategy",
            type=click.Choice(STRATEGIES),
            default="auto",
            help="Devices: one, all of this machine, or all of the machines in TF_CONFIG.",
        ),
        preset_option("default"),
        click.option(
            "--size",
            type=click.Choice(["16", "32", "64", "128", "256"]),
            show_default=str(DataConfig.size),
            help="Pixels.",
        ),
        click.option(
            "--view", type=click.Choice(VIEWS), show_default=DataConfig.view, help="Whole films, or around lesions."
        ),
        click.option(
            "--lesions",
            type=click.Choice(LESION_OUTLINES),
            show_default=DataConfig.lesions,
            help="Lesions as the annotated circles, or outlined inside them (a smaller disc where no outline is convincing).",
        ),
        click.option(
            "--min-mask-confidence",
            type=click.FloatRange(0, 1, max_open=True),
            show_default=str(DataConfig.min_mask_confidence),
            help="Train without films whose automatic mask is less to be trusted.",
        ),
        click.option(
            "--keep-background/--black-background",
            default=None,
            show_default="black",
            help="Leave film markers and bright strips on the film.",
        ),
        click.option(
            "--batch-size", type=click.IntRange(min=1), show_default=BATCH_SIZES, help="Films, of all devices together."
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            show_default=GANConfig.precision,
            help="auto: mixed_bfloat16 on GPUs that have it, else float32; the critic is always float32.",
        ),
        click.option("--seed", type=click.IntRange(min=0), show_default="0", help="Of weights, order and noise."),
        click.option("--split-seed", type=click.IntRange(min=0), show_default="0", help="Of the split by patient."),
        click.option(
            "--validation-share",
            "validation",
            type=SHARE,
            show_default=str(DataConfig.validation),
            help="Of the patients, by whom the best state of a run is chosen.",
        ),
        click.option("--deterministic/--fast", default=None, show_default="fast", help=DETERMINISTIC),
    ]
    for option in reversed(options):
        command = option(command)
    return config_file(data_option(*runs)(command))


test_share_option = click.option(
    "--test-share",
    "test",
    type=SHARE,
    show_default=str(DataConfig.test),
    help="Of the patients, whose films no network sees in training.",
)

finish_option = click.option(
    "--finish",
    is_flag=True,
    help="With --resume: train no further, and end the run with the best that it has found so far. It may go on later.",
)


def unet_options(command: Any) -> Any:
    """What ``train-unet`` and ``cross-validate`` have in common. A value that is not given comes from the preset."""
    options = [
        click.option(
            "--widths",
            type=Widths(),
            show_default="16, doubled up to 128, down to 4 x 4 pixels",
            help="Channels of each level, top to bottom.",
        ),
        click.option(
            "--attention/--no-attention", default=None, show_default="no", help="Attention gates on the skips."
        ),
        click.option(
            "--dropout",
            type=click.FloatRange(0, 1, max_open=True),
            show_default=str(UNetConfig.dropout),
            help="At the bottom.",
        ),
        click.option(
            "--lesion-loss",
            type=click.Choice(LESION_LOSSES),
            show_default=UNetConfig.lesion_loss,
            help="What the loss adds for lesions.",
        ),
        click.option(
            "--lesion-repeats",
            type=click.IntRange(min=1),
            show_default=str(UNetConfig.lesion_repeats),
            help="How often a film with a lesion comes in an epoch.",
        ),
        click.option("--epochs", type=click.IntRange(min=1), show_default=str(UNetConfig.epochs)),
        click.option(
            "--patience",
            type=click.IntRange(min=1),
            show_default=str(UNetConfig.patience),
            help="Epochs without a better one.",
        ),
        click.option("--learning-rate", type=RATE, show_default=str(UNetConfig.learning_rate)),
    ]
    for option in reversed(options):
        command = option(command)
    return training_options(command)
