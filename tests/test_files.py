import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mammogan_tf.errors import DataError
from mammogan_tf.files import (
    atomic_path,
    locked,
    numbered_folders,
    read_json,
    require_new_folder,
    require_place,
    require_separate_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_what_is_written_is_read(tmp_path):
    write_json(tmp_path / "a" / "b" / "value.json", {"x": [1, 2.5, None], "Straße": "ü"})
    assert read_json(tmp_path / "a" / "b" / "value.json") == {"x": [1, 2.5, None], "Straße": "ü"}
    write_text(tmp_path / "text", "größer\n")
    assert (tmp_path / "text").read_bytes() == "größer\n".encode()


def test_the_temporary_file_lies_beside_with_the_same_suffix(tmp_path):
    with atomic_path(tmp_path / "picture.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"new")
        assert not (tmp_path / "picture.png").exists()
    assert (tmp_path / "picture.png").read_bytes() == b"new"


def test_a_name_may_be_as_long_as_the_file_system_takes_it(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")  # 255 bytes.
    write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_two_who_write_the_same_file_have_a_temporary_one_each(tmp_path):
    with atomic_path(tmp_path / "file") as one, atomic_path(tmp_path / "file") as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert (tmp_path / "file").read_bytes() == b"one", "who ends last"


def test_folders_are_numbered_by_names_of_digits(tmp_path):
    for name in ("7", "1000", "20261128120000", "-1", "1.5", "next"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").touch()
    assert numbered_folders(tmp_path) == {n: tmp_path / str(n) for n in (7, 1000, 20261128120000)}


def test_numbers_are_those_of_64_bits(tmp_path):
    numbers = (1_796_000_000_123_456_789, 2**63 - 1)  # As time.time_ns() has them; the last.
    for number in (*numbers, 2**63, 10**19):
        (tmp_path / str(number)).mkdir()
    assert numbered_folders(tmp_path) == {n: tmp_path / str(n) for n in numbers}


def test_a_link_is_written_through_and_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for content in (b"first", b"second"):
        write_bytes(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"link", "file"}


def test_what_a_link_leads_to_is_replaced_whole_or_not_at_all(tmp_path):
    def fail() -> None:
        with atomic_path(tmp_path / "link") as temporary:
            temporary.write_bytes(b"half of the n")
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="No space"):
        fail()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"link", "file"}


@pytest.mark.parametrize("mode", ["w", "a"])
def test_to_the_standard_output_it_is_added(tmp_path, mode):
    program = """
from mammogan_tf.files import write_text
print("before")
write_text("/dev/stdout", "content\\n")
print("after")
"""
    (tmp_path / "log").write_text("older\n")
    with (tmp_path / "log").open(mode) as log:
        subprocess.run([sys.executable, "-c", program], stdout=log, check=True)
    older = "older\n" if mode == "a" else ""
    assert (tmp_path / "log").read_text() == f"{older}before\ncontent\nafter\n"


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    write_bytes(tmp_path / "pipe", b"content")
    reader.join(10)
    assert read == [b"content"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_content_and_no_litter(tmp_path, error):
    def fail() -> None:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_bytes(b"half of the n")
            raise error

    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_named_by_the_file_that_was_meant(tmp_path):
    with pytest.raises(OSError, match="No space") as error, atomic_path(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")  # As from a write, which knows no name.
    assert error.value.filename == str(tmp_path / "file")


def test_on_a_disk_that_can_only_be_read_the_first_error_counts(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error, atomic_path(tmp_path / "file") as temporary:
        refuse(temporary)
    assert error.value.filename == str(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_who_may_not_write_hears_of_the_file_that_was_meant(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError) as error:
        write_bytes(tmp_path / "file", b"")
    assert error.value.filename == str(tmp_path / "file")


def test_a_folder_that_is_gone_is_named_by_the_file_that_was_meant(tmp_path):
    def write() -> None:
        with atomic_path(tmp_path / "folder" / "file.txt") as temporary:
            temporary.parent.rmdir()
            temporary.write_bytes(b"")

    with pytest.raises(FileNotFoundError) as error:
        write()
    assert error.value.filename == str(tmp_path / "folder" / "file.txt")


def test_a_place_where_nothing_can_be_written_is_known_before(tmp_path):
    require_place(tmp_path / "new" / "folder" / "file.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as refused:
        require_place(tmp_path / "file" / "file.json")
    assert refused.value.filename == str(tmp_path / "file" / "file.json")
    (tmp_path / "link").symlink_to(tmp_path / "file" / "file.json")
    with pytest.raises(NotADirectoryError):
        require_place(tmp_path / "link")
    for place in ("/dev/null", "/dev/stdout", tmp_path / "file"):
        require_place(place)


def test_json_of_windows_is_read(tmp_path):
    (tmp_path / "file").write_text('{"name": "é"}', encoding="utf-8-sig")
    assert read_json(tmp_path / "file") == {"name": "é"}


def test_a_name_that_an_object_has_twice_is_refused(tmp_path):
    (tmp_path / "file").write_text('[{"0": "automatic", "1": "lesion", "0": "lesion"}]')
    with pytest.raises(ValueError, match=r"^0 is named twice$"):
        read_json(tmp_path / "file")


def test_a_folder_that_is_to_be_new(tmp_path):
    require_new_folder(tmp_path / "none")
    require_new_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"expected a new or an empty folder, received: one with files in it; .* --out$"
    ):
        require_new_folder(tmp_path)
    with pytest.raises(DataError, match=r"file: .* received: a file; choose another DESTINATION$"):
        require_new_folder(tmp_path / "file", "DESTINATION")


def test_a_folder_in_which_no_film_lies(tmp_path):
    require_separate_folder([tmp_path / "films" / "a.png"], tmp_path)
    with pytest.raises(DataError, match=r"expected a folder without the films, received: that of .*a\.png"):
        require_separate_folder(
            [tmp_path / "b" / "b.png", tmp_path / "films" / "a.png"], tmp_path / "x" / ".." / "films"
        )


def test_nothing_that_is_no_json_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", float("nan"))
    assert not list(tmp_path.iterdir())


def test_files_get_the_permissions_of_ordinary_ones(tmp_path):
    write_bytes(tmp_path / "atomic", b"")
    (tmp_path / "ordinary").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("atomic", "ordinary")}
    assert len(modes) == 1


def test_what_is_locked_is_locked_until_the_end(tmp_path):
    def enter() -> None:
        with locked(tmp_path, ValueError("taken")):
            pass

    with locked(tmp_path, AssertionError()), pytest.raises(ValueError, match="taken"):
        enter()
    enter()


def test_who_takes_nothing_for_an_answer_waits(tmp_path):
    order = []

    def wait() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_on_a_file_system_without_locks_nothing_is_taken(tmp_path, monkeypatch):
    def no_locks(*arguments) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("mammogan_tf.files.fcntl.flock", no_locks)
    with locked(tmp_path, AssertionError()):
        pass


def test_a_reader_never_sees_half_of_it(tmp_path):
    path, done = tmp_path / "value.json", threading.Event()
    versions = [["a"] * 20_000, ["b"] * 30_000]
    write_json(path, versions[0])

    def write() -> None:
        for turn in range(40):
            write_json(path, versions[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert json.loads(path.read_text()) in versions
    writer.join()
