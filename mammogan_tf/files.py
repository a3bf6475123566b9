"""Files: written atomically, so that a reader sees the old content or the new one; locks, and folders of versions."""

import errno
import fcntl
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mammogan_tf.errors import DataError

__all__ = [
    "FULL",
    "MAX_VERSION",
    "atomic_path",
    "in_use",
    "locked",
    "numbered_folders",
    "plain_path",
    "read_json",
    "require_new_folder",
    "require_place",
    "require_separate_folder",
    "visible_pngs",
    "write_bytes",
    "write_json",
    "write_text",
]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says where it has no room for a file."""

MAX_VERSION = 2**63 - 1
"""The largest version number of TensorFlow Serving, which counts in int64."""


def in_use(folder: Path) -> bool:
    """Whether there is a folder with something in it, or a file: no place for what is to stand by itself."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def require_new_folder(folder: Path, option: str = "--out") -> None:
    """Keeps what is to stand by itself out of folders in use; ``option`` is what names the folder on the command line.

    Raises:
        DataError: it is in use.
    """
    if in_use(folder):
        received = "one with files in it" if folder.is_dir() else "a file"
        raise DataError(f"{folder}: expected a new or an empty folder, received: {received}; choose another {option}")


def require_separate_folder(files: Sequence[Path], out: Path) -> None:
    """Keeps results away from films, beside which masks drawn by hand may have the same names.

    Raises:
        DataError: a film lies in ``out``.
    """
    for file in files:
        if Path(file).parent.resolve() == Path(out).resolve():
            raise DataError(
                f"{out}: expected a folder without the films, received: that of {file}; choose another --out"
            )


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside ``path`` where nothing is yet; renames what the block writes there into place when it succeeds.

    The temporary name keeps the suffix, so that writers that choose a format by it work. If the block raises
    (full disk, Ctrl-C), the file there is removed and ``path`` is left as it was.

    A link stays one: the file that it leads to is replaced. So does a pipe or a device, which is written to; where the
    standard output goes to, ``/dev/stdout`` or a file, the block's bytes are added.
    """
    path = Path(path)
    output = _standard_output(path)
    if output is not None:
        with tempfile.TemporaryDirectory(prefix="mammogan-") as place:
            yield (temporary := Path(place) / f"file{path.suffix}")
            sys.stdout.flush()
            with os.fdopen(os.dup(output), "wb") as stream:
                stream.write(temporary.read_bytes())
        return
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = secrets.token_hex(8)  # Without the stem, which may be as long as the file system takes it.
    temporary = path.with_name(f".{digits}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # Of a disk that can only be read, say: the first error tells more.
            temporary.unlink()
        unnamed = isinstance(error, OSError) and error.filename is None and error.errno in FULL
        if isinstance(error, OSError) and (unnamed or error.filename == str(temporary)):
            error.filename = str(path)  # The name that its user knows.
        raise


def require_place(path: str | os.PathLike[str]) -> None:
    """Raises OSError where :func:`atomic_path` could not write to ``path``, whose folder need not be there yet."""
    path = Path(path)
    if _standard_output(path) is not None or (path.exists() and not path.is_file()):
        return
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(path)  # The name that its user knows.
        raise


def _standard_output(path: Path) -> int | None:
    """The descriptor of the standard output, or of errors, where ``path`` is what it goes to."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
    return None


@contextmanager
def plain_path(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path to ``folder`` for TensorFlow to read from, which takes ``[`` and a backslash in it for a pattern.

    Where there is one, it is a link that goes with the block.
    """
    folder = Path(folder)
    if not {"[", "\\"} & {*str(folder)}:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mammogan-") as place:
        link = Path(place) / "folder"
        link.symlink_to(folder.resolve())
        yield link


def numbered_folders(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """By number the folders inside ``folder`` whose name is one, as TensorFlow Serving names versions.

    Raises:
        OSError: it cannot be read.
    """
    return {
        int(path.name): path
        for path in sorted(Path(folder).iterdir())
        if re.fullmatch("[0-9]{1,19}", path.name) and int(path.name) <= MAX_VERSION and path.is_dir()
    }


def visible_pngs(folder: str | os.PathLike[str]) -> list[Path]:
    """The PNG files in a folder, in order, but for hidden ones, such as macOS puts beside others on shared disks."""
    return sorted(file for file in Path(folder).glob("[!.]*") if file.suffix.lower() == ".png")


@contextmanager
def locked(path: str | os.PathLike[str], taken: Exception | None = None) -> Iterator[None]:
    """Keeps a file or a folder for this block alone, however its process ends.

    Where another has it, it raises ``taken``, or waits where that is None.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if taken else 0))
    except BlockingIOError as error:
        os.close(handle)
        raise (taken or error) from None
    except OSError:
        pass  # Some file systems of clusters know no locks.
    try:
        yield
    finally:
        os.close(handle)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file by :func:`atomic_path`; its folder is made."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Writes a text in UTF-8 by :func:`atomic_path`."""
    write_bytes(path, content.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON by :func:`atomic_path`; raises ValueError for a number that is not finite."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds; raises OSError or ValueError where it cannot be read, or an object has a name twice."""
    text = Path(path).read_text(encoding="utf-8-sig")  # Windows marks a file of UTF-8.
    return json.loads(text, object_pairs_hook=_named_once)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is named twice")
    return values
