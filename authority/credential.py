"""The HSM client's files for mTLS with the HSM, checked before they go to Vault."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authority.errors import AuthorityError


def read(client_cert: Path, client_key: Path, server_cert: Path) -> dict[str, str]:
    """The fields clientcert, clientkey and servercert, each a PEM text.

    Raises AuthorityError when a file is not what it should be, or the key is not the certificate's.
    """
    client_text, key_text, server_text = _text(client_cert), _text(client_key), _text(server_cert)
    client = _certificate(client_cert, client_text)
    _certificate(server_cert, server_text)
    try:
        key = load_pem_private_key(key_text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says may be about the key's text.
        raise AuthorityError(f"{client_key} holds no unencrypted private key in PEM format") from None
    if key.public_key() != client.public_key():
        raise AuthorityError(f"the key in {client_key} is not that of the certificate in {client_cert}")
    return {"clientcert": client_text, "clientkey": key_text, "servercert": server_text}


def _certificate(path: Path, text: str) -> x509.Certificate:
    """The file's first certificate; others may follow it, as in a chain."""
    try:
        certificate = x509.load_pem_x509_certificates(text.encode())[0]
    except ValueError:
        raise AuthorityError(f"{path} holds no certificate in PEM format") from None
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise AuthorityError(f"the certificate in {path} ended on {certificate.not_valid_after_utc}")
    return certificate


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise AuthorityError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AuthorityError(f"{path} is not in PEM format") from None
