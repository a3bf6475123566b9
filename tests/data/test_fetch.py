import errno
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from mammogan_tf.data.fetch import MIAS_SHA256, MIAS_URL, fetch
from mammogan_tf.data.mias import load_mias
from mammogan_tf.errors import DataError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def server(archive_server, mias_archive):
    archive_server.content = mias_archive.read_bytes()
    return archive_server


@pytest.mark.parametrize("form", [str, lambda path: path.as_uri()], ids=["path", "file address"])
def test_from_a_local_archive(mias_archive, tmp_path, form):
    calls = []
    folder = fetch(tmp_path / "data/mias", form(mias_archive), progress=lambda done, total: calls.append((done, total)))
    assert len(load_mias(folder)) == 12
    assert (folder / "Info.txt").is_file()
    assert names(tmp_path / "data") == ["mias"]
    assert calls[-1] == (mias_archive.stat().st_size,) * 2


def test_a_path_may_begin_at_home(mias_archive, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(mias_archive.parent))
    assert len(load_mias(fetch(tmp_path / "mias", f"~/{mias_archive.name}"))) == 12


def test_an_address_of_a_file_may_have_escaped_letters(mias_archive, tmp_path):
    archive = tmp_path / "my films.tar.gz"
    archive.symlink_to(mias_archive)
    assert "my%20films" in archive.as_uri()
    assert len(load_mias(fetch(tmp_path / "mias", archive.as_uri()))) == 12


def test_over_http_with_a_break(server, mias_archive, tmp_path):
    server.plan = [("break", 1000)]
    digest = hashlib.sha256(server.content).hexdigest()
    folder = fetch(tmp_path / "mias", server.url, sha256=digest)
    assert len(load_mias(folder)) == 12
    assert server.ranges == [None, "bytes=1000-"]
    assert names(tmp_path) == ["mias"]


def test_a_broken_download_is_kept_for_the_next_call(server, tmp_path):
    server.plan = [("break", 1000)] + [503] * 4
    with pytest.raises(DataError, match="it goes on where it broke off"):
        fetch(tmp_path / "mias", server.url)
    assert names(tmp_path) == ["mias.part", "mias.part.json"]
    fetch(tmp_path / "mias", server.url)
    assert server.ranges[-1] == "bytes=1000-"
    assert names(tmp_path) == ["mias"]


def test_a_complete_destination_is_left_alone(mias_archive, tmp_path):
    folder = fetch(tmp_path / "mias", str(mias_archive))
    before = (folder / "Info.txt").stat().st_mtime_ns
    assert fetch(folder, "http://127.0.0.1:1/never-asked") == folder
    assert (folder / "Info.txt").stat().st_mtime_ns == before


def test_an_empty_destination_is_used(mias_archive, tmp_path):
    (tmp_path / "mias").mkdir()
    assert len(load_mias(fetch(tmp_path / "mias", str(mias_archive)))) == 12


def test_what_a_killed_call_left_is_cleared(mias_archive, tmp_path):
    (tmp_path / ".mias.unpacking").mkdir()
    (tmp_path / ".mias.unpacking/Info.txt").write_text("half")
    assert len(load_mias(fetch(tmp_path / "mias", str(mias_archive)))) == 12
    assert names(tmp_path) == ["mias"]


def test_a_destination_in_use_is_refused(mias_archive, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="expected a new or empty folder, received: one in use"):
        fetch(tmp_path, str(mias_archive))
    with pytest.raises(DataError, match=r"a folder without it\); remove it or choose another$"):
        fetch(tmp_path)
    assert names(tmp_path) == ["thesis.txt"]


def test_wrong_digest_extracts_nothing(server, mias_archive, tmp_path):
    for url in (server.url, str(mias_archive)):
        with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, received: "):
            fetch(tmp_path / "mias", url, sha256="0" * 64)
        assert names(tmp_path) == []


