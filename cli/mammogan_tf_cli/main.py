"""The command ``mammogan-tf``."""

import errno
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Any, NoReturn

import click

from mammogan_tf import __version__
from mammogan_tf.errors import ConfigError, MammoganError
from mammogan_tf.files import FULL
from mammogan_tf_cli.benchmark import benchmark
from mammogan_tf_cli.data import data
from mammogan_tf_cli.evaluate import compare, evaluate
from mammogan_tf_cli.inference import generate, segment
from mammogan_tf_cli.quickstart import quickstart
from mammogan_tf_cli.request import request
from mammogan_tf_cli.serving import export, serve
from mammogan_tf_cli.train import cross_validate, train_gan, train_unet

__all__ = ["cli"]

warnings.filterwarnings("ignore", module="PIL|pydicom")  # They name no file; what makes one unreadable is an error.

CLOSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""What the system says of a path that is not for us."""

AWAY = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV}
"""And of a disk that is gone."""

ADVICE = {
    **dict.fromkeys(FULL, ("write there", "free some space")),
    **dict.fromkeys(CLOSED, ("read or write it", "choose another path or change its permissions")),
    errno.ENOENT: ("find it, or the folder that it is to be in", "see whether both are there"),
    **dict.fromkeys(AWAY, ("read or write it", "see that its disk is there, then try again")),
}
"""What was expected, and what to do."""


class OneLineErrors(click.Group):
    """Turns an error that a user can cause into one line and the right exit status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuses names that no report could hold before the work begins."""
        for text in args:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise click.UsageError(
                    f"{text!a}: expected a name in UTF-8, received: other bytes; rename it"
                ) from error
        ctx.meta["words"] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _interrupt)
        _open_closed_outputs()
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except MammoganError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno not in ADVICE:
                raise
            if error.errno == errno.ENOENT and error.filename is None:
                raise  # Not a path that a user named.
            where = error.filename or "output"
            expected, advice = ADVICE[error.errno]
            message = f"{where}: expected to {expected}, received: {error.strerror}; {advice}"
            raise click.ClickException(message) from error
        except _memory_errors() as error:
            raise click.ClickException(
                f"memory: expected enough for the networks and a batch, received: too little; {self._to_save_memory(ctx)}"
            ) from error

    def _to_save_memory(self, ctx: click.Context) -> str:
        command: click.Command = self
        for word in ctx.meta["words"]:
            command = (isinstance(command, click.Group) and command.get_command(ctx, word)) or command
        options = {name for parameter in command.params for name in parameter.opts}
        smaller = [name for name in ("--batch-size", "--widths", "--size") if name in options]
        return f"lower {' or '.join(smaller)}" if smaller else "end other programs, or take a larger machine"


def _open_closed_outputs() -> None:
    """Where the standard outputs are closed (``2>&-``) the next file to be opened would take their place."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _memory_errors() -> tuple[type[Exception], ...]:
    """What says that memory is exhausted; TensorFlow's error only where it is imported already."""
    tensorflow = sys.modules.get("tensorflow")
    return (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else (MemoryError,)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="mammogan-tf")
def cli() -> None:
    """Train, evaluate and serve mask-conditioned synthetic mammograms. For research, never for diagnosis.

    \b
    Start here:    mammogan-tf quickstart
    With mini-MIAS:
      mammogan-tf data fetch data/mias
      mammogan-tf train-unet
      mammogan-tf train-gan --gp 10
    """


for command in (
    quickstart,
    data,
    train_unet,
    cross_validate,
    train_gan,
    segment,
    generate,
    evaluate,
    compare,
    export,
    serve,
    request,
    benchmark,
):
    cli.add_command(command)
