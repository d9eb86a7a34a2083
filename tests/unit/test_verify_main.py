"""`python -m verify` as a whole, with a `pulumi` that gives what a test says, and no cluster."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightkube.resources.core_v1 import Namespace, Pod

from tests.unit.verify_fakes import FakeKube, private
from verify import __main__ as program
from verify import curl, scenarios
from verify.context import Context
from verify.errors import VerifyError
from verify.kube import Kube
from verify.mesh import CALLER
from verify.probe import Outcome, Probe
from verify.stack import read_contracts, read_settings
from verify.workload import LABELS, Workload

OUTPUTS: dict[str, Any] = {
    "cluster_contract": 1,
    "cluster_identifier": "id",
    "cluster_kubeconfig": "{}",
    "cluster_pod_cidr": "10.1.0.0/16",
    "cluster_name": "lab",
    "cluster_location": "",
    "cluster_service_cidr": "10.2.0.0/20",
    "authority_contract": 2,
    "authority_namespace": "istio-system",
    "authority_root_certificate": "PEM",
    "authority_status": "signed",
    "authority_generations": {},
    "mesh_contract": 1,
    "mesh_namespace": "istio-system",
    "mesh_revision_tag": "stable",
    "mesh_revision": "1-31-1",
    "mesh_moved": {},
    "mesh_control_plane_cidrs": [],
    "mesh_trust_domain": "cluster.local",
    "ingress_contract": 1,
    "ingress_gateways": {},
    "ingress_root_certificates": {},
    "ingress_balancers": {},
}

LAYERS = ("cluster", "authority", "mesh", "ingress")
"""Layers of dev whose contracts tests here are about."""


class Pulumi:
    """A `pulumi` on the PATH that knows some stacks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stacks: dict[str, dict[str, Any]] = {}

    def add(self, stack: str, config: dict[str, Any], outputs: dict[str, Any]) -> None:
        self.stacks[stack] = {"config": {f"meshgate:{key}": _entry(value) for key, value in config.items()}}
        self.stacks[stack]["outputs"] = outputs
        script = self.directory / "pulumi"
        script.write_text(
            f"#!{sys.executable}\n"
            "import json, sys\n"
            f"stacks = json.loads({json.dumps(self.stacks)!r})\n"
            "stack = sys.argv[sys.argv.index('--stack') + 1]\n"
            "if stack not in stacks: sys.exit(f\"error: no stack named '{stack}' found\")\n"
            "print(json.dumps(stacks[stack]['config' if sys.argv[1] == 'config' else 'outputs']))\n"
        )
        script.chmod(0o755)


def _entry(value: Any) -> dict[str, Any]:
    if isinstance(value, dict | list):
        return {"value": json.dumps(value), "objectValue": value, "secret": False}
    return {"value": json.dumps(value) if isinstance(value, bool) else str(value), "secret": False}