def test_the_official_address_has_a_known_digest(monkeypatch, server, tmp_path):
    def bring(url, path, progress):
        assert url == MIAS_URL
        path.write_bytes(server.content)

    monkeypatch.setattr("mammogan_tf.data.fetch.download", bring)
    with pytest.raises(DataError, match=f"expected sha256 {MIAS_SHA256}, received: "):
        fetch(tmp_path / "mias")


def test_malformed_digest(mias_archive, tmp_path):
    with pytest.raises(DataError, match="expected 64 hexadecimal digits, received: abc"):
        fetch(tmp_path / "mias", str(mias_archive), sha256="abc")


def test_hostile_archive_leaves_nothing(server, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in ("all-mias/Info.txt", "../../escaped"):
            archive.addfile(tarfile.TarInfo(name))
    server.content = stream.getvalue()
    with pytest.raises(DataError, match="do not trust this archive"):
        fetch(tmp_path / "data/mias", server.url)
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == []


def test_archive_of_something_else(tmp_path):
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme"))
    with pytest.raises(DataError, match=r"expected mini-MIAS, received: the archive: expected Info\.txt"):
        fetch(tmp_path / "mias", str(other))
    assert names(tmp_path) == ["other.tar.gz"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nowhere.tar.gz", r"expected an archive \(all-mias\.tar\.gz\), received: no such file"),
        (".", r"\.: expected an archive \(all-mias\.tar\.gz\), received: a folder; name the file in it"),
        ("ftp://host/all-mias.tar.gz", "expected an address of http, https or file, received: ftp"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, url, expected):
    with pytest.raises(DataError, match=expected):
        fetch(tmp_path / "mias", url)
    assert names(tmp_path) == []


def test_full_disk(mias_archive, tmp_path, monkeypatch):
    def write(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mammogan_tf.data.archive._write_member", write)
    with pytest.raises(DataError, match="expected room for about 450 MB, received: No space left on device"):
        fetch(tmp_path / "mias", str(mias_archive))
    assert names(tmp_path) == []


def test_destination_below_a_file(mias_archive, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"expected a place where a new folder can be put, received: .*; choose another"
    ):
        fetch(tmp_path / "file/mias", str(mias_archive))


def test_a_destination_that_cannot_be_replaced_is_not_called_full(mias_archive, tmp_path, monkeypatch):
    """As a mount that is not known as one."""

    def replace(*paths):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("pathlib.Path.replace", replace)
    (tmp_path / "mias").mkdir()
    with pytest.raises(DataError, match=r"can be put, received: Device or resource busy; .* within a mounted one"):
        fetch(tmp_path / "mias", str(mias_archive))
    assert names(tmp_path) == ["mias"]


def test_a_mount_is_refused_before_anything_is_read(mias_archive, tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path == tmp_path / "mias")
    monkeypatch.setattr("mammogan_tf.data.fetch.unpack", None)
    with pytest.raises(DataError, match=r"can be put, received: Device or resource busy; .* within a mounted one"):
        fetch(tmp_path / "mias", str(mias_archive))
    assert not list(tmp_path.iterdir())


def test_the_current_folder_is_refused(mias_archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^\.: expected a new folder, received: the current one; name one in it"):
        fetch(".", str(mias_archive))
    assert Path.cwd() == tmp_path
    assert names(tmp_path) == []


def test_a_second_call_leaves_the_first_one_its_files(server, mias_archive, tmp_path):
    refusals = []

    def meanwhile(done, total):
        if not refusals:
            for url in (server.url, str(mias_archive)):
                with pytest.raises(DataError, match="no other fetch into it, received: one that is under way") as error:
                    fetch(tmp_path / "mias", url)
                refusals.append(error.value)

    assert len(load_mias(fetch(tmp_path / "mias", server.url, progress=meanwhile))) == 12
    assert len(refusals) == 2
    assert names(tmp_path) == ["mias"]
