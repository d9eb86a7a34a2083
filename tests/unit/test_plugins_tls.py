"""The stand-in for the tls plugin: the same properties as the SDK, and certificates that hold what was asked for."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import pulumi
import pulumi_tls
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import (
    CheckRequest,
    ConfigureRequest,
    CreateRequest,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    InvokeRequest,
    PropertyDiffKind,
    ReadRequest,
    UpdateRequest,
)
from pulumi.runtime.rpc import UNKNOWN

from lab.instance import Instance
from lab.plugins import guard, tls
from lab.plugins.base import Plain, PluginError, Property, plain_map, wire

TYPES: dict[str, type[pulumi.CustomResource]] = {
    "PrivateKey": pulumi_tls.PrivateKey,
    "CertRequest": pulumi_tls.CertRequest,
    "SelfSignedCert": pulumi_tls.SelfSignedCert,
    "LocallySignedCert": pulumi_tls.LocallySignedCert,
}
TOKENS = {name: f"tls:index/{name[0].lower()}{name[1:]}:{name}" for name in TYPES}
START = datetime(2026, 1, 1, tzinfo=UTC)

Properties = dict[str, PropertyValue]


class Plugin:
    """The plugin as the engine uses it, one method a request, with plain inputs."""

    def __init__(self) -> None:
        self.provider = tls.plugin()

    def urn(self, kind: str) -> str:
        return f"urn:pulumi:test::test::meshgate:a:Parent$meshgate:b:Child${TOKENS[kind]}::it"

    def check(self, kind: str, **inputs: Plain) -> list[tuple[str, str]]:
        request = CheckRequest(self.urn(kind), {}, {name: wire(value) for name, value in inputs.items()}, b"")
        response = asyncio.run(self.provider.check(request))
        return [(failure.property, failure.reason) for failure in response.failures or []]

    def create(self, kind: str, **inputs: Plain) -> tuple[str | None, Properties]:
        return self._create(kind, inputs, preview=False)

    def preview(self, kind: str, **inputs: Plain) -> tuple[str | None, Properties]:
        return self._create(kind, inputs, preview=True)

    def _create(self, kind: str, inputs: dict[str, Plain], *, preview: bool) -> tuple[str | None, Properties]:
        assert self.check(kind, **inputs) == []
        properties = {name: wire(value) for name, value in inputs.items()}
        response = asyncio.run(self.provider.create(CreateRequest(self.urn(kind), properties, 0, preview)))
        return response.resource_id, response.properties

    def made(self, kind: str, **inputs: Plain) -> dict[str, Any]:
        return plain_map(self.create(kind, **inputs)[1])

    def diff(self, kind: str, state: Properties, **inputs: Plain) -> DiffResponse:
        properties = {name: wire(value) for name, value in inputs.items()}
        return asyncio.run(self.provider.diff(DiffRequest(self.urn(kind), "id", state, properties, [])))

    def read(self, kind: str, state: Properties) -> Properties:
        return asyncio.run(self.provider.read(ReadRequest(self.urn(kind), "id", state, {}))).properties


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    backend = tmp_path / "unit" / "state"
    backend.mkdir(parents=True)
    guard.mark(backend)
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    monkeypatch.setenv("MESHGATE_LAB", "unit")
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend.as_uri())
    return Plugin()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time to so many hours after START."""

    def at(hours: float) -> None:
        monkeypatch.setattr(tls, "now", lambda: START + timedelta(hours=hours))

    at(0)
    return at


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """A private key of each algorithm, in PEM."""
    made: dict[str, tls.Key] = {
        "RSA": rsa.generate_private_key(65537, 2048),
        "ECDSA": ec.generate_private_key(ec.SECP384R1()),
        "ED25519": ed25519.Ed25519PrivateKey.generate(),
        "other": ec.generate_private_key(ec.SECP256R1()),
    }
    return {
        name: key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        for name, key in made.items()
    }


ROOT: dict[str, Plain] = {
    "allowedUses": ["cert_signing", "crl_signing"],
    "validityPeriodHours": 1000.0,
    "isCaCertificate": True,
    "subject": {"commonName": "root", "organization": "meshgate"},
}
LEAF: dict[str, Plain] = {"allowedUses": ["digital_signature", "server_auth"], "validityPeriodHours": 100.0}


