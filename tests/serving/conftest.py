"""Tiny untrained networks, live and exported, which is enough to test everything but the pictures; and both clients."""

import asyncio
import io
import shutil
import subprocess
from concurrent import futures
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
from PIL import Image
from tensorflow_serving.apis import prediction_service_pb2_grpc

from mammogan_tf.serving.aio import AsyncMammoganClient
from mammogan_tf.serving.client import MammoganClient

SIZE, Z_DIM = 16, 8


@pytest.fixture(scope="session")
def live_unet() -> keras.Model:
    from mammogan_tf.models.unet import build_unet

    keras.utils.set_random_seed(0)
    return build_unet(SIZE, widths=(4, 8))


@pytest.fixture(scope="session")
def live_generator() -> keras.Model:
    from mammogan_tf.models.dcgan import build_generator

    keras.utils.set_random_seed(1)
    return build_generator(SIZE, z_dim=Z_DIM, widths=(8, 4, 4))


@pytest.fixture(scope="session")
def exported(tmp_path_factory, live_unet, live_generator):
    """A folder with version 1 of both models; not to be changed."""
    from mammogan_tf.serving.export import export_generator, export_unet

    folder = tmp_path_factory.mktemp("exported")
    export_unet(live_unet, folder)
    export_generator(live_generator, folder)
    return folder


@pytest.fixture(scope="session")
def everything(tmp_path_factory, exported, live_unet, live_generator):
    """A folder with version 1 of all three models; not to be changed."""
    from mammogan_tf.serving.export import export_synthesize

    folder = shutil.copytree(exported, tmp_path_factory.mktemp("everything") / "models")
    export_synthesize(live_unet, live_generator, folder, cards=["# U-Net\n\n## Dice", "# Generator"])
    return folder


@pytest.fixture
def models(tmp_path, exported):
    """A folder with version 1 of the U-Net that a test may change."""
    shutil.copytree(exported / "unet", tmp_path / "models" / "unet")
    return tmp_path / "models"


@pytest.fixture
def add_version(models):
    """Adds a copy of version 1 under another number, in one step, and returns its folder."""

    def add(number: int) -> Path:
        shutil.copytree(models / "unet" / "1", models / "unet" / f".{number}")
        return (models / "unet" / f".{number}").rename(models / "unet" / str(number))

    return add


@pytest.fixture
def films() -> np.ndarray:
    return np.random.default_rng(0).random((3, SIZE, SIZE), np.float32)


@pytest.fixture
def condition() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seeds, label maps and labels of three films."""
    label_maps = np.random.default_rng(0).integers(0, 5, (3, SIZE, SIZE))
    return np.array([7, 8, 9]), label_maps, np.array([0, 1, 2])


@pytest.fixture(scope="session")
def drawn_films() -> list[bytes]:
    """PNGs of different sizes: a breast on the left, one on the right beside padding, and black."""
    rows, columns = np.ogrid[:48, :40]
    breast = np.where((rows - 24) ** 2 / 2 + columns**2 < 24**2 / 2, 90 + 2 * columns, 0).astype(np.uint8)
    return [png_bytes(film) for film in (breast, np.pad(breast[:, ::-1], ((0, 0), (0, 5))), np.zeros((9, 9), np.uint8))]


def png_bytes(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def pem(tmp_path_factory) -> Path:
    """A folder with an authority (``ca.pem``), and certificates by it: ``server``, for 127.0.0.1, and ``client``."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *by, "-days", "2", "-out", f"{name}.pem")
    return folder


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:google.*")


class Waiting:
    """The client for asyncio, behind the methods of the other."""

    def __init__(self, *arguments, **options):
        async def connect():
            return AsyncMammoganClient(*arguments, **options)

        self.loop = asyncio.new_event_loop()
        self.client = self.loop.run_until_complete(connect())

    def __getattr__(self, name):
        return lambda *arguments: self.loop.run_until_complete(getattr(self.client, name)(*arguments))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


@pytest.fixture(params=[MammoganClient, Waiting], ids=["blocking", "asyncio"])
def connect(request):
    return request.param


@pytest.fixture
def serve_predict():
    """Serves a function of request and context as Predict; returns its address."""
    servers = []

    def serve(predict, credentials=None):
        servicer = type("Servicer", (prediction_service_pb2_grpc.PredictionServiceServicer,), {})()
        servicer.Predict = predict
        server = grpc.server(futures.ThreadPoolExecutor(2))
        servers.append(server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
        place = "127.0.0.1:0"
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
        server.start()
        return f"127.0.0.1:{port}"

    yield serve
    for server in servers:
        server.stop(None)
