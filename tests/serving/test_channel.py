import grpc
import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import explain, tls_credentials


def test_pem_files_make_credentials(pem):
    assert tls_credentials()
    assert tls_credentials(pem / "ca.pem")
    assert tls_credentials(pem / "ca.pem", pem / "client.pem", pem / "client.key")


def test_a_certificate_without_its_key_is_refused(pem):
    with pytest.raises(ServingError, match="expected a certificate and its key, received: only the certificate"):
        tls_credentials(certificate=pem / "client.pem")


class Failure(grpc.RpcError):
    """What gRPC raises where the certificate is for another host."""

    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "failed to connect to all addresses; last error: UNKNOWN: Hostname Verification Check failed."


def test_a_certificate_for_another_host_is_said_to_be_that():
    says = str(explain(Failure(), "models.example:8500", 1))
    assert says.startswith("models.example:8500: expected a server with TLS and a certificate to trust, received: ")
    assert "Hostname Verification Check failed" in says
