import grpc
import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import channel_options, explain, tls_credentials


def test_pem_files_make_credentials(pem):
    assert tls_credentials()
    assert tls_credentials(pem / "ca.pem")
    assert tls_credentials(pem / "ca.pem", pem / "client.pem", pem / "client.key")


def test_a_certificate_without_its_key_is_refused(pem):
    with pytest.raises(ServingError, match="expected a certificate and its key, received: only the certificate"):
        tls_credentials(certificate=pem / "client.pem")


class Failure(grpc.RpcError):
    """What gRPC raises where it cannot connect."""

    def __init__(self, reason):
        self.reason = reason

    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return f"failed to connect to all addresses; last error: UNKNOWN: {self.reason}"


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("localhost", "name its port, as in localhost:8500"),
        ("dns:///models.example", "name its port, as in dns:///models.example:8500"),
        ("localhost:8500", "start one with mammogan-tf serve"),
        ("unix:/run/models", "start one with mammogan-tf serve"),
    ],
)
def test_where_nothing_listens_a_port_may_be_missing(address, advice):
    refused = "connect failed: addr: " if address.startswith("unix") else "Failed to connect to remote host: "
    says = str(explain(Failure(f"{refused}Connection refused"), address, 1))
    assert says == f"{address}: expected a model server, received: no connection; {advice}"


def test_a_certificate_for_another_host_is_said_to_be_that():
    says = str(explain(Failure("Hostname Verification Check failed."), "models.example:8500", 1))
    assert says.startswith("models.example:8500: expected a server with TLS and a certificate to trust, received: ")
    assert "Hostname Verification Check failed" in says


def test_a_proxy_that_refuses_is_said_to_be_that():
    failure = Failure("ipv4:10.0.0.1:3128: HTTP proxy returned response code 403")
    says = str(explain(failure, "models.example:8500", 1))
    assert says.startswith(
        "models.example:8500: expected a model server, received: UNKNOWN: ipv4:10.0.0.1:3128: HTTP proxy"
    )
    assert says.endswith("add its host to the environment variable no_proxy")
    assert "tls" not in says


def test_a_server_that_wants_a_certificate_may_be_the_reason():
    says = str(explain(Failure("ipv4:10.0.0.1:8500: Socket closed"), "models.example:8500", 1))
    assert "expected a model server, received: UNKNOWN: ipv4:10.0.0.1:8500: Socket closed; for one with TLS" in says
    assert "for one that asks for a certificate your own (--tls-cert, --tls-key)" in says
    assert "tls_credentials" in says


@pytest.mark.parametrize(
    ("host", "proxied"),
    [
        ("localhost", 0),
        ("LOCALHOST", 0),
        ("127.0.0.1", 0),
        ("127.1.2.3", 0),
        ("0.0.0.0", 0),
        ("[::1]", 0),
        ("[::]", 0),
        ("models.example", 1),
        ("localhost.example", 1),
        ("not-localhost", 1),
        ("10.127.0.0.1", 1),
        ("127.example", 1),
        ("[fe80::1]", 1),
    ],
)
def test_only_other_machines_are_reached_through_a_proxy(host, proxied):
    for address in (f"{host}:8500", host, f"dns:///{host}:8500"):
        assert dict(channel_options(address))["grpc.enable_http_proxy"] == proxied
