import gzip
import hashlib
import io
import tarfile

import pytest

from mammogan_tf.data.archive import check_digest, unpack
from mammogan_tf.errors import DataError


def file(name: str, content: bytes = b"content") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


@pytest.fixture
def pack(tmp_path):
    def pack(*members):
        path = tmp_path / "films.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for member, content in members:
                archive.addfile(member, io.BytesIO(content))
        return path

    return pack


def test_unpack(pack, tmp_path):
    member, content = file("films/a.pgm", b"grey")
    member.mode, member.uid = 0o4777, 12345
    calls = []
    archive = pack(special("films", tarfile.DIRTYPE), (member, content), file("Info.txt"))
    unpack(archive, tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert (tmp_path / "out/films/a.pgm").read_bytes() == b"grey"
    assert (tmp_path / "out/films/a.pgm").stat().st_mode & 0o7111 == 0
    assert (tmp_path / "out/Info.txt").read_bytes() == b"content"
    assert len(calls) == 3
    assert calls[-1] == (archive.stat().st_size,) * 2


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (file("../escaped"), "paths inside the folder"),
        (file("films/../../escaped"), "paths inside the folder"),
        (file("/tmp/escaped"), "paths inside the folder"),
        (file("..\\escaped"), "paths inside the folder"),
        (file("C:escaped"), "paths inside the folder"),
        (special("escape", tarfile.SYMTYPE, ".."), "plain files and folders"),
        (special("escape", tarfile.LNKTYPE, "/etc/passwd"), "plain files and folders"),
        (special("device", tarfile.CHRTYPE), "plain files and folders"),
        (special("pipe", tarfile.FIFOTYPE), "plain files and folders"),
    ],
)
def test_hostile_members(pack, tmp_path, member, expected):
    archive = pack(file("first"), member, file("escape/last"))
    with pytest.raises(DataError, match=f"expected {expected}, received: .*do not trust this archive"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films.tar.gz", "out"]


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("MAX_MEMBERS", 2, "at most 2 members"),
        ("MAX_MEMBER_BYTES", 6, "files of at most 6 bytes, received: 7"),
        ("MAX_BYTES", 3 * 512, "at most 1536 bytes unpacked"),
    ],
)
def test_limits(pack, tmp_path, monkeypatch, limit, value, expected):
    monkeypatch.setattr(f"mammogan_tf.data.archive.{limit}", value)
    with pytest.raises(DataError, match=expected):
        unpack(pack(file("a"), file("b"), file("c")), tmp_path / "out")


def test_conflicting_members(pack, tmp_path):
    with pytest.raises(DataError, match=r"expected a whole \.tar\.gz"):
        unpack(pack(file("a"), file("a")), tmp_path / "one")
    with pytest.raises(DataError, match=r"expected a whole \.tar\.gz"):
        unpack(pack(file("a"), file("a/b")), tmp_path / "two")


@pytest.mark.parametrize("cut", [10, 600])
def test_truncated_archive(pack, tmp_path, cut):
    archive = pack(file("a", bytes(range(256)) * 1000))
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"expected a whole \.tar\.gz"):
        unpack(archive, tmp_path / "out")


def test_an_archive_that_a_browser_unpacked(pack, tmp_path):
    archive = pack(file("films/a.pgm", b"grey"))
    archive.write_bytes(gzip.decompress(archive.read_bytes()))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/films/a.pgm").read_bytes() == b"grey"


@pytest.mark.parametrize("content", [b"<html>busy</html>", gzip.compress(b"no archive" * 100, mtime=0), b""])
def test_no_archive(tmp_path, content):
    path = tmp_path / "films.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a whole \.tar\.gz"):
        unpack(path, tmp_path / "out")


def test_check_digest(tmp_path):
    path = tmp_path / "films.tar.gz"
    path.write_bytes(b"films")
    digest = hashlib.sha256(b"films").hexdigest()
    check_digest(path, digest.upper())
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, received: {digest}"):
        check_digest(path, "0" * 64)
