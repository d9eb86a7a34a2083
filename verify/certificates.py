"""Certificates that probes make up, and whether those that a server presents belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key in PEM, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(name: x509.Name) -> Issued:
    """A new CA that nobody trusts, whatever its name says."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Issued(_sign(name, key, name, key, ca=True), key)


def client(subject: x509.Name, issuer: Issued) -> Issued:
    """A client's certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Issued(_sign(subject, key, issuer.certificate.subject, issuer.key, ca=False), key)


def common_name(text: str) -> x509.Name:
    """A name of only that."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer_key, SHA256())


def chain_faults(presented: Sequence[x509.Certificate], root: x509.Certificate | None) -> list[str]:
    """What is wrong with leaf and intermediates as a server presented them; `root` is None where it is not known.

    That the leaf is for the right host and in its time is curl's to check.
    """
    if not presented:
        return ["the server presented no certificate"]
    leaf, *issuers = presented
    if not issuers:
        return [] if root is None else ["the server presented no intermediate"]
    chain = [leaf, *issuers]
    if root is not None:
        if leaf.issuer == root.subject:
            return ["the leaf is issued by the root itself, not by an intermediate"]
        if issuers[-1] != root:
            chain.append(root)
    return [
        f"{_who(one)} is not issued by {_who(issuer)}" for one, issuer in pairwise(chain) if not issued_by(one, issuer)
    ]


def described(presented: Sequence[x509.Certificate]) -> str:
    """The presented chain in words."""
    if not presented:
        return "no certificate"
    return f"leaf {_who(presented[0])} issued by {common_name_of(presented[0].issuer)}"


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one signed the other, by name and by key."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _who(certificate: x509.Certificate) -> str:
    """Its subject, or whom else it is for: a workload's has no subject."""
    if certificate.subject:
        return common_name_of(certificate.subject)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "nobody"
    return ", ".join(str(name.value) for name in names)


def common_name_of(name: x509.Name) -> str:
    """What people call it."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def fingerprint(certificate: x509.Certificate) -> str:
    """A certificate by its name and SHA-256, as people compare it."""
    return f"{_who(certificate)} (SHA-256 {certificate.fingerprint(SHA256()).hex(':').upper()})"
