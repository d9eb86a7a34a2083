"""The mesh probes against sidecars made of their promises, each of which can be broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from settings import Settings, load
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context, impatient, log_line, option, transfer
from verify import scenarios
from verify.probe import Outcome
from verify.shell import Completed

LOCAL = "10.1.1.7:40000"


class Mesh(Cluster):
    """Pods whose sidecars do what a STRICT mesh with REGISTRY_ONLY does. `broken` names what they do not."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        agent = option(command, "--user-agent") or ""
        if "unregistered.invalid" in command[-1]:
            return self._outbound(command, agent)
        if pod == "outsider" and self.broken != "plaintext accepted":
            self._log("target", response_code_details="filter_chain_not_found", downstream_remote_address=LOCAL)
            return transfer(command, exit_code=56, error="Connection reset by peer", local=LOCAL)
        name = "somebody" if self.broken == "another identity" else "caller"
        self._log("target", user_agent=agent, peer=f"spiffe://cluster.local/ns/{namespace}/sa/{name}")
        return transfer(command, http_version="1.1", tls=None, local=LOCAL)

    def _outbound(self, command: Sequence[str], agent: str) -> Completed:
        if self.broken == "anything goes out":
            self._log("caller", user_agent=agent, upstream_cluster="PassthroughCluster")
            return transfer(command, exit_code=28, error="timed out", local=LOCAL)
        if self.broken == "somebody else's 502":
            self._log("caller", user_agent=agent, upstream_cluster="PassthroughCluster")
            return transfer(command, status=502, local=LOCAL)
        if command[-1].startswith("https:"):
            self._log("caller", upstream_cluster="BlackHoleCluster", downstream_remote_address=LOCAL)
            return transfer(command, exit_code=35, error="reset", local=LOCAL)
        self._log("caller", user_agent=agent, route_name="block_all", response_code="502")
        return transfer(command, status=502, local=LOCAL)

    def _log(self, pod: str, **operators: str) -> None:
        if self.broken != "no log":
            self.lines.setdefault(pod, []).append(log_line(**operators))


@pytest.fixture
def settings(dev_config: dict[str, Any]) -> Settings:
    return load(dev_config)


def _outcomes(settings: Settings, directory: Path, mesh: Mesh) -> dict[str, Outcome]:
    asked = context(directory, settings, kube=mesh, contracts={"mesh": {"trust_domain": "cluster.local"}})
    outcomes = {}
    for name, probe in scenarios.probes(settings).items():
        if probe.row in ("M1", "M2"):
            # Only what the probe says it needs is there.
            asked.pods.start(probe.workloads)
            outcomes[name] = probe.attempt(asked)
    return outcomes


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("", set()),
        ("plaintext accepted", {"M1b"}),
        ("another identity", {"M1a"}),
        ("anything goes out", {"M2a", "M2b"}),
        ("somebody else's 502", {"M2a", "M2b"}),
        ("no log", {"M1a", "M1b", "M2a", "M2b"}),
    ],
)
def test_each_probe_fails_for_its_own_reason(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, short: set[str]
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Mesh(broken))
    assert list(outcomes) == ["M1a", "M1b", "M2a", "M2b"]
    assert {name for name, outcome in outcomes.items() if not outcome.ok} == short
    assert all(outcome.evidence.startswith("sidecar of ") for outcome in outcomes.values() if outcome.ok)


def test_every_denial_has_its_success(settings: Settings) -> None:
    probes = scenarios.probes(settings)
    assert [probes[name].pair for name in ("M1a", "M1b", "M2a", "M2b")] == [None, *[probes["M1a"]] * 3]
