"""H9: no PIN, token or private key in clear in states, outputs, logs, processes' arguments or readable files.

The values themselves are looked for, those that this lab and this environment have, in every form.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hsm, vault
from lab.instance import Instance
from tests.deployment import CHECKOUT, kubectl
from tests.lab.onprem.arguments import Arguments
from tests.lab.onprem.environment import Onprem
from tests.lab.onprem.needles import Finding, Needles

pytestmark = pytest.mark.lab

OTHERS = stat.S_IRGRP | stat.S_IROTH
SYSTEM = (".git", ".venv")
"""Directories of the checkout into which neither the lab nor a program of it writes."""


@pytest.fixture(scope="module")
def secrets(onprem: Onprem) -> dict[str, str]:
    """Name -> value."""
    lab = onprem.lab
    texts = {
        "PIN of the root's token": hsm.pin(lab),
        "PIN of the token's security officer": hsm.so_pin(lab),
        "PIN of the HSM's client": hsm.client_files(lab)["PIN"],
        "key of the HSM's client": hsm.client_files(lab)["clientkey"],
        "Vault's root token": vault.root_token(lab),
        "Vault's unseal key": vault.unseal_key(lab),
        "Vault's token of who deploys": vault.deployer_token(lab),
    }
    found = {name: path.read_text().strip() for name, path in texts.items()}
    found["Vault's token for the API server"] = _secret(lab, "vault", "vault-reviewer-token", "token")
    found["the CA's key in cacerts"] = _secret(lab, "istio-system", "cacerts", "ca-key.pem")
    shown = json.loads(onprem.stack.export(show_secrets=True))
    for resource in shown["deployment"]["resources"]:
        if resource["type"] == "tls:index/privateKey:PrivateKey":
            found[resource["urn"].rsplit("::", 1)[-1]] = json.loads(resource["outputs"]["privateKeyPem"]["plaintext"])
    assert sum(name.startswith("onprem-authority-") for name in found) >= 1
    assert all(len(value) >= 16 for value in found.values())
    return found


@pytest.fixture(scope="module")
def needles(secrets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Needles:
    return Needles(tmp_path_factory.mktemp("needles"), secrets)


def test_every_form_of_every_secret_would_be_found(needles: Needles, secrets: dict[str, str], tmp_path: Path) -> None:
    planted = {}
    for number, (name, value) in enumerate(secrets.items()):
        for form, text in (
            ("plain", f"said {value}!"),
            ("in JSON", json.dumps({"value": value, "more": 1})),
            ("in base64", b64encode(value.encode()).decode()),
            ("in base64 of something longer", b64encode(f"ab{value}c".encode()).decode()),
            ("in hex", value.encode().hex()),
        ):
            file = tmp_path / f"{number} {form}"
            file.write_text(f"before\n{text}\nafter")
            planted[str(file)] = name
    innocent = tmp_path / "innocent"
    innocent.write_text("nothing\n" * 1000)
    found = needles.search([innocent, *map(Path, planted)])
    for path in planted:
        Path(path).unlink()
    assert {(finding.file, finding.secret) for finding in found} >= set(planted.items())
    assert str(innocent) not in {finding.file for finding in found}


def test_the_arguments_of_a_short_process_would_be_found(arguments: Arguments) -> None:
    subprocess.run(["sh", "-c", "sleep 0.05", "planted-in-arguments"], check=True)
    assert b"planted-in-arguments" in arguments.text()


def test_no_secret_in_states_outputs_logs_and_arguments(
    onprem: Onprem, needles: Needles, arguments: Arguments, tmp_path: Path
) -> None:
    written = {
        "export": onprem.stack.export().encode(),
        "outputs": onprem.stack.pulumi("stack", "output", "--json", "--show-secrets").stdout.encode(),
        "arguments": arguments.text(),
    }
    # The kubeconfig is an output, and a secret; of what is looked for here, even with it nothing is.
    for name, text in written.items():
        (tmp_path / name).write_bytes(text)
    states = list((onprem.lab.directory / "pulumi" / "state").rglob("*.json*"))
    logs = [path for path in (onprem.lab.directory / "log").iterdir() if path.is_file()]
    events = list(onprem.lab.directory.glob("*-events.json"))
    pods = [path for path in (onprem.lab.directory / "nodes").glob("*/log/pods/**/*.log") if path.is_file()]
    assert len(states) > 2
    assert {"vault-audit.log", "vault-vault.log", "control-kube-apiserver.log"} <= {path.name for path in logs}
    assert any("istiod" in str(path) for path in pods)
    assert b"pulumi-resource-vault" in written["arguments"]
    assert b"authority sign" in written["arguments"]
    assert needles.search([tmp_path / name for name in written]) == []
    assert needles.search([*states, *logs, *events, *pods]) == []


def test_no_secret_in_a_file_that_others_may_read(onprem: Onprem, needles: Needles, tmp_path: Path) -> None:
    # What is older than the secrets cannot hold them.
    since = hsm.so_pin(onprem.lab).stat().st_mtime
    planted = tmp_path / "planted"
    planted.write_text(vault.unseal_key(onprem.lab).read_text())
    planted.chmod(0o640)
    readable = [
        path
        for root in (onprem.lab.directory, CHECKOUT, Path("/tmp"))
        for path in _files(root)
        if (status := path.lstat()).st_mode & OTHERS and status.st_mtime >= since
    ]
    found = needles.search(readable)
    planted.unlink()
    assert len(readable) > 20
    assert found == [Finding(str(planted), "Vault's unseal key")]


def _files(root: Path) -> Iterator[Path]:
    for directory, below, names in os.walk(root):
        if Path(directory) == CHECKOUT:
            below[:] = [name for name in below if name not in SYSTEM]
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _secret(lab: Instance, namespace: str, name: str, key: str) -> str:
    data = json.loads(kubectl(lab, "get", "secret", name, "-n", namespace, "-o", "json"))["data"]
    return b64decode(data[key]).decode().strip()
