"""What the administrator's commands ask of Vault, by a Vault that answers as the real one does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter
from requests.exceptions import ConnectTimeout, SSLError

from authority import vault
from authority.__main__ import main
from authority.errors import AuthorityError
from tests.unit.test_authority_cli import descriptor, write_credential

ADDRESS = "https://vault.example.com:8200"
TOKEN = "hvs.the-token-itself"
PIN = "the-pin-itself"


class FakeVault(BaseAdapter):
    """One kv engine, at `asm-c1`."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = version
        self.secrets: dict[str, list[dict[str, str]]] = {}
        self.reads = self.writes = 0
        self.verified: set[Any] = set()
        self.trouble: Callable[[], tuple[int, Any]] | None = None

    def send(self, request: requests.PreparedRequest, *_: Any, verify: Any = None, **__: Any) -> requests.Response:
        self.verified.add(verify)
        assert request.headers["X-Vault-Token"] == TOKEN
        assert isinstance(request.body, bytes | None)
        status, answer = self.trouble() if self.trouble else self.answer(request, json.loads(request.body or b"{}"))
        response = requests.Response()
        response.status_code = status
        response.url = str(request.url)
        response.request = request
        response.headers["Content-Type"] = "application/json"
        if status == 307:
            response.headers["Location"] = "https://elsewhere.example.com/v1/"
        response._content = b"" if answer is None else json.dumps(answer).encode()
        return response

    def close(self) -> None:
        pass

    def answer(self, request: requests.PreparedRequest, body: dict[str, Any]) -> tuple[int, Any]:
        path = str(request.path_url).removeprefix("/v1/")
        if path.startswith("sys/internal/ui/mounts/"):
            if path.split("/")[4] == "pki":
                return 200, {"data": {"path": "pki/", "type": "pki", "options": None}}
            if path.split("/")[4] != "asm-c1":
                return 403, {"errors": ["preflight capability check returned 403"]}
            # Version 1 of the engine says nothing of it when it was mounted without the option.
            options = {"version": "2"} if self.version == 2 else None
            return 200, {"data": {"path": "asm-c1/", "type": "kv", "options": options}}
        mount, name = ("asm-c1/data/", path.removeprefix("asm-c1/data/"))
        if self.version == 1:
            mount, name = ("asm-c1/", path.removeprefix("asm-c1/"))
        assert path.startswith(mount)
        if request.method == "GET":
            self.reads += 1
            if name not in self.secrets:
                return 404, {"errors": []}
            latest = self.secrets[name][-1]
            return 200, {"data": {"data": latest, "metadata": {}} if self.version == 2 else latest}
        assert request.method in ("POST", "PUT")
        self.writes += 1
        self.secrets.setdefault(name, []).append(body["data"] if self.version == 2 else body)
        return (200, {"data": {"version": len(self.secrets[name])}}) if self.version == 2 else (204, None)


@pytest.fixture(params=[1, 2])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeVault:
    made = FakeVault(request.param)
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.setenv("VAULT_ADDR", ADDRESS)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "ca.pem"))
    connect = vault.connect

    def connected() -> Any:
        client = connect()
        client.session.mount("https://", made)
        return client

    monkeypatch.setattr(vault, "connect", connected)
    return made


def provision(directory: Path, mount: str = "asm-c1") -> int:
    files = write_credential(directory)
    names = ("client_cert", "client_key", "server_cert")
    options = [part for name in names for part in (f"--{name.replace('_', '-')}", str(files[name]))]
    return main(["provision", "--mount", mount, *options, "--pin-fd", str(descriptor(PIN.encode()))])


def test_the_secret_is_written_at_once(server: FakeVault, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert provision(tmp_path) == 0
    assert (server.reads, server.writes) == (0, 1)
    assert server.secrets == {
        "hsm": [
            {
                "clientcert": (tmp_path / "client_cert.pem").read_text(),
                "clientkey": (tmp_path / "client_key.pem").read_text(),
                "servercert": (tmp_path / "server_cert.pem").read_text(),
                "PIN": PIN,
            }
        ]
    }
    assert server.verified == {str(tmp_path / "ca.pem")}
    out, err = capsys.readouterr()
    assert (out, err) == ("", "written: asm-c1/hsm, with the fields PIN, clientcert, clientkey, servercert\n")

    assert provision(tmp_path, "asm-c1/") == 0
    err = capsys.readouterr().err
    for older in ("it is version 2 now; Vault keeps the older ones", "until `vault kv destroy -versions=1 asm-c1/hsm`"):
        assert (older in err) == (server.version == 2)


def sealed() -> tuple[int, Any]:
    return 503, {"errors": ["Vault is sealed"]}


def uninitialised() -> tuple[int, Any]:
    return 501, {"errors": ["not initialized"]}


def denied() -> tuple[int, Any]:
    return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}


