import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.settings import ServerSettings


def test_settings_that_do_not_fit_are_one_line(pem):
    with pytest.raises(ServingError, match="TLS: expected a certificate and its key, received: one of them"):
        ServerSettings(tls_cert=pem / "server.pem")
    with pytest.raises(ServingError, match="tls_client_ca: expected a server certificate"):
        ServerSettings(tls_client_ca=pem / "ca.pem")
    for name in ("max_batch_size", "max_queue"):
        with pytest.raises(ServingError, match=f"{name}: expected 1 or more, received: 0"):
            ServerSettings(**{name: 0})
    with pytest.raises(
        ServingError, match="metrics_port: expected another port than that of the requests, received: 8500"
    ):
        ServerSettings(port=8500, metrics_port=8500)
    ServerSettings(port=0, metrics_port=0)
    for name in ("port", "metrics_port"):
        ServerSettings(**{name: 65_535})
        for port in (-1, 65_536, 70_000):
            with pytest.raises(ServingError, match=f"^{name}: expected 0 to 65535, received: {port}$"):
                ServerSettings(**{name: port})
    for value in (float("inf"), float("nan"), -1.0):
        with pytest.raises(ServingError, match=f"batch_timeout_ms: expected 0 to 60000, received: {value}"):
            ServerSettings(batch_timeout_ms=value)
        with pytest.raises(ServingError, match=f"poll_seconds: expected more than 0 and finite, received: {value}"):
            ServerSettings(poll_seconds=value)


def test_files_for_tls_may_be_strings(pem):
    paths = {name: pem / file for name, file in zip(("tls_cert", "tls_key"), ("server.pem", "server.key"), strict=True)}
    paths["tls_client_ca"] = pem / "ca.pem"
    settings = ServerSettings(**{name: str(path) for name, path in paths.items()})
    assert settings.pem == tuple(path.read_bytes() for path in paths.values())
