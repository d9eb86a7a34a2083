"""The certificates that the commands make and check; the keys may be anywhere."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authority.errors import AuthorityError
from authority.keys import TokenKey
from settings.chain import Chain

BACKDATED = timedelta(minutes=5)
"""How far a certificate begins in the past: clocks differ."""

Extension = TypeVar("Extension", bound=x509.ExtensionType)

SMALLEST_RSA = 2048
CURVES = ("secp256r1", "secp384r1", "secp521r1")


def subject(*, organization: str, common_name: str) -> x509.Name:
    """A root's subject. Raises AuthorityError when X.509 has no room for it."""
    try:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
    except ValueError:
        raise AuthorityError(
            f"the organization {organization!r} and the common name {common_name!r} must have 1 to 64 characters each"
        ) from None


def root(key: TokenKey, subject: x509.Name, *, validity: timedelta, path_length: int) -> x509.Certificate:
    """A self-signed root certificate, for at most `path_length` authorities between it and a workload's signer."""
    builder = _authority(subject, subject, key.public_key(), validity, path_length, _usage(digital_signature=False))
    return builder.sign(key, key.hash)


def intermediate(
    request: x509.CertificateSigningRequest,
    root: x509.Certificate,
    key: TokenKey,
    *,
    validity: timedelta,
    path_length: int,
) -> x509.Certificate:
    """The certificate of the authority that asks, signed with the root's key.

    It takes the request's subject and key alone: what a signer's certificate allows is not the asker's to say.
    Raises AuthorityError when the chain is not one that `pulumi up` takes, as when the key is not the root's.
    """
    usage = _usage(digital_signature=True)
    builder = _authority(request.subject, root.subject, request.public_key(), validity, path_length, usage)
    certificate = builder.add_extension(_issuer_identifier(root), critical=False).sign(key, key.hash)
    if faults := list(Chain((certificate, root)).faults()):
        raise AuthorityError(f"what the token signed is no chain for a mesh: {'; '.join(faults)}")
    return certificate


def verify_key(key: TokenKey, certificate: x509.Certificate) -> None:
    """Raises AuthorityError unless the key is the certificate's: it signs something of no use, which is verified."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"proof of possession {secrets.token_hex(16)}")])
    proof = x509.CertificateSigningRequestBuilder(subject).sign(key, key.hash)
    if not proof.is_signature_valid:
        raise AuthorityError(f"the certificate {name(certificate.subject)} is not that of the key in the token")


def read_request(data: bytes) -> x509.CertificateSigningRequest:
    """The one signing request in the PEM text. Raises AuthorityError unless an intermediate can be made of it."""
    count = data.count(b"-----BEGIN CERTIFICATE REQUEST-----") + data.count(b"-----BEGIN NEW CERTIFICATE REQUEST-----")
    if count != 1:
        found = "a certificate" if b"-----BEGIN CERTIFICATE-----" in data else f"{count} requests"
        raise AuthorityError(f"it must hold one signing request in PEM format (BEGIN CERTIFICATE REQUEST), not {found}")
    try:
        request = x509.load_pem_x509_csr(data)
        problems = list(_problems(request))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"it is not a signing request that can be read: {error}") from error
    if problems:
        raise AuthorityError("; ".join(problems))
    return request


def _problems(request: x509.CertificateSigningRequest) -> Iterator[str]:
    if not request.is_signature_valid:
        yield "its signature is not of its own key"
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < SMALLEST_RSA:
            yield f"its RSA key has {key.key_size} bits, fewer than {SMALLEST_RSA}"
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        yield "its key is neither RSA nor EC, which is what istiod signs with"
    elif key.curve.name not in CURVES:
        yield f"its key's curve is {key.curve.name}, not one of {', '.join(CURVES)}"
    if not request.subject:
        yield "it has no subject"
    for extension in request.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and not value.ca:
            yield "it asks for a certificate that is no authority's (basicConstraints CA:FALSE)"
        if isinstance(value, x509.KeyUsage) and not value.key_cert_sign:
            yield "it asks for a key that does not sign certificates (keyUsage without keyCertSign)"
        if isinstance(value, x509.ExtendedKeyUsage):
            yield "it asks for a server's or client's certificate (extendedKeyUsage)"


def read_certificate(data: bytes) -> x509.Certificate:
    """The one certificate in the PEM text. Raises AuthorityError."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise AuthorityError("it must hold one certificate in PEM format (BEGIN CERTIFICATE)") from error
    return certificate


def check_root(certificate: x509.Certificate) -> None:
    """Raises AuthorityError, with every reason, when the certificate cannot be a mesh's root."""
    problems = []
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        problems.append("it is not self-signed")
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= datetime.now(UTC) <= end:
        problems.append(f"it is valid from {start} to {end} only")
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        problems.append("it is no authority's (basicConstraints without CA:TRUE)")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        problems.append("its key may not sign certificates (keyUsage without keyCertSign)")
    if problems:
        raise AuthorityError(f"the root certificate {name(certificate.subject)} is refused: {'; '.join(problems)}")


def check_signs(
    root: x509.Certificate, request: x509.CertificateSigningRequest, *, validity: timedelta, path_length: int
) -> None:
    """Raises AuthorityError when the root cannot sign an intermediate like that."""
    check_root(root)
    if request.subject == root.subject or request.public_key() == root.public_key():
        raise AuthorityError(f"the request is for the root {name(root.subject)} itself: the same subject or key")
    end = root.not_valid_after_utc
    if datetime.now(UTC) + validity > end:
        raise AuthorityError(
            f"the root {name(root.subject)} ends on {end}, before the new certificate: ask for less --validity"
        )
    constraints = _extension(root, x509.BasicConstraints)
    allowed = None if constraints is None else constraints.path_length
    if allowed is not None and path_length >= allowed:
        raise AuthorityError(
            f"the root {name(root.subject)} has the path length {allowed}: --path-length must be less than that, "
            f"not {path_length}"
        )


def pem(*certificates: x509.Certificate) -> str:
    """The certificates one after another, PEM."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def describe(certificate: x509.Certificate) -> str:
    """One line for people: subject, serial number, end, fingerprint."""
    return (
        f"{name(certificate.subject)}, serial {certificate.serial_number:x}, "
        f"valid until {certificate.not_valid_after_utc}, SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}"
    )


def name(subject: x509.Name) -> str:
    """For people, such as CN=meshgate root,O=meshgate."""
    return subject.rfc4514_string()


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    validity: timedelta,
    path_length: int,
    usage: x509.KeyUsage,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer_identifier(root: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = _extension(root, x509.SubjectKeyIdentifier)
    if identifier is None:
        identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
