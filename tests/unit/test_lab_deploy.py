"""What is cleaned up before `pulumi up` after one that was killed, and that nothing is touched otherwise."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import deploy
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance

STATE = Path("state/.pulumi/stacks/meshgate/dev.json")
LOCK = Path("state/.pulumi/locks/organization/meshgate/dev/one.json")
PENDING = [{"name": "simple", "status": "pending-upgrade"}]


class Lab:
    """Stands for the machine `control`: keeps what is run there."""

    def __init__(self, directory: Path, pulumi_lives: bool) -> None:
        self.directory = directory
        self.pulumi_lives = pulumi_lives
        self.helm_says = ""
        """What helm complains about; nothing when it works."""
        self.ran: list[str] = []

    def run(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        if command[0] == "grep":
            return subprocess.CompletedProcess(command, 0 if self.pulumi_lives else 2)
        self.ran.append(line)
        return subprocess.CompletedProcess(command, int(bool(self.helm_says)), json.dumps(PENDING), self.helm_says)

    def write(self, path: Path, content: object) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(tmp_path, pulumi_lives=False)
    monkeypatch.setattr("lab.pulumi.state_file", lambda *_: tmp_path / STATE)
    monkeypatch.setattr("lab.pulumi.project", lambda _: tmp_path)
    monkeypatch.setattr("lab.pulumi.environment", lambda _: {})
    monkeypatch.setattr("lab.pulumi.command", lambda _, program, *rest: program)
    monkeypatch.setattr("lab.pulumi.execute", lambda _, program, *rest: lab.run(program).returncode)
    monkeypatch.setattr("subprocess.run", lab.run)
    return lab


def state(**begun: str) -> dict[str, Any]:
    """A state with operations on releases, each by the release's name."""
    operations = [
        {
            "type": kind,
            "resource": {
                "type": "kubernetes:helm.sh/v3:Release",
                "urn": f"urn:pulumi:dev::meshgate::a$b::dev-{name}",
                "inputs": {"name": name, "namespace": "istio-ingress"},
            },
        }
        for name, kind in begun.items()
    ]
    return {"version": 3, "checkpoint": {"latest": {"resources": [], "pending_operations": operations}}}


def test_the_first_deployment_finds_nothing(lab: Lab) -> None:
    deploy.recover(Instance("dev"), "dev")
    assert lab.ran == []


def test_nothing_happens_after_a_run_that_ended(lab: Lab) -> None:
    lab.write(STATE, state())
    deploy.recover(Instance("dev"), "dev")
    assert lab.ran == []


def test_a_killed_run_is_unlocked(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.write(STATE, state())
    lab.write(LOCK, {"pid": 497})
    deploy.recover(Instance("dev"), "dev")
    assert lab.ran == ["pulumi cancel --yes --stack dev"]
    assert "an earlier pulumi was killed: unlocking stack dev" in capsys.readouterr().err


def test_a_run_that_goes_on_is_left_alone(lab: Lab) -> None:
    lab.pulumi_lives = True
    lab.write(STATE, state(hosts="creating"))
    lab.write(LOCK, {"pid": 497})
    deploy.recover(Instance("dev"), "dev")
    assert lab.ran == []


def test_another_stacks_lock_is_left_alone(lab: Lab) -> None:
    lab.write(STATE, state())
    lab.write(LOCK.parent.with_name("other") / "one.json", {"pid": 497})
    deploy.recover(Instance("dev"), "dev")
    assert lab.ran == []


def test_what_was_begun_is_cleaned_up(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.write(STATE, state(hosts="creating", simple="updating", mutual="updating"))
    deploy.recover(Instance("dev"), "dev")
    assert lab.ran == [
        # Also when Helm had finished: Pulumi does not know, and Helm would refuse to install it again.
        "helm uninstall hosts --namespace istio-ingress --ignore-not-found --wait",
        "helm list --pending --namespace istio-ingress -o json",
        "helm rollback simple --namespace istio-ingress --wait",
        # This one's change had ended or not begun.
        "helm list --pending --namespace istio-ingress -o json",
        "pulumi refresh --yes --skip-preview --clear-pending-creates --stack dev",
    ]
    assert "killed at dev-hosts, dev-simple, dev-mutual" in capsys.readouterr().err


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The states that Pulumi is given."""
    given: list[dict[str, Any]] = []
    execute = runner.execute

    def look(instance: Instance, program: Sequence[str], *more: Any) -> int:
        if "import" in program:
            file = Path(program[4])
            given.append(json.loads(file.read_text()))
            assert file.stat().st_mode & 0o777 == 0o600
        return execute(instance, program, *more)

    monkeypatch.setattr(runner, "execute", look)
    return given


def test_what_was_being_made_in_vault_is_taken_over(lab: Lab, imported: list[dict[str, Any]]) -> None:
    urn = "urn:pulumi:dev::meshgate::a$vault:index/mount:Mount::dev-authority-vault"
    resource = {"type": "vault:index/mount:Mount", "urn": urn, "inputs": {"path": "asm-c1", "type": "kv"}}
    begun = [{"type": "creating", "resource": resource}]
    lab.write(STATE, {"version": 3, "checkpoint": {"latest": {"pending_operations": begun}}})
    deploy.recover(Instance("dev"), "dev")
    assert [line.split(" --file ")[0] for line in lab.ran] == [
        "pulumi stack import",
        "pulumi refresh --yes --skip-preview --clear-pending-creates --stack dev",
    ]
    (content,) = imported
    assert content["version"] == 3
    assert [(it["urn"], it["id"]) for it in content["deployment"]["resources"]] == [(urn, "asm-c1")]
    assert not list(lab.directory.glob("**/adopted.json"))


def test_a_field_that_was_being_added_is_looked_for(lab: Lab, imported: list[dict[str, Any]]) -> None:
    """A refresh looks only at the fields that the state has: an annotation that came with the change would stay."""
    urn = "urn:pulumi:dev::meshgate::a$kubernetes:apps/v1:Deployment::dev-bookinfo-deployment-productpage-v1"
    there = {"type": "kubernetes:apps/v1:Deployment", "urn": urn, "inputs": {"metadata": {"name": "productpage-v1"}}}
    stays = {"urn": "urn:pulumi:dev::meshgate::pulumi:pulumi:Stack::meshgate-dev"}
    wanted = {"metadata": {"name": "productpage-v1", "annotations": {"istio.io/rev": "1-31-1"}}}
    begun = [{"type": "updating", "resource": {**there, "inputs": wanted}}]
    latest = {"resources": [stays, there], "pending_operations": begun}
    lab.write(STATE, {"version": 3, "checkpoint": {"latest": latest}})
    deploy.recover(Instance("dev"), "dev")
    (content,) = imported
    assert content["deployment"]["resources"] == [stays, {**there, "inputs": wanted}]
    assert lab.ran[-1].startswith("pulumi refresh")


def test_helm_that_cannot_is_no_traceback(lab: Lab) -> None:
    lab.helm_says = "Error: Kubernetes cluster unreachable\n"
    lab.write(STATE, state(hosts="creating"))
    with pytest.raises(LabError) as error:
        deploy.recover(Instance("dev"), "dev")
    assert str(error.value) == (
        "`helm uninstall hosts --namespace istio-ingress --ignore-not-found --wait` failed while cleaning up: "
        "Error: Kubernetes cluster unreachable"
    )