def root(plugin: Plugin, key: str, **more: Plain) -> dict[str, Any]:
    return plugin.made("SelfSignedCert", privateKeyPem=key, **(ROOT | more))


def certificate(made: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made["certPem"].encode())


def extension(cert: x509.Certificate, kind: type[Any]) -> Any:
    return cert.extensions.get_extension_for_class(kind)


# --- the same properties as the SDK's classes ---


def wire_names(cls: type) -> dict[str, Any]:
    """The properties of an SDK class by their names on the wire, with the getters."""
    found = {}
    for name, member in inspect.getmembers(cls, lambda member: isinstance(member, property)):
        wire_name = getattr(member.fget, "_pulumi_name", None)
        if wire_name is not None:
            found[wire_name] = member.fget
        elif name not in ("id", "urn", "pulumi_resource_name", "pulumi_resource_type"):
            found[name] = member.fget
    return found


def described(annotation: str) -> str:
    """The kind of property for an annotation of the SDK."""
    for sign, kind in (("Sequence", "list"), ("Subject", "object"), ("bool", "boolean"), ("int", "integer")):
        if sign in annotation:
            return kind
    return "string"


@pytest.mark.parametrize("kind", TYPES)
def test_inputs_are_those_of_the_sdk(kind: str) -> None:
    resource = tls.plugin().resources[TOKENS[kind]]
    arguments = getattr(pulumi_tls, f"{kind}Args")
    getters = wire_names(arguments)
    assert set(resource.inputs) == set(getters)
    for name, getter in getters.items():
        assert resource.inputs[name].kind == described(str(getter.__annotations__["return"])), name
    parameters = inspect.signature(arguments.__init__).parameters
    required = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    python_names = {getter.__name__: name for name, getter in getters.items()}
    assert {python_names[name] for name in required if name in python_names} == {
        name for name, prop in resource.inputs.items() if prop.required
    }


@pytest.mark.parametrize("kind", TYPES)
def test_outputs_are_those_of_the_sdk(kind: str) -> None:
    resource = tls.plugin().resources[TOKENS[kind]]
    getters = wire_names(TYPES[kind])
    shown = {**resource.inputs, **resource.computed}
    assert set(shown) == set(getters)
    for name, getter in getters.items():
        annotation = str(getter.__annotations__["return"])
        assert shown[name].kind == described(annotation), name
        if "Optional" not in annotation:
            # The program may rely on it, so it must be there whatever the inputs are.
            prop = shown[name]
            assert name in resource.computed or prop.required or prop.default is not None, name


@pytest.mark.parametrize("kind", TYPES)
def test_secret_outputs_are_those_of_the_sdk(kind: str) -> None:
    resource = tls.plugin().resources[TOKENS[kind]]
    source = inspect.getsource(TYPES[kind])
    listed = source.split("additional_secret_outputs=[")[1].split("]")[0]
    secret = {name for name, prop in {**resource.inputs, **resource.computed}.items() if prop.secret}
    assert secret == {name.strip().strip('"') for name in listed.split(",")}


def test_the_subject_is_the_sdks() -> None:
    for arguments in (pulumi_tls.CertRequestSubjectArgs, pulumi_tls.SelfSignedCertSubjectArgs):
        assert set(tls.SUBJECT.fields) == set(wire_names(arguments))


def test_allowed_uses_are_the_documented_ones() -> None:
    documentation = inspect.getdoc(pulumi_tls.SelfSignedCertArgs.allowed_uses) or ""
    documented = documentation.split("Accepted values: ")[1].rstrip(".").replace("`", "").split(", ")
    item = tls.CERTIFICATE_INPUTS["allowedUses"].item
    assert isinstance(item, Property)
    assert sorted(item.values) == sorted(documented)


def test_the_version_is_the_installed_sdks() -> None:
    assert metadata.version("pulumi_tls") == tls.VERSION


# --- private keys ---


