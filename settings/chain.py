"""Chains of certificates that a security administrator gives back: what is wrong with them, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

E = TypeVar("E", bound=x509.ExtensionType)

SOON = timedelta(days=90)
"""A certificate ends soon when it has less than this left, or a fifth of its life where that is shorter."""


class ChainError(Exception):
    """A text is no chain at all; its text says why."""


@dataclass(frozen=True)
class Chain:
    """A CA's certificate, then whatever signed it, up to and with the root."""

    certificates: tuple[x509.Certificate, ...]

    @cached_property
    def certificate(self) -> str:
        """The CA's own certificate, PEM."""
        return _pem(self.certificates[0])

    @cached_property
    def root(self) -> str:
        """The root's certificate, PEM."""
        return _pem(self.certificates[-1])

    @cached_property
    def text(self) -> str:
        """All of it, PEM, without what stood between the certificates."""
        return "".join(_pem(certificate) for certificate in self.certificates)

    @cached_property
    def public_key(self) -> bytes:
        """The CA's public key, for comparing."""
        return self.certificates[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def ends(self) -> datetime:
        """When the first of its certificates expires."""
        return min(certificate.not_valid_after_utc for certificate in self.certificates)

    def faults(self) -> Iterator[str]:
        """What makes it no chain of CAs; its times are asked for by themselves, because they come by themselves."""
        for certificate in self.certificates[:-1]:
            if _signs(certificate, certificate):
                yield (
                    f"{_name(certificate)} signs itself, but is not the last: a chain begins with the signed "
                    "intermediate and ends with its root"
                )
                return
        if len(self.certificates) == 1 and _signs(self.certificates[0], self.certificates[0]):
            yield f"has the root alone, {_name(self.certificates[0])}; the signed intermediate comes before it"
            return
        for certificate, signer in pairwise(self.certificates):
            yield from _link(certificate, signer)
        if not _signs(self.certificates[-1], self.certificates[-1]):
            last = self.certificates[-1]
            yield f"does not end with a root: {_name(last)} is signed by {_issuer(last)}, whose certificate is missing"
        for below, certificate in enumerate(self.certificates):
            yield from _ca(certificate, below)

    def expired(self) -> str | None:
        """The first certificate whose time is over, in words."""
        for certificate in self.certificates:
            if certificate.not_valid_after_utc < datetime.now(UTC):
                return f"{_name(certificate)} expired on {_time(certificate.not_valid_after_utc)}"
        return None

    def early(self) -> str | None:
        """The first certificate whose time has not come, in words."""
        for certificate in self.certificates:
            if certificate.not_valid_before_utc > datetime.now(UTC):
                return f"{_name(certificate)} is not valid before {_time(certificate.not_valid_before_utc)}"
        return None

    def ends_soon(self) -> str | None:
        """The first certificate that should be renewed, in words."""
        for certificate in self.certificates:
            life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
            if certificate.not_valid_after_utc - datetime.now(UTC) < min(SOON, life / 5):
                return f"{_name(certificate)} expires on {_time(certificate.not_valid_after_utc)}"
        return None


def read(text: str) -> Chain:
    """The chain in a PEM text. Raises ChainError."""
    if "PRIVATE KEY-----" in text:
        raise ChainError("holds a private key, which belongs into no configuration: make that key and chain anew")
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
        for certificate in certificates:
            # Parsed only when they are asked for.
            certificate.extensions  # noqa: B018
    except (ValueError, x509.DuplicateExtension):
        raise ChainError(
            "holds no certificates in PEM; it takes what `python -m authority sign` prints, as text"
        ) from None
    return Chain(tuple(certificates))


def requested_key(request: str) -> bytes:
    """The public key of a request (PKCS#10, PEM), to be compared with a chain's."""
    public_key = x509.load_pem_x509_csr(request.encode()).public_key()
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _link(certificate: x509.Certificate, signer: x509.Certificate) -> Iterator[str]:
    both = f"{_name(certificate)} is not signed by the next, {_name(signer)}"
    if certificate.issuer != signer.subject:
        yield f"{both}, but by {_issuer(certificate)}"
    elif isinstance(certificate.signature_hash_algorithm, MD5 | SHA1):
        yield f"{_name(certificate)} is signed with {certificate.signature_hash_algorithm.name}, which istiod refuses"
    elif not _signs(signer, certificate):
        yield f"{both}: the signature is another key's"
    elif _names_another(certificate, signer):
        yield f"{both}: it names another key as its signer's (authority key identifier)"
    if certificate.not_valid_after_utc > signer.not_valid_after_utc:
        yield (
            f"{_name(certificate)} lives until {_time(certificate.not_valid_after_utc)}, longer than its signer "
            f"{_name(signer)} ({_time(signer.not_valid_after_utc)})"
        )


def _ca(certificate: x509.Certificate, below: int) -> Iterator[str]:
    """What a certificate lacks to be a CA with so many CAs below it."""
    name = _name(certificate)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield f"{name} is no CA's certificate (basic constraints lack CA:TRUE)"
    elif constraints.path_length is not None and constraints.path_length < below:
        yield f"{name} allows {constraints.path_length} CAs below it (path length), but has {below}"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        yield f"{name} may not sign certificates (key usage lacks keyCertSign)"
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in purposes:
        for purpose, called in _BOTH_SIDES.items():
            if purpose not in purposes:
                yield f"{name} signs no certificates for {called} (extended key usage), which every workload needs"


_BOTH_SIDES = {ExtendedKeyUsageOID.SERVER_AUTH: "servers", ExtendedKeyUsageOID.CLIENT_AUTH: "clients"}


def _signs(signer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names_another(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    named = _extension(certificate, x509.AuthorityKeyIdentifier)
    own = _extension(signer, x509.SubjectKeyIdentifier)
    return bool(named and own and named.key_identifier not in (None, own.digest))


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def _issuer(certificate: x509.Certificate) -> str:
    return certificate.issuer.rfc4514_string()


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
