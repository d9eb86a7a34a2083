"""The stand-in for Pulumi's tls plugin: private keys, certificate requests and certificates, made with `cryptography`.

Properties, defaults and behaviour follow version 5.6.2 of the package (https://www.pulumi.com/registry/packages/tls/):
every changed input replaces the resource, except `earlyRenewalHours`; a certificate within its early renewal window, or
past its end, is replaced by the next update. What the official plugin finds out only when it creates a resource (a PEM
that cannot be read, a CA certificate and key that do not belong together) is reported by the check already.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.base import Plain, Problem, Property, Resource, StandIn, contains_unknown, serve

VERSION = "5.6.2"

E = TypeVar("E", bound=x509.ExtensionType)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

CURVES: dict[str, ec.EllipticCurve] = {
    "P224": ec.SECP224R1(),
    "P256": ec.SECP256R1(),
    "P384": ec.SECP384R1(),
    "P521": ec.SECP521R1(),
}

KEY_USAGES = {
    "digital_signature": "digital_signature",
    "content_commitment": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "cert_signing": "key_cert_sign",
    "crl_signing": "crl_sign",
    "encipher_only": "encipher_only",
    "decipher_only": "decipher_only",
}
"""allowedUses that are key usages, with their names in `x509.KeyUsage`."""

EXTENDED_KEY_USAGES = {
    "any_extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec_end_system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec_tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec_user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft_server_gated_crypto": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape_server_gated_crypto": ObjectIdentifier("2.16.840.1.113730.4.1"),
    "microsoft_commercial_code_signing": ObjectIdentifier("1.3.6.1.4.1.311.2.1.22"),
    "microsoft_kernel_code_signing": ObjectIdentifier("1.3.6.1.4.1.311.61.1.1"),
}

# In the order in which a distinguished name lists them.
SUBJECT_OIDS = {
    "country": NameOID.COUNTRY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "streetAddresses": NameOID.STREET_ADDRESS,
    "postalCode": NameOID.POSTAL_CODE,
    "commonName": NameOID.COMMON_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}

STRING = Property(kind="string")
STRINGS = Property(kind="list", item=STRING)
FLAG = Property(kind="boolean", default=False)
SUBJECT = Property(
    kind="object", fields={name: STRINGS if name == "streetAddresses" else STRING for name in SUBJECT_OIDS}
)


def key_properties(name: str) -> dict[str, Property]:
    """The three inputs that can hold a private key: as an ordinary, or as a write-only argument with its version."""
    return {
        name: Property(kind="string", secret=True),
        f"{name}Wo": Property(kind="string", secret=True, write_only=True),
        f"{name}WoVersion": Property(kind="integer"),
    }


ALTERNATIVE_NAMES = {"dnsNames": STRINGS, "ipAddresses": STRINGS, "uris": STRINGS}

CERTIFICATE_INPUTS = {
    "allowedUses": Property(
        kind="list", item=Property(kind="string", values=(*KEY_USAGES, *EXTENDED_KEY_USAGES)), required=True
    ),
    "validityPeriodHours": Property(kind="integer", minimum=0, required=True),
    "earlyRenewalHours": Property(kind="integer", minimum=0, default=0, in_place=True),
    "isCaCertificate": FLAG,
    "maxPathLength": Property(kind="integer", minimum=-1, default=-1),
    "setSubjectKeyId": FLAG,
}

CERTIFICATE_OUTPUTS = {
    "certPem": STRING,
    "readyForRenewal": FLAG,
    "validityStartTime": STRING,
    "validityEndTime": STRING,
}


def now() -> datetime:
    """The time at which certificates begin, and against which their renewal is due."""
    return datetime.now(UTC).replace(microsecond=0)


class PrivateKey(Resource):
    """`tls:index/privateKey:PrivateKey`."""

    def __init__(self) -> None:
        super().__init__(
            inputs={
                "algorithm": Property(kind="string", required=True, values=("RSA", "ECDSA", "ED25519")),
                "rsaBits": Property(kind="integer", minimum=1024, default=2048),
                "ecdsaCurve": Property(kind="string", values=tuple(CURVES), default="P224"),
            },
            computed={
                "privateKeyOpenssh": replace(STRING, secret=True),
                "privateKeyPem": replace(STRING, secret=True),
                "privateKeyPemPkcs8": replace(STRING, secret=True),
                "publicKeyFingerprintMd5": STRING,
                "publicKeyFingerprintSha256": STRING,
                "publicKeyOpenssh": STRING,
                "publicKeyPem": STRING,
            },
        )

    def create(self, inputs: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]]:
        key: Key
        if inputs["algorithm"] == "RSA":
            key = rsa.generate_private_key(public_exponent=65537, key_size=_integer(inputs, "rsaBits", 2048))
        elif inputs["algorithm"] == "ECDSA":
            key = ec.generate_private_key(CURVES[str(inputs.get("ecdsaCurve", "P224"))])
        else:
            key = ed25519.Ed25519PrivateKey.generate()
        # PKCS#1 and SEC 1, as Go writes them; for Ed25519 there is PKCS#8 only.
        plain_format = serialization.PrivateFormat.TraditionalOpenSSL
        if isinstance(key, ed25519.Ed25519PrivateKey):
            plain_format = serialization.PrivateFormat.PKCS8
        public = key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        outputs: dict[str, Plain] = {
            "privateKeyPem": _private_pem(key, plain_format),
            "privateKeyPemPkcs8": _private_pem(key, serialization.PrivateFormat.PKCS8),
            "publicKeyPem": public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ).decode(),
            # OpenSSH knows no P-224: these stay empty then.
            "privateKeyOpenssh": "",
            "publicKeyOpenssh": "",
            "publicKeyFingerprintMd5": "",
            "publicKeyFingerprintSha256": "",
        }
        if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP224R1)):
            line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            blob = base64.b64decode(line.split()[1])
            outputs |= {
                "privateKeyOpenssh": _private_pem(key, serialization.PrivateFormat.OpenSSH),
                "publicKeyOpenssh": f"{line.decode()}\n",
                "publicKeyFingerprintMd5": hashlib.md5(blob, usedforsecurity=False).digest().hex(":"),
                "publicKeyFingerprintSha256": "SHA256:"
                + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("="),
            }
        return _digest(der), outputs


class CertRequest(Resource):
    """`tls:index/certRequest:CertRequest`."""

    def __init__(self) -> None:
        super().__init__(
            inputs={**key_properties("privateKeyPem"), "subject": SUBJECT, **ALTERNATIVE_NAMES},
            computed={"certRequestPem": STRING, "keyAlgorithm": STRING},
        )

    def problems(self, inputs: Mapping[str, Plain]) -> Iterator[Problem]:
        yield from _key_problems(inputs, "privateKeyPem")
        yield from _name_problems(inputs)

    def create(self, inputs: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]]:
        key = _load_key(_key_pem(inputs, "privateKeyPem"))
        subject = _subject(inputs)
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if names := _alternative_names(inputs):
            builder = builder.add_extension(names, critical=not subject.rdns)
        request = builder.sign(key, _hash_for(key))
        der = request.public_bytes(serialization.Encoding.DER)
        pem = request.public_bytes(serialization.Encoding.PEM).decode()
        return _digest(der), {"certRequestPem": pem, "keyAlgorithm": _algorithm(key)}


class Certificate(Resource):
    """What the two kinds of certificates share."""

    def problems(self, inputs: Mapping[str, Plain]) -> Iterator[Problem]:
        uses = inputs["allowedUses"]
        if isinstance(uses, list) and not contains_unknown(uses) and "key_agreement" not in uses:
            for use in ("encipher_only", "decipher_only"):
                if use in uses:
                    yield f"allowedUses[{uses.index(use)}]", f"is {use!r}, which needs 'key_agreement' beside it"
        hours = inputs["validityPeriodHours"]
        if isinstance(hours, float):
            try:
                now() + timedelta(hours=hours)
            except OverflowError:
                yield "validityPeriodHours", f"is {hours:.0f}, which ends after the year 9999"

    def refresh(self, state: Mapping[str, Plain]) -> dict[str, Plain]:
        return {"readyForRenewal": True} if _renewal_is_due(state, state) else {}

    def renewals(self, state: Mapping[str, Plain], inputs: Mapping[str, Plain]) -> list[str]:
        return ["readyForRenewal"] if _renewal_is_due(state, inputs) else []


class SelfSignedCert(Certificate):
    """`tls:index/selfSignedCert:SelfSignedCert`."""

    def __init__(self) -> None:
        super().__init__(
            inputs={
                **key_properties("privateKeyPem"),
                "subject": SUBJECT,
                **ALTERNATIVE_NAMES,
                **CERTIFICATE_INPUTS,
                "setAuthorityKeyId": FLAG,
            },
            computed={**CERTIFICATE_OUTPUTS, "keyAlgorithm": STRING},
        )

    def problems(self, inputs: Mapping[str, Plain]) -> Iterator[Problem]:
        yield from _key_problems(inputs, "privateKeyPem")
        yield from _name_problems(inputs)
        yield from super().problems(inputs)
        is_ca, with_id = inputs.get("isCaCertificate", False), inputs.get("setSubjectKeyId", False)
        if inputs.get("setAuthorityKeyId") is True and is_ca is False and with_id is False:
            yield "setAuthorityKeyId", "needs a subject key identifier: set setSubjectKeyId or isCaCertificate too"
        subject = inputs.get("subject")
        if is_ca is True and subject != UNKNOWN and not any(_mapping(inputs, "subject").values()):
            yield "subject", "must hold at least one name, because isCaCertificate is true"

    def create(self, inputs: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]]:
        key = _load_key(_key_pem(inputs, "privateKeyPem"))
        subject = _subject(inputs)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        if names := _alternative_names(inputs):
            builder = builder.add_extension(names, critical=not subject.rdns)
        if inputs.get("setAuthorityKeyId"):
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        serial, outputs = _issue(builder, inputs, x509.SubjectKeyIdentifier.from_public_key(key.public_key()), key)
        return serial, {**outputs, "keyAlgorithm": _algorithm(key)}


class LocallySignedCert(Certificate):
    """`tls:index/locallySignedCert:LocallySignedCert`."""

    def __init__(self) -> None:
        super().__init__(
            inputs={
                "certRequestPem": replace(STRING, required=True),
                "caCertPem": replace(STRING, required=True),
                **key_properties("caPrivateKeyPem"),
                **CERTIFICATE_INPUTS,
            },
            computed={**CERTIFICATE_OUTPUTS, "caKeyAlgorithm": STRING},
        )

    def problems(self, inputs: Mapping[str, Plain]) -> Iterator[Problem]:
        yield from _key_problems(inputs, "caPrivateKeyPem")
        yield from super().problems(inputs)
        request_pem, ca_pem = inputs["certRequestPem"], inputs["caCertPem"]
        if request_pem != UNKNOWN:
            try:
                request = _load_request(str(request_pem))
            except ValueError:
                yield "certRequestPem", "is not a certificate request in PEM format"
            else:
                if not request.is_signature_valid:
                    yield "certRequestPem", "is not signed by the key that it is for"
                if inputs.get("isCaCertificate") is True and not request.subject.rdns:
                    yield "certRequestPem", "has no subject, which is required because isCaCertificate is true"
        if ca_pem != UNKNOWN:
            try:
                ca = _load_certificate(str(ca_pem))
            except ValueError:
                yield "caCertPem", "is not a certificate in PEM format"
            else:
                key_pem = _key_pem(inputs, "caPrivateKeyPem")
                if _is_key(key_pem) and _load_key(key_pem).public_key() != ca.public_key():
                    yield "caPrivateKeyPem", "is not the key of the certificate in caCertPem"

    def create(self, inputs: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]]:
        request, ca = _load_request(str(inputs["certRequestPem"])), _load_certificate(str(inputs["caCertPem"]))
        key = _load_key(_key_pem(inputs, "caPrivateKeyPem"))
        builder = x509.CertificateBuilder().subject_name(request.subject).issuer_name(ca.subject)
        builder = builder.public_key(request.public_key())
        if names := _find(request.extensions, x509.SubjectAlternativeName):
            builder = builder.add_extension(names, critical=not request.subject.rdns)
        # Like Go's x509: the issuer's identifier is named whenever it has one.
        if identifier := _find(ca.extensions, x509.SubjectKeyIdentifier):
            authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
            builder = builder.add_extension(authority, critical=False)
        serial, outputs = _issue(builder, inputs, x509.SubjectKeyIdentifier.from_public_key(request.public_key()), key)
        return serial, {**outputs, "caKeyAlgorithm": _algorithm(key)}


def _issue(
    builder: x509.CertificateBuilder, inputs: Mapping[str, Plain], subject_key_id: x509.SubjectKeyIdentifier, key: Key
) -> tuple[str, dict[str, Plain]]:
    start = now()
    end = start + timedelta(hours=_integer(inputs, "validityPeriodHours", 0))
    serial = 1 + secrets.randbelow(2**128 - 1)
    is_ca = bool(inputs.get("isCaCertificate"))
    length = _integer(inputs, "maxPathLength", -1)
    constraints = x509.BasicConstraints(ca=is_ca, path_length=length if is_ca and length >= 0 else None)
    builder = builder.serial_number(serial).not_valid_before(start).not_valid_after(end)
    builder = builder.add_extension(constraints, critical=True)
    uses = [str(use) for use in cast("list[Plain]", inputs["allowedUses"])]
    if any(use in KEY_USAGES for use in uses):
        flags = {flag: use in uses for use, flag in KEY_USAGES.items()}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if extended := [EXTENDED_KEY_USAGES[use] for use in dict.fromkeys(uses) if use in EXTENDED_KEY_USAGES]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if is_ca or inputs.get("setSubjectKeyId"):
        builder = builder.add_extension(subject_key_id, critical=False)
    certificate = builder.sign(key, _hash_for(key))
    return str(serial), {
        "certPem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "readyForRenewal": False,
        "validityStartTime": _timestamp(start),
        "validityEndTime": _timestamp(end),
    }


def _renewal_is_due(state: Mapping[str, Plain], inputs: Mapping[str, Plain]) -> bool:
    early = inputs.get("earlyRenewalHours", 0.0)
    end = state.get("validityEndTime")
    if not isinstance(end, str) or not isinstance(early, (int, float)):
        return False
    # In seconds from now, because an early renewal may lie before the first year that a datetime knows.
    return (datetime.fromisoformat(end) - now()).total_seconds() <= early * 3600


def _key_pem(inputs: Mapping[str, Plain], name: str) -> str:
    return str(inputs.get(name) or inputs.get(f"{name}Wo") or "")


def _key_problems(inputs: Mapping[str, Plain], name: str) -> Iterator[Problem]:
    given = [option for option in (name, f"{name}Wo") if option in inputs]
    if len(given) != 1:
        yield name, f"or {name}Wo is required, exactly one of them; {'both are' if given else 'neither is'} given"
        return
    if f"{name}Wo" in inputs and f"{name}WoVersion" not in inputs:
        yield f"{name}WoVersion", f"is required beside {name}Wo: a new version tells that the key changed"
    if (pem := inputs[given[0]]) != UNKNOWN and not _is_key(str(pem)):
        yield given[0], "is not an unencrypted RSA, ECDSA or Ed25519 private key in PEM format"


def _name_problems(inputs: Mapping[str, Plain]) -> Iterator[Problem]:
    for name, value in _mapping(inputs, "subject").items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text and text != UNKNOWN:
                try:
                    x509.NameAttribute(SUBJECT_OIDS[name], text)
                except ValueError as error:
                    yield f"subject.{name}", f"is {text!r}, which cannot be used: {error}"
    for name, make in _ALTERNATIVES.items():
        for index, value in enumerate(_list(inputs, name)):
            if value != UNKNOWN:
                try:
                    make(str(value))
                except ValueError as error:
                    yield f"{name}[{index}]", f"is {value!r}, which cannot be used: {error}"


_ALTERNATIVES = {
    "dnsNames": x509.DNSName,
    "ipAddresses": lambda text: x509.IPAddress(ipaddress.ip_address(text)),
    "uris": x509.UniformResourceIdentifier,
}


def _alternative_names(inputs: Mapping[str, Plain]) -> x509.SubjectAlternativeName | None:
    names = [make(str(value)) for name, make in _ALTERNATIVES.items() for value in _list(inputs, name)]
    return x509.SubjectAlternativeName(names) if names else None


def _subject(inputs: Mapping[str, Plain]) -> x509.Name:
    subject = _mapping(inputs, "subject")
    parts = []
    for name, oid in SUBJECT_OIDS.items():
        value = subject.get(name)
        # All streets are one part of the name, as in Go's pkix.Name.
        if texts := [str(text) for text in (value if isinstance(value, list) else [value]) if text]:
            parts.append(x509.RelativeDistinguishedName([x509.NameAttribute(oid, text) for text in texts]))
    return x509.Name(parts)


def _find(extensions: x509.Extensions, kind: type[E]) -> E | None:
    return next((extension.value for extension in extensions if isinstance(extension.value, kind)), None)


def _load_key(pem: str) -> Key:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError(f"unsupported kind of key: {type(key).__name__}")
    return key


def _is_key(pem: str) -> bool:
    try:
        _load_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _load_request(pem: str) -> x509.CertificateSigningRequest:
    return x509.load_pem_x509_csr(pem.encode())


def _load_certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _private_pem(key: Key, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _algorithm(key: Key) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePrivateKey) else "ED25519"


def _hash_for(key: Key) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None  # it hashes by itself
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256:
        return hashes.SHA384() if key.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def _digest(der: bytes) -> str:
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()


def _timestamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _integer(inputs: Mapping[str, Plain], name: str, default: int) -> int:
    value = inputs.get(name, default)
    assert isinstance(value, int | float)
    return int(value)


def _mapping(inputs: Mapping[str, Plain], name: str) -> dict[str, Plain]:
    value = inputs.get(name)
    return value if isinstance(value, dict) else {}


def _list(inputs: Mapping[str, Plain], name: str) -> list[Plain]:
    value = inputs.get(name)
    return value if isinstance(value, list) else []


def plugin() -> StandIn:
    """The stand-in, ready to be served."""
    return StandIn(
        "tls",
        VERSION,
        {
            "tls:index/privateKey:PrivateKey": PrivateKey(),
            "tls:index/certRequest:CertRequest": CertRequest(),
            "tls:index/selfSignedCert:SelfSignedCert": SelfSignedCert(),
            "tls:index/locallySignedCert:LocallySignedCert": LocallySignedCert(),
        },
    )


if __name__ == "__main__":
    serve(plugin(), sys.argv[1:])
