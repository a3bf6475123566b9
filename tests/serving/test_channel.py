import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import tls_credentials


def test_pem_files_make_credentials(pem):
    assert tls_credentials()
    assert tls_credentials(pem / "ca.pem")
    assert tls_credentials(pem / "ca.pem", pem / "client.pem", pem / "client.key")


def test_a_certificate_without_its_key_is_refused(pem):
    with pytest.raises(ServingError, match="expected a certificate and its key, received: only the certificate"):
        tls_credentials(certificate=pem / "client.pem")
