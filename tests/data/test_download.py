import socket
import threading

import pytest

from mammogan_tf.data import download as module
from mammogan_tf.data.download import ATTEMPTS, discard, download
from mammogan_tf.errors import DataError

CONTENT = bytes(range(256)) * 4
HALF = len(CONTENT) // 2


@pytest.fixture
def server(archive_server):
    archive_server.content = CONTENT
    return archive_server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.part"


def test_whole_file_in_one_attempt(server, path):
    calls = []
    download(server.url, path, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert server.ranges == [None]


def test_goes_on_where_it_broke_off(server, path):
    server.plan = [("break", HALF), ("break", 100)]
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]


def test_the_next_call_goes_on_too(server, path):
    def stop(done, total):
        raise KeyboardInterrupt

    server.plan = [("break", HALF)]
    with pytest.raises(KeyboardInterrupt):
        download(server.url, path, stop)
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_finished_download_asks_nothing(server, path):
    download(server.url, path)
    download(server.url, path)
    assert len(server.ranges) == 1


def test_starts_over_where_the_file_has_changed(server, path):
    server.plan = [("break", HALF)] + [503] * (ATTEMPTS - 1)
    with pytest.raises(DataError):
        download(server.url, path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    download(server.url, path)
    assert path.read_bytes() == CONTENT[::-1]


def test_starts_over_for_another_address(server, path):
    server.plan = [("break", HALF)] + [503] * (ATTEMPTS - 1)
    with pytest.raises(DataError):
        download(server.url, path)
    download(server.url + "?mirror", path)
    assert path.read_bytes() == CONTENT
    assert server.ranges[-1] is None


@pytest.mark.parametrize("answer", ["ignore range", "wrong range", 416])
def test_servers_that_cannot_send_a_part(server, path, answer):
    server.plan = [("break", HALF), answer]
    download(server.url, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_starts_over(server, path, etag):
    server.etag = etag
    server.plan = [("break", HALF)]
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_without_an_etag_the_date_of_the_last_change_tells(server, path):
    server.etag, server.modified = None, "Sat, 14 Nov 2026 08:00:00 GMT"
    server.plan = [("break", HALF)]
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_without_a_length_it_reads_to_the_end(server, path):
    server.plan = ["no length"]
    download(server.url, path)
    assert path.read_bytes() == CONTENT


def test_server_that_lies_about_the_length(server, path):
    server.plan = [("longer", 7)] * ATTEMPTS
    server.etag = None
    with pytest.raises(DataError, match=f"received: {len(CONTENT)} of {len(CONTENT) + 7} bytes, {ATTEMPTS} times"):
        download(server.url, path)


def test_a_busy_server_is_asked_again_after_growing_pauses(server, path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.plan = [503, 429, 408]
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert pauses == [module.BACK_OFF * factor for factor in (1, 2, 4)]


def test_a_server_that_says_nothing_is_given_up(server, path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        end = threading.Timer(10, silent.close)  # For a download that waits for ever.
        end.start()
        with pytest.raises(DataError, match=f"received: .*timed out, {ATTEMPTS} times"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/file", path)
        end.cancel()


def test_a_wrong_address_is_not(server, path):
    server.plan = [404]
    with pytest.raises(DataError, match="received: HTTP 404 Not Found; correct the address"):
        download(server.url, path)
    assert len(server.ranges) == 1
    assert not path.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/file", "http://"])
def test_nobody_answers(server, path, url):
    with pytest.raises(DataError, match=f"{url}: expected the whole file, received: .*, {ATTEMPTS} times"):
        download(url, path)


@pytest.mark.parametrize("url", ["http://[half/file", "http://127.0.0.1:1/my file", "http://host:port/file"])
def test_an_address_that_is_none(server, path, url):
    with pytest.raises(DataError, match="expected an address, received"):
        download(url, path)


def test_endless_file(server, path, monkeypatch):
    monkeypatch.setattr("mammogan_tf.data.download.MAX_BYTES", HALF)
    with pytest.raises(DataError, match=f"expected at most {HALF} bytes, received: more"):
        download(server.url, path)


def test_discard(server, path, tmp_path):
    download(server.url, path)
    discard(path)
    assert list(tmp_path.iterdir()) == []
