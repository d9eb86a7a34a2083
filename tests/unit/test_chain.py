"""Chains of a mesh CA: each way in which one can be wrong is told, and a right one is taken as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from settings.chain import Chain, ChainError, read, requested_key

NOW = datetime.now(UTC).replace(microsecond=0)
PEM = serialization.Encoding.PEM
DAY = timedelta(days=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH

SHARED = ec.generate_private_key(ec.SECP256R1())
"""A key for whatever needs none of its own: to make one takes longer than the rest of a test."""


@dataclass(kw_only=True)
class Ca:
    """A CA, right in everything that a test does not change."""

    name: str
    signer: Ca | None = None
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    begin: datetime = NOW - 10 * DAY
    end: datetime = NOW + 3650 * DAY
    ca: bool | None = True
    path_length: int | None = None
    signs: bool | None = True
    purposes: Sequence[ObjectIdentifier] = ()
    identifiers: bool = True
    names_signer: Ca | None = None
    """Whose key it names as its signer's, where that is another."""

    @property
    def pem(self) -> str:
        signer = self.signer or self
        builder = (
            x509.CertificateBuilder(_name(signer.name), _name(self.name), self.key.public_key(), 1)
            .not_valid_before(self.begin)
            .not_valid_after(self.end)
        )
        if self.ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(self.ca, self.path_length), critical=True)
        if self.signs is not None:
            builder = builder.add_extension(_usage(self.signs), critical=True)
        if self.purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.purposes), critical=False)
        if self.identifiers:
            named = (self.names_signer or signer).key.public_key()
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(named), False)
        return builder.sign(signer.key, SHA256()).public_bytes(PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, signs, True, False, False)


ROOT = Ca(name="root", path_length=1)


def intermediate(**changes: Any) -> Ca:
    """Signed by the root, with the shared key."""
    values: dict[str, Any] = {
        "name": "mesh",
        "signer": ROOT,
        "key": SHARED,
        "path_length": 0,
        "end": NOW + 365 * DAY,
        **changes,
    }
    return Ca(**values)


def chain(*members: Ca) -> Chain:
    """The members' certificates in this order."""
    return read("".join(member.pem for member in members))


def faults(*members: Ca) -> list[str]:
    """What is wrong with them in this order."""
    return list(chain(*members).faults())


def test_right_chain() -> None:
    found = chain(intermediate(), ROOT)
    assert list(found.faults()) == []
    assert (found.early(), found.expired(), found.ends_soon()) == (None, None, None)
    assert found.ends == NOW + 365 * DAY


def test_chain_of_three_under_an_rsa_root() -> None:
    root = Ca(name="root", key=rsa.generate_private_key(65537, 2048))
    issuing = Ca(name="issuing", signer=root, path_length=1, identifiers=False)
    assert faults(intermediate(signer=issuing), issuing, root) == []


def test_both_purposes_pass() -> None:
    assert faults(intermediate(purposes=[SERVER, CLIENT]), ROOT) == []
    assert faults(intermediate(purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), ROOT) == []


def test_parts() -> None:
    """What stands between the certificates (openssl's text) is left out."""
    ca, root = intermediate().pem, ROOT.pem
    found = read(f"subject=CN=mesh\nissuer=CN=root\n{ca}\n  \nsubject=CN=root\n{root}")
    assert (found.certificate, found.root, found.text) == (ca, root, ca + root)


def test_key_is_the_requests() -> None:
    request = x509.CertificateSigningRequestBuilder(_name("mesh")).sign(SHARED, SHA256()).public_bytes(PEM).decode()
    assert chain(intermediate(), ROOT).public_key == requested_key(request)
    assert chain(intermediate(key=ROOT.key), ROOT).public_key != requested_key(request)


@pytest.mark.parametrize(
    "text",
    ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "chain.pem"],
    ids=["empty", "words", "cut off", "a path"],
)
def test_no_certificates(text: str) -> None:
    with pytest.raises(ChainError, match=r"^holds no certificates in PEM; it takes what `python -m authority sign`"):
        read(text)


