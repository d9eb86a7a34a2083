"""Certificates and keys of the lab. What exists is used again, so that a second `up` changes nothing."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.files import write
from lab.instance import Instance
from lab.topology import API_PORT, CONTROL_PLANE

VALIDITY = timedelta(days=3650)  # longer than any lab lives; nothing else trusts these authorities


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a directory: ca.pem and, for its owner's eyes, ca-key.pem."""

    directory: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def key(self) -> Path:
        return self.directory / "ca-key.pem"

    def create(self) -> None:
        """Make the authority unless it exists."""
        if self.certificate.exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        write(self.key, _pem(key))
        write(self.certificate, certificate.public_bytes(Encoding.PEM), 0o644)

    def issue(
        self,
        file: str,
        common_name: str,
        organizations: Sequence[str] = (),
        dns: Sequence[str] = (),
        addresses: Sequence[IPv4Address] = (),
    ) -> KeyPair:
        """A certificate for clients and servers in `<directory>/<file>.pem` and its key in `<file>-key.pem`."""
        pair = KeyPair(self.directory / f"{file}.pem", self.directory / f"{file}-key.pem")
        if pair.certificate.exists():
            return pair
        authority = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        authority_key = load_pem_private_key(self.key.read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        builder = (
            _builder(subject, authority.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(signer, critical=False)
        )
        names = [*map(x509.DNSName, dns), *map(x509.IPAddress, addresses)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        write(pair.key, _pem(key))
        write(pair.certificate, builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM), 0o644)
        return pair


def cluster_authority(instance: Instance) -> Authority:
    """The authority of the Kubernetes API server and its clients."""
    authority = Authority(instance.directory / "pki", f"meshgate lab {instance.name}")
    authority.create()
    return authority


def internet_authority(instance: Instance) -> Authority:
    """The authority of the web servers outside the cluster; nothing in the lab trusts it unless told to."""
    authority = Authority(instance.internet_ca.parent, "Lab Internet CA")
    authority.create()
    return authority


def internet_client_authority(instance: Instance) -> Authority:
    """The authority of those whom mutual.example.com serves."""
    authority = Authority(instance.internet_client_certificate.parent, "Lab Internet Client CA")
    authority.create()
    return authority


def vault_authority(instance: Instance) -> Authority:
    """The authority of Vault's own certificate."""
    authority = Authority(instance.vault_ca.parent, "Lab Vault CA")
    authority.create()
    return authority


def hsm_authority(directory: Path) -> Authority:
    """The authority of an HSM and its clients, which speak mutual TLS."""
    authority = Authority(directory, "Lab HSM CA")
    authority.create()
    return authority


def signing_key(path: Path) -> Path:
    """An RSA key for ServiceAccount tokens."""
    return path if path.exists() else write(path, _pem(rsa.generate_private_key(65537, 2048)))


def kubeconfig(instance: Instance, file: str, user: str, groups: Sequence[str] = ()) -> Path:
    """A kubeconfig that stands alone, with a client certificate for this user and these groups."""
    path = instance.directory / f"{file}.kubeconfig"
    if path.exists():
        return path
    authority = cluster_authority(instance)
    pair = authority.issue(file, user, groups)
    cluster = {
        "server": f"https://{CONTROL_PLANE}:{API_PORT}",
        "certificate-authority-data": _base64(authority.certificate),
    }
    credentials = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": file, "user": credentials}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": file}}],
        "current-context": "lab",
    }
    return write(path, json.dumps(content, indent=2))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
