"""The administrator's commands with a real Vault of their own, and a token that may provision and no more."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import hvac
import pytest
from requests import RequestException

import tools
from authority import vault
from authority.__main__ import main
from authority.errors import AuthorityError
from lab.pki import Authority

pytestmark = pytest.mark.engine

PIN = secrets.token_hex(8)
POLICY = """
path "kv1/hsm" { capabilities = ["create", "update"] }
path "kv2/data/hsm" { capabilities = ["create", "update"] }
path "kv2/data/pins" { capabilities = ["read"] }
"""


@dataclass(frozen=True)
class Server:
    """A Vault that is unsealed, with the engines kv1 and kv2."""

    address: str
    directory: Path
    root: Any
    unseal_key: str

    @property
    def files(self) -> dict[str, Path]:
        return {
            "clientcert": self.directory / "client.pem",
            "clientkey": self.directory / "client-key.pem",
            "servercert": self.directory / "server.pem",
        }

    def provision(self, mount: str) -> int:
        read, write = os.pipe()
        os.write(write, PIN.encode())
        os.close(write)
        options = {"--client-cert": "clientcert", "--client-key": "clientkey", "--server-cert": "servercert"}
        files = [f"{option}={self.files[name]}" for option, name in options.items()]
        return main(["provision", "--mount", mount, "--pin-fd", str(read), *files])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("vault")
    authority = Authority(directory, "Test CA")
    authority.create()
    pair = authority.issue("server", "vault", addresses=[IPv4Address("127.0.0.1")])
    authority.issue("client", "istiod")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    configuration = directory / "vault.hcl"
    configuration.write_text(
        f"""
        storage "inmem" {{}}
        listener "tcp" {{
          address = "127.0.0.1:{port}"
          tls_cert_file = "{pair.certificate}"
          tls_key_file = "{pair.key}"
        }}
        api_addr = "https://127.0.0.1:{port}"
        disable_mlock = true
        """
    )
    address = f"https://127.0.0.1:{port}"
    with (directory / "vault.log").open("w") as log:
        process = subprocess.Popen(
            [tools.program("vault"), "server", f"-config={configuration}"], stdout=log, stderr=log, cwd=directory
        )
    try:
        client = hvac.Client(url=address, token="", verify=str(authority.certificate))
        made = initialised(client, process)
        client.token = made["root_token"]
        server = Server(address, directory, client, made["keys_base64"][0])
        client.sys.submit_unseal_key(server.unseal_key)
        for mount, version in (("kv1", "1"), ("kv2", "2")):
            client.sys.enable_secrets_engine("kv", path=mount, options={"version": version})
        client.sys.create_or_update_policy("provisioner", POLICY)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def initialised(client: Any, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The keys of a Vault that has just been started."""
    end = time.monotonic() + 30
    while True:
        try:
            made: dict[str, Any] = client.sys.initialize(secret_shares=1, secret_threshold=1)
            return made
        except RequestException:
            assert process.poll() is None, "Vault has ended"
            assert time.monotonic() < end, "Vault does not answer"
            time.sleep(0.1)


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The Vault, and the environment of an administrator who may provision, and no more."""
    token = running.root.auth.token.create(policies=["provisioner"], ttl="10m")["auth"]["client_token"]
    monkeypatch.setenv("VAULT_ADDR", running.address)
    monkeypatch.setenv("VAULT_CACERT", str(running.directory / "ca.pem"))
    monkeypatch.setenv("VAULT_TOKEN", token)
    return running


@pytest.mark.parametrize("version", [1, 2])
def test_the_secret_is_written(server: Server, version: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.provision(f"kv{version}") == 0, capsys.readouterr().err
    kv = server.root.secrets.kv
    if version == 2:
        written = kv.v2.read_secret_version("hsm", mount_point="kv2", raise_on_deleted_version=True)["data"]["data"]
    else:
        written = kv.v1.read_secret("hsm", mount_point="kv1")["data"]
    assert written == {name: path.read_text() for name, path in server.files.items()} | {"PIN": PIN}
    out, err = capsys.readouterr()
    assert (out, "version" in err) == ("", False)
    assert server.provision(f"kv{version}") == 0
    assert ("it is version 2 now; Vault keeps the older ones" in capsys.readouterr().err) == (version == 2)


def test_a_pin_is_read(server: Server) -> None:
    server.root.secrets.kv.v2.create_or_update_secret("pins", secret={"root": PIN}, mount_point="kv2")
    assert vault.read_field(vault.connect(), "kv2/pins", "root") == PIN
    with pytest.raises(AuthorityError, match="refuses to read kv2/hsm"):
        vault.read_field(vault.connect(), "kv2/hsm", "PIN")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("kv9", "refuses to write kv9/hsm: there is no such mount, or the policies of VAULT_TOKEN do not allow it"),
        ("identity", "identity in Vault is no kv engine but identity"),
    ],
)
def test_where_it_cannot_write(server: Server, mount: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.provision(mount) == 1
    assert message in capsys.readouterr().err


def test_a_token_that_is_none(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hvs.none")
    assert server.provision("kv2") == 1
    err = capsys.readouterr().err
    assert "refuses to write kv2/hsm" in err
    assert "hvs.none" not in err


def test_a_vault_of_another_authority(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Authority(server.directory / "other", "Other CA")
    other.create()
    monkeypatch.setenv("VAULT_CACERT", str(other.certificate))
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
    assert server.provision("kv2") == 1
    assert f"the certificate of Vault at {server.address} is not of the authority in" in capsys.readouterr().err


def test_a_sealed_vault(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.root.sys.seal()
    assert server.provision("kv2") == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        f"error: cannot write kv2/hsm: Vault at {server.address} is sealed; it must be unsealed first\n",
    )
    server.root.sys.submit_unseal_key(server.unseal_key)
    assert server.provision("kv2") == 0
