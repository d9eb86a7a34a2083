"""The lab's Vault and HSM: what they are started with, and what reaches the environment."""

from __future__ import annotations

import json
import re
import stat
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

import tools
from lab import files, hsm, service, vault
from lab.instance import Instance
from lab.topology import CONTROL


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    monkeypatch.setattr(tools, "program", lambda name: tmp_path / name)
    made = Instance("unit")
    made.directory.mkdir()
    return made


def test_vault_speaks_tls_alone_and_keeps_what_it_knows(instance: Instance) -> None:
    server = vault.server(instance)
    (configuration,) = [path for path in server.files if path.suffix == ".json"]
    content = json.loads(configuration.read_text())
    (listener,) = content["listener"].values()
    assert listener["address"] == "10.7.0.2:8200"
    assert "tls_disable" not in listener
    certificate = x509.load_pem_x509_certificate(Path(listener["tls_cert_file"]).read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(instance.vault_ca.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.7.0.2")]
    assert stat.S_IMODE(Path(listener["tls_key_file"]).stat().st_mode) == 0o600
    storage = Path(content["storage"]["raft"]["path"])
    assert storage.is_relative_to(instance.directory)
    assert stat.S_IMODE(storage.stat().st_mode) == 0o700
    assert content["cluster_addr"] == "https://10.7.0.2:8201"
    assert server.ready == "https://10.7.0.2:8200/v1/sys/health"


def test_a_bare_lab_has_it_in_its_one_machine(instance: Instance) -> None:
    assert (vault.server(instance).machine, vault.server(instance, CONTROL).machine) == ("vault", "control")
    assert vault.of(instance).machine == "control"  # there is no machine `vault`


def test_an_initialisation_that_was_killed_is_begun_anew(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    server = vault.server(instance)
    storage = instance.directory / "vault" / "storage"
    done: list[str] = []

    class Sys:
        def is_initialized(self) -> bool:
            return False

        def initialize(self, **_: Any) -> dict[str, Any]:
            assert list(storage.iterdir()) == []
            (storage / "vault.db").touch()
            if not done:
                raise KeyboardInterrupt
            return {"keys_base64": ["key"], "root_token": "root"}

    monkeypatch.setattr(vault, "_call", lambda *arguments: arguments[-1](SimpleNamespace(sys=Sys())))
    monkeypatch.setattr(vault, "unseal", lambda *_: None)
    monkeypatch.setattr(vault, "as_root", lambda *_: None)
    monkeypatch.setattr(service, "stop", lambda *_: done.append("stop"))
    monkeypatch.setattr(service, "start", lambda *_: done.append("start"))
    with pytest.raises(KeyboardInterrupt):
        vault.prepare(instance, server)
    assert not vault.root_token(instance).exists()
    vault.prepare(instance, server)
    assert done == ["stop", "start"]
    assert vault.root_token(instance).read_text() == "root"
    # From now on it is worth something.
    vault.prepare(instance, server)
    assert done == ["stop", "start"]


def test_the_environment_has_the_deployers_token_and_no_other(instance: Instance) -> None:
    files.write(vault.root_token(instance), "root")
    without = {"VAULT_ADDR": "https://10.7.0.2:8200", "VAULT_CACERT": str(instance.vault_ca)}
    assert vault.environment(instance) == without
    files.write(vault.deployer_token(instance), "deployer")
    assert vault.environment(instance) == {**without, "VAULT_TOKEN": "deployer"}


def test_a_deployer_reads_no_secret_and_nothing_of_another_cluster() -> None:
    text = re.sub(r"#.*", "", vault.DEPLOYER_POLICY.read_text())
    rules = {
        path: set(re.findall(r'"(\w+)"', capabilities))
        for path, capabilities in re.findall(r'path "([^"]+)" \{\s*capabilities = \[([^]]*)\]\s*\}', text)
    }
    assert len(rules) == text.count("path ")
    assert not any("*" in path or "+" in path or vault.OTHER_CLUSTER in path for path in rules)
    assert rules["asm-c1/data/hsm"] == rules["asm-c1/hsm"] == {"create", "update"}
    assert {path for path, capabilities in rules.items() if "sudo" in capabilities} == {
        "sys/auth/asm-c1/hsm",
        "sys/auth/asm-c1/hsm/tune",
    }


class Vault:
    """Stands for an hvac client's system backend."""

    def __init__(self, mounts: list[str], auth: list[str], policies: list[str]) -> None:
        self.sys = self
        self.list_mounted_secrets_engines = lambda: {"data": dict.fromkeys(mounts)}
        self.list_auth_methods = lambda: {"data": dict.fromkeys(auth)}
        self.list_policies = lambda: {"data": {"policies": policies}}


def test_what_others_left_in_vault() -> None:
    own: tuple[list[str], list[str], list[str]] = (
        ["cubbyhole/", "identity/", "sys/", "asm-c2/"],
        ["token/", "asm-c2/hsm/"],
        ["asm-c2-hsm-policy", "default", "meshgate-deployer", "root"],
    )
    assert vault.left(Vault(*own)) == []
    mounts, auth, policies = own
    found = vault.left(Vault([*mounts, "asm-c1/"], [*auth, "asm-c1/hsm/"], [*policies, "asm-c1-hsm-policy"]))
    assert found == ["mount asm-c1/", "auth asm-c1/hsm/", "policy asm-c1-hsm-policy"]


def test_pins_go_to_the_token_by_the_environment(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    class Done:
        returncode = 0

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> Done:
        calls.append((command, env))
        return Done()

    monkeypatch.setattr("lab.hsm.system", lambda name: name)
    monkeypatch.setattr("subprocess.run", run)
    hsm.prepare(instance)
    hsm.prepare(instance)
    assert len(calls) == 2  # once for the token, once for its user
    secrets = {file.read_text() for file in (hsm.pin(instance), hsm.so_pin(instance))}
    assert len(secrets) == 2
    for command, environment in calls:
        assert not any(secret in argument for secret in secrets for argument in command)
        assert secrets <= set(environment.values())
        assert environment["SOFTHSM2_CONF"] == str(hsm.configuration(instance))
    client = hsm.client_files(instance)
    assert client["PIN"].read_text() not in secrets
    for file in (hsm.pin(instance), hsm.so_pin(instance), client["PIN"], client["clientkey"]):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_half_a_token_is_made_anew(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        returncode = 0

    monkeypatch.setattr("lab.hsm.system", lambda name: name)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: Done())
    left = files.write(hsm.configuration(instance).parent / "tokens" / "half" / "token.object", "")
    hsm.prepare(instance)
    assert not left.exists()
