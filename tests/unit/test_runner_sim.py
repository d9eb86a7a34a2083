"""`python -m lab sim`: its steps, its outcome, and that it takes its control plane down."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import authority, cluster, sim, vault
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from lab.plugins.store import Record, Store


class Engine:
    """Stands for Pulumi and the control plane; `failing` is the first argument of the command that fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.config = CONFIG
        self.failing = ""
        self.left: list[dict[str, Any]] = []
        self.left_in_vault: list[str] = []
        self.waits = False
        """Whether the mesh CA's request waits for being signed."""
        self.changes: list[Sequence[Mapping[str, Any]]] = []

    def pulumi(
        self,
        instance: Instance,
        stack: str,
        command: Sequence[str],
        *_: object,
        changes: Sequence[Mapping[str, Any]],
        **__: object,
    ) -> int:
        self.calls.append(" ".join(command).split(" --event-log")[0])
        self.changes.append(list(changes))
        log = Path(command[-1])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('{"preludeEvent": {}}\n{"summaryEvent": {"resourceChanges": {"create": 3}}}\n')
        return 255 if command[0] == self.failing else 0

    def sign(self, *_: object) -> bool:
        waited, self.waits = self.waits, False
        return waited

    def export(self, *_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, json.dumps({"deployment": {"resources": self.left}}), "")


CONFIG: dict[str, Any] = {
    "meshgate:layers": ["cluster", "mesh"],
    "meshgate:protect": False,
    "meshgate:cluster": {"kind": "onprem"},
    "meshgate:mesh": {},
}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    monkeypatch.setattr(cluster, "up", lambda instance, bare, say: made.calls.append(f"{instance.name} up"))
    monkeypatch.setattr(cluster, "down", lambda instance, say: made.calls.append(f"{instance.name} down"))
    monkeypatch.setattr(runner, "pulumi", made.pulumi)
    monkeypatch.setattr(
        runner, "configuration", lambda instance, stack, file, changes: runner.overlaid(made.config, changes)
    )
    monkeypatch.setattr(runner, "command", lambda *arguments: [])
    monkeypatch.setattr(runner, "project", lambda instance: tmp_path)
    monkeypatch.setattr(runner, "environment", lambda instance: {})
    monkeypatch.setattr(subprocess, "run", made.export)
    monkeypatch.setattr(authority, "sign", made.sign)
    monkeypatch.setattr(vault, "of", lambda instance: None)
    monkeypatch.setattr(vault, "as_root", lambda *_: made.left_in_vault)
    return made