def broken() -> tuple[int, Any]:
    return 500, {"errors": ["disk full"]}


def stranger() -> tuple[int, Any]:
    return 200, ["no Vault"]


def redirecting() -> tuple[int, Any]:
    return 307, None


def foreign_certificate() -> tuple[int, Any]:
    raise SSLError("certificate verify failed: unable to get local issuer certificate")


def unreachable() -> tuple[int, Any]:
    raise ConnectTimeout("Connection to vault.example.com timed out")


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (sealed, f"cannot write asm-c1/hsm: Vault at {ADDRESS} is sealed; it must be unsealed first"),
        (uninitialised, f"cannot write asm-c1/hsm: Vault at {ADDRESS} is not initialised"),
        (
            denied,
            f"Vault at {ADDRESS} refuses to write asm-c1/hsm: there is no such mount, or the policies of VAULT_TOKEN",
        ),
        (broken, f"cannot write asm-c1/hsm: Vault at {ADDRESS} answers: disk full"),
        (stranger, f"cannot write asm-c1/hsm: Vault at {ADDRESS} does not answer as Vault's active server does"),
        (redirecting, "does not answer as Vault's active server does"),
        (foreign_certificate, f"the certificate of Vault at {ADDRESS} is not of the authority in VAULT_CACERT"),
        (unreachable, f"cannot write asm-c1/hsm: Vault at {ADDRESS} cannot be reached: ConnectTimeout"),
    ],
)
def test_what_keeps_it_from_writing_is_told_without_a_secret(
    server: FakeVault,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[[], tuple[int, Any]],
    message: str,
) -> None:
    server.trouble = trouble
    assert provision(tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1, "one line, no traceback"
    key = (tmp_path / "client_key.pem").read_text().splitlines()[1]
    for value in (PIN, TOKEN, key):
        assert value not in err
    server.trouble = None
    assert provision(tmp_path) == 0


def test_an_unknown_mount(server: FakeVault, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert provision(tmp_path, "asm-c9") == 1
    assert "refuses to write asm-c9/hsm: there is no such mount" in capsys.readouterr().err
    assert provision(tmp_path, "pki") == 1
    assert "pki in Vault is no kv engine but pki" in capsys.readouterr().err
    assert server.writes == 0


def test_wrong_files_keep_vault_out_of_it(
    server: FakeVault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_credential(tmp_path)
    file = tmp_path / "client_cert.pem"
    arguments = ("--client-cert", str(file), "--client-key", str(file), "--server-cert", str(file))
    assert main(("provision", "--mount", "asm-c1", *arguments, "--pin-fd", "99")) == 1
    assert "holds no unencrypted private key" in capsys.readouterr().err
    assert (server.writes, server.verified) == (0, set())


def test_a_pin_out_of_vault(server: FakeVault) -> None:
    server.secrets["root/pins"] = [{"PIN": PIN, "other": "x"}]
    client = vault.connect()
    assert vault.read_field(client, "asm-c1/root/pins", "PIN") == PIN
    with pytest.raises(AuthorityError, match="has no text in the field 'pin'; its fields: PIN, other"):
        vault.read_field(client, "asm-c1/root/pins", "pin")
    with pytest.raises(AuthorityError, match=f"cannot read asm-c1/none: Vault at {ADDRESS} has no secret there"):
        vault.read_field(client, "asm-c1/none", "PIN")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"VAULT_ADDR": "http://vault.example.com:8200"},
            "VAULT_ADDR must be Vault's address, and begin with https://",
        ),
        ({"VAULT_ADDR": ""}, "VAULT_ADDR must be"),
        ({"VAULT_TOKEN": ""}, "VAULT_TOKEN must be a token for Vault"),
        ({"VAULT_TOKEN": f"{TOKEN}\n"}, "without spaces or line ends"),
        ({"VAULT_CACERT": "/none.pem"}, "VAULT_CACERT names /none.pem, which is no file"),
    ],
)
def test_an_environment_that_does_not_say_enough(change: dict[str, str], message: str) -> None:
    with pytest.raises(AuthorityError, match=message) as caught:
        vault.connect({"VAULT_ADDR": ADDRESS, "VAULT_TOKEN": TOKEN} | change)
    assert TOKEN not in str(caught.value)


def test_tls_is_verified_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"VAULT_SKIP_VERIFY": "true"})
    client = vault.connect({"VAULT_ADDR": ADDRESS, "VAULT_TOKEN": TOKEN, "VAULT_SKIP_VERIFY": "true"})
    assert client.adapter._kwargs["verify"] is True
