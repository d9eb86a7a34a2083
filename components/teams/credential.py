"""PEM files as a credential of the egress gateway, read and checked on the machine that runs Pulumi."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pulumi
import pulumi_kubernetes as kubernetes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from settings.model import Problem
from settings.teams import FilesCredential

T = TypeVar("T")


class FileError(Exception):
    """A file is not what it should be; its text says why."""


def file_problems(credential: FilesCredential) -> Iterator[Problem]:
    """What is wrong with the files of a credential, by its key."""
    try:
        certificates(credential.ca)
    except FileError as error:
        yield Problem(key="ca", message=str(error))
    own: list[x509.Certificate] = []
    if credential.certificate is not None:
        try:
            own = certificates(credential.certificate)
        except FileError as error:
            yield Problem(key="certificate", message=str(error))
    if credential.key is not None:
        try:
            _check_key(credential.key, own)
        except FileError as error:
            yield Problem(key="key", message=str(error))


def certificates(path: str) -> list[x509.Certificate]:
    """Those in a PEM file; raises FileError when it has none, or one that is not valid now."""
    found = _parsed(path, x509.load_pem_x509_certificates, "certificates")
    now = datetime.now(UTC)
    for certificate in found:
        subject = certificate.subject.rfc4514_string()
        if certificate.not_valid_after_utc < now:
            raise FileError(f"{path}: the certificate {subject} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if certificate.not_valid_before_utc > now:
            raise FileError(f"{path}: {subject} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}")
    return found


def _check_key(path: str, own: list[x509.Certificate]) -> None:
    key = _parsed(path, lambda data: load_pem_private_key(data, password=None), "a private key without a passphrase")
    if own and _der(key.public_key()) != _der(own[0].public_key()):
        raise FileError(f"{path}: is not the key of the first certificate in the file under `certificate`")


def _der(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded


def _parsed(path: str, parse: Callable[[bytes], T], what: str) -> T:
    try:
        return parse(_file(path).read_bytes())
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise FileError(f"{path}: does not hold {what} in PEM") from None


def _file(path: str) -> Path:
    return Path(path).expanduser()


@dataclass(kw_only=True)
class CredentialArgs:
    """Arguments of Credential."""

    secret_name: str
    namespace: pulumi.Input[str]
    credential: FilesCredential


class Credential(pulumi.ComponentResource):
    """A Secret with `ca.crt` and, for MUTUAL, `tls.crt` and `tls.key`; secret in the state too.

    Reference: Istio, "Egress Gateways with TLS Origination".
    """

    def __init__(self, name: str, args: CredentialArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:teams:Credential", name, None, opts)
        files = {"ca.crt": args.credential.ca, "tls.crt": args.credential.certificate, "tls.key": args.credential.key}
        kubernetes.core.v1.Secret(
            f"{name}-secret",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.secret_name, namespace=args.namespace),
            type="Opaque",
            string_data=pulumi.Output.secret(
                {key: _file(path).read_text() for key, path in files.items() if path is not None}
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
