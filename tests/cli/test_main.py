"""What holds for every command: help with an example, light imports, one line for each error."""

import errno
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from mammogan_tf import __version__
from mammogan_tf.errors import ConfigError, DataError, ModelError, ServingError
from mammogan_tf_cli.main import cli
from tests.command_line import ROOT, SCRIPT, call, commands, fails, start

COMMANDS = dict(commands())
HEAVY = {"tensorflow", "keras", "numpy", "pandas", "PIL", "skimage", "scipy", "matplotlib", "grpc"}


def parse(line: str) -> tuple[str, ...]:
    """Parses a command line without running it, and returns the words of its command."""
    arguments = shlex.split(line, comments=True)[1:]
    words = next(words for words in COMMANDS if words == tuple(arguments[: len(words)]))
    COMMANDS[words].make_context("mammogan-tf", arguments[len(words) :])
    return words


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_parses(words):
    result = call(*words, "--help")
    assert result.exit_code == 0
    example = result.stdout.partition("Example:")[2].strip().splitlines()[0]
    assert parse(example) == words


def test_the_design_names_the_commands():
    assert {words[0] for words in COMMANDS} >= {
        "quickstart",
        "data",
        "train-unet",
        "train-gan",
        "segment",
        "generate",
        "evaluate",
        "export",
        "serve",
        "request",
    }
    assert {words[1] for words in COMMANDS if words[0] == "data"} == {"fetch", "phantom", "audit", "masks"}
    assert {words[1] for words in COMMANDS if words[0] == "request"} == {"segment", "generate", "synthesize"}


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md")]


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in sorted(PAGES)])
def test_commands_of_the_pages_parse(page):
    text = (ROOT / page).read_text()
    lines = re.findall(r"^(?:\.venv/bin/)?mammogan-tf .*$", text.replace("\\\n", " "), re.MULTILINE)
    for line in lines:
        parse(line)
    assert lines or page != "README.md"


def test_help_imports_nothing_heavy():
    script = f"""
import sys
from mammogan_tf_cli.main import cli
for words in {[[*words, "--help"] for words in [(), *COMMANDS]]}:
    cli(words, standalone_mode=False)
sys.exit(", ".join({HEAVY} & set(sys.modules)) or 0)
"""
    process = start(script=script)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")


def test_version():
    assert call("--version").stdout == f"mammogan-tf, version {__version__}\n"


@pytest.fixture
def failing(monkeypatch):
    """A command ``fail`` that raises what ``failing`` is given."""
    errors = []

    @click.command()
    @click.option("--size")
    @click.option("--batch-size")
    def fail(**options) -> None:
        raise errors.pop()

    monkeypatch.setitem(cli.commands, "fail", fail)
    return errors.append


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError, 2), (DataError, 1), (ModelError, 1), (ServingError, 1)], ids=lambda v: str(v)
)
def test_the_projects_own_errors_are_one_line(failing, error, status):
    failing(error("gp: expected 0 or more, received: -1"))
    result = call("fail")
    assert result.exit_code == status
    assert result.stderr == "Error: gp: expected 0 or more, received: -1\n"


@pytest.mark.parametrize(
    ("number", "wanted", "advice"),
    [
        (errno.ENOSPC, "write there", "free some space"),
        (errno.EDQUOT, "write there", "free some space"),
        (errno.EACCES, "read or write it", "choose another path or change its permissions"),
        (errno.ENOENT, "find it, or the folder that it is to be in", "see whether both are there"),
        (errno.EROFS, "read or write it", "choose another path or change its permissions"),
    ],
)
def test_a_disk_that_takes_no_more_or_gives_nothing_is_one_line(failing, number, wanted, advice):
    failing(OSError(number, os.strerror(number), "out/mask.png"))
    result = call("fail")
    assert result.exit_code == 1
    expected = f"out/mask.png: expected to {wanted}, received: {os.strerror(number)}; {advice}"
    assert result.stderr == f"Error: {expected}\n"


@pytest.mark.parametrize("command", ["segment run {} --out out", "train-unet --data {}", "export run --to {}"])
def test_a_name_that_is_not_utf_8_is_refused_at_once(command):
    name = os.fsdecode(b"caf\xe9.pgm")
    fails(*command.format(name).split(), says=r"'caf\udce9.pgm': expected a name in UTF-8, received: other", status=2)


