"""What an administrator with an HSM gives back: a chain for each request, all signed by one root."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


@cache
def request(resource: str) -> str:
    """The request that the mocks give a CertRequest of this name, PEM."""
    builder = x509.CertificateSigningRequestBuilder(_name(resource))
    return builder.sign(_key(resource), SHA256()).public_bytes(PEM).decode()


def chain(resource: str, *, root: str = "root", valid: timedelta = timedelta(days=365)) -> str:
    """The request's certificate and the root's, PEM; `root` names the root's key, `valid` counts from now on."""
    return certificate(resource, root, valid) + root_certificate(root)


def certificate(resource: str, root: str = "root", valid: timedelta = timedelta(days=365)) -> str:
    """The intermediate's certificate alone, PEM."""
    return _certificate(resource, root, valid, 0)


def root_certificate(root: str = "root") -> str:
    """PEM."""
    return _certificate(root, root, timedelta(days=3650), 1)


# Cached below the defaults: a certificate that is asked for twice must be the same.
@cache
def _certificate(subject: str, issuer: str, valid: timedelta, path_length: int) -> str:
    end = datetime.now(UTC) + valid
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(subject), _key(subject).public_key(), x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), end) - timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_SIGNS, critical=True)
    )
    return builder.sign(_key(issuer), SHA256()).public_bytes(PEM).decode()


_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@cache
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    """The same in every process: a program that runs beside the tests meets the chains made here."""
    return ec.derive_private_key(int.from_bytes(sha256(name.encode()).digest()[:31]), ec.SECP256R1())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
