"""The probes of the scenario peer_authentication against sidecars made of their promises, each breakable."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from lightkube.models.core_v1 import PodStatus
from lightkube.resources.core_v1 import Pod

from settings import Settings, load
from settings.peer_authentication import PLACES, Place
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context, impatient, log_line, option, transfer
from verify import scenarios
from verify.peer_authentication import CALLERS, way
from verify.probe import Outcome, Probe
from verify.shell import Completed

LOCAL = "10.1.1.7:40000"
ADDRESS = "10.1.2.9"
IN_MESH = ("permissive", "strict", "disable", "port-level")
CLAIMED = "spiffe://cluster.local/ns/claimed/sa/claimed"


class Places(Cluster):
    """Places whose sidecars do what their modes say. `broken` names what they do not."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken
        self.logs: dict[tuple[str, str], list[str]] = {}

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        caller = namespace.removeprefix("peer-")
        found = re.fullmatch(
            rf"http://(?:httpbin\.peer-(?P<place>[-a-z]+)\.svc\.cluster\.local|{ADDRESS}:8081)/headers", command[-1]
        )
        assert found
        server, other_port = found["place"] or "port-level", found["place"] is None
        mode = {"permissive": "PERMISSIVE", "strict": "STRICT", "disable": "DISABLE", "legacy": "none"}.get(server)
        mode = mode or ("STRICT" if other_port else "PERMISSIVE")
        if self.broken in ("strict is permissive", "inherited is permissive") and mode == "STRICT":
            mode = "PERMISSIVE" if other_port == self.broken.startswith("inherited") else mode
        if self.broken == "port-level is strict" and server == "port-level":
            mode = "STRICT"
        tls = caller != "legacy" and mode in ("PERMISSIVE", "STRICT") and self.broken != "no auto mutual TLS"
        if mode == "STRICT" and not tls:
            details = "-" if self.broken == "refused elsewhere" else "filter_chain_not_found"
            self._log(server, downstream_remote_address=LOCAL, response_code_details=details)
            return transfer(command, exit_code=56, error="Connection reset by peer", local=LOCAL)
        if other_port:
            return transfer(command, status=503, http_version="1.1", tls=None, local=LOCAL)
        return self._answered(caller, server, namespace, pod, tls, command)

    def _answered(
        self, caller: str, server: str, namespace: str, pod: str, tls: bool, command: Sequence[str]
    ) -> Completed:
        agent = option(command, "--user-agent") or ""
        name = "somebody" if self.broken == "another identity" else pod
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/{name}"
        claims = []
        claimed = (option(command, "--header") or "").removeprefix("x-forwarded-client-cert: ")
        if self.broken == "claims are believed" or (caller == "legacy" and server == "legacy"):
            claims.append(claimed)
        if tls and self.broken != "servers are told nothing":
            claims.append(f'By=spiffe://cluster.local/ns/{server}/sa/httpbin;Hash=0;Subject="";URI={identity}')
        if server in IN_MESH:
            name_asked_for = f"outbound_.80_._.httpbin.peer-{server}.svc.cluster.local"
            in_tls = tls or self.broken == "one-way TLS"
            self._log(
                server,
                user_agent=agent,
                peer=identity if tls else "-",
                **({"requested_server_name": name_asked_for} if in_tls else {}),
            )
        if caller != "legacy":
            host = "elsewhere" if self.broken == "sent elsewhere" else f"httpbin.peer-{server}.svc.cluster.local"
            line = log_line(user_agent=agent, upstream_cluster=f"outbound|80||{host}")
            self.logs.setdefault((namespace, pod), []).append(line)
        headers = {"X-Forwarded-Client-Cert": [",".join(claims)]} if claims else {}
        body = "nothing of go-httpbin" if self.broken == "another server" else json.dumps({"headers": headers})
        return transfer(command, http_version="1.1", tls=None, local=LOCAL, body=body)

    def _log(self, server: str, **operators: str) -> None:
        self.logs.setdefault((f"peer-{server}", "httpbin"), []).append(log_line(**operators))

    def log(self, namespace: str, pod: str, container: str, since: int) -> list[str]:
        return [] if self.broken == "no log" else self.logs.get((namespace, pod), [])

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        assert (namespace, labels) == ("peer-port-level", {"app": "httpbin"})
        return [] if self.broken == "no server" else [Pod(status=PodStatus(podIP=ADDRESS))]


@pytest.fixture
def settings() -> Settings:
    return load(
        {
            "name": "prod",
            "layers": ["peer_authentication"],
            "upstream": {"cluster": "base", "mesh": "base"},
            "peer_authentication": {"prefix": "peer"},
        }
    )


