"""The administrator's commands, as far as they need no token: what they read, what they refuse, what they sign."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pkcs11 import KeyType, Mechanism

from authority import certificates, credential, pin
from authority.__main__ import main
from authority.errors import AuthorityError
from authority.keys import TokenKey, token_key
from tests.unit import mesh_ca

PEM = serialization.Encoding.PEM
DAY = timedelta(days=1)


class FakeToken:
    """Signs as a token does, with a key that is not in one."""

    def __init__(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        self._key = key
        self.key_type = KeyType.RSA if isinstance(key, rsa.RSAPrivateKey) else KeyType.EC

    def sign(self, data: bytes, mechanism: Mechanism) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            assert mechanism is Mechanism.SHA384_RSA_PKCS
            return self._key.sign(data, PKCS1v15(), SHA384())
        assert mechanism is Mechanism.ECDSA
        digest = {32: SHA256(), 48: SHA384()}[len(data)]
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(Prehashed(digest))))
        size = self._key.key_size // 8
        return r.to_bytes(size) + s.to_bytes(size)


def in_token(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> TokenKey:
    return token_key(cast(pkcs11.SignMixin, FakeToken(key)), key.public_key())


P256 = in_token(ec.generate_private_key(ec.SECP256R1()))
P384 = in_token(ec.generate_private_key(ec.SECP384R1()))
RSA = in_token(rsa.generate_private_key(65537, 2048))


def root(key: TokenKey = P384, *, validity: timedelta = 10 * DAY, path_length: int = 1) -> x509.Certificate:
    subject = certificates.subject(organization="example", common_name="root")
    return certificates.root(key, subject, validity=validity, path_length=path_length)


def request(
    key: CertificateIssuerPrivateKeyTypes | None = None, *extensions: x509.ExtensionType, subject: str = "mesh"
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = x509.CertificateSigningRequestBuilder(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    key = key or ec.generate_private_key(ec.SECP256R1())
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(PEM)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(P256, "ecdsa-with-SHA256"), (P384, "ecdsa-with-SHA384"), (RSA, "sha384WithRSAEncryption")]
)
def test_a_tokens_key_signs_roots_and_intermediates(key: TokenKey, algorithm: str) -> None:
    made = root(key)
    made.verify_directly_issued_by(made)
    assert made.signature_algorithm_oid._name == algorithm
    asked = certificates.read_request(request())
    signed = certificates.intermediate(asked, made, key, validity=DAY, path_length=0)
    signed.verify_directly_issued_by(made)
    assert signed.serial_number != made.serial_number
    assert signed.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=4)
    values = {type(extension.value): extension for extension in signed.extensions}
    assert values[x509.BasicConstraints].critical
    assert values[x509.BasicConstraints].value == x509.BasicConstraints(ca=True, path_length=0)
    usage = values[x509.KeyUsage].value
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, True, True)
    assert (usage.key_encipherment, usage.key_agreement, usage.content_commitment) == (False, False, False)
    named = values[x509.AuthorityKeyIdentifier].value
    assert isinstance(named, x509.AuthorityKeyIdentifier)
    assert named.key_identifier == x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


def test_a_key_that_is_not_the_roots_signs_nothing_that_is_given_out() -> None:
    other = in_token(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(AuthorityError, match=r"no chain for a mesh: .* the signature is another key's"):
        certificates.intermediate(certificates.read_request(request()), root(), other, validity=DAY, path_length=0)
    certificates.verify_key(P384, root())
    with pytest.raises(AuthorityError, match="the certificate CN=root,O=example is not that of the key in the token"):
        certificates.verify_key(token_key(other._key, P384.public_key()), root())


def test_the_key_and_its_certificate_are_of_one_kind() -> None:
    with pytest.raises(AuthorityError, match="must both be RSA, or both EC on the curve P-256 or P-384"):
        token_key(cast(pkcs11.SignMixin, FakeToken(rsa.generate_private_key(65537, 2048))), P384.public_key())
    p521 = ec.generate_private_key(ec.SECP521R1())
    with pytest.raises(AuthorityError, match="P-256 or P-384"):
        in_token(p521)


def test_a_tokens_key_shows_nothing() -> None:
    with pytest.raises(NotImplementedError, match="the key stays in its token"):
        P384.private_numbers()
    with pytest.raises(NotImplementedError, match="the key stays in its token"):
        P384.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: request(rsa.generate_private_key(65537, 1024)), "its RSA key has 1024 bits, fewer than 2048"),
        (lambda: request(ec.generate_private_key(ec.SECP256K1())), "its key's curve is secp256k1"),
        (lambda: request(ed25519.Ed25519PrivateKey.generate()), "its key is neither RSA nor EC"),
        (lambda: request(subject=""), "it has no subject"),
        (lambda: request(None, x509.BasicConstraints(ca=False, path_length=None)), "no authority's"),
        (lambda: request(None, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])), "a server's or client's"),
        (lambda: tampered(request()), "its signature is not of its own key"),
        (
            lambda: mesh_ca.root_certificate().encode(),
            "must hold one signing request .* not a certificate",
        ),
        (lambda: request() + request(), "must hold one signing request .* not 2 requests"),
        (lambda: b"", "must hold one signing request .* not 0 requests"),
        (
            lambda: b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "is not a signing request that can be read",
        ),
    ],
)
def test_requests_that_are_refused(made: Callable[[], bytes], message: str) -> None:
    with pytest.raises(AuthorityError, match=message):
        certificates.read_request(made())


def tampered(pem: bytes) -> bytes:
    """The same request with another subject."""
    der = x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER).replace(b"mesh", b"mash")
    return x509.load_der_x509_csr(der).public_bytes(PEM)


def test_requests_that_are_taken() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        certificates.read_request(request(key))
    certificates.read_request(request(None, x509.BasicConstraints(ca=True, path_length=5)))
    certificates.read_request(mesh_ca.request("dev-authority-2026-request").encode())


def test_a_subject_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("root", *TOKEN, "--common-name", 65 * "x")) == 1
    assert "must have 1 to 64 characters each" in capsys.readouterr().err


def test_what_a_root_cannot_sign() -> None:
    asked = certificates.read_request(request())
    certificates.check_signs(root(), asked, validity=9 * DAY, path_length=0)
    with pytest.raises(AuthorityError, match=r"ends on .* before the new certificate: ask for less --validity"):
        certificates.check_signs(root(), asked, validity=11 * DAY, path_length=0)
    with pytest.raises(AuthorityError, match="has the path length 1: --path-length must be less than that, not 1"):
        certificates.check_signs(root(), asked, validity=DAY, path_length=1)
    with pytest.raises(AuthorityError, match="has the path length 0"):
        certificates.check_signs(root(path_length=0), asked, validity=DAY, path_length=0)
    with pytest.raises(AuthorityError, match=r"the request is for the root .* the same subject or key"):
        certificates.check_signs(root(), certificates.read_request(request(P384)), validity=DAY, path_length=0)


def test_what_is_no_root() -> None:
    certificates.check_root(root())
    asked = certificates.read_request(request())
    signed = certificates.intermediate(asked, root(), P384, validity=DAY, path_length=0)
    with pytest.raises(AuthorityError, match="CN=mesh is refused: it is not self-signed"):
        certificates.check_root(signed)
    with pytest.raises(AuthorityError, match=r"it is valid from .* to .* only"):
        certificates.check_root(root(validity=-timedelta(minutes=1)))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
    leaf = (
        x509.CertificateBuilder(name, name, P384.public_key(), 1)
        .not_valid_before(datetime.now(UTC) - DAY)
        .not_valid_after(datetime.now(UTC) + DAY)
        .sign(P384, SHA384())
    )
    with pytest.raises(AuthorityError, match=r"no authority's .*; its key may not sign certificates"):
        certificates.check_root(leaf)


def descriptor(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


@pytest.mark.parametrize("data", [b"12 34\xc3\xa4", b"12 34\xc3\xa4\n"])
def test_a_pin_from_a_file_descriptor(data: bytes) -> None:
    assert pin.from_descriptor(descriptor(data)) == "12 34\u00e4"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n", "the PIN is empty"),
        (b"s3cret\ns3cret\n", "one line of printable characters"),
        (b"s3cret\x07", "one line of printable characters"),
        (b"s3cret\xff", "is not UTF-8"),
    ],
)
def test_what_is_no_pin(data: bytes, message: str) -> None:
    with pytest.raises(AuthorityError, match=message) as caught:
        pin.from_descriptor(descriptor(data))
    assert "s3cret" not in str(caught.value)


def test_a_closed_file_descriptor() -> None:
    with pytest.raises(AuthorityError, match="--pin-fd: cannot read file descriptor 987: Bad file descriptor"):
        pin.from_descriptor(987)


def test_a_pin_that_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["1234", "1234", "1234", "1243"])
    monkeypatch.setattr(pin, "getpass", lambda prompt: next(typed))
    assert pin.ask("PIN", again=True) == "1234"
    with pytest.raises(AuthorityError, match="the two PINs differ"):
        pin.ask("PIN", again=True)


def test_without_a_terminal_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(*_: Any, **__: Any) -> int:
        raise OSError

    monkeypatch.setattr(os, "open", no_terminal)
    monkeypatch.setattr("sys.stdin", open(descriptor(b"1234\n")))  # noqa: SIM115
    with pytest.raises(AuthorityError, match="no terminal to ask for the PIN: give it with --pin-fd"):
        pin.ask("PIN")


TOKEN = ("--module", "/none.so", "--token-label", "t", "--key-label", "k")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sign", *TOKEN, "--request", "-", "--pin-fd", "0"), "stdin cannot give both the request and the PIN"),
        (
            ("sign", *TOKEN, "--request", "x", "--validity", "1y"),
            "'1y' is not a number of hours or days, such as 8760h",
        ),
        (("sign", *TOKEN, "--request", "x", "--validity", "0h"), "'0h' is not a number of hours or days"),
        (("sign", *TOKEN, "--request", "x", "--path-length", "-1"), "'-1' is not a number from 0 to 9"),
        (("sign", *TOKEN, "--request", "x", "--slot", "1"), "not allowed with argument --token-label"),
        (("sign", *TOKEN, "--request", "x", "--pin-vault", "security/root"), "is not PATH#FIELD"),
        (("sign", *TOKEN, "--request", "x", "--pin-fd", "3", "--pin-vault", "a/b#c"), "not allowed with argument"),
        (("sign", *TOKEN, "--request", "x", "--pin", "1234"), "unrecognized arguments: --pin 1234"),
        (("root", *TOKEN, "--key-type", "dsa"), "invalid choice: 'dsa'"),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_command_lines(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("module", ["/none.so", "/dev/null"])
def test_a_module_that_is_none(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "request.pem").write_bytes(request())
    arguments = ("--token-label", "t", "--key-label", "k", "--request", str(tmp_path / "request.pem"))
    assert main(("sign", "--module", module, *arguments, "--pin-fd", "3")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: cannot use the PKCS#11 module {module}: ")
    assert "is it the HSM's library" in err


def test_a_file_is_named_with_its_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "request.pem"
    arguments = ("--request", str(file))
    assert main(("sign", *TOKEN, *arguments)) == 1
    assert capsys.readouterr().err == f"error: cannot read {file}: No such file or directory\n"
    file.write_bytes(request(subject=""))
    assert main(("sign", *TOKEN, *arguments)) == 1
    assert capsys.readouterr().err == f"error: {file}: it has no subject\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A client's certificate and key, and a server's certificate."""
    return write_credential(tmp_path)


