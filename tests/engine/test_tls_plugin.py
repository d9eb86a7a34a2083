"""The tls stand-in under the real engine: a scratch program in a lab's environment, without any cluster."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab import pulumi as runner
from lab.instance import Instance
from lab.sim import summary

pytestmark = pytest.mark.engine

PROGRAM = """
import base64
import pulumi
import pulumi_tls as tls

config = pulumi.Config()
component = pulumi.ComponentResource("scratch:a:Component", "component")
child = pulumi.ResourceOptions(parent=component)
key = tls.PrivateKey("key", algorithm=config.get("algorithm") or "ECDSA", ecdsa_curve="P256", opts=child)
root = tls.SelfSignedCert(
    "root",
    private_key_pem=key.private_key_pem,
    allowed_uses=["cert_signing"],
    validity_period_hours=config.get_int("hours") or 100,
    early_renewal_hours=config.get_int("early"),
    is_ca_certificate=True,
    subject={"common_name": "root"},
)
request = tls.CertRequest("leaf", private_key_pem=key.private_key_pem, dns_names=["a.example.com"])
leaf = tls.LocallySignedCert(
    "leaf",
    cert_request_pem=request.cert_request_pem,
    ca_cert_pem=root.cert_pem,
    ca_private_key_pem=key.private_key_pem,
    allowed_uses=["server_auth"],
    validity_period_hours=50,
)
pulumi.export("root", root.cert_pem)
# As a Secret of Kubernetes would carry it.
pulumi.export("encoded", key.private_key_pem.apply(lambda pem: base64.b64encode(pem.encode()).decode()))
"""


class Stack:
    """The scratch program's stack."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment

    def pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--stack", "test", "--non-interactive"],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def run(self, *arguments: str) -> dict[str, int]:
        """Runs a command that must succeed: how many resources it created, replaced and so on."""
        log = self.directory / "events.json"
        log.unlink(missing_ok=True)
        answer = self.pulumi(*arguments, "--event-log", str(log))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "warning:" not in answer.stdout + answer.stderr
        return summary(log.read_text())

    def export(self) -> str:
        answer = self.pulumi("stack", "export")
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path / "labs"))
    directory = tmp_path / "program"
    directory.mkdir()
    (directory / "Pulumi.yaml").write_text("name: scratch\nruntime: python\n")
    (directory / "__main__.py").write_text(PROGRAM)
    instance = Instance("engine")
    instance.directory.mkdir(parents=True)
    made = Stack(directory, runner.environment(instance))
    answer = made.pulumi("stack", "init")
    assert answer.returncode == 0, answer.stderr
    return made


def decodings(text: str) -> str:
    """The text, and whatever in it is base64, decoded as often as that goes."""
    found = [text]
    for part in found:
        for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", part):
            try:
                found.append(base64.b64decode(word, validate=True).decode())
            except ValueError:
                continue
    return "\n".join(found)


def test_a_certificates_life(stack: Stack) -> None:
    assert stack.run("preview") == {"create": 6}
    assert stack.run("up", "--yes", "--skip-preview") == {"create": 6}
    assert stack.run("up", "--yes", "--skip-preview", "--expect-no-changes") == {"same": 6}
    assert stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes") == {"same": 6}

    exported = stack.export()
    assert "BEGIN CERTIFICATE" in decodings(exported), "the search finds what is in clear"
    for sign in ("PRIVATE KEY", "OPENSSH"):
        assert sign not in decodings(exported)

    # In place: only the state changes. Then the window reaches the certificate, and what it signed goes with it.
    stack.pulumi("config", "set", "early", "10")
    assert stack.run("up", "--yes", "--skip-preview") == {"update": 1, "same": 5}
    stack.pulumi("config", "set", "early", "100")
    assert stack.run("preview") == {"replace": 2, "same": 4}
    stack.pulumi("config", "rm", "early")
    stack.run("up", "--yes", "--skip-preview")

    stack.pulumi("config", "set", "hours", "200")
    assert stack.run("up", "--yes", "--skip-preview") == {"replace": 2, "same": 4}
    # A new key replaces all; in the preview it is not known yet.
    stack.pulumi("config", "set", "algorithm", "ED25519")
    assert stack.run("preview") == {"replace": 4, "same": 2}
    assert stack.run("up", "--yes", "--skip-preview") == {"replace": 4, "same": 2}
    assert stack.run("up", "--yes", "--skip-preview", "--expect-no-changes") == {"same": 6}

    assert stack.run("destroy", "--yes", "--skip-preview") == {"delete": 6}
    assert not json.loads(stack.export())["deployment"].get("resources")


def test_a_mistake_is_named_and_no_secret_is_shown(stack: Stack) -> None:
    stack.pulumi("config", "set", "algorithm", "DSA")
    answer = stack.pulumi("preview")
    assert answer.returncode != 0
    assert "algorithm is 'DSA', but must be one of: RSA, ECDSA, ED25519" in answer.stdout

    program = stack.directory / "__main__.py"
    program.write_text(
        "import pulumi_tls as tls\ntls.CertRequest('leaf', private_key_pem='-----not a key: s3cret-----')\n"
    )
    answer = stack.pulumi("preview")
    assert answer.returncode != 0
    assert "privateKeyPem is not an unencrypted RSA, ECDSA or Ed25519 private key in PEM format" in answer.stdout
    assert "s3cret" not in answer.stdout + answer.stderr


def test_the_guard_refuses_a_foreign_backend(stack: Stack, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    stack.environment["PULUMI_BACKEND_URL"] = foreign.as_uri()
    stack.pulumi("stack", "init")
    answer = stack.pulumi("up", "--yes", "--skip-preview")
    assert answer.returncode != 0
    assert "is a stand-in for meshgate's lab and refuses to work" in answer.stdout
    assert "is not in the lab's directory" in answer.stdout
    assert "PrivateKey" not in _types(stack)


def _types(stack: Stack) -> Any:
    return [item["type"] for item in json.loads(stack.export())["deployment"].get("resources", [])]
