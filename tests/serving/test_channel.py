import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import tls_credentials


def test_pem_files_make_credentials(pem):
    assert tls_credentials()
    assert tls_credentials(pem / "ca.pem")
    assert tls_credentials(pem / "ca.pem", pem / "client.pem", pem / "client.key")


def test_what_is_no_pem_file_is_refused(tmp_path, pem):
    with pytest.raises(ServingError, match=r"none\.pem: expected a PEM file, received: No such file"):
        tls_credentials(tmp_path / "none.pem")
    (tmp_path / "other.pem").write_text("other")
    with pytest.raises(ServingError, match=r"other\.pem: expected a PEM file, received: other content"):
        tls_credentials(tmp_path / "other.pem")
    with pytest.raises(ServingError, match="expected a certificate and its key, received: only the certificate"):
        tls_credentials(certificate=pem / "client.pem")
