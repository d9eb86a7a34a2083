"""The probes of the scenario standalone-envoy against an Envoy made of its promises, each breakable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from lightkube.models.core_v1 import PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod

from settings import Settings, load
from tests.unit.conftest import stack_file
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context, impatient, option, transfer
from verify import scenarios
from verify.counters import Firewall
from verify.probe import Outcome, Probe
from verify.shell import Completed
from verify.standalone_envoy import covers

ADDRESS = "10.1.3.9"
HOST = "www.envoyproxy.io"
SERVICE = "envoy.standalone-envoy.svc.cluster.local"


class Envoy(Cluster):
    """A pod of Envoy, and what it answers to pods. `broken` names what it does not."""

    def __init__(self, admin: str, broken: str = "") -> None:
        super().__init__()
        self.broken = broken
        self.admin = "127.0.0.1:9901" if broken == "not overridden" else admin
        self.dropped = 0
        self.lines["envoy"] = [f"[info][main] [source/server/server.cc:535] admin address: {self.admin}"]

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        assert (namespace, labels) == ("standalone-envoy", {"app": "envoy"})
        return [Pod(metadata=ObjectMeta(name="envoy"), status=PodStatus(podIP=ADDRESS))]

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        url = command[-1]
        beside = namespace == "standalone-envoy"
        if url == f"http://{SERVICE}:10000/":
            return self._proxied(command)
        if url == f"http://{SERVICE}:9902/clusters" and not beside:
            if self.broken == "no NetworkPolicy":
                return transfer(command, body=self._clusters())
            self.dropped += 0 if self.broken == "dropped by somebody else" else 2
            return transfer(command, exit_code=28, error="Connection timed out")
        assert beside
        address, _, port = self.admin.partition(":")
        listens = url.partition("//")[2].partition("/")[0].rpartition(":")[2] == port
        if self.broken == "also at its old place" and ":9901/" in url:
            listens = True
        if listens and "/config_dump" in url:
            return transfer(command, body=self._config())
        if listens and (address == "0.0.0.0" or self.broken == "also at its old place"):
            return transfer(command, body=self._clusters())
        if self.broken == "somebody at the pod's address":
            return transfer(command, body="hello")
        return transfer(command, exit_code=7, error="Connection refused")

    def _proxied(self, command: Sequence[str]) -> Completed:
        line: dict[str, str | None] = {
            "user_agent": option(command, "--user-agent"),
            "response_code": "200",
            "response_code_details": "via_upstream",
            "upstream_cluster": "service_envoyproxy_io",
            "upstream_host": "198.51.100.40:443",
            "upstream_tls_version": "TLSv1.3",
            "upstream_peer_dns_san": HOST,
            "upstream_transport_failure_reason": None,
        }
        changes: dict[str, dict[str, str | None]] = {
            "wrong certificate": {"upstream_peer_dns_san": "other.example.com"},
            "no TLS": {"upstream_tls_version": None},
            "answers itself": {"response_code_details": "direct_response"},
            "another cluster": {"upstream_cluster": "other"},
            "another port": {"upstream_host": "198.51.100.40:80"},
        }
        if self.broken != "no log":
            self.lines["envoy"].append(json.dumps(line | changes.get(self.broken, {})))
        return transfer(command, status=503 if self.broken == "upstream not trusted" else 200)

    def _clusters(self) -> str:
        if self.broken == "other clusters":
            return "other::198.51.100.40:443::health_flags::healthy\n"
        return (
            "service_envoyproxy_io::default_priority::max_connections::1024\n"
            "service_envoyproxy_io::198.51.100.40:443::cx_total::1\n"
        )

    def _config(self) -> str:
        tls = {"sni": "other.example.com"} if self.broken == "another server name" else {"sni": HOST}
        cluster = {"transport_socket": {"typed_config": {} if self.broken == "no server name" else tls}}
        return json.dumps({"configs": [{"cluster": cluster}]})


class Counted(Firewall):
    """Counters of NetworkPolicies, as the lab has them."""

    def __init__(self, envoy: Envoy) -> None:
        super().__init__(("counters",))
        self.envoy = envoy

    def _printed(self) -> Mapping[str, int]:
        return {"ingress-standalone-envoy": self.envoy.dropped}


@pytest.fixture(scope="module")
def exposed() -> Settings:
    return load(stack_file("dev"))


@pytest.fixture(scope="module")
def hidden() -> Settings:
    config = stack_file("dev")
    config["standalone_envoy"]["admin"] = {}
    return load(config)


def _probes(settings: Settings) -> dict[str, Probe]:
    return {name: probe for name, probe in scenarios.probes(settings).items() if probe.scenario == "standalone-envoy"}


def _outcomes(settings: Settings, directory: Path, broken: str) -> dict[str, Outcome]:
    assert settings.standalone_envoy is not None
    admin = settings.standalone_envoy.admin
    envoy = Envoy(f"{admin.address}:{admin.port}", broken)
    contract = {"namespace": "standalone-envoy", "service": SERVICE}
    asked = context(directory, settings, kube=envoy, contracts={"standalone_envoy": contract}, firewall=Counted(envoy))
    outcomes = {}
    for name, probe in _probes(settings).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        outcomes[name] = probe.attempt(asked)
    return outcomes


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("", set()),
        ("upstream not trusted", {"B1a"}),
        ("wrong certificate", {"B1a"}),
        ("no TLS", {"B1a"}),
        ("answers itself", {"B1a"}),
        ("another cluster", {"B1a"}),
        ("another port", {"B1a"}),
        ("no log", {"B1a"}),
        ("not overridden", {"B1b", "B1c"}),
        ("other clusters", {"B1b"}),
        ("another server name", {"B1b"}),
        ("no server name", {"B1b"}),
        ("also at its old place", {"B1c"}),
        ("no NetworkPolicy", {"B1d"}),
        ("dropped by somebody else", {"B1d"}),
    ],
)
def test_what_is_broken_falls_short_and_nothing_else(
    broken: str, short: set[str], exposed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(exposed, tmp_path, broken)
    assert {name for name, outcome in outcomes.items() if outcome.ok is False} == short
    assert set(outcomes) == {"B1a", "B1b", "B1c", "B1d"}


@pytest.mark.parametrize(
    ("broken", "short"),
    [("", set()), ("not overridden", {"B1b"}), ("somebody at the pod's address", {"B1b"}), ("no log", {"B1a"})],
)
def test_what_the_pod_alone_reaches_nobody_else_does(
    broken: str, short: set[str], hidden: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(hidden, tmp_path, broken)
    assert {name for name, outcome in outcomes.items() if outcome.ok is False} == short
    assert set(outcomes) == {"B1a", "B1b"}


def test_the_evidence_is_envoys_own(exposed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(exposed, tmp_path, "")
    assert '"upstream_peer_dns_san": "www.envoyproxy.io"' in outcomes["B1a"].evidence
    assert outcomes["B1b"].observed.endswith("service_envoyproxy_io: 198.51.100.40:443")
    assert outcomes["B1b"].evidence.endswith("service_envoyproxy_io with SNI www.envoyproxy.io")
    assert outcomes["B1c"].evidence == "Envoy: admin address: 0.0.0.0:9902"
    assert "counter ingress-standalone-envoy rose by 2" in outcomes["B1d"].evidence


def test_every_refusal_has_its_success(exposed: Settings, hidden: Settings) -> None:
    for settings, right in ((exposed, {"B1c": "B1b", "B1d": "B1a"}), (hidden, {"B1b": "B1a"})):
        probes = _probes(settings)
        names = {probe: name for name, probe in probes.items()}
        assert {name: names[probe.pair] for name, probe in probes.items() if probe.pair} == right
        for probe in probes.values():
            # The same asker: who cannot connect at all proves nothing.
            assert probe.pair is None or probe.workloads == probe.pair.workloads


def test_names_of_certificates() -> None:
    assert covers(["a.example.com", HOST], HOST)
    assert covers(["*.envoyproxy.io"], HOST)
    assert not covers(["*.io", "envoyproxy.io"], HOST)
