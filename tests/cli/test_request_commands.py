"""``request``, and what it says of servers that are not there or slow."""

import io
import shutil
import socket
import time
from concurrent import futures

import grpc
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mammogan_tf.data.film import read_grey
from mammogan_tf.data.label_maps import lies_as_its_film, read_label_map, save_label_map
from mammogan_tf.data.preparation import find_geometry
from mammogan_tf.errors import DataError
from mammogan_tf.models.dcgan import build_generator
from mammogan_tf.models.unet import build_unet
from mammogan_tf.serving.client import MammoganClient
from mammogan_tf.serving.export import export_synthesize
from mammogan_tf.serving.server import Server
from tests.command_line import call, fails

SIZE = 16


@pytest.fixture
def masks(tmp_path):
    save_label_map(tmp_path / "masks" / "a.png", np.eye(SIZE, dtype=np.uint8))
    return tmp_path / "masks"


@pytest.fixture
def film(phantom_root):
    return phantom_root / "mdb001.pgm"


@pytest.mark.parametrize(("options", "secret"), [([], False), (["--tls"], True)], ids=["plain", "tls"])
def test_request_speaks_tls_where_it_is_asked_to(film, tmp_path, monkeypatch, options, secret):
    seen = {}

    def client(server, timeout, credentials):
        seen.update(server=server, timeout=timeout, secret=credentials is not None)
        raise DataError("enough: expected nothing more, received: nothing")

    monkeypatch.setattr("mammogan_tf.serving.client.MammoganClient", client)
    asked = ["request", "segment", film, "--out", tmp_path / "out", "--server", "far:1", "--timeout", 3, *options]
    fails(*asked, says="enough")
    assert seen == {"server": "far:1", "timeout": 3.0, "secret": secret}