@pytest.mark.parametrize(
    ("inputs", "size", "preamble"),
    [
        ({"algorithm": "RSA"}, 2048, "RSA PRIVATE KEY"),
        ({"algorithm": "RSA", "rsaBits": 3072.0}, 3072, "RSA PRIVATE KEY"),
        ({"algorithm": "ECDSA"}, 224, "EC PRIVATE KEY"),
        ({"algorithm": "ECDSA", "ecdsaCurve": "P256"}, 256, "EC PRIVATE KEY"),
        ({"algorithm": "ECDSA", "ecdsaCurve": "P384"}, 384, "EC PRIVATE KEY"),
        ({"algorithm": "ECDSA", "ecdsaCurve": "P521"}, 521, "EC PRIVATE KEY"),
        ({"algorithm": "ED25519"}, None, "PRIVATE KEY"),
    ],
)
def test_private_key(plugin: Plugin, inputs: dict[str, Plain], size: int | None, preamble: str) -> None:
    made = plugin.made("PrivateKey", **inputs)
    assert made["privateKeyPem"].startswith(f"-----BEGIN {preamble}-----\n")
    assert made["privateKeyPemPkcs8"].startswith("-----BEGIN PRIVATE KEY-----\n")
    key = serialization.load_pem_private_key(made["privateKeyPem"].encode(), None)
    pkcs8 = serialization.load_pem_private_key(made["privateKeyPemPkcs8"].encode(), None)
    public = serialization.load_pem_public_key(made["publicKeyPem"].encode())
    assert key.public_key() == pkcs8.public_key() == public
    assert getattr(key, "key_size", None) == size
    assert made["rsaBits"] == inputs.get("rsaBits", 2048)
    assert made["ecdsaCurve"] == inputs.get("ecdsaCurve", "P224")


def test_private_key_for_openssh(plugin: Plugin) -> None:
    made = plugin.made("PrivateKey", algorithm="ED25519")
    key = serialization.load_ssh_private_key(made["privateKeyOpenssh"].encode(), None)
    assert key.public_key() == serialization.load_ssh_public_key(made["publicKeyOpenssh"].encode())
    assert made["publicKeyOpenssh"].endswith("\n")
    public = serialization.load_ssh_public_key(made["publicKeyOpenssh"].encode())
    assert made["publicKeyFingerprintSha256"].startswith("SHA256:")
    assert not made["publicKeyFingerprintSha256"].endswith("=")
    assert made["publicKeyFingerprintMd5"].count(":") == 15
    assert serialization.ssh_key_fingerprint(public, hashes.MD5()).hex(":") == made["publicKeyFingerprintMd5"]


def test_openssh_knows_no_p224(plugin: Plugin) -> None:
    made = plugin.made("PrivateKey", algorithm="ECDSA", ecdsaCurve="P224")
    for name in ("privateKeyOpenssh", "publicKeyOpenssh", "publicKeyFingerprintMd5", "publicKeyFingerprintSha256"):
        assert made[name] == "", name


def test_private_keys_are_secret_on_the_wire(plugin: Plugin, keys: dict[str, str]) -> None:
    _, made = plugin.create("PrivateKey", algorithm="ECDSA", ecdsaCurve="P256")
    assert {name for name, value in made.items() if value.is_secret} == {
        "privateKeyPem",
        "privateKeyPemPkcs8",
        "privateKeyOpenssh",
    }
    # Given as an ordinary string, it is secret in the outputs all the same.
    _, made = plugin.create("SelfSignedCert", privateKeyPem=keys["other"], **ROOT)
    assert {name for name, value in made.items() if value.is_secret} == {"privateKeyPem"}


def test_ids(plugin: Plugin, keys: dict[str, str]) -> None:
    key_id, _ = plugin.create("PrivateKey", algorithm="ED25519")
    assert key_id
    assert len(bytes.fromhex(key_id)) == 20
    cert_id, made = plugin.create("SelfSignedCert", privateKeyPem=keys["other"], **ROOT)
    assert cert_id == str(certificate(plain_map(made)).serial_number)


# --- certificates ---