def test_exhausted_memory_is_one_line(failing):
    import tensorflow as tf

    for error in (MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\n\tat")):
        failing(error)
        fails("fail", says="memory: expected enough ... received: too little; lower --batch-size or --size")


def test_a_command_of_a_group_has_options_that_save_memory(monkeypatch):
    def fail():
        raise MemoryError

    option = click.Option(["--batch-size"], expose_value=False)
    monkeypatch.setitem(
        cli.commands["benchmark"].commands, "fail", click.Command("fail", params=[option], callback=fail)
    )
    fails("benchmark", "fail", says="received: too little; lower --batch-size")


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_outputs_may_be_closed(tmp_path, closed):
    close = "import os; " + "".join(f"os.close({number}); " for number in closed)
    script = f"import os, sys; {close}os.execv(sys.executable, [sys.executable, '-c', {SCRIPT!r}, *sys.argv[1:]])"
    audited = start("data", "phantom", tmp_path / "films", "--patients", 6, script=script)
    stdout, stderr = audited.communicate(timeout=120)
    assert (audited.returncode, stdout if 1 in closed else "", stderr if 2 in closed else "") == (0, "", "")
    assert (tmp_path / "films" / "Info.txt").exists()


def test_the_package_runs_as_a_module():
    script = "import runpy; runpy.run_module('mammogan_tf_cli', run_name='__main__')"
    process = start("--help", script=script)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert stdout.startswith("Usage: mammogan-tf [OPTIONS] COMMAND")


def test_mistakes_of_the_program_keep_their_traceback(failing):
    failing(OSError(errno.ENOENT, "No usable temporary directory found"))
    with pytest.raises(OSError, match="No usable temporary"):
        call("fail")
    failing(OSError(errno.EBADF, "Bad file descriptor"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        call("fail")
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        call("fail")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(monkeypatch, number):
    monkeypatch.setitem(cli.commands, "wait", click.Command("wait", callback=lambda: signal.raise_signal(number)))
    result = call("wait")
    assert result.exit_code == 1
    assert result.stderr.strip() == "Aborted!"


@pytest.mark.parametrize("place", ["file/audit.json", "x" * 300])
def test_a_place_that_cannot_be_written(tmp_path: Path, failing, place):
    """As the file system itself refuses it."""
    (tmp_path / "file").touch()
    from mammogan_tf.files import write_text

    with pytest.raises(OSError) as error:  # noqa: PT011
        write_text(tmp_path / place, "")
    failing(error.value)
    result = call("fail")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "expected to read or write it" in result.stderr


def test_the_first_lines_of_tensorflow_are_not_shown(tmp_path):
    """Written as C++ does, past ``sys.stderr``."""
    stand_in = """
import logging
import os
from types import SimpleNamespace
get_logger = logging.getLogger
os.write(2, b"first lines")
config = SimpleNamespace(list_physical_devices=lambda kind: os.write(2, b"search for a GPU") and [])
"""
    (tmp_path / "tensorflow.py").write_text(stand_in)
    script = """
import sys
from mammogan_tf_cli.quiet import import_tensorflow
sys.path.insert(0, sys.argv[1])
import_tensorflow()
print("what comes later", file=sys.stderr)
"""
    _, stderr = start(tmp_path, script=script).communicate(timeout=60)
    assert stderr == "what comes later\n"


def test_what_pydicom_warns_of_is_not_shown(tmp_path):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    from tests.dicom_film import make_dicom, write_dicom

    (tmp_path / "images").mkdir()
    with pytest.warns(UserWarning, match="exceeds the maximum length of 64"):
        write_dicom(tmp_path / "images" / "film.dcm", make_dicom(np.full((64, 64), 500, np.uint16), PatientID="7" * 70))
    (tmp_path / "dataset.json").write_text("{}")
    process = start("data", "audit", tmp_path)
    stdout, stderr = process.communicate(timeout=60)
    assert "1 of 1 patients" in stdout
    assert "64" not in stderr


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is turned on for x86 alone")
@pytest.mark.parametrize(("asked", "enabled"), [(None, "1 True"), ("0", "0 False")])
def test_work_in_batches_is_done_with_onednn_unless_the_user_says_otherwise(asked, enabled):
    program = """
from mammogan_tf_cli.quiet import import_tensorflow
import_tensorflow(onednn=True)
import os
from tensorflow.python.util import _pywrap_util_port
print(os.environ["TF_ENABLE_ONEDNN_OPTS"], _pywrap_util_port.IsMklEnabled())
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if asked:
        environment["TF_ENABLE_ONEDNN_OPTS"] = asked
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == enabled
