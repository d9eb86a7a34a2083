"""The probes of the scenario external against sidecars and a Squid made of their promises, each breakable."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.resources.core_v1 import Pod

from components.external.istio import MODES
from settings import Settings, load
from settings.external import Step
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context, impatient, log_line, option, transfer
from verify import scenarios
from verify.outbound import caller
from verify.probe import Outcome, Probe
from verify.shell import Completed
from verify.squid import SquidLine
from verify.workload import Images, pod

PROXY = "10.2.15.218:3128"
KNOWN, UNKNOWN = "httpbin.org", "example.com"

ADDRESSES: dict[str, str] = {step: f"10.1.3.{number}" for number, step in enumerate((*MODES, "client"), start=2)}


class Outside(Cluster):
    """Pods whose sidecars and proxy do what the settings say. `broken` names what they do not."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken
        self.black_holed = 0
        self.port = 40000
        """Of the last request."""

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        step = namespace.removeprefix("external-")
        if command[0] == "pilot-agent":
            return Completed(0, self._administration(step, command[-1]), "")
        if step not in ADDRESSES:
            # A namespace that is no client's.
            reached = self.broken == "Squid is for anybody"
            return transfer(command, status=200) if reached else transfer(command, exit_code=28, error="timed out")
        asking = Asking(self, step, pod, command)
        proxy = option(command, "--proxy")
        if proxy is None:
            return asking.by_name()
        assert proxy == f"http://{PROXY}"
        return asking.by_proxy()

    def _administration(self, step: str, path: str) -> str:
        if path.startswith("stats"):
            return f"tcp.BlackHoleCluster.downstream_cx_total: {self.black_holed}\n"
        found = {
            "dynamic_listeners": self._listener,
            "dynamic_route_configs": self._route,
            "dynamic_active_clusters": self._cluster,
        }[path.split("resource=")[1].split("&")[0]]
        return json.dumps({"configs": [found(step, path)]})

    def _listener(self, step: str, path: str) -> dict[str, Any]:
        assert path.endswith("name_regex=virtualOutbound")
        others = "PassthroughCluster" if MODES[step] == "ALLOW_ANY" else "BlackHoleCluster"  # type: ignore[index]
        if self.broken == f"listener of {step}":
            others = {"PassthroughCluster": "BlackHoleCluster", "BlackHoleCluster": "PassthroughCluster"}[others]
        own = "PassthroughCluster" if self.broken == "listener sends to itself" else "BlackHoleCluster"
        # Istio's Envoy has a filter of telemetry before.
        telemetry = {"name": "istio.stats", "typed_config": {}}
        chains = [
            {"filter_chain_match": {"destination_port": 15001}, "filters": [telemetry, _tcp_proxy(own)]},
            {"filters": [telemetry, _tcp_proxy(others)]},
        ]
        address = {"socket_address": {"address": "0.0.0.0", "port_value": 15001}}
        return {"active_state": {"listener": {"address": address, "filter_chains": chains}}}

    def _route(self, step: str, path: str) -> dict[str, Any]:
        assert path.endswith("name_regex=80")
        cluster = "PassthroughCluster" if self.broken == "route" else f"outbound|80||{KNOWN}"
        status = 404 if self.broken == "default route" else 502
        known = {"name": f"{KNOWN}:80", "domains": [KNOWN], "routes": [{"route": {"cluster": cluster}}]}
        others = {"name": "block_all", "domains": ["*"], "routes": [{"direct_response": {"status": status}}]}
        return {"route_config": {"virtual_hosts": [others if self.broken == "no route" else known, others]}}

    def _cluster(self, step: str, path: str) -> dict[str, Any]:
        name = path.split("name_regex=")[1]
        if name == "PassthroughCluster":
            return {"cluster": {"type": "STATIC" if self.broken == "passthrough cluster" else "ORIGINAL_DST"}}
        endpoint = {"endpoint": {"address": {"socket_address": {"address": KNOWN, "port_value": 80}}}}
        assignment = {"endpoints": [{"lb_endpoints": [endpoint]}]}
        if name == "BlackHoleCluster":
            return {
                "cluster": {
                    "type": "STATIC",
                    **({"load_assignment": assignment} if self.broken == "black hole leads somewhere" else {}),
                }
            }
        assert name == "outbound%5C%7C80%5C%7C%5C%7Chttpbin%5C.org"
        return {"cluster": {"type": "STRICT_DNS", "load_assignment": {} if self.broken == "cluster" else assignment}}


