"""Fetches mini-MIAS and puts it where the other commands look for it."""

import errno
import os
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mammogan_tf.console import Progress
from mammogan_tf.data.archive import check_digest, unpack
from mammogan_tf.data.download import discard, download
from mammogan_tf.data.mias import FETCH, find_root, load_mias
from mammogan_tf.errors import DataError
from mammogan_tf.files import FULL, in_use, locked

__all__ = ["MIAS_SHA256", "MIAS_URL", "fetch"]

MIAS_URL = "http://peipa.essex.ac.uk/pix/mias/all-mias.tar.gz"
MIAS_SHA256 = "01758bdf906214aae3c1a45210eb312a80acafcbc451c539e87cf29f9e9b0a31"


def fetch(
    destination: str | os.PathLike[str],
    url: str = MIAS_URL,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Puts the films of the archive at ``url`` into ``destination``, with ``Info.txt`` at its top.

    ``destination`` appears complete or not at all; where it is complete already, nothing is done. A download that
    breaks off leaves ``<destination>.part`` beside it, and the next call goes on from there.

    Args:
        url: an ``http(s)`` or ``file`` address or a local path of a ``.tar.gz``.
        sha256: the archive's digest; by default the known one for the official address, and none for another.
        progress: called with the bytes of the archive read so far and in all.

    Raises:
        DataError: whatever goes wrong, from an address that does not answer to an archive that is not MIAS.
    """
    destination = Path(destination)
    if in_use(destination):
        return _complete(destination)
    sha256 = sha256 or (MIAS_SHA256 if url == MIAS_URL else None)
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise DataError(f"sha256: expected 64 hexadecimal digits, received: {sha256}; copy the whole digest")
    local = _local_path(url)
    try:
        target = destination.resolve()
        if target.is_mount():  # Nothing can be renamed to there; said now, and not after the download.
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if target == Path.cwd():  # The films would come in its place, and who stands in it would not see them.
            raise DataError(
                f"{destination}: expected a new folder, received: the current one; name one in it, such as ./mias"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if local:
                _install(local, target, sha256, progress)
            else:
                _install_download(url, target, sha256, progress)
    except OSError as error:
        reason = error.strerror or error
        expected, advice = (
            ("room for about 450 MB", "make room or choose another place")
            if error.errno in FULL
            else ("a place where a new folder can be put", "choose another, such as a folder within a mounted one")
        )
        raise DataError(f"{destination}: expected {expected}, received: {reason}; {advice}") from error
    return destination


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keeps other calls with the same destination out, which would write over the same files beside it."""
    lock = target.with_name(f".{target.name}.lock")
    lock.touch()
    taken = DataError(f"{target}: expected no other fetch into it, received: one that is under way; wait for its end")
    with locked(lock, taken):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _complete(destination: Path) -> Path:
    try:
        load_mias(destination)
    except DataError as error:
        raise DataError(
            f"{destination}: expected a new or empty folder, received: one in use that is not a complete MIAS "
            f"({str(error).removesuffix(f'; {FETCH}')}); remove it or choose another"
        ) from error
    return destination


def _local_path(url: str) -> Path | None:
    """The path that ``url`` names, or None for an http address."""
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme in ("http", "https"):
        return None
    if scheme not in ("", "file"):
        raise DataError(f"{url}: expected an address of http, https or file, received: {scheme}; name another mirror")
    path = Path(urllib.request.url2pathname(urllib.parse.urlparse(url).path)) if scheme else Path(url)
    path = path.expanduser() if str(path).startswith("~/") else path
    if not path.is_file():
        received = "a folder; name the file in it" if path.is_dir() else "no such file; correct the path"
        raise DataError(f"{path}: expected an archive (all-mias.tar.gz), received: {received}")
    return path


def _install_download(url: str, target: Path, sha256: str | None, progress: Progress | None) -> None:
    part = target.with_name(target.name + ".part")
    download(url, part, progress)
    try:
        _install(part, target, sha256)
    except DataError:
        discard(part)
        raise
    discard(part)


def _install(archive: Path, target: Path, sha256: str | None, progress: Progress | None = None) -> None:
    """Unpacks into a folder beside ``target``, and renames it into place once it has proved to be MIAS."""
    if sha256:
        check_digest(archive, sha256)
    folder = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack(archive, folder, progress)
        try:
            load_mias(folder)
        except DataError as error:
            reason = (
                str(error)
                .removesuffix(f"; {FETCH}")
                .replace(f"{folder}{os.sep}", "")
                .replace(str(folder), "the archive")
            )
            raise DataError(f"{archive}: expected mini-MIAS, received: {reason}") from error
        find_root(folder).replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
