"""Small MIAS trees, an archive of one, and a web server that misbehaves on demand."""

import functools
import http.server
import json
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammogan_tf.data.film import Film
from mammogan_tf.data.film_set import FilmSet
from mammogan_tf.files import atomic_path
from tests.drawn_film import draw
from tests.mias_tree import draw_mias_tree

COUNT, SIDE = 7, 16
"""Number of the pictures of :func:`films`, and their side."""


@pytest.fixture(scope="session")
def mias_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of :mod:`tests.mias_tree`, for reading only."""
    return draw_mias_tree(tmp_path_factory.mktemp("mias"))


@pytest.fixture
def draw_tree(tmp_path: Path) -> Callable[..., Path]:
    """Draws a tree of its own for one test: ``draw_tree(records)``."""
    return functools.partial(draw_mias_tree, tmp_path / "tree")


@pytest.fixture(scope="session")
def mias_archive(mias_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as an archive with the folder ``all-mias`` inside, as the official one."""
    path = tmp_path_factory.mktemp("archive") / "all-mias.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(mias_tree, "all-mias")
    return path


class ArchiveServer:
    """Serves ``content`` at ``url``. Each request takes the next behaviour of ``plan``, or is answered well.

    Behaviours: ``("break", n)`` closes after n bytes; ``("longer", n)`` announces n bytes too many; ``"ignore range"``
    sends the whole file; ``"wrong range"`` sends another part; ``"no length"`` announces none; a number is an error
    status.
    """

    def __init__(self) -> None:
        self.content = b""
        self.etag: str | None = '"one"'
        self.modified: str | None = None
        self.plan: list = []
        self.ranges: list[str | None] = []
        self.url = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        behaviour = self.plan.pop(0) if self.plan else None
        wanted = handler.headers["Range"]
        self.ranges.append(wanted)
        if isinstance(behaviour, int):
            handler.send_error(behaviour)
            return
        kind, count = behaviour if isinstance(behaviour, tuple) else (behaviour, 0)
        unchanged = handler.headers["If-Range"] in (self.etag, self.modified)
        start = int(wanted[len("bytes=") : -1]) if wanted and unchanged and kind != "ignore range" else 0
        body, total = self.content[start:], len(self.content)
        handler.send_response(206 if start else 200)
        if start:
            shown = start + 1 if kind == "wrong range" else start
            handler.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.modified:
            handler.send_header("Last-Modified", self.modified)
        if kind != "no length":
            handler.send_header("Content-Length", str(len(body) + (count if kind == "longer" else 0)))
        handler.end_headers()
        handler.wfile.write(body[:count] if kind == "break" else body)


@pytest.fixture
def archive_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    """A server on loopback; the pauses between attempts are cut short."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("mammogan_tf.data.download.BACK_OFF", 0.001)
    served = ArchiveServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}/all-mias.tar.gz"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def make_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Film]:
    """Writes films of :mod:`tests.drawn_film`, with a cache of their own."""
    monkeypatch.setenv("MAMMOGAN_CACHE", str(tmp_path / "cache"))

    def make(name="mdb002", grey: np.ndarray | None = None, side="left", lesions=()):
        path = tmp_path / f"{name}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(draw() if grey is None else grey).save(temporary)
        return Film(name, path, "1", 0 if lesions else 2, side=side, lesions=tuple(lesions))

    return make


@pytest.fixture(scope="session")
def films() -> FilmSet:
    """Film n is grey 20 (n + 1) on its right half; without its background, at the left, it is black there."""
    columns = np.broadcast_to(np.arange(SIDE), (COUNT, SIDE, SIDE))
    label_maps = np.where(columns < SIDE // 2, 0, 1 + np.arange(COUNT)[:, None, None] % 4).astype(np.uint8)
    raw = np.broadcast_to(20 * np.arange(1, COUNT + 1, dtype=np.uint8)[:, None, None], label_maps.shape).copy()
    return FilmSet(
        images=raw * (label_maps > 0).astype(np.uint8),
        raw=raw,
        label_maps=label_maps,
        labels=np.arange(COUNT, dtype=np.int32) % 3,
        ids=(names := tuple(f"film{number}" for number in range(COUNT))),
        names=names,
        patients=tuple(f"patient{number // 2}" for number in range(COUNT)),
        tissues=("F",) * COUNT,
        size=SIDE,
        corners=np.zeros((COUNT, 2), np.int64),
        confidences=np.ones(COUNT, np.float32),
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder data set: two films, and what a test adds."""

    def write(
        description: object,
        table: str | None = None,
        masks: Sequence[str] = (),
        films: Sequence[str] = ("a.png", "b.one.png"),
    ) -> Path:
        root = tmp_path / "mine"
        (root / "images").mkdir(parents=True)
        for path in [root / "images" / name for name in films] + [root / "labels" / name for name in masks]:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
        (root / "dataset.json").write_text(description if isinstance(description, str) else json.dumps(description))
        if table is not None:
            (root / "films.csv").write_text(table)
        return root

    return write