def _tcp_proxy(cluster: str) -> dict[str, Any]:
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": cluster}}


class Asking:
    """One request of a pod in a step's namespace."""

    def __init__(self, outside: Outside, step: str, pod: str, command: Sequence[str]) -> None:
        self.outside = outside
        self.broken = outside.broken
        self.step = step
        self.pod = pod
        self.command = command
        self.agent = option(command, "--user-agent") or ""
        scheme, host, port = re.fullmatch(r"(https?)://([^/:]+):?(\d*)/", command[-1]).groups()  # type: ignore[union-attr]
        self.tls = scheme == "https"
        self.host = host
        self.port = int(port or (443 if self.tls else 80))
        outside.port += 1
        self.local = f"{ADDRESSES[step]}:{outside.port}"
        self.mode = MODES.get(step)  # type: ignore[call-overload]
        if self.broken == f"mode of {step}":
            self.mode = "ALLOW_ANY" if self.mode == "REGISTRY_ONLY" else "REGISTRY_ONLY"

    def by_name(self) -> Completed:
        if self.port == 15001:
            if self.broken == "own port passes":
                return self._passed("PassthroughCluster")
            self.outside.black_holed += self.broken != "own port not counted"
            return transfer(self.command, exit_code=52, error="Empty reply from server", local=self.local)
        known = self.step == "service-entry" and self.host == KNOWN and self.broken != "no entry"
        if known:
            return self._passed(f"outbound|{self.port}||{self.host}")
        if self.mode == "ALLOW_ANY":
            return self._passed("PassthroughCluster")
        if self.port == 8080 and self.broken != "a listener on any port":
            return self._swallowed(56)
        return self._swallowed(35) if self.tls else self._blocked()

    def by_proxy(self) -> Completed:
        if self.step == "client":
            return self._squid()
        if self.step == "client-http" and self.mode == "REGISTRY_ONLY" and self.broken != "http entry gone":
            if self.broken == "http entry passes":
                self._sidecar(upstream_cluster="outbound|3128||squid.proxy.internal")
                return self._squid()
            if not self.tls:
                return self._blocked()
            self._sidecar(user_agent=self.agent, response_code="404", response_code_details="route_not_found")
            return transfer(self.command, exit_code=56, error="CONNECT tunnel failed, response 404", local=self.local)
        if self.step == "client-tcp" and self.broken != "tcp entry gone":
            self._sidecar(upstream_cluster="outbound|3128||squid.proxy.internal", downstream_remote_address=self.local)
            return self._squid()
        if self.mode == "ALLOW_ANY":
            self._sidecar(upstream_cluster="PassthroughCluster", downstream_remote_address=self.local)
            return self._squid()
        if self.broken == "refused, and yet at Squid":
            self._squid_line("TCP_MISS/200")
        return self._swallowed(56 if self.tls else 52)

    def _squid(self) -> Completed:
        if self.broken == "no Squid":
            return transfer(self.command, exit_code=7, error="no connection", local=self.local)
        if (self.host, self.port) not in ((KNOWN, 80), (KNOWN, 443)) and self.broken != "Squid is for anything":
            self._squid_line("TCP_DENIED/403")
            return transfer(self.command, status=403, local=self.local)
        if self.broken != "Squid logs nothing":
            self._squid_line("TCP_TUNNEL/200" if self.tls else "TCP_MISS/200")
        return transfer(self.command, status=200, local=self.local)

    def _squid_line(self, result: str) -> None:
        client = "10.1.3.99" if self.broken == "somebody else's address" else ADDRESSES[self.step]
        asked = f"CONNECT {self.host}:{self.port}" if self.tls else f"GET {self.command[-1]}"
        self.outside.lines.setdefault("squid", ["2026/11/21 12:30:43| Starting Squid Cache version 5.7"]).append(
            f'1795264322.662      7 {client} {result} 15560 {asked} - HIER_DIRECT/198.51.100.10 - "{self.agent}"'
        )

    def _passed(self, cluster: str) -> Completed:
        self._sidecar(
            upstream_cluster=cluster,
            **({"downstream_remote_address": self.local} if self.tls else {"user_agent": self.agent}),
        )
        return transfer(self.command, status=200, local=self.local)

    def _blocked(self) -> Completed:
        self._sidecar(user_agent=self.agent, response_code="502", route_name="block_all")
        return transfer(self.command, status=502, local=self.local)

    def _swallowed(self, exit_code: int) -> Completed:
        self._sidecar(upstream_cluster="BlackHoleCluster", downstream_remote_address=self.local)
        return transfer(self.command, exit_code=exit_code, error="Connection reset by peer", local=self.local)

    def _sidecar(self, **operators: str) -> None:
        if self.broken != "no sidecar's log":
            self.outside.lines.setdefault(self.pod, []).append(log_line(**operators))