def simulated(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    sim.arguments(parser)
    # `dev` is what the command line has for an instance; the simulation must not touch it.
    return sim.run(Instance("dev"), parser.parse_args(["gke", *arguments]))


def test_all_steps(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated("--json") == 0
    assert engine.calls == [
        "sim up",
        "preview",
        "up --yes --skip-preview",
        "up --yes --skip-preview --expect-no-changes",
        "up --yes --skip-preview",
        "refresh --yes --skip-preview",
        "destroy --yes --skip-preview",
        "sim down",
    ]
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["stack"] == "gke"
    assert [step["name"] for step in outcome["steps"]] == [
        *("control plane", "preview", "up", "up again", "update", "refresh", "destroy"),
        *("state is empty", "clouds are empty", "Vault is empty"),
    ]
    assert all(step["ok"] for step in outcome["steps"])
    assert outcome["steps"][1]["resources"] == {"create": 3}


def test_the_update_stays(engine: Engine) -> None:
    assert simulated() == 0
    before, after = engine.changes[2], engine.changes[3]
    assert runner.overlaid(CONFIG, before) == CONFIG
    assert runner.overlaid(CONFIG, after) == {**CONFIG, "meshgate:mesh": {"replicas": {"min": 1, "max": 9}}}
    destroy = engine.changes[-1]
    assert runner.overlaid(CONFIG, destroy) == runner.overlaid(CONFIG, after)


def test_what_is_protected_is_given_up_first(engine: Engine) -> None:
    engine.config = CONFIG | {"meshgate:protect": True, "meshgate:cluster": {"kind": "gke", "deletionProtection": True}}
    assert simulated() == 0
    assert engine.calls[-3:] == ["up --yes --skip-preview", "destroy --yes --skip-preview", "sim down"]
    assert runner.overlaid(engine.config, engine.changes[4])["meshgate:protect"] is True
    given_up = runner.overlaid(engine.config, engine.changes[5])
    assert given_up["meshgate:protect"] is False
    assert given_up["meshgate:cluster"]["deletionProtection"] is False
    assert engine.changes[6] == engine.changes[5]


def test_nothing_to_update_is_said(engine: Engine) -> None:
    engine.config = {"meshgate:layers": ["authority"], "meshgate:authority": {}}
    with pytest.raises(LabError, match=r"sim\.yaml changes nothing of gke"):
        simulated()
    assert engine.calls[-1] == "sim down"


def test_a_failure_ends_it_and_the_control_plane_goes(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.failing = "up"
    assert simulated() == 1
    assert engine.calls == ["sim up", "preview", "up --yes --skip-preview", "sim down"]
    assert "failed" in capsys.readouterr().out


def test_what_destroy_leaves_is_a_failure(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.left = [{"type": "pulumi:pulumi:Stack"}, {"type": "tls:index/privateKey:PrivateKey"}]
    assert simulated("--json") == 1
    state, clouds, _ = json.loads(capsys.readouterr().out)["steps"][-3:]
    assert (state["name"], state["ok"]) == ("state is empty", False)
    assert state["resources"] == {"pulumi:pulumi:Stack": 1, "tls:index/privateKey:PrivateKey": 1}
    assert clouds["ok"]


@pytest.mark.usefixtures("engine")
def test_what_stays_in_a_cloud_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with Store(Instance("sim"), "aws").open() as world:
        balancer = Record("aws:lb/loadBalancer:LoadBalancer", "arn:aws:elasticloadbalancing:1", {}, {})
        world.records[balancer.key] = balancer
    assert simulated("--json") == 1
    state, clouds, _ = json.loads(capsys.readouterr().out)["steps"][-3:]
    assert state["ok"]
    assert (clouds["name"], clouds["ok"]) == ("clouds are empty", False)
    assert clouds["resources"] == {"aws:lb/loadBalancer:LoadBalancer": 1}


def test_what_stays_in_vault_is_a_failure(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.left_in_vault = ["mount asm-c1/"]
    assert simulated("--json") == 1
    last = json.loads(capsys.readouterr().out)["steps"][-1]
    assert (last["name"], last["ok"], last["resources"]) == ("Vault is empty", False, {"mount asm-c1/": 1})


def test_a_mesh_ca_that_waits_is_signed_before_the_second_up(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.waits = True
    assert simulated("--json") == 0
    assert engine.calls[1:5] == [
        "preview",
        "up --yes --skip-preview",
        "up --yes --skip-preview",
        "up --yes --skip-preview --expect-no-changes",
    ]
    assert [step["name"] for step in json.loads(capsys.readouterr().out)["steps"]][1:5] == [
        *("preview", "up", "signed", "up again")
    ]


def test_keep_and_name(engine: Engine) -> None:
    assert simulated("--keep", "--name", "mine") == 0
    assert engine.calls[0] == "mine up"
    assert "mine down" not in engine.calls


def test_an_error_takes_the_control_plane_down_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise LabError("Pulumi.gke.yaml does not exist")

    monkeypatch.setattr(runner, "pulumi", fail)
    with pytest.raises(LabError, match="does not exist"):
        simulated()
    assert engine.calls == ["sim up", "sim down"]


def test_the_summary_of_an_interrupted_command() -> None:
    assert sim.summary('{"preludeEvent": {}}\n{"resourcePre') == {}
    assert sim.summary("") == {}
