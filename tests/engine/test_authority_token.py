"""The administrator's commands with a real PKCS#11 token: SoftHSM's, in a directory of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import AttributeSensitive, KeyUnextractable, PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from authority import certificates
from authority.__main__ import main
from authority.keys import public_key, token_key
from lab.hsm import module

pytestmark = pytest.mark.engine

MODULE = str(module())
LABEL = "meshgate"
SET_PIN = ("--login", "--login-type", "so", "--so-pin", "env:SO_PIN", "--init-pin", "--new-pin", "env:USER_PIN")
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Hsm:
    """A token, and the commands on it as an operator runs them: the PIN by a file descriptor."""

    def __init__(self, pin: str, capture: pytest.CaptureFixture[str]) -> None:
        self.pin = pin
        self._capture = capture

    def run(self, command: str, *arguments: str, pin: str | None = None, token: tuple[str, ...] = ()) -> Ran:
        read, write = os.pipe()
        os.write(write, f"{pin or self.pin}\n".encode())
        os.close(write)
        code = main(
            [command, "--module", MODULE, *(token or ("--token-label", LABEL)), "--pin-fd", str(read), *arguments]
        )
        out, err = self._capture.readouterr()
        assert self.pin not in out + err
        assert "Traceback" not in err
        return Ran(code, out, err)

    def root(self, label: str, *arguments: str) -> x509.Certificate:
        ran = self.run("root", "--key-label", label, *arguments)
        assert ran.code == 0, ran.err
        return x509.load_pem_x509_certificate(ran.out.encode())

    def session(self) -> pkcs11.Session:
        return pkcs11.lib(MODULE).get_token(token_label=LABEL).open(rw=True, user_pin=self.pin)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fresh token in SoftHSM; its user's PIN."""
    directory = tmp_path_factory.mktemp("hsm")
    (directory / "tokens").mkdir(mode=0o700)
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory}/tokens\nlog.level = ERROR\n")
    pins = {"SO_PIN": secrets.token_hex(8), "USER_PIN": secrets.token_hex(8)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
        for arguments in (
            ("--slot-index", "0", "--init-token", "--label", LABEL, "--so-pin", "env:SO_PIN"),
            ("--token-label", LABEL, *SET_PIN),
        ):
            subprocess.run(
                ["pkcs11-tool", "--module", MODULE, *arguments], env=os.environ | pins, check=True, capture_output=True
            )
        # The module reads its configuration once.
        pkcs11.unload(MODULE)
        yield pins["USER_PIN"]
        pkcs11.unload(MODULE)


@pytest.fixture
def hsm(token: str, capfd: pytest.CaptureFixture[str]) -> Hsm:
    return Hsm(token, capfd)


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    """An intermediate's request."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev mesh 2026")])
    request = x509.CertificateSigningRequestBuilder(subject).sign(ec.generate_private_key(ec.SECP256R1()), SHA256())
    file = tmp_path / "request.pem"
    file.write_bytes(request.public_bytes(PEM))
    return file


def openssl_verifies(root: x509.Certificate, chain: str, directory: Path) -> bool:
    (directory / "root.pem").write_bytes(root.public_bytes(PEM))
    (directory / "chain.pem").write_text(chain)
    answer = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", directory / "root.pem", directory / "chain.pem"],
        capture_output=True,
        text=True,
    )
    return answer.returncode == 0 and answer.stdout.strip().endswith("chain.pem: OK")


def test_a_root_signs_an_intermediate(hsm: Hsm, request_file: Path, tmp_path: Path) -> None:
    root = hsm.root("first", "--organization", "example", "--common-name", "Example mesh root", "--validity", "3650d")
    assert root.subject.rfc4514_string() == "CN=Example mesh root,O=example"
    key = root.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    assert timedelta(days=3650) < root.not_valid_after_utc - root.not_valid_before_utc < timedelta(days=3651)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 1)

    ran = hsm.run("sign", "--key-label", "first", "--request", str(request_file), "--validity", "48h")
    assert ran.code == 0, ran.err
    intermediate, issuer = x509.load_pem_x509_certificates(ran.out.encode())
    assert issuer == root, "the root comes out of the token"
    request = x509.load_pem_x509_csr(request_file.read_bytes())
    assert (intermediate.subject, intermediate.public_key()) == (request.subject, request.public_key())
    left = intermediate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(hours=47, minutes=59) < left <= timedelta(hours=48)
    assert f"serial {intermediate.serial_number:x}" in ran.err

    assert openssl_verifies(root, ran.out, tmp_path)
    other = hsm.root("another", "--organization", "example", "--common-name", "Example mesh root")
    assert not openssl_verifies(other, ran.out, tmp_path), "its subject is the same, its key is not"


def test_the_root_key_does_not_leave_the_token(hsm: Hsm) -> None:
    hsm.root("kept")
    with hsm.session() as session:
        key = session.get_key(ObjectClass.PRIVATE_KEY, label="kept")
        expected = {
            Attribute.SENSITIVE: True,
            Attribute.ALWAYS_SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.NEVER_EXTRACTABLE: True,
            Attribute.LOCAL: True,
            Attribute.MODIFIABLE: False,
            Attribute.SIGN: True,
            Attribute.DECRYPT: False,
            Attribute.UNWRAP: False,
            Attribute.DERIVE: False,
        }
        assert {attribute: key[attribute] for attribute in expected} == expected

        # The same questions about a key that may leave are answered: the refusals are about this key.
        _, loose = session.generate_keypair(
            KeyType.EC,
            public_template={Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")},
            private_template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
        )
        wrapping = session.generate_key(KeyType.AES, 256)
        assert isinstance(wrapping, pkcs11.WrapMixin)
        assert len(loose[Attribute.VALUE]) > 40
        assert wrapping.wrap_key(loose, mechanism=Mechanism.AES_KEY_WRAP_PAD)

        with pytest.raises(AttributeSensitive):
            key[Attribute.VALUE]
        with pytest.raises(KeyUnextractable):
            wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        loose[Attribute.EXTRACTABLE] = False
        with pytest.raises(PKCS11Error, match="0x1b"):  # CKR_ACTION_PROHIBITED
            key[Attribute.EXTRACTABLE] = True


def test_a_label_is_used_once(hsm: Hsm) -> None:
    hsm.root("once")
    ran = hsm.run("root", "--key-label", "once")
    assert (ran.code, ran.out) == (1, "")
    assert "the label 'once' is taken, by a certificate, a private key, a public key in the token" in ran.err
    assert "killed" not in ran.err


def test_an_rsa_root(hsm: Hsm, request_file: Path, tmp_path: Path) -> None:
    root = hsm.root("rsa", "--key-type", "rsa-3072")
    key = root.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 3072
    ran = hsm.run("sign", "--key-label", "rsa", "--request", str(request_file))
    assert openssl_verifies(root, ran.out, tmp_path)
    with hsm.session() as session, pytest.raises(AttributeSensitive):
        session.get_key(ObjectClass.PRIVATE_KEY, label="rsa")[Attribute.PRIVATE_EXPONENT]


def test_what_a_root_does_not_sign(hsm: Hsm, request_file: Path) -> None:
    hsm.root("narrow", "--validity", "100h", "--path-length", "1")
    arguments = ("--key-label", "narrow", "--request", str(request_file))
    for more, message in (
        (("--validity", "101h"), "before the new certificate: ask for less --validity"),
        (("--validity", "1h", "--path-length", "1"), "has the path length 1: --path-length must be less than that"),
    ):
        ran = hsm.run("sign", *arguments, *more)
        assert (ran.code, ran.out) == (1, "")
        assert message in ran.err
    assert hsm.run("sign", *arguments, "--validity", "99h").code == 0


def test_a_certificate_made_elsewhere_is_imported_for_its_key_alone(
    hsm: Hsm, request_file: Path, tmp_path: Path
) -> None:
    """The document's import-ca: the key is in the token, its certificate comes from outside."""
    with hsm.session() as session:
        public, private = session.generate_keypair(
            KeyType.EC,
            id=b"1",
            label="elsewhere",
            store=True,
            public_template={Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
        )
        assert isinstance(private, pkcs11.SignMixin)
        made = certificates.root(
            token_key(private, public_key(public)),
            certificates.subject(organization="example", common_name="Made elsewhere"),
            validity=timedelta(days=3650),
            path_length=1,
        )
    ran = hsm.run("root", "--key-label", "elsewhere")
    assert ran.code == 1
    assert "is taken, by a private key, a public key in the token" in ran.err
    assert "give the key its certificate (--import), or, when it is what a killed `root` left, remove it" in ran.err
    ran = hsm.run("sign", "--key-label", "elsewhere", "--request", str(request_file))
    assert ran.code == 1
    assert "the key 'elsewhere' has no certificate in the token: import its root certificate first" in ran.err

    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes(hsm.root("foreign", "--key-type", "ec-p256").public_bytes(PEM))
    ran = hsm.run("root", "--key-label", "elsewhere", "--import", str(foreign))
    assert (ran.code, ran.out) == (1, "")
    assert "the certificate CN=foreign,O=meshgate is not that of the key in the token" in ran.err

    own = tmp_path / "own.pem"
    own.write_bytes(made.public_bytes(PEM))
    ran = hsm.run("root", "--key-label", "elsewhere", "--import", str(own))
    assert ran.code == 0, ran.err
    assert "imported CN=Made elsewhere,O=example" in ran.err
    ran = hsm.run("sign", "--key-label", "elsewhere", "--request", str(request_file))
    assert openssl_verifies(made, ran.out, tmp_path)

    ran = hsm.run("root", "--key-label", "elsewhere", "--import", str(own))
    assert (ran.code, ran.out) == (1, "")
    assert "has a certificate in the token already" in ran.err


def test_a_root_that_fails_leaves_nothing(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(certificates, "check_root", fail)
    assert hsm.run("root", "--key-label", "broken").code == 130
    monkeypatch.undo()
    hsm.root("broken")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("--token-label", "nobody"), "no initialised token with the label 'nobody'; there are: 'meshgate' in slot "),
        (("--slot", "4711"), "no initialised token in slot 4711; there are: 'meshgate' in slot "),
        (
            ("--token-label", LABEL),
            "no private key in the token has the label 'nothing'; there are: 'a first one'",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    hsm: Hsm, request_file: Path, where: tuple[str, ...], message: str
) -> None:
    hsm.run("root", "--key-label", "a first one")
    ran = hsm.run("sign", "--key-label", "nothing", "--request", str(request_file), token=where)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err


def test_a_slot_is_as_good_as_a_label(hsm: Hsm) -> None:
    slot = pkcs11.lib(MODULE).get_token(token_label=LABEL).slot.slot_id
    assert hsm.run("root", "--key-label", "by slot", token=("--slot", str(slot))).code == 0


def test_a_wrong_pin_is_refused_with_a_warning(hsm: Hsm, request_file: Path) -> None:
    ran = hsm.run("sign", "--key-label", "x", "--request", str(request_file), pin="0000-wrong-0000")
    assert (ran.code, ran.out) == (1, "")
    assert "the token 'meshgate' refuses the PIN; some more wrong ones lock it" in ran.err
    assert "0000-wrong-0000" not in ran.err