@pytest.fixture
def pulumi(tmp_path: Path, dev_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Pulumi(tmp_path)
    for layer in set(dev_config["layers"]) - set(LAYERS):
        dev_config["layers"].remove(layer)
        del dev_config[layer]
    found.add("dev", dev_config, OUTPUTS)
    return found


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    fake = FakeKube()
    monkeypatch.setattr(Kube, "from_kubeconfig", lambda kubeconfig: fake)
    monkeypatch.setattr(curl, "check_version", lambda client: None)
    return fake


def _only(monkeypatch: pytest.MonkeyPatch, *attempts: Callable[[Context], Outcome], **more: Any) -> None:
    """The stack has these probes alone: X1, or X1a, X1b, ..."""
    probes = [Probe(row="X1", scenario="mesh", expected="good", attempt=attempt, **more) for attempt in attempts]
    monkeypatch.setattr(scenarios, "SCENARIOS", {"mesh": lambda settings: probes})


def _good(context: Context) -> Outcome:
    return Outcome(ok=True, observed="good", evidence="seen")


def _absent(context: Context) -> Outcome:
    return Outcome(ok=None, observed="not here")


def _short(context: Context) -> Outcome:
    # Given up at once: no further tries.
    context.stop.set()
    return Outcome(ok=False, observed="bad")


def test_settings_and_contracts_are_read(pulumi: Pulumi) -> None:
    settings = read_settings("dev")
    assert settings.layers == LAYERS
    assert settings.protect is False
    assert read_contracts("dev", settings)["mesh"]["revision_tag"] == "stable"


def test_the_default_of_a_section_that_is_not_there_is_no_section(pulumi: Pulumi, dev_config: dict[str, Any]) -> None:
    config = {"name": "dev", "layers": ["cluster"], "cluster": dev_config["cluster"], "mesh": {}, "ingress": {}}
    pulumi.add("small", config, OUTPUTS)
    assert read_settings("small").mesh is None


def test_a_mesh_ca_that_waits_is_said_to_wait(pulumi: Pulumi, dev_config: dict[str, Any]) -> None:
    outputs = {key: value for key, value in OUTPUTS.items() if not key.startswith(("mesh_", "ingress_"))}
    pulumi.add("dev", dev_config, {**outputs, "withheld": ["mesh", "ingress"]})
    with pytest.raises(
        VerifyError, match=r"mesh CA of stack 'dev' waits for its signed chain.* no layer ingress, mesh"
    ):
        read_contracts("dev", read_settings("dev"))


def test_below_the_mesh_probe_pods_follow_no_revision(
    pulumi: Pulumi, dev_config: dict[str, Any], kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = {key: dev_config[key] for key in ("name", "cluster", "authority")}
    pulumi.add("base", {**below, "layers": ["cluster", "authority"]}, OUTPUTS)
    workload = Workload("asker", in_mesh=False)
    probe = Probe(row="X1", scenario="authority", expected="good", attempt=_good, workloads=(workload,))
    monkeypatch.setattr(scenarios, "SCENARIOS", {"authority": lambda settings: [probe]})
    assert program.main(["--stack", "base"]) == 0
    (namespace,) = [item for item in kube.created if isinstance(item, Namespace)]
    assert namespace.metadata
    assert namespace.metadata.labels == LABELS


def test_layers_of_other_stacks_come_from_their_outputs(pulumi: Pulumi, dev_config: dict[str, Any]) -> None:
    config = {
        "name": "dev",
        "layers": ["ingress"],
        "upstream": {"cluster": "org/meshgate/cluster", "mesh": "org/meshgate/mesh"},
        "ingress": dev_config["ingress"],
    }
    pulumi.add("ingress", config, {key: value for key, value in OUTPUTS.items() if key.startswith("ingress_")})
    pulumi.add("org/meshgate/cluster", {}, OUTPUTS | {"cluster_pod_cidr": "10.9.0.0/16"})
    pulumi.add("org/meshgate/mesh", {}, OUTPUTS | {"mesh_revision_tag": "prod"})
    contracts = read_contracts("ingress", read_settings("ingress"))
    assert set(contracts) == {"cluster", "mesh", "ingress"}
    assert contracts["cluster"]["pod_cidr"] == "10.9.0.0/16"
    assert contracts["mesh"]["revision_tag"] == "prod"


@pytest.mark.usefixtures("pulumi")
def test_list_prints_the_ids_and_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stack", "dev", "--list", "--only", "T6b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["T6a", "ingress"], ["T6b", "ingress"]]


@pytest.mark.usefixtures("pulumi", "kube")
def test_all_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _only(monkeypatch, _good, _absent)
    assert program.main(["--stack", "dev"]) == 0
    said = capsys.readouterr()
    assert "X1a" in said.out
    assert "2 probes: 1 as expected, 1 not applicable" in said.err


@pytest.mark.usefixtures("pulumi", "kube")
def test_json_alone_is_on_stdout_and_junit_in_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _only(monkeypatch, _good)
    assert program.main(["--stack", "dev", "--json", "--junit", str(tmp_path / "report.xml")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["stack"], [probe["id"] for probe in document["probes"]]) == ("dev", ["X1"])
    assert ElementTree.parse(tmp_path / "report.xml").find(".//testcase") is not None


@pytest.mark.usefixtures("pulumi", "kube")
def test_a_probe_that_falls_short_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, _good, _short)
    assert program.main(["--stack", "dev"]) == 1


@pytest.mark.usefixtures("kube")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--stack", "nothing"], "error: `pulumi config --json --show-secrets --stack nothing` failed: no stack named"),
        (["--stack", "dev", "--only", "T99"], "error: this stack has no probe T99"),
        (["--stack", "dev", "--scenario", "edge"], "error: this stack has no scenario 'edge'"),
        (["--stack", "wrong"], "meshgate:mesh: is missing"),
        (["--stack", "empty"], "error: stack 'empty' has no output 'cluster_contract'"),
    ],
)
def test_what_cannot_be_run_is_exit_code_2(
    pulumi: Pulumi,
    dev_config: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    pulumi.add("empty", dev_config, {})
    pulumi.add("wrong", {key: value for key, value in dev_config.items() if key != "mesh"}, OUTPUTS)
    assert program.main(arguments) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_without_pulumi_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert program.main(["--stack", "dev"]) == 2
    assert "no `pulumi` on the PATH" in capsys.readouterr().err


@pytest.mark.usefixtures("pulumi", "kube")
def test_a_stack_without_probes_passes(
    pulumi: Pulumi, dev_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"name": "dev", "layers": ["cluster"], "cluster": dev_config["cluster"]}
    pulumi.add("small", config, OUTPUTS)
    assert program.main(["--stack", "small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stack": "small", "probes": []}


@pytest.mark.usefixtures("pulumi", "kube")
@pytest.mark.parametrize(("error", "code"), [(None, 0), (KeyboardInterrupt(), 130), (VerifyError("bad"), 1)])
def test_files_with_keys_are_private_while_it_runs_and_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    files: list[Path] = []

    def attempt(context: Context) -> Outcome:
        files.append(context.file("-----BEGIN PRIVATE KEY-----"))
        assert private(files[0])
        assert files[0].parent.stat().st_mode & 0o777 == 0o700
        context.stop.set()
        if error is not None:
            raise error
        return _good(context)

    _only(monkeypatch, attempt)
    assert program.main(["--stack", "dev"]) == code
    assert files
    assert not files[0].parent.exists()


@pytest.mark.usefixtures("pulumi")
def test_nothing_is_asked_before_the_pods_are_up(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    ready = kube.pod

    def look(namespace: str, name: str) -> Pod:
        seen.append(name)
        return ready(namespace, name)

    monkeypatch.setattr(kube, "pod", look)

    def attempt(context: Context) -> Outcome:
        seen.append("asked")
        return Outcome(ok=True, observed="good")

    _only(monkeypatch, attempt, workloads=(CALLER,))
    assert program.main(["--stack", "dev"]) == 0
    assert seen == ["caller", "asked"]


@pytest.mark.usefixtures("pulumi")
def test_a_kill_cleans_up(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(context: Context) -> Outcome:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        context.stop.wait(10)
        return Outcome(ok=False, observed="interrupted")

    _only(monkeypatch, attempt, workloads=(CALLER,))
    before = signal.getsignal(signal.SIGTERM)
    assert program.main(["--stack", "dev"]) == 130
    assert len(kube.deleted) == 1
    assert signal.getsignal(signal.SIGTERM) is before