@pytest.fixture
def settings(dev_config: dict[str, Any]) -> Settings:
    return load(dev_config)


def _probes(settings: Settings) -> dict[str, Probe]:
    return {name: probe for name, probe in scenarios.probes(settings).items() if probe.scenario == "external"}


def _outcomes(settings: Settings, directory: Path, outside: Outside) -> dict[str, Outcome]:
    assert settings.external is not None
    contract = {"namespaces": dict(settings.external.namespaces), "proxy": PROXY}
    asked = context(directory, settings, kube=outside, contracts={"external": contract})
    outcomes = {}
    for name, probe in _probes(settings).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        outcomes[name] = probe.attempt(asked)
    return outcomes


PASSING_BY_PROXY = {"O4a", "O4b", "O5a", "O5b", "O5g", "O5h"}
REFUSED_BY_SIDECAR = {"O5c", "O5d", "O5e", "O5f"}


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("", set()),
        ("mode of allow-any", {"O1a", "O1b"}),
        ("mode of registry-only", {"O2a", "O2b", "O2c"}),
        ("a listener on any port", {"O2c"}),
        ("mode of service-entry", {"O3c", "O3d"}),
        ("no entry", {"O3a", "O3b"}),
        ("route", {"O3e"}),
        ("no route", {"O3e"}),
        ("default route", {"O3e"}),
        ("cluster", {"O3e"}),
        ("no Squid", PASSING_BY_PROXY | REFUSED_BY_SIDECAR | {"O4c", "O4d"}),
        ("Squid logs nothing", PASSING_BY_PROXY | REFUSED_BY_SIDECAR),
        ("somebody else's address", PASSING_BY_PROXY),
        ("Squid is for anything", {"O4c", "O4d"}),
        ("Squid is for anybody", {"O4e"}),
        ("mode of client-allow-any", {"O5a", "O5b"}),
        ("mode of client-registry-only", {"O5c", "O5d"}),
        ("refused, and yet at Squid", {"O5c", "O5d"}),
        ("http entry gone", {"O5e", "O5f"}),
        ("http entry passes", {"O5e", "O5f"}),
        ("tcp entry gone", {"O5g", "O5h"}),
        ("listener of allow-any", {"O6a"}),
        ("listener of registry-only", {"O6b"}),
        ("listener sends to itself", {"O6a", "O6b"}),
        ("passthrough cluster", {"O6a", "O6b"}),
        ("black hole leads somewhere", {"O6a", "O6b"}),
        ("own port passes", {"O6c"}),
        ("own port not counted", {"O6c"}),
        (
            "no sidecar's log",
            {*(f"O1{it}" for it in "ab"), *(f"O2{it}" for it in "abc"), *(f"O3{it}" for it in "abcd")}
            | {f"O5{it}" for it in "abcdefgh"},
        ),
    ],
)
def test_what_is_broken_falls_short_and_nothing_else(
    broken: str, short: set[str], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Outside(broken))
    assert {name for name, outcome in outcomes.items() if outcome.ok is False} == short


