"""PEM files for TLS, checked before gRPC reads them: it logs what is wrong in its own lines, and blames the address."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from mammogan_tf.errors import ServingError

__all__ = ["File", "require_pem"]

File = str | os.PathLike[str]


def require_pem(authority: File | None, certificate: File | None, key: File | None) -> None:
    """Raises ServingError where one of the files given is not of its kind, or the key of another certificate."""

    def refuse_passphrase() -> str:  # OpenSSL would ask for it on the terminal.
        raise ServingError(
            f"{key}: expected a key without a passphrase, received: an encrypted one; decrypt it with openssl pkey"
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # How long a key has to be is not decided here.
    for file in (authority, certificate):
        if file is not None:
            with _explained(file, "certificates in PEM"):
                context.load_verify_locations(file)
    if certificate is not None and key is not None:
        with _explained(key, f"the key of {certificate} in PEM"):
            context.load_cert_chain(certificate, key, refuse_passphrase)


@contextmanager
def _explained(file: File, expected: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        received = f"other content ({error.reason or 'broken'})"
        raise ServingError(f"{file}: expected {expected}, received: {received}") from error
    except OSError as error:
        raise ServingError(f"{file}: expected {expected}, received: {error.strerror}") from error