@pytest.fixture
def slow_server():
    """Takes every request, and answers long after anyone's patience has ended."""

    class Slow(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: (time.sleep(1.5), b"")[1])

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Slow()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_request_segment(server, film, tmp_path):
    result = call("request", "segment", film, "--server", server.address, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out'}\n"
    assert read_label_map(tmp_path / "out" / "mdb001_mask.png").shape == (1024, 1024)
    assert lies_as_its_film(tmp_path / "out" / "mdb001_mask.png")


def test_request_segment_of_a_film_whose_square_no_server_takes(server, film, tmp_path):
    tall = Image.fromarray(read_grey(film)).resize((500, 5900))
    tall.save(tmp_path / "tall.png")
    options = ["--server", server.address, "--out", tmp_path / "out"]
    assert call("request", "segment", tmp_path / "tall.png", *options).exit_code == 0
    assert read_label_map(tmp_path / "out" / "tall_mask.png").shape == (5900, 500)


def test_request_segment_sends_a_window_as_it_is(server, tmp_path, monkeypatch):
    """A whole film would be turned, with its chest wall to the left."""
    window = np.zeros((40, 40), np.uint8)
    window[:, 20:] = 90
    Image.fromarray(window).save(tmp_path / "window.png")
    sent, ask = [], MammoganClient.segment
    monkeypatch.setattr(MammoganClient, "segment", lambda self, films, version: sent.append(films) or ask(self, films))
    options = ["--server", server.address, "--view", "roi", "--out", tmp_path / "out"]
    assert call("request", "segment", tmp_path / "window.png", *options).exit_code == 0
    np.testing.assert_array_equal(Image.open(io.BytesIO(sent[0][0])), window)
    assert not lies_as_its_film(tmp_path / "out" / "window_mask.png")


def test_request_segment_writes_nothing_beside_the_films(film, unused_port, tmp_path):
    """A mask that was drawn by hand may lie there; the folder is refused before any server is asked."""
    shutil.copy(film, tmp_path)
    options = ["--server", f"127.0.0.1:{unused_port}", "--out", tmp_path]
    says = f"{tmp_path}: expected a folder without the films, received: that of {tmp_path / film.name} ... --out"
    fails("request", "segment", tmp_path / film.name, *options, says=says)


def test_request_generate(server, masks, tmp_path):
    options = ["--server", server.address, "--masks", masks, "--count", 3, "--seed", 4, "--out", tmp_path / "out"]
    result = call("request", "generate", *options)
    assert result.exit_code == 0
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert list(manifest["seed"]) == [4, 5, 6]
    assert set(manifest["model"]) == {"generator/1"}
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3
    fails("request", "generate", *options, says="expected a new or an empty folder")
    assert call("request", "generate", *options[:-1], tmp_path / "asked", "--label", "malignant").exit_code == 0
    assert set(pd.read_csv(tmp_path / "asked" / "manifest.csv")["label"]) == {"malignant"}


def test_request_synthesize(server, film, tmp_path):
    options = ["--server", server.address, "--seed", 5]
    result = call("request", "synthesize", film, *options, "--out", tmp_path / "out")
    assert result.stdout == f"{tmp_path / 'out' / 'sheet.png'}\n"
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 3 * sheet.height / 2, "one row of three pictures"
    plain = read_label_map(tmp_path / "out" / "masks" / "mdb001.png")
    with Image.open(tmp_path / "out" / "images" / "mdb001.png") as image:
        assert image.size == plain.shape == (SIZE, SIZE)
        assert image.info["Synthetic"] == "true"

    # The chest wall of an odd film is on the right; the lesion is 300 pixels from that edge, in the middle.
    geometry = find_geometry(read_grey(film))
    options += ["--lesion", 1023 - 300, 511, 100]
    assert call("request", "synthesize", film, *options, "--out", tmp_path / "lesion").exit_code == 0
    rows, columns = np.nonzero(read_label_map(tmp_path / "lesion" / "masks" / "mdb001.png") == 4)
    assert (rows.mean() + 0.5) / SIZE == pytest.approx(512 / geometry.extent, abs=0.5 / SIZE)
    assert (columns.mean() + 0.5) / SIZE == pytest.approx((300 - geometry.left) / geometry.extent, abs=0.5 / SIZE)


def test_request_synthesize_leaves_a_folder_in_use_alone(film, unused_port, tmp_path):
    """A folder data set has its real films in ``images``; it is refused before any server is asked."""
    real = tmp_path / "images" / "mdb001.png"
    real.parent.mkdir()
    real.write_bytes(b"a real film")
    options = ["--server", f"127.0.0.1:{unused_port}", "--out", tmp_path]
    fails("request", "synthesize", film, *options, says=f"{tmp_path}: expected a new or an empty folder ... --out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


@pytest.mark.slow
def test_request_synthesize_names_the_films_without_a_place_for_the_lesion(film, tmp_path):
    blind = build_unet(SIZE, widths=(2, 2))
    blind.get_layer("logits").bias.assign([9.0, 0.0, 0.0, 0.0, 0.0])  # It sees background everywhere.
    export_synthesize(blind, build_generator(SIZE, z_dim=2, widths=(2, 2, 2)), tmp_path)
    with Server(tmp_path, port=0) as server:
        options = ["--server", server.address, "--out", tmp_path / "out", "--lesion", 500, 500, 50]
        says = "lesion: expected a place on the breast ... --lesion on mdb001"
        fails("request", "synthesize", film, *options, says=says)


@pytest.mark.parametrize(
    ("lesion", "says", "status"),
    [
        (
            (5000, 5, 5),
            ": expected a centre of --lesion on the film, without padding and dark edge, received: 5000, 5",
            1,
        ),
        ((500, 500, 0), "'--lesion': 0.0 is not in the range x>0", 2),
        ((500, 500, 600), ": expected a radius of --lesion of at most ... half of its side, received: 600", 1),
        ((500, 500, "nan"), "half of its side, received: nan", 1),
    ],
)
def test_request_synthesize_with_a_lesion_that_makes_no_sense(server, film, tmp_path, lesion, says, status):
    options = ["--server", server.address, "--out", tmp_path / "out", "--lesion", *lesion]
    fails("request", "synthesize", film, *options, says=says, status=status)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def one_by_one(monkeypatch):
    """Films are sent one at a time."""
    monkeypatch.setattr("mammogan_tf_cli.request.GROUP", 1)


@pytest.mark.usefixtures("one_by_one")
def test_a_request_of_many_films_writes_as_it_goes(server, film, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no film")
    films = [film, tmp_path / "broken.png", film.with_name("mdb002.pgm"), "--server", server.address, "--out"]
    says = f"1 of 3 films left out, the first: {tmp_path / 'broken.png'}: expected a readable image"
    fails("request", "segment", *films, tmp_path / "a", says=says)
    fails("request", "synthesize", *films, tmp_path / "b", says=says)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    of_each = {f"{place}/{name}.png" for place in ("b/images", "b/masks") for name in ("mdb001", "mdb002")}
    assert written == {"broken.png", "a/mdb001_mask.png", "a/mdb002_mask.png", "b/sheet.png"} | of_each


def test_a_request_of_no_film_that_can_be_read(server, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no film")
    options = [tmp_path / "broken.png", "--server", server.address, "--out", tmp_path / "out"]
    for command in ("segment", "synthesize"):
        fails("request", command, *options, says="broken.png: expected a readable image")
    assert not (tmp_path / "out").exists()


def test_a_request_of_many_films_gives_the_same_one_by_one(server, film, tmp_path, monkeypatch):
    films = [film, film.with_name("mdb002.pgm"), "--server", server.address]
    for out in ("together", "apart"):
        assert call("request", "synthesize", *films, "--seed", 3, "--out", tmp_path / out).exit_code == 0
        assert call("request", "segment", *films, "--out", tmp_path / out).exit_code == 0
        monkeypatch.setattr("mammogan_tf_cli.request.GROUP", 1)
    written = sorted(path.relative_to(tmp_path / "apart") for path in (tmp_path / "apart").rglob("*.png"))
    assert len(written) == 2 + 2 + 2 + 1
    for path in written:
        pixels = (np.asarray(Image.open(tmp_path / out / path)) for out in ("together", "apart"))
        np.testing.assert_array_equal(*pixels)


@pytest.mark.usefixtures("one_by_one")
def test_a_request_of_many_films_is_answered_by_one_version(exports, film, tmp_path, monkeypatch):
    one = shutil.copytree(exports / "unet" / "1", tmp_path / "models" / "unet" / "1")
    with Server(tmp_path / "models", port=0, poll_seconds=3600) as server:

        def read(path, read_grey=read_grey):
            if path.stem == "mdb002":
                shutil.copytree(one, one.with_name("2"))
                server.manager.refresh()
            return read_grey(path)

        monkeypatch.setattr("mammogan_tf.inference.segment.read_grey", read)
        options = ["--server", server.address, "--out", tmp_path / "out"]
        says = f"{server.address}: expected unet/1, received: NOT_FOUND ... newer version ... ask again"
        fails("request", "segment", film, film.with_name("mdb002.pgm"), *options, says=says)


def test_request_wants_tls_files_that_fit(film, tmp_path):
    options = ["request", "segment", film, "--out", tmp_path / "out"]
    fails(*options, "--tls-cert", tmp_path / "a.pem", says="received: only the certificate; give both or none")
    fails(*options, "--tls-ca", tmp_path / "a.pem", says="a.pem: expected certificates in PEM, received: No such file")


def test_request_generate_with_masks_of_a_wrong_size(server, masks, tmp_path):
    options = ["--server", server.address, "--masks", masks, "--out", tmp_path / "out"]
    save_label_map(masks / "b.png", np.ones((8, 8), np.uint8))
    fails("request", "generate", *options, says="expected square masks of one size ... (8, 8), (16, 16)")
    (masks / "a.png").unlink()
    says = f"label_map: expected shape [?,{SIZE},{SIZE}], received: [1,8,8]; write masks of ... data masks --size"
    fails("request", "generate", *options, says=says)
    assert not (tmp_path / "out").exists()


def test_request_of_films_that_cannot_be_sent(server, film, tmp_path):
    options = ["--server", server.address, "--out", tmp_path / "out"]
    shutil.copy(film, tmp_path)
    fails("request", "segment", film, tmp_path / film.name, *options, says="distinct names, received: mdb001")
    fails("request", "segment", tmp_path / "none.png", *options, says="none.png: expected an image file")
    assert not (tmp_path / "out").exists()


def test_request_without_a_server(film, masks, unused_port, tmp_path):
    options = ["--server", f"127.0.0.1:{unused_port}", "--out", tmp_path / "out"]
    says = f"127.0.0.1:{unused_port}: expected a model server, received: no connection ... mammogan-tf serve"
    fails("request", "segment", film, *options, says=says)
    fails("request", "generate", "--masks", masks, *options, says=says)
    assert not (tmp_path / "out").exists()


def test_request_to_a_slow_server(film, masks, slow_server, tmp_path):
    options = ["--server", slow_server, "--timeout", 0.5, "--out", tmp_path / "out"]
    says = f"{slow_server}: expected an answer within 0.5 s, received: none ... timeout"
    fails("request", "segment", film, *options, says=says)
    fails("request", "generate", "--masks", masks, *options, says=says)
    assert not (tmp_path / "out").exists()


def test_times_without_end_are_refused(film, exports, tmp_path):
    request = ["request", "segment", film, "--out", tmp_path / "out", "--timeout"]
    for seconds in ("inf", "1e30", "0"):
        fails(*request, seconds, says="is not in the range 0<x<=86400", status=2)
    fails(*request, "nan", says="timeout: expected more than 0 s, 86400 s at most, received: nan s")
