"""The HSM outside the cluster: a SoftHSM token with the label `meshgate`, and what istiod's HSM client needs of it.

PINs are files that root alone can read. Whoever works with the token needs SOFTHSM2_CONF in the environment, which the
lab's has, and the PKCS#11 module.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab import files, pki
from lab.errors import LabError
from lab.instance import Instance
from lab.programs import SYSTEM_PATH, system

LABEL = "meshgate"
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
"""Where Debian has it for every architecture; others have it in the architecture's directory alone."""


def prepare(instance: Instance) -> None:
    """Make the token, its PINs, and the client's credentials, unless they are there. Raises LabError."""
    tokens = _directory(instance) / "tokens"
    text = f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    files.write(configuration(instance), text)
    _client(instance)
    if pin(instance).exists():
        return
    # The PIN is written last: without it, what is there of a token was left by an `up` that was killed.
    shutil.rmtree(tokens, ignore_errors=True)
    tokens.mkdir(mode=0o700)
    pins = {"SO_PIN": secrets.token_hex(16), "USER_PIN": secrets.token_hex(16)}
    login = ("--token-label", LABEL, "--login", "--login-type", "so", "--so-pin", "env:SO_PIN")
    for arguments in (
        ("--init-token", "--label", LABEL, "--so-pin", "env:SO_PIN"),
        (*login, "--init-pin", "--new-pin", "env:USER_PIN"),
    ):
        done = _pkcs11_tool(instance, pins, *arguments)
        if done.returncode:
            raise LabError(f"`{' '.join(done.args)}` failed: {done.stderr.decode().strip()}")
    files.write(so_pin(instance), pins["SO_PIN"])
    files.write(pin(instance), pins["USER_PIN"])


def environment(instance: Instance) -> dict[str, str]:
    """By this, SoftHSM finds its token."""
    return {"SOFTHSM2_CONF": str(configuration(instance))}


def module() -> Path:
    """SoftHSM's PKCS#11 module."""
    return next(
        (path for path in [MODULE, *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")] if path.exists()), MODULE
    )


def certificate(instance: Instance, label: str) -> str | None:
    """The certificate with this label in the token, PEM; None when there is none."""
    done = _pkcs11_tool(instance, {}, "--token-label", LABEL, "--read-object", "--type", "cert", "--label", label)
    if done.returncode:
        return None
    return x509.load_der_x509_certificate(done.stdout).public_bytes(Encoding.PEM).decode()


def configuration(instance: Instance) -> Path:
    """SoftHSM's configuration file."""
    return _directory(instance) / "softhsm2.conf"


def pin(instance: Instance) -> Path:
    """The file with the PIN of the user who signs."""
    return _directory(instance) / "pin"


def so_pin(instance: Instance) -> Path:
    """The file with the PIN of the token's security officer."""
    return _directory(instance) / "so-pin"


def client_files(instance: Instance) -> dict[str, Path]:
    """The files of istiod's HSM client, by their names in Vault's secret. Its PIN is another slot's: it opens nothing
    of the root key's token."""
    directory = _directory(instance) / "client"
    return {
        "clientcert": directory / "client.pem",
        "clientkey": directory / "client-key.pem",
        "servercert": directory / "server.pem",
        "PIN": directory / "pin",
    }


def _client(instance: Instance) -> None:
    paths = client_files(instance)
    authority = pki.hsm_authority(paths["PIN"].parent)
    authority.issue("client", "istiod")
    authority.issue("server", "hsm.example.com", dns=["hsm.example.com"])
    if not paths["PIN"].exists():
        files.write(paths["PIN"], secrets.token_hex(16))


def _pkcs11_tool(instance: Instance, pins: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [system("pkcs11-tool"), "--module", str(module()), *arguments]
    variables = {"PATH": SYSTEM_PATH, **environment(instance), **pins}
    return subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True)


def _directory(instance: Instance) -> Path:
    return instance.directory / "hsm"
