"""A download over HTTP that survives broken connections: it goes on where it broke off, in this call or in the next."""

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from mammogan_tf.console import Progress
from mammogan_tf.errors import DataError
from mammogan_tf.files import write_json

__all__ = ["discard", "download"]

ATTEMPTS = 5
BACK_OFF = 1.0
"""Seconds before the second attempt; doubled before each one after it."""

TIMEOUT = 30.0
"""Seconds without a byte after which an attempt is given up."""

CHUNK = 1 << 18
MAX_BYTES = 1 << 30

BROKEN_OFF = (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class _Source:
    """Which version of which file the bytes of a partial download belong to; kept beside it as JSON."""

    url: str
    validator: str | None
    total: int | None


class _Incomplete(http.client.HTTPException):
    """The connection ended, but not at the length that the server had announced."""


def download(url: str, path: Path, progress: Progress | None = None) -> None:
    """Brings the file at ``url`` to ``path``, trying a few times with growing pauses.

    Where all attempts fail, what has arrived stays at ``path`` with ``<path>.json`` beside it, and the next call asks
    for the rest only. It starts over where the file has changed on the server or the server cannot send a part.

    Args:
        progress: called with the bytes that are there so far and in all.

    Raises:
        DataError: the address is wrong, or the server does not send the whole file.
        OSError: ``path`` cannot be written.
    """
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACK_OFF * 2 ** (attempt - 1))
        try:
            return _receive(url, path, progress)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416:
                discard(path)
            elif error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{url}: expected a file, received: {reason}; correct the address") from error
        except http.client.InvalidURL as error:
            raise _no_address(url, error) from error
        except BROKEN_OFF as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        except ValueError as error:
            raise _no_address(url, error) from error
    raise DataError(
        f"{url}: expected the whole file, received: {reason}, {ATTEMPTS} times; "
        "try again later (it goes on where it broke off) or name a mirror with --url"
    )


def _no_address(url: str, error: Exception) -> DataError:
    return DataError(f"{url}: expected an address, received: {error}; correct it")


def discard(path: Path) -> None:
    """Removes a download and what is noted beside it."""
    path.unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _receive(url: str, path: Path, progress: Progress | None) -> None:
    """One attempt: asks for what is missing and appends it, or starts over where it must."""
    source = _resumable(path, url)
    have = path.stat().st_size if source else 0
    if source and have == source.total:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "mammogan-tf"})
    if source and source.validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", source.validator)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if source and response.status == 206:
            received = response.headers.get("Content-Range")
            if received != f"bytes {have}-{(source.total or 0) - 1}/{source.total}":
                discard(path)
                raise _Incomplete(f"another part of the file than was asked for ({received})")
        else:
            have = 0
            source = _Source(url, _validator(response.headers), _length(response.headers))
            discard(path)
            write_json(_note(path), asdict(source))
        _append(response, path, have, source.total, progress)


def _append(response: IO[bytes], path: Path, have: int, total: int | None, progress: Progress | None) -> None:
    with path.open("ab") as stream:
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            have += len(chunk)
            if have > MAX_BYTES:
                raise DataError(f"{path}: expected at most {MAX_BYTES} bytes, received: more; check the address")
            if progress:
                progress(have, total or have)
    if total is not None and have != total:
        raise _Incomplete(f"{have} of {total} bytes")


def _resumable(path: Path, url: str) -> _Source | None:
    """Where the bytes at ``path`` come from; None where they are of no use for a download of ``url``."""
    try:
        source = _Source(**json.loads(_note(path).read_text()))
        useful = source.url == url and source.total and 0 < path.stat().st_size <= source.total
    except (OSError, ValueError, TypeError):
        return None
    return source if useful else None


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What If-Range may compare (RFC 9110, section 13.1.5): a strong ETag, else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _length(headers: http.client.HTTPMessage) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None
