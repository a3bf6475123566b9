"""Unpacks a ``.tar.gz``, or the ``.tar`` that a browser made of it, from a source that is not trusted."""

import gzip
import hashlib
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mammogan_tf.console import Progress
from mammogan_tf.errors import DataError

__all__ = ["check_digest", "unpack"]

MAX_MEMBERS = 1000
MAX_MEMBER_BYTES = 1 << 24
MAX_BYTES = 1 << 29
"""Limits on an archive of films: mini-MIAS has 325 members of at most 1 MiB, 322 MiB in all."""


def check_digest(archive: Path, sha256: str) -> None:
    """Raises a DataError where the SHA-256 digest of ``archive`` is not ``sha256`` (hexadecimal)."""
    digest = hashlib.sha256()
    with archive.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != sha256.lower():
        raise DataError(
            f"{archive}: expected sha256 {sha256.lower()}, received: {digest.hexdigest()}; "
            "fetch it again or name a mirror with --url"
        )


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> None:
    """Unpacks ``archive`` into the new ``folder``: plain files and folders only, with fresh owners and permissions.

    Args:
        progress: called with the bytes of the archive read so far and in all.

    Raises:
        DataError: not a whole ``.tar.gz``; a path that leaves the folder, a link, a device, an oversized member, too
            many members or too many bytes. What came before it is left in ``folder``.
        OSError: the folder cannot be written.
    """
    folder.mkdir()
    total = archive.stat().st_size
    broken = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, FileExistsError, NotADirectoryError, ValueError)
    try:
        with (
            archive.open("rb") as packed,
            _gunzipped(packed) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, archive), mode="r|") as members,
        ):
            for count, member in enumerate(members, start=1):
                _check_member(member, count, archive)
                _write_member(members, member, folder)
                if progress:
                    progress(packed.tell(), total)
    except broken as error:
        raise DataError(f"{archive}: expected a whole .tar.gz, received: {error}; fetch it again") from error


@contextmanager
def _gunzipped(packed: io.BufferedReader) -> Iterator[io.BufferedIOBase]:
    """The stream inside; some browsers unpack it while they download."""
    if packed.peek(2)[:2] == b"\x1f\x8b":
        with gzip.open(packed) as unpacked:
            yield unpacked
    else:
        yield packed


class _Bounded(io.BufferedIOBase):
    """A stream that ends with an error past MAX_BYTES, so that no decompression bomb goes off."""

    def __init__(self, stream: io.BufferedIOBase, archive: Path) -> None:
        self.stream, self.archive, self.left = stream, archive, MAX_BYTES

    def read(self, size: int | None = -1) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise _refused(self.archive, f"at most {MAX_BYTES} bytes unpacked", "more")
        return data


def _check_member(member: tarfile.TarInfo, count: int, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise _refused(archive, "paths inside the folder", repr(member.name))
    if not (member.isfile() or member.isdir()):
        raise _refused(archive, "plain files and folders", f"a link or a device ({member.name!r})")
    if member.size > MAX_MEMBER_BYTES:
        raise _refused(archive, f"files of at most {MAX_MEMBER_BYTES} bytes", f"{member.size} ({member.name!r})")
    if count > MAX_MEMBERS:
        raise _refused(archive, f"at most {MAX_MEMBERS} members", "more")


def _refused(archive: Path, expected: str, received: str) -> DataError:
    return DataError(f"{archive}: expected {expected}, received: {received}; do not trust this archive")


def _write_member(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    target = folder / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = members.extractfile(member)
    assert content is not None
    with content, target.open("xb") as stream:
        shutil.copyfileobj(content, stream)