def test_private_key_is_refused_and_not_repeated() -> None:
    encoding = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = SHARED.private_bytes(PEM, *encoding).decode()
    with pytest.raises(ChainError, match=r"^holds a private key") as error:
        read(intermediate().pem + ROOT.pem + key)
    assert key.splitlines()[1] not in str(error.value)


OTHER = Ca(name="other")
SAME_NAME = Ca(name="root")
TWO_BELOW = Ca(name="root", path_length=0)
SHORT = Ca(name="root", end=NOW + 364 * DAY)

WRONG: dict[str, tuple[Sequence[Ca], str]] = {
    "the root alone": ([ROOT], "has the root alone, CN=root; the signed intermediate comes before it"),
    "upside down": (
        [ROOT, intermediate()],
        "CN=root signs itself, but is not the last: a chain begins with the signed intermediate and ends with its root",
    ),
    "the root twice": (
        [intermediate(), ROOT, ROOT],
        "CN=root signs itself, but is not the last: a chain begins with the signed intermediate and ends with its root",
    ),
    "self-signed, not by the root": (
        [intermediate(signer=None), ROOT],
        "CN=mesh signs itself, but is not the last: a chain begins with the signed intermediate and ends with its root",
    ),
    "without its root": (
        [intermediate()],
        "does not end with a root: CN=mesh is signed by CN=root, whose certificate is missing",
    ),
    "another's root": ([intermediate(), OTHER], "CN=mesh is not signed by the next, CN=other, but by CN=root"),
    "another root of the same name": (
        [intermediate(identifiers=False), SAME_NAME],
        "CN=mesh is not signed by the next, CN=root: the signature is another key's",
    ),
    "names another key": (
        [intermediate(names_signer=OTHER), ROOT],
        "CN=mesh is not signed by the next, CN=root: it names another key as its signer's (authority key identifier)",
    ),
    "lives too long": (
        [intermediate(signer=SHORT), SHORT],
        f"CN=mesh lives until {NOW + 365 * DAY:%Y-%m-%d %H:%M} UTC, longer than its signer CN=root "
        f"({NOW + 364 * DAY:%Y-%m-%d %H:%M} UTC)",
    ),
    "no CA": (
        [intermediate(ca=False, path_length=None), ROOT],
        "CN=mesh is no CA's certificate (basic constraints lack CA:TRUE)",
    ),
    "no constraints": (
        [intermediate(ca=None), ROOT],
        "CN=mesh is no CA's certificate (basic constraints lack CA:TRUE)",
    ),
    "path too long": (
        [intermediate(signer=TWO_BELOW), TWO_BELOW],
        "CN=root allows 0 CAs below it (path length), but has 1",
    ),
    "may not sign": (
        [intermediate(signs=False), ROOT],
        "CN=mesh may not sign certificates (key usage lacks keyCertSign)",
    ),
    "says nothing of its use": (
        [intermediate(signs=None), ROOT],
        "CN=mesh may not sign certificates (key usage lacks keyCertSign)",
    ),
    "servers alone": (
        [intermediate(purposes=[SERVER]), ROOT],
        "CN=mesh signs no certificates for clients (extended key usage), which every workload needs",
    ),
    "clients alone": (
        [intermediate(purposes=[CLIENT]), ROOT],
        "CN=mesh signs no certificates for servers (extended key usage), which every workload needs",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_chain(wrong: str) -> None:
    members, message = WRONG[wrong]
    assert faults(*members) == [message]


OLD = """-----BEGIN CERTIFICATE-----
MIIBijCCATKgAwIBAgIUJN59PA7nU2VYraogaXJDUPDbXVgwCQYHKoZIzj0EATAT
MREwDwYDVQQDDAhvbGQgcm9vdDAgFw0yNjExMjExNTUzMjVaGA8yMTI2MDcyMDE1
NTMyNVowEzERMA8GA1UEAwwIb2xkIG1lc2gwWTATBgcqhkjOPQIBBggqhkjOPQMB
BwNCAAQQDMcoa/HEAyXRpF9EwHU2IT7SY1xqjJEdakAMbYIUbaSGUnPj6aC5u47N
JnRHCRJJygdTNmHl5dpDewzWMjS1o2MwYTAPBgNVHRMBAf8EBTADAQH/MA4GA1Ud
DwEB/wQEAwICBDAdBgNVHQ4EFgQUkLzJ+WimiMT/QH/E3Ujr+Sfp+CEwHwYDVR0j
BBgwFoAUMxrRy8C8UYxyoa36jq9gRTmgehkwCQYHKoZIzj0EAQNHADBEAiBX00Hb
QZO66n8QfY/QhyE4qBPTyx29XDAkC/4JnHtjSAIgbyaqls6Q9S6zBcBNWWat/PLV
X8vvP1wU5pyu7duiEYM=
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
MIIBjTCCATOgAwIBAgIUIvaFTLRzCzs1u+3qCrssCadLY+owCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIb2xkIHJvb3QwIBcNMjYxMTIxMTU1MzI1WhgPMjEyNjEwMjgx
NTUzMjVaMBMxETAPBgNVBAMMCG9sZCByb290MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEFPP1C8NMiMDe1PIlE1qwifq9rBssaE4y7Q7k+0ktlo5d4R8/kTXP0dMn
Noxy/g+4LfNTnibr92+UcLvpvfIT/KNjMGEwHQYDVR0OBBYEFDMa0cvAvFGMcqGt
+o6vYEU5oHoZMB8GA1UdIwQYMBaAFDMa0cvAvFGMcqGt+o6vYEU5oHoZMA8GA1Ud
EwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49BAMCA0gAMEUCIQCt
QzBaigWwg1XiTlnaRMkFqZkugKZS+9syscqjNEpDggIgBIB37C24okWlw6fBacfJ
qBxXG1oysEWW6+qHfllll0A=
-----END CERTIFICATE-----
"""
"""Signed with SHA-1 (`openssl x509 -req -sha1`): the library that the tests sign with has forgotten how."""


def test_old_signature() -> None:
    assert list(read(OLD).faults()) == ["CN=old mesh is signed with sha1, which istiod refuses"]


def test_everything_wrong_is_told_at_once() -> None:
    members = [intermediate(ca=False, path_length=None, signs=False, purposes=[SERVER]), OTHER]
    assert len(faults(*members)) == 4


def test_times() -> None:
    expired = chain(intermediate(begin=NOW - 9 * DAY, end=NOW - DAY), ROOT)
    assert expired.expired() == f"CN=mesh expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC"
    assert expired.early() is None
    early = chain(intermediate(begin=NOW + DAY), ROOT)
    assert early.early() == f"CN=mesh is not valid before {NOW + DAY:%Y-%m-%d %H:%M} UTC"
    assert early.expired() is None


def test_a_roots_times_count_too() -> None:
    root = Ca(name="root", end=NOW - DAY)
    assert chain(intermediate(signer=root), root).expired() == f"CN=root expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC"


@pytest.mark.parametrize(
    ("life", "left", "soon"),
    [
        # A fifth of 100 days is less than 90 days.
        (100 * DAY, 19 * DAY, True),
        (100 * DAY, 21 * DAY, False),
        (3000 * DAY, 89 * DAY, True),
        (3000 * DAY, 91 * DAY, False),
    ],
)
def test_ends_soon(life: timedelta, left: timedelta, soon: bool) -> None:
    end = NOW + left
    found = chain(intermediate(begin=end - life, end=end), ROOT).ends_soon()
    assert found == (f"CN=mesh expires on {end:%Y-%m-%d %H:%M} UTC" if soon else None)