def named(settings: Settings) -> dict[str, Probe]:
    """The probes by `<caller> to <server>`, as they say it themselves."""
    found = {probe.expected.partition(":")[0]: probe for probe in scenarios.probes(settings).values()}
    assert len(found) == len(scenarios.probes(settings))
    return found


def attempted(settings: Settings, directory: Path, places: Places) -> dict[str, Outcome]:
    asked = context(directory, settings, kube=places, contracts={"mesh": {"trust_domain": "cluster.local"}})
    outcomes = {}
    for name, probe in named(settings).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        try:
            outcomes[name] = probe.attempt(asked)
        except Exception as error:
            outcomes[name] = Outcome(ok=False, observed=str(error))
    return outcomes


INHERITED = "legacy to port-level, but port 8081 of the pod"
"""The port that the exception is not for has the mesh's mode."""

MATRIX = {f"{caller} to {server}" for caller in CALLERS for server in PLACES}
REFUSED = {"legacy to strict", INHERITED}
MUTUAL = {name for name in MATRIX if not name.startswith("legacy") and not name.endswith((" disable", " legacy"))}
TO_MESH = {name for name in MATRIX if not name.endswith(" legacy")} - REFUSED
FROM_MESH = {name for name in MATRIX if not name.startswith("legacy")}


def test_only_plaintext_into_strict_is_refused() -> None:
    ways = {(caller, server): way(caller, server) for caller in CALLERS for server in PLACES}
    assert {pair for pair, how in ways.items() if how == "refused"} == {("legacy", "strict")}
    takers: tuple[Place, ...] = ("permissive", "strict", "port-level")
    senders: tuple[Place, ...] = ("permissive", "strict", "disable")
    assert {pair for pair, how in ways.items() if how == "mutual TLS"} == {
        (caller, server) for caller in senders for server in takers
    }


def test_every_pair_has_a_probe_and_every_denial_its_success(settings: Settings) -> None:
    probes = named(settings)
    assert set(probes) == MATRIX | {INHERITED}
    assert {name for name, probe in probes.items() if probe.pair} == REFUSED
    assert probes["legacy to strict"].pair is probes["permissive to strict"]
    assert probes[INHERITED].pair is probes["legacy to port-level"]
    # A denial is asked for after what it is paired with.
    order = list(probes)
    assert order.index("legacy to strict") > order.index("permissive to strict")


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("", set()),
        ("strict is permissive", {"legacy to strict"}),
        ("inherited is permissive", {INHERITED}),
        ("port-level is strict", {"legacy to port-level"}),
        ("refused elsewhere", REFUSED),
        ("no auto mutual TLS", MUTUAL),
        ("another identity", MUTUAL),
        ("servers are told nothing", MUTUAL),
        ("one-way TLS", TO_MESH - MUTUAL),
        ("claims are believed", (MATRIX - REFUSED) - {"legacy to legacy"}),
        ("sent elsewhere", {name for name in FROM_MESH if name.endswith(" legacy")}),
        ("no log", TO_MESH | FROM_MESH | REFUSED),
        ("another server", MATRIX - REFUSED),
        ("no server", {INHERITED}),
    ],
)
def test_each_probe_fails_for_its_own_reason(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, short: set[str]
) -> None:
    impatient(monkeypatch)
    outcomes = attempted(settings, tmp_path, Places(broken))
    assert {name for name, outcome in outcomes.items() if not outcome.ok} == short
    assert all(outcome.proven and outcome.evidence for outcome in outcomes.values() if outcome.ok)


def test_what_is_seen(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    outcomes = attempted(settings, tmp_path, Places())
    mutual = outcomes["strict to permissive"]
    assert mutual.observed == "200, HTTP/1.1 by mutual TLS"
    assert re.search(r"server: x-forwarded-client-cert \['spiffe://cluster.local/ns/peer-strict/sa/", mutual.evidence)
    assert "sidecar of permissive: [" in mutual.evidence
    assert "x-forwarded-client-cert none" in outcomes["legacy to disable"].evidence
    assert CLAIMED in outcomes["legacy to legacy"].evidence
    assert outcomes["legacy to strict"].observed.startswith("exit 56")
    assert "filter_chain_not_found" in outcomes["legacy to strict"].evidence


def test_what_is_wrong_is_not_called_right(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    short = attempted(settings, tmp_path, Places("no auto mutual TLS"))["permissive to permissive"]
    assert short.observed.startswith("200, HTTP/1.1: the caller that the server is told is [], not ['spiffe://")
    assert short.observed.endswith("; its connection is plaintext, not TLS")
