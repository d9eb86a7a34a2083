"""The probes of egress and workload identity against a cluster made of dev's promises, each of which can be broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from settings import Settings, load
from tests.unit.egress_fakes import CONTRACTS, TOKEN, Egress, FakeFirewall
from tests.unit.verify_fakes import context, impatient
from verify import counters, scenarios
from verify.context import Context
from verify.counters import Firewall
from verify.probe import Outcome, Probe

SCENARIOS = ("egress", "workload-identity")


@pytest.fixture
def settings(dev_config: dict[str, Any]) -> Settings:
    return load(dev_config)


def _probes(settings: Settings) -> dict[str, Probe]:
    return {name: probe for name, probe in scenarios.probes(settings).items() if probe.scenario in SCENARIOS}


def _asked(settings: Settings, directory: Path, cluster: Egress, firewall: Firewall | None = None) -> Context:
    firewall = firewall or FakeFirewall(cluster)
    return context(directory, settings, kube=cluster, contracts=CONTRACTS, firewall=firewall)


def _outcomes(
    settings: Settings, directory: Path, cluster: Egress, firewall: Firewall | None = None
) -> dict[str, Outcome]:
    asked = _asked(settings, directory, cluster, firewall)
    outcomes = {}
    for name, probe in _probes(settings).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        outcomes[name] = probe.attempt(asked)
    return outcomes


def test_a_cluster_that_keeps_its_promises_passes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Egress(settings))
    assert {name: outcome.observed for name, outcome in outcomes.items() if outcome.ok is not True} == {}
    assert {name for name, outcome in outcomes.items() if not outcome.evidence} == set()
    rows = {name.rstrip("abcdefghijklmnopqrstuvwxyz") for name in outcomes}
    assert rows == {f"G{number}" for number in range(4, 15)}


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("gateway elsewhere", "G4a"),
        ("no taint", "G4a"),
        ("pending pod runs", "G4b"),
        ("no such nodes", "G4b"),
        ("nothing admitted", "G4c G4d G4e G4f G11a"),
        ("anything admitted", "G4d G4e G4f G11a"),
        ("a mistake in the pod", "G4d G4e G4f G11a"),
        ("past the gateway", "G5a G5b G5c G6a G6b G7a G7b G9a G9b"),
        ("nobody is known", "G5a G5b G5c G6a G6b G6c G6d G7a G7b G10a G10c G10f G11n G11o G14e"),
        ("no Sidecar resource", "G5d G5e G5f"),
        ("all are scoped", "G5d G5e G5f"),
        ("everything allowed", "G6a G6b G6d G7b G10c G10f G14e"),
        ("refused by a route", "G6a G6b G6d G7b G10c G10e G10f G14e"),
        ("everything visible", "G8a G8b G8c G8d G8e G8f G11p G13d G13e G13f G13g"),
        ("no TLS begun", "G5a G5b G9a G9b"),
        ("upstream not trusted", "G5a G5b G9a G9b"),
        ("no open server", "G10d"),
        ("gateway not reached", "G11b G11c G11d"),
        ("no certificate", "G11e G11j G11l"),
        ("Google by the gateway", "G11f G11g G11h G13a G13b"),
        ("Google not reached", "G11f G11g G11h"),
        ("straight out", "G11i G11k G11m G11r G11s G11t"),
        ("only the firewall stops it", "G11i G11k G11m G11r G11s G11t"),
        ("calls open", "G11q"),
        ("no answer anyway", "G11i G11k G11m G11q G11r G11s G11t G12a G14c G14d"),
        ("firewall open", "G12a G12b"),
        ("another failure", "G12b"),
        ("another account", "G13a"),
        ("another text", "G13b"),
        ("storage for all", "G13c"),
        ("tenants may write", "G14a"),
        ("plaintext accepted", "G14b"),
        ("ports open", "G14c"),
        ("gateway for everybody", "G14d"),
    ],
)
def test_each_probe_fails_for_its_own_reason(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, short: str
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Egress(settings, broken))
    assert sorted(name for name, outcome in outcomes.items() if not outcome.ok) == sorted(short.split())


def test_what_no_log_tells_is_told_by_the_api_server_the_client_or_a_counter(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Egress(settings, "no log"))
    said = (
        "API server",
        "scheduler",
        "clusters of",
        "sidecar of",
        "the client",
        "NetworkPolicy",
        "nodes' firewall",
        "storage",
    )
    for name, outcome in outcomes.items():
        assert not outcome.ok or outcome.evidence.startswith(said), (name, outcome)
    for row in ("G5a", "G6a", "G7b", "G8a", "G9a", "G10a", "G10c", "G11o", "G12b", "G13b", "G14b", "G14e"):
        assert outcomes[row].ok is False


def test_without_counters_a_dropped_packet_is_no_proof(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Egress(settings), Firewall())
    for name in ("G11i", "G11q", "G12a", "G14c"):
        assert (outcomes[name].ok, outcomes[name].proven) == (True, False)
        assert "verify.firewallCounters" in outcomes[name].evidence


@pytest.mark.parametrize(("broken", "stopped"), [("", True), ("only the firewall stops it", False)])
def test_where_policies_are_not_counted_the_firewall_must_have_nothing_to_stop(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, stopped: bool
) -> None:
    impatient(monkeypatch)
    cluster = Egress(settings, broken)
    outcomes = _outcomes(settings, tmp_path, cluster, FakeFirewall(cluster, lambda rule: rule == counters.DENY))
    assert outcomes["G11i"].ok is stopped
    assert outcomes["G12a"].proven


def test_a_members_rights_are_asked_for(dev_config: dict[str, Any], tmp_path: Path) -> None:
    dev_config["teams"]["teams"][0]["members"] = ["team-x-developers"]
    settings = load(dev_config)
    outcomes = {}
    for broken in ("", "members may nothing"):
        cluster = Egress(settings, broken)
        asked = _asked(settings, tmp_path, cluster)
        outcomes[broken] = _probes(settings)["G14a"].attempt(asked)
    assert outcomes[""].ok is True
    assert outcomes["members may nothing"].observed == "team-x-developers may not create deployments in team-x"


def test_no_token_is_ever_shown(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    cluster = Egress(settings)
    outcomes = _outcomes(settings, tmp_path, cluster)
    assert all(TOKEN not in outcome.observed + outcome.evidence for outcome in outcomes.values())
    assert all(TOKEN not in argument for _, command in cluster.ran for argument in command)


DENIALS = (
    "not allowed",
    "not visible",
    "no connection",
    "refused",
    "closed by",
    "bypass attempt",
    "exit 56",
    "Pending",
)


def test_every_denial_has_its_success(settings: Settings) -> None:
    probes = _probes(settings)
    alone = {
        name
        for name, probe in probes.items()
        if any(words in probe.expected for words in DENIALS) and probe.pair is None
    }
    assert alone == set()
    for probe in probes.values():
        assert probe.pair is None or probe.pair in probes.values()
        assert probe.pair is None or probe.pair.pair is None


def test_the_tenants_pods_are_few(settings: Settings) -> None:
    pods = {workload for probe in _probes(settings).values() for workload in probe.workloads}
    with_sidecar = sorted((one.namespace or "", one.name) for one in pods if one.in_mesh)
    assert with_sidecar == [
        ("", "caller"),
        ("team-x", "acting-1"),
        ("team-x", "application"),
        ("team-x", "excluded-ports"),
        ("team-y", "application"),
        ("team-y", "impostor"),
        ("team-y", "server"),
        ("team-z", "application"),
        ("team-z", "excluded-addresses"),
    ]
    assert len(pods) - len(with_sidecar) == 4


def _other(dev_config: dict[str, Any], *teams: dict[str, Any]) -> dict[str, Probe]:
    dev_config["layers"].remove("workload_identity")
    del dev_config["workload_identity"]
    dev_config["teams"] = {"teams": list(teams)}
    return _probes(load(dev_config))


def test_a_team_that_sees_nothing_has_probes_too(dev_config: dict[str, Any]) -> None:
    probes = _other(dev_config, {"name": "quiet", "namespaces": ["quiet"]})
    rows = {name.rstrip("abcdefghijklmnopqrstuvwxyz") for name in probes}
    assert rows == {"G4", "G5", "G11", "G14"}


def test_every_namespace_of_a_team_is_asked(dev_config: dict[str, Any]) -> None:
    hosts = [
        {"host": "api.example.com", "mode": "http", "port": 8080, "allow": [{"methods": ["POST"], "paths": ["/v1/*"]}]}
    ]
    probes = _other(dev_config, {"name": "shop", "namespaces": ["shop", "shop-test"], "hosts": hosts})
    promised = [probe.expected for probe in probes.values() if probe.row == "G7"]
    assert [text.partition(":")[0] for text in promised] == ["POST http", "POST http", "http", "http"]
    assert promised[0].startswith("POST http://api.example.com:8080/v1/meshgate-verify from shop:")
    assert promised[1].startswith("POST http://api.example.com:8080/v1/meshgate-verify from shop in shop-test:")
    assert promised[2].startswith("http://api.example.com:8080/ from shop, not allowed")
