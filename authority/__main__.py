"""`python -m authority root|sign|provision`: what the security administrator does with the HSM, beside `pulumi up`."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias, TypeVar

from cryptography import x509

from authority import certificates, credential, pin, vault
from authority.errors import AuthorityError
from authority.token import DEFAULT_KEY_TYPE, KEY_TYPES, Token, opened

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

Parsed = TypeVar("Parsed")

FAILED = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0, 1 when it fails, 2 for a wrong command line, 130 for Ctrl-C."""
    options = _options(arguments)
    # A kill must clean up as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options.run(options)
    except AuthorityError as error:
        tell(f"error: {error}")
        return FAILED
    except KeyboardInterrupt:
        tell("interrupted")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def tell(text: str) -> None:
    """Everything but the certificates goes to stderr."""
    print(text, file=sys.stderr, flush=True)


def root(options: argparse.Namespace) -> None:
    """Make a root, or import the certificate of one."""
    if options.import_:
        return _import(options)
    label = options.key_label
    subject = certificates.subject(organization=options.organization, common_name=options.common_name or label)
    with _token(options, write=True) as token:
        if taken := token.holds(label):
            raise AuthorityError(_taken(label, taken))
        with token.new_key(label, options.key_type) as (key, signer):
            certificate = certificates.root(signer, subject, validity=options.validity, path_length=options.path_length)
            certificates.check_root(certificate)
            key.store(certificate)
    tell(f"root {certificates.describe(certificate)}")
    _print(certificate)


def _taken(label: str, kinds: list[str]) -> str:
    problem = f"the label {label!r} is taken, by a {', a '.join(kinds)} in the token: choose another --key-label"
    if "certificate" in kinds:
        return problem
    return (
        f"{problem}, give the key its certificate (--import), or, when it is what a killed `root` left, remove it "
        "(pkcs11-tool --login --delete-object --type privkey, and pubkey)"
    )


def _import(options: argparse.Namespace) -> None:
    certificate = _parsed(options.import_, certificates.read_certificate)
    certificates.check_root(certificate)
    with _token(options, write=True) as token:
        key = token.key(options.key_label)
        if key.certificate():
            raise AuthorityError(f"the key {options.key_label!r} has a certificate in the token already")
        certificates.verify_key(key.signer(certificate.public_key()), certificate)
        key.store(certificate)
    tell(f"imported {certificates.describe(certificate)}")
    _print(certificate)


def sign(options: argparse.Namespace) -> None:
    """Sign a request, and print the chain."""
    request = _parsed(options.request, certificates.read_request)
    with _token(options) as token:
        key = token.key(options.key_label)
        issuer = key.certificate()
        if issuer is None:
            raise AuthorityError(
                f"the key {options.key_label!r} has no certificate in the token: import its root certificate first "
                "(python -m authority root --import FILE)"
            )
        certificates.check_signs(issuer, request, validity=options.validity, path_length=options.path_length)
        certificate = certificates.intermediate(
            request,
            issuer,
            key.signer(issuer.public_key()),
            validity=options.validity,
            path_length=options.path_length,
        )
    tell(f"signed {certificates.describe(certificate)}")
    tell(f"by {certificates.describe(issuer)}")
    _print(certificate, issuer)


def provision(options: argparse.Namespace) -> None:
    """Write the HSM client's secret to Vault."""
    client = vault.connect()
    secret = credential.read(options.client_cert, options.client_key, options.server_cert)
    code = _pin(options, again=True)
    path = f"{options.mount.strip('/')}/hsm"
    version = vault.write(client, path, secret | {"PIN": code})
    tell(f"written: {path}, with the fields {', '.join(sorted([*secret, 'PIN']))}")
    if version is not None and version > 1:
        tell(
            f"it is version {version} now; Vault keeps the older ones, with the PIN and key of then, "
            f"until `vault kv destroy -versions={version - 1} {path}`"
        )


def _token(options: argparse.Namespace, *, write: bool = False) -> AbstractContextManager[Token]:
    return opened(
        options.module,
        label=options.token_label,
        slot=options.slot,
        pin=lambda: _pin(options),
        tell=tell,
        write=write,
    )


def _pin(options: argparse.Namespace, *, again: bool = False) -> str:
    if options.pin_fd is not None:
        return pin.from_descriptor(options.pin_fd)
    if options.pin_vault is not None:
        return pin.checked(vault.read_field(vault.connect(), *options.pin_vault))
    return pin.ask("PIN of the HSM's partition for the mesh" if again else "PIN of the token", again=again)


def _print(*chain: x509.Certificate) -> None:
    try:
        print(certificates.pem(*chain), end="", flush=True)
    except OSError as error:
        raise AuthorityError(f"cannot write the certificates to stdout: {error.strerror}") from None


