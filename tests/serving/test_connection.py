"""How both clients reach servers that are far, closed, slow, many or gone for a while."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import grpc
import numpy as np
import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.aio import AsyncMammoganClient
from mammogan_tf.serving.client import MammoganClient, tls_credentials
from mammogan_tf.serving.server import Server


@pytest.fixture(scope="module")
def server(everything):
    with Server(everything, port=0, poll_seconds=3600) as server:
        yield server


def test_a_server_that_is_not_there_is_one_line(connect, films):
    with connect("127.0.0.1:9") as client, pytest.raises(ServingError, match="mammogan-tf serve"):
        client.segment(films)


@pytest.fixture
def bare_proxy(monkeypatch):
    """Names port 9, where nothing listens, as the HTTP proxy for every host."""
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_reached_past_the_proxy(server, connect, bare_proxy, films, host):
    with connect(f"{host}:{server.port}") as client:
        assert client.segment(films).label_map.shape == films.shape


def test_a_server_elsewhere_is_reached_through_the_proxy(connect, bare_proxy, films):
    with connect("models.invalid:8500", 5) as client, pytest.raises(ServingError, match="no connection"):
        client.segment(films)  # The proxy is not there; without one it would be a name that is not found.


def test_what_is_no_model_server_is_not_called_absent(connect, films):
    def greet(listener):
        with suppress(OSError):
            while True:
                with listener.accept()[0] as caller:
                    caller.recv(100)
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        with connect(f"127.0.0.1:{port}") as client, pytest.raises(ServingError) as refused:
            client.segment(films)
        listener.shutdown(socket.SHUT_RDWR)
    assert re.search(
        "expected a model server, received: .*HTTP status 400.*; for one with TLS give", str(refused.value)
    )


def test_a_server_with_tls_is_not_called_absent(connect, models, pem, films):
    with Server(models, port=0, tls_cert=pem / "server.pem", tls_key=pem / "server.key") as server:
        says = "expected a model server, received: .*; for one with TLS give its authority"
        with connect(server.address) as client, pytest.raises(ServingError, match=says):
            client.segment(films)


CLOSED = "127.0.0.1:9: expected an open client, received: a closed one; make another"


def test_a_closed_client_is_one_line(connect, films):
    with connect("127.0.0.1:9") as client:
        client.close()
        for ask in (lambda: client.segment(films), client.status):
            with pytest.raises(ServingError) as refused:
                ask()
            assert str(refused.value) == CLOSED


def test_a_client_is_closed_at_the_end_of_its_block():
    with MammoganClient("127.0.0.1:9") as blocking:
        pass
    with pytest.raises(ServingError, match=CLOSED):
        blocking.status()

    async def ask_late():
        async with AsyncMammoganClient("127.0.0.1:9") as client:
            pass
        await client.status()

    with pytest.raises(ServingError, match=CLOSED):
        asyncio.run(ask_late())


def test_who_waits_for_an_answer_when_the_client_is_closed_hears_of_it(serve_predict, films):
    async def close_while_it_asks(address):
        client = AsyncMammoganClient(address)
        asking = asyncio.create_task(client.segment(films))
        await asyncio.sleep(0.3)
        await client.close()
        with pytest.raises(ServingError, match="expected an open client, received: a closed one"):
            await asking

    asyncio.run(close_while_it_asks(serve_predict(lambda request, context: time.sleep(1))))


def test_who_no_longer_waits_for_an_answer_is_cancelled(serve_predict, films):
    async def give_up(address):
        async with AsyncMammoganClient(address) as client:
            await asyncio.wait_for(client.segment(films), 0.3)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(give_up(serve_predict(lambda request, context: time.sleep(1))))


def test_a_slow_server_is_one_line(connect, serve_predict, films):
    address = serve_predict(lambda request, context: time.sleep(1))
    with connect(address, timeout=0.2) as client, pytest.raises(ServingError, match=r"within 0\.2 s"):
        client.segment(films)


@pytest.mark.parametrize("seconds", [0, float("nan"), float("inf"), 1e30])
def test_a_timeout_that_is_no_time_is_refused(connect, seconds):
    with pytest.raises(ServingError, match="timeout: expected more than 0 s, 86400 s at most, received: "):
        connect("127.0.0.1:9", seconds)


def test_a_server_that_is_unavailable_is_tried_again(connect, serve_predict):
    tried = []

    def predict(request, context):
        tried.append(time.monotonic())
        if len(tried) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    large = np.zeros((1, 512, 512), np.float32)  # Of itself, gRPC keeps no more than 256 KiB to send again.
    with connect(serve_predict(predict)) as client, pytest.raises(ServingError, match="INTERNAL: broken"):
        client.segment(large)
    assert len(tried) == 3, "twice after UNAVAILABLE, never after another status"


def test_a_server_that_stays_unavailable_is_one_line(connect, serve_predict, films):
    address = serve_predict(lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "queue full"))
    with connect(address) as client, pytest.raises(ServingError, match="received: UNAVAILABLE: queue full"):
        client.segment(films)


def test_servers_at_several_addresses_are_asked_in_turn(connect, serve_predict, films, monkeypatch):
    monkeypatch.setenv("no_grpc_proxy", "*")
    asked = []

    def serve(number):
        def predict(request, context):
            asked.append(number)
            context.abort(grpc.StatusCode.INTERNAL, "asked")

        return serve_predict(predict)

    end = time.monotonic() + 10
    with connect(f"ipv4:{serve(0)},{serve(1)}") as client:
        while {*asked} != {0, 1} and time.monotonic() < end:
            with pytest.raises(ServingError, match="INTERNAL: asked"):
                client.segment(films)
    assert {*asked} == {0, 1}


def test_a_server_that_comes_back_is_found(connect, models, films):
    with Server(models, port=0) as first:
        port = first.port
        client = connect(first.address)
        client.segment(films)
    again = Server(models, port=port)
    again.manager.refresh()  # So that it starts at once, however slowly models load here.
    starter = threading.Timer(0.1, again.start)
    starter.start()
    try:
        with client:
            assert client.segment(films).label_map.shape == films.shape
    finally:
        starter.join()
        again.stop()


def test_mutual_tls(connect, models, pem, films):
    with Server(
        models,
        port=0,
        tls_cert=pem / "server.pem",
        tls_key=pem / "server.key",
        tls_client_ca=pem / "ca.pem",
    ) as server:
        known = tls_credentials(pem / "ca.pem", pem / "client.pem", pem / "client.key")
        with connect(server.address, credentials=known) as client:
            assert client.segment(films).label_map.shape == films.shape
        for unknown in (tls_credentials(pem / "ca.pem"), None):
            with connect(server.address, credentials=unknown) as client, pytest.raises(ServingError, match="your own"):
                client.segment(films)


def test_importing_the_clients_imports_neither_tensorflow_nor_grpc():
    code = "import sys, mammogan_tf.serving.client, mammogan_tf.serving.aio; "
    code += "print({'tensorflow', 'keras', 'grpc', 'mammogan_tf.models'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