@pytest.mark.parametrize("algorithm", ["RSA", "ECDSA", "ED25519"])
def test_a_chain_verifies(plugin: Plugin, keys: dict[str, str], algorithm: str, tmp_path: Path) -> None:
    top = root(plugin, keys[algorithm], maxPathLength=1.0)
    between = plugin.made("PrivateKey", algorithm="ECDSA", ecdsaCurve="P256")["privateKeyPem"]
    request = plugin.made("CertRequest", privateKeyPem=between, subject={"commonName": "intermediate"})
    middle = plugin.made(
        "LocallySignedCert",
        certRequestPem=request["certRequestPem"],
        caCertPem=top["certPem"],
        caPrivateKeyPem=keys[algorithm],
        **(ROOT | {"subject": None, "maxPathLength": 0.0, "validityPeriodHours": 500.0}),
    )
    request = plugin.made(
        "CertRequest", privateKeyPem=keys["other"], subject={"commonName": "leaf"}, dnsNames=["a.example.com"]
    )
    leaf = plugin.made(
        "LocallySignedCert",
        certRequestPem=request["certRequestPem"],
        caCertPem=middle["certPem"],
        caPrivateKeyPem=between,
        **LEAF,
    )
    assert top["keyAlgorithm"] == middle["caKeyAlgorithm"] == algorithm
    for name, made in {"root": top, "middle": middle, "leaf": leaf}.items():
        (tmp_path / name).write_text(made["certPem"])
    subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "a.example.com"),
            *("-CAfile", "root", "-untrusted", "middle", "leaf"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    certs = {name: certificate(made) for name, made in {"root": top, "middle": middle, "leaf": leaf}.items()}
    certs["leaf"].verify_directly_issued_by(certs["middle"])
    lengths = {name: extension(cert, x509.BasicConstraints).value.path_length for name, cert in certs.items()}
    assert lengths == {"root": 1, "middle": 0, "leaf": None}
    # A CA always has a key identifier, and what it signs names it.
    middle_id = extension(certs["middle"], x509.SubjectKeyIdentifier).value
    assert extension(certs["leaf"], x509.AuthorityKeyIdentifier).value.key_identifier == middle_id.digest
    assert len({cert.serial_number for cert in certs.values()}) == 3
    assert all(0 < cert.serial_number < 2**128 for cert in certs.values())


def test_constraints_and_usages(plugin: Plugin, keys: dict[str, str]) -> None:
    cert = certificate(root(plugin, keys["other"]))
    constraints = extension(cert, x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=None)
    usage = extension(cert, x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        extension(cert, x509.ExtendedKeyUsage)

    cert = certificate(
        plugin.made("SelfSignedCert", privateKeyPem=keys["other"], **(LEAF | {"maxPathLength": 3.0, "dnsNames": ["a"]}))
    )
    assert extension(cert, x509.BasicConstraints).value == x509.BasicConstraints(ca=False, path_length=None)
    assert list(extension(cert, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extension(cert, x509.SubjectAlternativeName).critical, "there is no subject"
    with pytest.raises(x509.ExtensionNotFound):
        extension(cert, x509.SubjectKeyIdentifier)


def test_every_allowed_use_is_understood(plugin: Plugin, keys: dict[str, str]) -> None:
    uses: list[Plain] = [*tls.KEY_USAGES, *tls.EXTENDED_KEY_USAGES]
    made = plugin.made("SelfSignedCert", privateKeyPem=keys["other"], allowedUses=uses, validityPeriodHours=1.0)
    cert = certificate(made)
    assert len(list(extension(cert, x509.ExtendedKeyUsage).value)) == len(tls.EXTENDED_KEY_USAGES)
    usage = extension(cert, x509.KeyUsage).value
    assert all(getattr(usage, flag) for flag in tls.KEY_USAGES.values())


def test_key_identifiers_of_a_self_signed_certificate(plugin: Plugin, keys: dict[str, str]) -> None:
    made = plugin.made(
        "SelfSignedCert", privateKeyPem=keys["other"], setSubjectKeyId=True, setAuthorityKeyId=True, **LEAF
    )
    cert = certificate(made)
    own = extension(cert, x509.SubjectKeyIdentifier).value.digest
    assert own == x509.SubjectKeyIdentifier.from_public_key(cert.public_key()).digest
    assert extension(cert, x509.AuthorityKeyIdentifier).value.key_identifier == own


def test_subject_and_names_reach_the_signed_certificate(plugin: Plugin, keys: dict[str, str]) -> None:
    subject: dict[str, Plain] = {
        "commonName": "webapp.example.com",
        "organization": "meshgate",
        "organizationalUnit": "lab",
        "streetAddresses": ["1 First St", "2 Second St"],
        "locality": "Town",
        "province": "Land",
        "country": "DE",
        "postalCode": "12345",
        "serialNumber": "42",
        "emailAddress": "a@example.com",
    }
    names: dict[str, Plain] = {
        "dnsNames": ["webapp.example.com", "*.example.com"],
        "ipAddresses": ["10.0.0.1", "2001:db8::1"],
        "uris": ["spiffe://cluster.local/ns/a/sa/b"],
    }
    request = plugin.made("CertRequest", privateKeyPem=keys["RSA"], subject=subject, **names)
    assert request["keyAlgorithm"] == "RSA"
    made = plugin.made(
        "LocallySignedCert",
        certRequestPem=request["certRequestPem"],
        caCertPem=root(plugin, keys["other"])["certPem"],
        caPrivateKeyPem=keys["other"],
        **LEAF,
    )
    cert = certificate(made)
    for name, oid in tls.SUBJECT_OIDS.items():
        found = [attribute.value for attribute in cert.subject.get_attributes_for_oid(oid)]
        wanted = subject[name]
        assert found == (wanted if isinstance(wanted, list) else [wanted]), name
    assert cert.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "root"
    alternative = extension(cert, x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == names["dnsNames"]
    assert alternative.get_values_for_type(x509.UniformResourceIdentifier) == names["uris"]
    assert alternative.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_address("2001:db8::1"),
    ]


def test_validity(plugin: Plugin, keys: dict[str, str], clock: Callable[[float], None]) -> None:
    made = root(plugin, keys["other"])
    cert = certificate(made)
    assert (cert.not_valid_before_utc, cert.not_valid_after_utc) == (START, START + timedelta(hours=1000))
    assert made["validityStartTime"] == "2026-01-01T00:00:00Z"
    assert datetime.fromisoformat(made["validityEndTime"]) == cert.not_valid_after_utc
    assert made["readyForRenewal"] is False


@pytest.mark.parametrize("kind", ["SelfSignedCert", "LocallySignedCert"])
def test_renewal_window(plugin: Plugin, keys: dict[str, str], clock: Callable[[float], None], kind: str) -> None:
    inputs: dict[str, Plain] = {**LEAF, "earlyRenewalHours": 10.0}
    if kind == "SelfSignedCert":
        inputs["privateKeyPem"] = keys["other"]
    else:
        inputs |= {
            "certRequestPem": plugin.made("CertRequest", privateKeyPem=keys["RSA"])["certRequestPem"],
            "caCertPem": root(plugin, keys["other"])["certPem"],
            "caPrivateKeyPem": keys["other"],
        }
    _, state = plugin.create(kind, **inputs)
    for hours, due in ((0, False), (89.9, False), (90, True), (200, True)):
        clock(hours)
        changes = plugin.diff(kind, state, **inputs)
        assert changes.replaces == (["readyForRenewal"] if due else []), hours
        assert changes.changes is due
        assert plain_map(plugin.read(kind, state))["readyForRenewal"] is due
    # What the program says now counts, not what the certificate was made with.
    clock(85)
    changes = plugin.diff(kind, state, **{**inputs, "earlyRenewalHours": 20.0})
    assert changes.replaces == ["readyForRenewal"]


def test_early_renewal_changes_in_place(plugin: Plugin, keys: dict[str, str]) -> None:
    inputs: dict[str, Plain] = {"privateKeyPem": keys["other"], **ROOT}
    _, state = plugin.create("SelfSignedCert", **inputs)
    inputs["earlyRenewalHours"] = 5.0
    changes = plugin.diff("SelfSignedCert", state, **inputs)
    assert changes.changes
    assert changes.replaces == []
    assert changes.detailed_diff["earlyRenewalHours"].kind is PropertyDiffKind.UPDATE
    request = UpdateRequest(
        plugin.urn("SelfSignedCert"), "id", state, {name: wire(value) for name, value in inputs.items()}, 0, [], False
    )
    updated = asyncio.run(plugin.provider.update(request)).properties
    assert plain_map(updated) == plain_map(state) | {"earlyRenewalHours": 5.0}
    assert updated["privateKeyPem"].is_secret


# --- what changes, what is not known yet ---


def test_every_other_change_replaces(plugin: Plugin, keys: dict[str, str]) -> None:
    inputs: dict[str, Plain] = {"privateKeyPem": keys["other"], **ROOT}
    _, state = plugin.create("SelfSignedCert", **inputs)
    assert plugin.diff("SelfSignedCert", state, **inputs).changes is False
    assert plugin.diff("SelfSignedCert", state, **inputs, setSubjectKeyId=False).changes is False, "the default, given"
    others: dict[str, Plain] = {
        "privateKeyPem": keys["RSA"],
        "subject": {"commonName": "other"},
        "allowedUses": ["cert_signing"],
        "validityPeriodHours": 1001.0,
        "isCaCertificate": False,
        "maxPathLength": 0.0,
        "setSubjectKeyId": True,
        "setAuthorityKeyId": True,
        "dnsNames": ["b"],
        "ipAddresses": ["10.0.0.2"],
        "uris": ["https://b"],
    }
    for name, value in others.items():
        changes = plugin.diff("SelfSignedCert", state, **{**inputs, name: value})
        assert changes.replaces == [name]
        assert list(changes.detailed_diff) == [name]


def test_a_write_only_key_is_neither_kept_nor_compared(plugin: Plugin, keys: dict[str, str]) -> None:
    inputs: dict[str, Plain] = {"privateKeyPemWo": keys["other"], "privateKeyPemWoVersion": 1.0, **ROOT}
    _, state = plugin.create("SelfSignedCert", **inputs)
    assert "privateKeyPemWo" not in state
    assert plugin.diff("SelfSignedCert", state, **{**inputs, "privateKeyPemWo": keys["RSA"]}).changes is False
    changes = plugin.diff("SelfSignedCert", state, **{**inputs, "privateKeyPemWoVersion": 2.0})
    assert changes.replaces == ["privateKeyPemWoVersion"]


def test_preview_with_values_not_known_yet(plugin: Plugin) -> None:
    inputs: dict[str, Plain] = {"privateKeyPem": UNKNOWN, **ROOT, "subject": {"commonName": UNKNOWN}}
    resource_id, made = plugin.preview("SelfSignedCert", **inputs)
    assert resource_id is None
    shown = plain_map(made)
    assert shown["certPem"] == shown["validityEndTime"] == UNKNOWN
    assert shown["readyForRenewal"] is False
    assert shown["earlyRenewalHours"] == 0
    assert made["privateKeyPem"].is_secret
    # A whole input can be unknown, whatever its type.
    resource = plugin.provider.resources[TOKENS["SelfSignedCert"]]
    unknown: dict[str, Plain] = {name: UNKNOWN for name in resource.inputs if not name.endswith(("Wo", "WoVersion"))}
    plugin.preview("SelfSignedCert", **unknown)
    plugin.preview("SelfSignedCert", **{**unknown, "isCaCertificate": True})
    plugin.preview(
        "LocallySignedCert",
        certRequestPem=UNKNOWN,
        caCertPem=UNKNOWN,
        caPrivateKeyPem=UNKNOWN,
        allowedUses=[UNKNOWN],
        validityPeriodHours=UNKNOWN,
    )


def test_an_input_that_becomes_unknown_replaces(plugin: Plugin, keys: dict[str, str]) -> None:
    inputs: dict[str, Plain] = {"privateKeyPem": keys["other"], **ROOT}
    _, state = plugin.create("SelfSignedCert", **inputs)
    assert plugin.diff("SelfSignedCert", state, **{**inputs, "privateKeyPem": UNKNOWN}).replaces == ["privateKeyPem"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("kind", "inputs", "where", "words"),
    [
        ("PrivateKey", {}, "algorithm", "is required"),
        ("PrivateKey", {"algorithm": "DSA"}, "algorithm", "one of: RSA, ECDSA, ED25519"),
        ("PrivateKey", {"algorithm": "ECDSA", "ecdsaCurve": "P-256"}, "ecdsaCurve", "P224, P256, P384, P521"),
        ("PrivateKey", {"algorithm": "RSA", "rsaBits": "2048"}, "rsaBits", "must be a whole number, not a string"),
        ("PrivateKey", {"algorithm": "RSA", "rsaBits": 2048.5}, "rsaBits", "must be a whole number"),
        ("PrivateKey", {"algorithm": "RSA", "rsaBits": 512.0}, "rsaBits", "at least 1024"),
        ("PrivateKey", {"algorithm": "RSA", "bits": 2048.0}, "bits", "is not a property here"),
        ("CertRequest", {"subject": {"cn": "a"}}, "subject.cn", "is not a property here"),
        ("CertRequest", {"subject": {"streetAddresses": "a"}}, "subject.streetAddresses", "must be a list"),
        ("CertRequest", {"subject": {"country": "Germany"}}, "subject.country", "cannot be used"),
        ("CertRequest", {"subject": {"commonName": "a" * 65}}, "subject.commonName", "cannot be used"),
        ("CertRequest", {"ipAddresses": ["10.0.0.1", "10.0.0"]}, "ipAddresses[1]", "cannot be used"),
        ("CertRequest", {"dnsNames": ["bücher.example"]}, "dnsNames[0]", "cannot be used"),
        ("SelfSignedCert", {**ROOT, "allowedUses": ["cert_signing", "signing"]}, "allowedUses[1]", "must be one of"),
        ("SelfSignedCert", {**ROOT, "allowedUses": "cert_signing"}, "allowedUses", "must be a list"),
        ("SelfSignedCert", {**ROOT, "allowedUses": ["encipher_only"]}, "allowedUses[0]", "needs 'key_agreement'"),
        ("SelfSignedCert", {**ROOT, "isCaCertificate": "true"}, "isCaCertificate", "must be true or false"),
        ("SelfSignedCert", {**ROOT, "validityPeriodHours": -1.0}, "validityPeriodHours", "at least 0"),
        ("SelfSignedCert", {**ROOT, "validityPeriodHours": 1e9}, "validityPeriodHours", "year 9999"),
        ("SelfSignedCert", {**ROOT, "validityPeriodHours": 1e300}, "validityPeriodHours", "year 9999"),
        ("SelfSignedCert", {**ROOT, "earlyRenewalHours": -1.0}, "earlyRenewalHours", "at least 0"),
        ("SelfSignedCert", {**ROOT, "maxPathLength": -2.0}, "maxPathLength", "at least -1"),
        ("SelfSignedCert", {**ROOT, "subject": {}}, "subject", "at least one name"),
        ("SelfSignedCert", {**LEAF, "setAuthorityKeyId": True}, "setAuthorityKeyId", "needs a subject key identifier"),
    ],
)
def test_check_names_the_property(
    plugin: Plugin, keys: dict[str, str], kind: str, inputs: dict[str, Plain], where: str, words: str
) -> None:
    key: dict[str, Plain] = {} if kind == "PrivateKey" else {"privateKeyPem": keys["other"]}
    failures = plugin.check(kind, **key, **inputs)
    assert [failure[0] for failure in failures] == [where]
    assert words in failures[0][1]
    assert failures[0][1].startswith(where)


def test_check_reports_all_at_once(plugin: Plugin) -> None:
    failures = plugin.check("LocallySignedCert", allowedUses=["x"], validityPeriodHours=True, nonsense=1.0)
    assert [path for path, _ in failures] == [
        "nonsense",
        "certRequestPem",
        "caCertPem",
        "allowedUses[0]",
        "validityPeriodHours",
    ]


def test_check_of_keys_and_certificates(plugin: Plugin, keys: dict[str, str]) -> None:
    ca = root(plugin, keys["other"])["certPem"]
    request = plugin.made("CertRequest", privateKeyPem=keys["RSA"])["certRequestPem"]
    good: dict[str, Plain] = {"certRequestPem": request, "caCertPem": ca, "caPrivateKeyPem": keys["other"], **LEAF}

    def reason(**changes: Plain) -> str:
        failures = plugin.check("LocallySignedCert", **{**good, **changes})
        assert len(failures) == 1
        return failures[0][1]

    assert reason(certRequestPem=ca) == "certRequestPem is not a certificate request in PEM format"
    assert reason(caCertPem="nothing") == "caCertPem is not a certificate in PEM format"
    assert reason(caPrivateKeyPem=keys["RSA"]) == "caPrivateKeyPem is not the key of the certificate in caCertPem"
    assert reason(caPrivateKeyPem=ca).startswith("caPrivateKeyPem is not an unencrypted RSA, ECDSA or Ed25519")
    assert reason(caPrivateKeyPem=None) == (
        "caPrivateKeyPem or caPrivateKeyPemWo is required, exactly one of them; neither is given"
    )
    assert reason(caPrivateKeyPemWo=keys["other"]).endswith("both are given")
    assert reason(isCaCertificate=True).startswith("certRequestPem has no subject")
    write_only = reason(caPrivateKeyPem=None, caPrivateKeyPemWo=keys["other"])
    assert write_only.startswith("caPrivateKeyPemWoVersion is required")


def test_a_failure_never_leads_the_engine_to_print_a_secret(plugin: Plugin) -> None:
    # The engine prints the value of the property that a failure names, so a secret's failure names none.
    [(where, reason)] = plugin.check("SelfSignedCert", privateKeyPem="s3cret", **ROOT)
    assert where == ""
    assert reason.startswith("privateKeyPem ")
    assert "s3cret" not in reason
    request = CheckRequest(plugin.urn("PrivateKey"), {}, {"algorithm": PropertyValue("s3cret", is_secret=True)}, b"")
    [failure] = asyncio.run(plugin.provider.check(request)).failures or []
    assert failure.property == ""


def test_import_is_refused(plugin: Plugin) -> None:
    with pytest.raises(PluginError, match="cannot be imported"):
        plugin.read("PrivateKey", {})


def test_delete_does_nothing(plugin: Plugin) -> None:
    asyncio.run(plugin.provider.delete(DeleteRequest(plugin.urn("PrivateKey"), "id", {}, 0)))


def test_functions_and_other_resources_are_refused(plugin: Plugin) -> None:
    with pytest.raises(PluginError, match="resources only, no functions"):
        asyncio.run(plugin.provider.invoke(InvokeRequest("tls:index/getPublicKey:getPublicKey", {})))
    request = CheckRequest("urn:pulumi:a::b::tls:index/other:Other::c", {}, {}, b"")
    with pytest.raises(PluginError, match="tls:index/other:Other is no resource of the lab's tls stand-in"):
        asyncio.run(plugin.provider.check(request))


# --- the guard ---


def test_the_guard_stops_configure_and_create(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ConfigureRequest({}, {}, True, True)
    asyncio.run(plugin.provider.configure(request))
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://production")
    with pytest.raises(PluginError, match="refuses to work: the state backend s3://production is not a directory"):
        asyncio.run(plugin.provider.configure(request))
    with pytest.raises(PluginError, match="refuses to work"):
        plugin.create("PrivateKey", algorithm="ED25519")


def test_the_guard_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    backend, other = tmp_path / "one" / "state", tmp_path / "two" / "state"
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    for directory in (backend, other, elsewhere):
        directory.mkdir(parents=True)
        guard.mark(directory)

    def refusal(url: str | None, lab: str | None = "one") -> str | None:
        return guard.refusal({k: v for k, v in {"MESHGATE_LAB": lab, "PULUMI_BACKEND_URL": url}.items() if v})

    assert Instance("one").directory == tmp_path / "one"
    assert refusal(backend.as_uri()) is None
    for url, lab, reason in (
        (backend.as_uri(), None, "MESHGATE_LAB is not set"),
        (None, "one", "PULUMI_BACKEND_URL is not set"),
        ("https://api.pulumi.com", "one", "is not a directory of the lab"),
        (f"file://host{backend}", "one", "is not a directory of the lab"),
        (other.as_uri(), "one", "is not in the lab's directory"),
        (elsewhere.as_uri(), "one", "is not in the lab's directory"),
        (f"{backend.as_uri()}/../../two/state", "one", "is not in the lab's directory"),
        ((tmp_path / "one").as_uri(), "one", "does not carry the lab's mark"),
    ):
        assert reason in (refusal(url, lab) or ""), (url, lab)
    # A copy of a lab's state is not the lab's state.
    copy = tmp_path / "one" / "copy"
    copy.mkdir()
    (copy / guard.MARKER).write_text((backend / guard.MARKER).read_text())
    assert "carries the mark of another one" in (refusal(copy.as_uri()) or "")
