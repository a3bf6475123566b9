"""Runs commands: in this process, or in one of their own where signals, imports and exit statuses of the system count."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from click.testing import CliRunner, Result

from mammogan_tf_cli.main import cli

__all__ = ["SCRIPT", "assert_one_line", "call", "commands", "fails", "little_room", "start", "unfinished_files"]

ROOT = Path(__file__).parents[1]
SCRIPT = "from mammogan_tf_cli.main import cli; cli(prog_name='mammogan-tf')"


def call(*arguments: object) -> Result:
    """Runs ``mammogan-tf ARGUMENTS`` in this process. What would be a traceback is raised."""
    usual = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(cli, list(map(str, arguments)), prog_name="mammogan-tf", catch_exceptions=False)
    finally:
        signal.signal(signal.SIGTERM, usual)


def start(
    *arguments: object, script: str = SCRIPT, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Starts ``mammogan-tf ARGUMENTS`` as a process of its own, with both outputs in pipes."""
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def fails(*arguments: object, says: str, status: int = 1) -> None:
    """Runs a command in this process that must end with one clear line in which all words of ``says`` stand."""
    result = call(*arguments)
    assert result.exit_code == status, result.output
    assert_one_line(result.stderr, says)


def assert_one_line(stderr: str, says: str) -> None:
    """``stderr`` ends with its only error, which says what was received, and all that is in ``says``."""
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:], stderr
    missing = [part for part in says.split(" ... ") if part not in lines[-1]]
    assert not missing, f"{missing} not in: {lines[-1]}"


def unfinished_files(folder: Path) -> list[Path]:
    """What a write that broke off would leave: atomic files and exports have hidden names until they are whole."""
    return [*folder.rglob(".*"), *folder.rglob("*tempstate*")]


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """A disk that is full after ``size`` bytes of any file: writes beyond fail as those to a full disk do."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def commands(group: click.Group = cli, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words: ``("data", "fetch")``."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command