def write_credential(directory: Path, validity: timedelta = DAY) -> dict[str, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = certificates.subject(organization="example", common_name="client")
    made = certificates.root(in_token(key), subject, validity=validity, path_length=0)
    paths = {name: directory / f"{name}.pem" for name in ("client_cert", "client_key", "server_cert")}
    paths["client_cert"].write_bytes(made.public_bytes(PEM))
    paths["client_key"].write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    paths["server_cert"].write_bytes(root().public_bytes(PEM))
    return paths


def test_the_clients_files(files: dict[str, Path]) -> None:
    assert credential.read(**files) == {
        "clientcert": files["client_cert"].read_text(),
        "clientkey": files["client_key"].read_text(),
        "servercert": files["server_cert"].read_text(),
    }


def test_the_clients_files_belong_together(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_credential(tmp_path / "other")
    with pytest.raises(AuthorityError, match=r"the key in .*other/client_key.pem is not that of the certificate in "):
        credential.read(**files | {"client_key": other["client_key"]})
    with pytest.raises(AuthorityError, match=r"server_cert.pem holds no unencrypted private key"):
        credential.read(**files | {"client_key": files["server_cert"]})
    with pytest.raises(AuthorityError, match=r"client_key.pem holds no certificate"):
        credential.read(**files | {"server_cert": files["client_key"]})
    with pytest.raises(AuthorityError, match=r"cannot read .*/none.pem: No such file"):
        credential.read(**files | {"server_cert": tmp_path / "none.pem"})
    expired = write_credential(tmp_path / "other", -timedelta(minutes=1))
    with pytest.raises(AuthorityError, match=r"the certificate in .*other/client_cert.pem ended on "):
        credential.read(**expired)