def test_the_evidence_is_of_whoever_decided(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    outcomes = _outcomes(settings, tmp_path, Outside())
    for name, words in {
        "O1a": ("PassthroughCluster",),
        "O2a": ("502", "block_all"),
        "O2b": ("BlackHoleCluster",),
        "O3a": ("outbound|80||httpbin.org",),
        "O3e": ("httpbin.org:80 -> outbound|80||httpbin.org", "block_all -> {'status': 502}", "STRICT_DNS"),
        "O4a": ("TCP_TUNNEL/200", "CONNECT httpbin.org:443", ADDRESSES["client"]),
        "O4b": ("GET http://httpbin.org/", ADDRESSES["client"]),
        "O4c": ("TCP_DENIED/403",),
        "O5c": ("BlackHoleCluster", f"Squid has no line of {ADDRESSES['client-registry-only']}"),
        "O5e": ("route_not_found", f"Squid has no line of {ADDRESSES['client-http']}"),
        "O5g": ("outbound|3128||squid.proxy.internal", f"{ADDRESSES['client-tcp']} TCP_TUNNEL/200"),
        "O6a": ("{'destination_port': 15001} -> BlackHoleCluster; all else -> PassthroughCluster",),
        "O6b": ("{'destination_port': 15001} -> BlackHoleCluster; all else -> BlackHoleCluster",),
        "O6c": ("rose by 1",),
    }.items():
        for word in words:
            assert word in outcomes[name].evidence, name


def test_every_refusal_has_its_success(settings: Settings) -> None:
    probes = _probes(settings)
    names = {probe: name for name, probe in probes.items()}
    assert {name: names[probe.pair] for name, probe in probes.items() if probe.pair} == {
        "O2a": "O1a",
        "O2b": "O1b",
        "O2c": "O1a",
        "O3c": "O3a",
        "O3d": "O3b",
        "O4c": "O4b",
        "O4d": "O4b",
        "O4e": "O4b",
        "O5c": "O4a",
        "O5d": "O4b",
        "O5e": "O4a",
        "O5f": "O4b",
    }


@pytest.mark.parametrize(("step", "in_mesh"), [("client-tcp", True), ("client", False)])
def test_pods_run_where_traffic_may_go_straight_out(settings: Settings, step: Step, in_mesh: bool) -> None:
    assert settings.external is not None
    workload = caller(settings.external, step)
    assert (workload.in_mesh, workload.namespace) == (in_mesh, f"external-{step}")
    # Probes share a pod when their workloads are equal.
    assert workload == caller(settings.external, step)
    made: Pod = pod(workload, "a", str(workload.namespace), Images(asking="curl", serving="proxyv2"), None)
    assert made.spec is not None
    assert made.metadata is not None
    assert made.spec.nodeSelector == {"cloud.google.com/gke-nodepool": "open"}
    assert [(one.key, one.operator, one.value, one.effect) for one in made.spec.tolerations or []] == [
        ("dedicated", "Equal", "open", "NoSchedule")
    ]
    counted = yaml.safe_load((made.metadata.annotations or {})["proxy.istio.io/config"])
    assert counted == {"proxyStatsMatcher": {"inclusionPrefixes": ["tcp.BlackHoleCluster"]}}


@pytest.mark.parametrize(
    ("text", "result", "method", "url", "agent"),
    [
        (
            "1795264322.662      7 10.1.3.6 TCP_TUNNEL/200 15560 CONNECT httpbin.org:443 - "
            'HIER_DIRECT/198.51.100.10 - "meshgate-verify/O4-1"',
            "TCP_TUNNEL",
            "CONNECT",
            "httpbin.org:443",
            "meshgate-verify/O4-1",
        ),
        (
            "1795264324.422      1 10.1.3.6 TCP_DENIED/403 3416 GET http://example.com:8080/ - HIER_NONE/- "
            'text/html "a \\"b"',
            "TCP_DENIED",
            "GET",
            "http://example.com:8080/",
            'a \\"b',
        ),
    ],
)
def test_squid_lines(text: str, result: str, method: str, url: str, agent: str) -> None:
    line = SquidLine.parse(text + "\n")
    assert line is not None
    assert (line.client, line.result, line.method, line.url) == ("10.1.3.6", result, method, url)
    assert line.user_agent == agent
    assert str(line) == text


def test_squids_own_messages_are_no_lines() -> None:
    assert SquidLine.parse("2026/11/21 12:30:43| Accepting HTTP Socket connections at conn3") is None
