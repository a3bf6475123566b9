"""PEM files that cannot be used, as a server and as a client are told of them."""

import shutil
import subprocess

import pytest

from mammogan_tf.errors import ServingError
from mammogan_tf.serving.channel import tls_credentials
from mammogan_tf.serving.server import Server
from mammogan_tf.serving.settings import ServerSettings


def serve(certificate, key, authority=None):
    ServerSettings(tls_cert=certificate, tls_key=key, tls_client_ca=authority)


def connect(certificate, key, authority=None):
    tls_credentials(authority, certificate, key)


@pytest.fixture
def files(pem, tmp_path):
    """The folder ``pem``, and beside its files a broken certificate and an encrypted key."""
    folder = shutil.copytree(pem, tmp_path / "pem")
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    encrypt = ["openssl", "pkey", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out", "encrypted.key"]
    subprocess.run(encrypt, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("use", [serve, connect])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["server.pem", "encrypted.key"], r"encrypted\.key: expected a key without a passphrase, received: an encr"),
        (["server.pem", "client.key"], r"client\.key: expected the key of .*server\.pem in PEM, received: other"),
        (["server.pem", "none.key"], r"none\.key: expected the key of .*server\.pem in PEM, received: No such file"),
        (["server.key", "server.pem"], r"server\.key: expected certificates in PEM, received: other content"),
        (["broken.pem", "server.key"], r"broken\.pem: expected certificates in PEM, received: other content"),
        (["server.pem", "server.key", "broken.pem"], r"broken\.pem: expected certificates in PEM"),
        (["server.pem", "server.key", "ca.key"], r"ca\.key: expected certificates in PEM"),
        (["server.pem", "server.key", "none.pem"], r"none\.pem: expected certificates in PEM, received: No such file"),
    ],
    ids=["encrypted", "of another", "no key", "swapped", "broken", "broken authority", "no authority", "absent"],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(files, use, names, message):
    with pytest.raises(ServingError, match=message) as refused:
        use(*(files / name for name in names))
    assert "\n" not in str(refused.value)


def test_a_certificate_that_grpc_does_not_take_is_not_an_address_in_use(models, tmp_path):
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-nodes"]
    new += ["-keyout", "k1.key", "-out", "k1.pem", "-subj", "/CN=k1"]
    if not shutil.which("openssl") or subprocess.run(new, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("needs openssl with the curve secp256k1")
    server = Server(models, port=0, tls_cert=tmp_path / "k1.pem", tls_key=tmp_path / "k1.key")
    with pytest.raises(ServingError, match=r"k1\.pem: expected a certificate that gRPC takes, received: another"):
        server.start()
