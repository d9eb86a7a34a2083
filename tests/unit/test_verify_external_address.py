"""The probes of external addresses against two gateways made of their promises, each of which can be broken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lightkube.models.core_v1 import ServicePort, ServiceSpec

from settings import Settings, load
from tests.unit.test_verify_ingress import Ca, pem
from tests.unit.verify_fakes import FakeKube, FakeShell, context, impatient, log_line, option, transfer
from verify import curl, external_address
from verify.probe import Outcome, Probe
from verify.shell import Completed

WEBAPP = "webapp.istioinaction.io"
ASKED_FOR, VIP = "203.0.113.1", "203.0.113.3"
NODE_PORTS = {31380: 80, 31390: 443, 30391: 15021}
OTHERS = {"tcp": (31400, 31400), "tls": (15443, 30158)}


class Kube(FakeKube):
    """With the manual gateway's Service."""

    def __init__(self, ports: list[ServicePort]) -> None:
        super().__init__(listeners=[80, 443, 15021])
        self.ports = ports
        self.type = "NodePort"

    def service(self, namespace: str, name: str) -> ServiceSpec:
        assert (namespace, name) == ("istio-ingress", "manual")
        return ServiceSpec(type=self.type, ports=self.ports)


class Site:
    """An integrated and a manual balancer before the same gateway. `broken` names promises that are not kept."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.ca = Ca("webapp")
        ports = {"status-port": (15021, 30391), "http2": (80, 31380), "https": (443, 31390), **OTHERS}
        if "another node port" in broken:
            ports["tls"] = (15443, 30159)
        if "a port more" in broken:
            ports["extra"] = (9000, 30001)
        if "a port less" in broken:
            del ports["tcp"]
        self.kube = Kube([ServicePort(port, name=name, nodePort=at) for name, (port, at) in ports.items()])
        if "no node ports" in broken:
            self.kube.type = "LoadBalancer"
        if "listener" in broken:
            self.kube.listeners.append(31400)

    def contracts(self) -> dict[str, Any]:
        given = "203.0.113.150" if "another address" in self.broken else ASKED_FOR
        gateways = {
            "integrated": {"address": given, "http_port": 80, "https_port": 443},
            "manual": {"address": VIP, "http_port": 80, "https_port": 443},
        }
        return {"ingress": {"gateways": gateways, "root_certificates": {"webapp": pem(self.ca.root)}}}

    def curl(self, command: Sequence[str]) -> Completed:
        url = urlsplit(command[-1])
        assert url.hostname
        to = [value.split(":") for name, value in pairwise(command) if name == "--connect-to"]
        address, port = (to[0][2], int(to[0][3])) if to else (url.hostname, url.port or 0)
        if address.startswith("10."):
            return self._node(command, address, port)
        if address == VIP and "no balancer" in self.broken:
            return transfer(command, exit_code=28, error="timed out", tls=None)
        if port in (31400, 15443):
            if "ports left out" in self.broken:
                return transfer(command, exit_code=7, error="refused", tls=None)
            answers = "anybody answers" in self.broken or (port == 31400 and "listener" in self.broken)
            return transfer(command, tls=None) if answers else transfer(command, exit_code=52, error="Empty reply")
        return self._answered(command, address, port)

    def _node(self, command: Sequence[str], address: str, port: int) -> Completed:
        # The first node has no pod of the gateway.
        if address == "10.0.0.11" or "no way to nodes" in self.broken:
            return transfer(command, exit_code=28, error="timed out", tls=None)
        if "nodes answer otherwise" in self.broken:
            return transfer(command, status=503, remote=address)
        return self._answered(command, address, NODE_PORTS[port])

    def _answered(self, command: Sequence[str], address: str, port: int) -> Completed:
        if port == 15021:
            status = 503 if "not ready" in self.broken else 200
            return transfer(command, status=status, tls=None, remote=address, headers={"server": ["envoy"]})
        local = "203.0.113.10:40000"
        if "no log" not in self.broken:
            seen = local if address == ASKED_FOR or "client seen" in self.broken else f"{VIP}:50000"
            agent = option(command, "--user-agent") or ""
            gateway = "integrated" if address == ASKED_FOR else "manual"
            self.kube.lines.setdefault(gateway, []).append(log_line(user_agent=agent, downstream_remote_address=seen))
        if port == 80:
            status = 200 if "no redirect" in self.broken else 301
            return transfer(command, status=status, tls=None, http_version="1.1", remote=address)
        assert Path(option(command, "--cacert") or "").read_text() == pem(self.ca.root)
        signer = Ca("webapp") if "another CA" in self.broken else self.ca
        status = 503 if "no backend" in self.broken else 200
        certificates = [signer.leaf(WEBAPP)[0], signer.intermediate]
        return transfer(command, status=status, certificates=certificates, remote=address)


def settings(http: str = "redirect", **balancer: Any) -> Settings:
    host = {
        "host": WEBAPP,
        "http": http,
        "tls": {"mode": "SIMPLE", "credential": "www"},
        "backend": {"service": "webapp.istioinaction.svc.cluster.local"},
        "path": "/api/catalog",
    }
    manual = {
        "type": "NodePort",
        "nodePorts": {"http": 31380, "https": 31390, "status": 30391},
        "ports": {name: {"port": port, "nodePort": node_port} for name, (port, node_port) in OTHERS.items()},
        "balancer": {"address": VIP, "nodes": ["10.0.0.11", "10.0.0.12"], **balancer},
    }
    return load(
        {
            "name": "prod",
            "layers": ["ingress"],
            "upstream": {"cluster": "base", "mesh": "base"},
            "ingress": {
                "authorities": {"webapp": {}},
                "certificates": {"www": {"kind": "issued", "authority": "webapp", "hosts": [WEBAPP]}},
                "gateways": {
                    "manual": {"service": manual, "hosts": [host]},
                    "integrated": {"service": {"type": "LoadBalancer", "loadBalancerIP": ASKED_FOR}, "hosts": [host]},
                    "plain": {"service": {"type": "LoadBalancer"}, "hosts": [host]},
                },
            },
        }
    )


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)


INTEGRATED, HTTPS, HTTP, STATUS, REST, SERVICE = range(6)


def asked(directory: Path, site: Site, config: Settings | None = None) -> list[Outcome]:
    config = config or settings()
    where = context(directory, config, kube=site.kube, client=FakeShell(site.curl), contracts=site.contracts())
    return [probe.attempt(where) for probe in external_address.probes(config)]


def expectations(found: list[Probe]) -> list[str]:
    return [probe.expected for probe in found]


def test_what_is_asked() -> None:
    found = external_address.probes(settings())
    assert {(probe.row, probe.scenario) for probe in found} == {("H7", "ingress")}
    manual = "gateway manual by the balancer's address 203.0.113.3"
    assert expectations(found) == [
        f"{WEBAPP} at gateway integrated at 203.0.113.1, the address asked for: 200, its certificate checked",
        f"{WEBAPP} at {manual}, port 443: 200, its certificate checked",
        f"{WEBAPP} at {manual}, port 80: 301",
        f"{manual}, port 15021: ready (200)",
        f"{manual}, tcp (31400), tls (15443): forwarded; closed where the gateway has no listener",
        "Service of gateway manual has these ports alone: status-port 15021:30391, http2 80:31380, https 443:31390, "
        "tcp 31400:31400, tls 15443:30158",
    ]
    assert found[REST].pair is found[HTTPS]


def test_only_what_the_balancer_has_is_asked() -> None:
    found = expectations(external_address.probes(settings(http="none", ports=["https"])))
    assert len(found) == 3
    assert "port 443" in found[1]
    assert found[2].startswith("Service of gateway manual")
    assert "port 80: 200" in expectations(external_address.probes(settings(http="serve")))[HTTP]


def test_balancers_that_keep_their_promises(tmp_path: Path) -> None:
    outcomes = asked(tmp_path, Site())
    assert [outcome.ok for outcome in outcomes] == [True] * 6
    # Ports are closed for many reasons: that one needs its pair.
    assert [index for index, outcome in enumerate(outcomes) if not outcome.proven] == [REST]
    https = outcomes[HTTPS]
    assert https.observed == (f"200, HTTP/2, TLSv1.3, leaf {WEBAPP} issued by webapp intermediate, at {VIP}:80")
    # What the gateway says of it, and what a node says without the balancer.
    assert f"{VIP}:50000" in https.evidence
    assert https.evidence.endswith("10.0.0.12:80 without the balancer: 200, HTTP/2, TLSv1.3")
    assert outcomes[REST].observed == "tcp: no listener, exit 52; tls: no listener, exit 52"
    assert outcomes[REST].evidence == "gateway manual listens on 80, 443, 15021"


def test_where_the_nodes_cannot_be_reached_there_is_nothing_to_compare(tmp_path: Path) -> None:
    outcomes = asked(tmp_path, Site("no way to nodes"))
    assert all(outcome.ok for outcome in outcomes)
    assert outcomes[HTTPS].evidence.endswith("the client reaches no node to compare")


def test_a_port_with_a_listener(tmp_path: Path) -> None:
    outcomes = asked(tmp_path, Site("listener"))
    assert outcomes[REST].ok
    assert outcomes[REST].observed == "tcp: listener, exit 0; tls: no listener, exit 52"


MANUAL = {HTTPS, HTTP, STATUS, REST}


@pytest.mark.parametrize(
    ("broken", "short", "why"),
    [
        ("another address", {INTEGRATED}, "the platform's address is 203.0.113.150, not 203.0.113.1"),
        ("another CA", {INTEGRATED, HTTPS}, "is not issued by"),
        ("no backend", {INTEGRATED, HTTPS}, "status is 503, not 200"),
        ("no log", {INTEGRATED, HTTPS, HTTP}, "the gateway's access log does not have the request"),
        ("no redirect", {HTTP}, "status is 200, not 301"),
        ("client seen", {HTTPS, HTTP}, "the gateway saw the client's own address: nothing stood between them"),
        ("not ready", {STATUS}, "status is 503, not 200"),
        ("nodes answer otherwise", {HTTPS, HTTP, STATUS}, "without the balancer, is 503, not "),
        ("anybody answers", {REST}, "port 31400 answers, though the gateway has no listener there"),
        ("ports left out", {REST}, "port 15443 is not forwarded: exit 7"),
        ("another node port", {SERVICE}, "tls is 15443:30159, not 15443:30158"),
        ("a port more", {SERVICE}, "extra is 9000:30001, not missing"),
        ("a port less", {SERVICE}, "tcp is missing, not 31400:31400"),
        ("no node ports", {SERVICE}, "type is LoadBalancer, not NodePort"),
        ("no balancer", MANUAL, "exit 28"),
    ],
)
def test_a_broken_promise_fails_its_probes(tmp_path: Path, broken: str, short: set[int], why: str) -> None:
    outcomes = asked(tmp_path, Site(broken))
    assert {index for index, outcome in enumerate(outcomes) if not outcome.ok} == short
    assert all(why in outcomes[index].observed for index in short)


def test_nodes_are_not_waited_for_long(tmp_path: Path) -> None:
    site = Site()
    client = FakeShell(site.curl)
    where = context(tmp_path, settings(), kube=site.kube, client=client, contracts=site.contracts())
    external_address.probes(settings())[HTTPS].attempt(where)
    patience = [option(command, "--connect-timeout") for command in client.commands]
    assert patience == [str(curl.TIMEOUT), str(curl.UNREACHED_SECONDS), str(curl.UNREACHED_SECONDS)]