def _parsed(file: str, parse: Callable[[bytes], Parsed]) -> Parsed:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise AuthorityError(f"cannot read {file}: {error.strerror}") from None
    try:
        return parse(data)
    except AuthorityError as error:
        raise AuthorityError(f"{'stdin' if file == '-' else file}: {error}") from error


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m authority",
        description="Keep the root key of a mesh in a PKCS#11 token, sign the requests of its clusters with it, and "
        "give istiod's HSM client its secret. Certificates go to stdout, all else to stderr.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_root(commands)
    _add_sign(commands)
    _add_provision(commands)
    options = parser.parse_args(arguments)
    if options.pin_fd == 0 and getattr(options, "request", None) == "-":
        parser.error("stdin cannot give both the request and the PIN")
    return options


def _add_root(commands: Commands) -> None:
    command = commands.add_parser(
        "root",
        allow_abbrev=False,
        help="make the root key in the token, and its certificate",
        description="Make a key pair that never leaves the token and its self-signed certificate, keep both in the "
        "token and print the certificate. Refuses when the label is taken.",
    )
    command.set_defaults(run=root)
    _add_token(command)
    command.add_argument(
        "--import",
        dest="import_",
        metavar="FILE",
        help="make nothing: import this root certificate (PEM; - for stdin) for the key that is in the token",
    )
    new = command.add_argument_group("a new root")
    new.add_argument(
        "--key-type", choices=KEY_TYPES, default=DEFAULT_KEY_TYPE, help="kind and size of its key; default %(default)s"
    )
    new.add_argument("--organization", default="meshgate", metavar="NAME", help="O of its subject; default %(default)s")
    new.add_argument("--common-name", metavar="NAME", help="CN of its subject; default: the key's label")
    _add_lifetime(new, validity="87600h", path_length=1)


def _add_sign(commands: Commands) -> None:
    command = commands.add_parser(
        "sign",
        allow_abbrev=False,
        help="sign a cluster's request with the root key",
        description="Sign an intermediate authority's request and print its chain: the intermediate's certificate "
        "and the root's. Only the request's subject and key are used.",
    )
    command.set_defaults(run=sign)
    _add_token(command)
    command.add_argument("--request", metavar="FILE", required=True, help="the signing request, PEM; - for stdin")
    _add_lifetime(command, validity="8760h", path_length=0)


def _add_provision(commands: Commands) -> None:
    command = commands.add_parser(
        "provision",
        allow_abbrev=False,
        help="write the secret of istiod's HSM client to Vault",
        description="Write clientcert, clientkey, servercert and PIN to MOUNT/hsm in Vault, in one request. The PIN is "
        "that of the partition which istiod uses, never that of the root key's. VAULT_ADDR, VAULT_CACERT and "
        "VAULT_TOKEN are those of the program `vault`.",
    )
    command.set_defaults(run=provision, pin_vault=None)
    command.add_argument("--mount", required=True, help="path of the kv engine, such as asm-c1; version 1 or 2")
    for option, what in (
        ("--client-cert", "the client's certificate for mTLS with the HSM"),
        ("--client-key", "its private key"),
        ("--server-cert", "the HSM's certificate"),
    ):
        command.add_argument(option, required=True, type=Path, metavar="FILE", help=f"{what}, PEM")
    _add_pin_descriptor(command)


def _add_token(command: argparse.ArgumentParser) -> None:
    command.add_argument("--module", required=True, metavar="FILE", help="the HSM's PKCS#11 library (.so)")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--token-label", metavar="LABEL", help="the token, by its label")
    which.add_argument("--slot", type=int, metavar="ID", help="the token, by its slot's number")
    command.add_argument("--key-label", required=True, metavar="LABEL", help="the root key's label")
    source = command.add_mutually_exclusive_group()
    _add_pin_descriptor(source)
    source.add_argument(
        "--pin-vault",
        type=_vault_field,
        metavar="PATH#FIELD",
        help="read the PIN from a secret in Vault (VAULT_ADDR, VAULT_CACERT, VAULT_TOKEN), such as security/root#PIN",
    )


def _add_pin_descriptor(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--pin-fd",
        type=int,
        metavar="N",
        help="read the PIN from this open file descriptor, such as 3 with 3<FILE; default: ask on the terminal",
    )


def _add_lifetime(command: argparse._ActionsContainer, *, validity: str, path_length: int) -> None:
    command.add_argument(
        "--validity",
        type=_duration,
        default=validity,
        metavar="TIME",
        help="how long the certificate is valid: hours or days, such as 8760h or 365d; default %(default)s",
    )
    command.add_argument(
        "--path-length",
        type=_count,
        default=path_length,
        metavar="N",
        help="how many authorities there may be below it; default %(default)s",
    )


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([hd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours or days, such as 8760h or 365d")
    number = int(match[1])
    return timedelta(hours=number) if match[2] == "h" else timedelta(days=number)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 9")
    return int(text)


def _vault_field(text: str) -> tuple[str, str]:
    path, separator, field = text.partition("#")
    if not (path.strip("/") and separator and field):
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH#FIELD, such as security/root#PIN")
    return path.strip("/"), field


if __name__ == "__main__":
    sys.exit(main())
