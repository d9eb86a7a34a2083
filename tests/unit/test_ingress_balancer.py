"""A gateway at fixed ports of the nodes, and the balancer before them that an operator configures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.ingress.haproxy import configuration
from settings import Settings, SettingsError, load
from settings.ingress import NodePortService
from tests.unit.program import Program

DOCUMENT = {
    "status-port": (15021, 30391),
    "http2": (80, 31380),
    "https": (443, 31390),
    "https-grafana": (15031, 30050),
    "https-kiali": (15029, 31073),
    "https-prometheus": (15030, 30253),
    "https-tracing": (15032, 31204),
    "tcp": (31400, 31400),
    "tls": (15443, 30158),
}
"""The source document's, but for the status port's number: 15020 then, 15021 today."""

VIP = "203.0.113.1"
NODES = ["192.168.0.10", "192.168.0.11", "192.168.0.12"]
HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin")


def service(**changes: Any) -> dict[str, Any]:
    """The document's; None takes a key out."""
    more = {name: pair for name, pair in DOCUMENT.items() if name not in ("status-port", "http2", "https")}
    whole = {
        "type": "NodePort",
        "nodePorts": {"http": 31380, "https": 31390, "status": 30391},
        "ports": {name: {"port": port, "nodePort": node_port} for name, (port, node_port) in more.items()},
        "balancer": {"address": VIP, "nodes": NODES},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def balancer(**settings: Any) -> dict[str, Any]:
    return {"address": VIP, "nodes": NODES, **settings}


def parsed(**changes: Any) -> NodePortService:
    return NodePortService.model_validate(service(**changes))


def loaded(http: str = "redirect", **services: dict[str, Any]) -> Settings:
    """A stack with gateways of these names and Services."""
    host = {
        "host": "www.example.com",
        "http": http,
        "tls": {"mode": "SIMPLE", "credential": "www"},
        "backend": {"service": "www.shop.svc.cluster.local"},
    }
    return load(
        {
            "name": "prod",
            "layers": ["ingress"],
            "upstream": {"cluster": "base", "mesh": "base"},
            "ingress": {
                "certificates": {"www": {"kind": "existing", "hosts": ["www.example.com"]}},
                "gateways": {name: {"service": it, "hosts": [host]} for name, it in services.items()},
            },
        }
    )


def wrong(http: str = "redirect", **services: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by the key below the gateways."""
    with pytest.raises(SettingsError) as error:
        loaded(http, **services)
    return {problem.key.removeprefix("ingress.gateways."): problem.message for problem in error.value.problems}


# Settings


def test_all_ports_of_the_document() -> None:
    found = parsed()
    assert found.all_ports == DOCUMENT
    assert found.balanced_ports == DOCUMENT
    assert str(found.address) == VIP


def test_without_a_balancer_clients_meet_the_nodes() -> None:
    found = parsed(balancer=None, addresses=NODES, nodePorts={"http": 31380, "https": 31390}, ports=None)
    assert found.all_ports == {"status-port": (15021, None), "http2": (80, 31380), "https": (443, 31390)}
    assert found.balanced_ports == {}
    assert str(found.address) == "192.168.0.10"


def test_the_balancer_may_have_a_part_of_the_ports() -> None:
    found = parsed(balancer=balancer(ports=["https", "http2", "tcp"]))
    assert found.balanced_ports == {"http2": (80, 31380), "https": (443, 31390), "tcp": (31400, 31400)}
    assert found.all_ports == DOCUMENT


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"balancer": None},
            "addresses",
            "name either addresses (clients reach the nodes themselves) or balancer (address and nodes), so that it is "
            "known where clients reach the gateway",
        ),
        (
            {"addresses": NODES},
            "addresses",
            "name either addresses (clients reach the nodes themselves) or balancer (address and nodes), not both",
        ),
        (
            {"nodePorts": {"http": 31380, "https": 31390}},
            "nodePorts.status",
            "is missing: the balancer asks there which nodes lead to a gateway that is ready",
        ),
        (
            {"ports": {"tcp": {"port": 443, "nodePort": 31400}}},
            "ports.tcp.port",
            "443 is taken by the port https, which every gateway has; the Service has each port once",
        ),
        (
            {"ports": {"a": {"port": 9000, "nodePort": 30001}, "b": {"port": 9000, "nodePort": 30002}}},
            "ports.b.port",
            "9000 is taken by ports.a.port; the Service has each port once",
        ),
        (
            {"ports": {"a": {"port": 9000, "nodePort": 31390}}},
            "ports.a.nodePort",
            "31390 is taken by gateways.web.service.nodePorts.https; ports are the nodes', so each must differ",
        ),
        (
            {"ports": {"https": {"port": 9000, "nodePort": 30001}}},
            "ports.https",
            "must be another name: every gateway's Service has a port of this",
        ),
        ({"ports": {"a": {"port": 9000}}}, "ports.a.nodePort", "is missing"),
        ({"ports": {"a": {"port": 9000, "nodePort": 9000}}}, "ports.a.nodePort", "30000"),
        ({"balancer": balancer(nodes=[])}, "balancer.nodes", "is empty"),
        (
            {"balancer": balancer(nodes=["192.168.0.10", "192.168.0.10"])},
            "balancer.nodes[1]",
            "192.168.0.10 is there already; name each node once",
        ),
        (
            {"balancer": balancer(nodes=["192.168.0.10", VIP])},
            "balancer.nodes[1]",
            f"{VIP} is the balancer's own address; name the nodes, to which it forwards",
        ),
        (
            {"balancer": balancer(ports=["http2", "https", "ftp"])},
            "balancer.ports[2]",
            "'ftp' is no port of the Service, which has status-port, http2, https, https-grafana",
        ),
        (
            {"balancer": balancer(ports=["tcp"])},
            "balancer.ports",
            "lacks https and http2, at which hosts of the gateway are to be reached",
        ),
    ],
)
def test_wrong(changes: dict[str, Any], key: str, message: str) -> None:
    found = wrong(web=service(**changes))
    assert list(found) == [f"web.service.{key}"]
    assert message in found[f"web.service.{key}"]


def test_http_may_be_left_out_where_it_is_closed() -> None:
    assert loaded(http="none", web=service(balancer=balancer(ports=["https"]))).ingress is not None


def small(http: int, **changes: Any) -> dict[str, Any]:
    """A second gateway's, at other ports of the nodes."""
    ports = {"http": http, "https": http + 1, "status": http + 2}
    return service(nodePorts=ports, ports=None, **changes)


def test_gateways_behind_one_balancer_have_ports_of_their_own() -> None:
    assert wrong(a=service(), b=small(30010)) == {
        "b.service.balancer.ports": f"15021, 80, 443 of {VIP} taken by gateways.a.service.balancer; "
        "give the gateway another address, or name here the ports that it needs"
    }
    assert loaded(a=service(), b=small(30010, balancer=balancer(address="203.0.113.2"))).ingress is not None


def test_a_balancers_address_is_nobody_elses() -> None:
    platform = {"type": "LoadBalancer", "loadBalancerIP": VIP}
    assert wrong(a=platform, b=service()) == {
        "b.service.balancer.address": f"{VIP} is taken by gateways.a.service.loadBalancerIP: "
        "the platform's balancer answers there"
    }


# HAProxy's configuration


def sections(text: str) -> dict[str, list[str]]:
    """Lines by their section, without comments."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith((" ", "\t")):
            if not line.strip().startswith("#"):
                found[name].append(line.strip())
        elif line and not line.startswith("#"):
            name = line
            assert name not in found
            found[name] = []
    return found


def test_each_port_is_forwarded_to_the_nodes() -> None:
    found = sections(configuration("web", parsed()))
    assert found["listen web.http2"] == [
        "bind 203.0.113.1:80",
        "server 192.168.0.10 192.168.0.10:31380 track web/192.168.0.10",
        "server 192.168.0.11 192.168.0.11:31380 track web/192.168.0.11",
        "server 192.168.0.12 192.168.0.12:31380 track web/192.168.0.12",
    ]
    binds = {name.removeprefix("listen web."): lines[0] for name, lines in found.items() if name.startswith("listen ")}
    assert binds == {name: f"bind {VIP}:{port}" for name, (port, _) in DOCUMENT.items()}
    for name, (_, node_port) in DOCUMENT.items():
        servers = [line.split()[2] for line in found[f"listen web.{name}"][1:]]
        assert servers == [f"{node}:{node_port}" for node in NODES]


def test_connections_are_passed_on_as_they_are() -> None:
    text = configuration("web", parsed())
    found = sections(text)
    assert "mode tcp" in found["defaults"]
    assert "send-proxy" not in text
    assert " ssl" not in text


def test_the_gateway_is_asked_at_the_status_port_once_for_each_node() -> None:
    found = sections(configuration("web", parsed()))
    assert found["backend web"] == [
        "timeout check 2s",
        "option httpchk",
        # Envoy does not answer HTTP/1.0, and demands a Host.
        "http-check send meth GET uri /healthz/ready ver HTTP/1.1 hdr Host web",
        "http-check expect status 200",
        "default-server check inter 2s fastinter 500ms fall 2 rise 2",
        "server 192.168.0.10 192.168.0.10:30391",
        "server 192.168.0.11 192.168.0.11:30391",
        "server 192.168.0.12 192.168.0.12:30391",
    ]


def test_no_idle_connection_is_ended_before_the_gateway_ends_it() -> None:
    defaults = sections(configuration("web", parsed()))["defaults"]
    assert {"timeout connect 3s", "timeout client 61m", "timeout server 61m", "retries 2"} <= set(defaults)


@pytest.mark.parametrize(("policy", "seen"), [("Local", "this machine"), ("Cluster", "a node")])
def test_it_says_whom_the_gateway_sees(policy: str, seen: str) -> None:
    assert f"The gateway takes {seen} for its client" in configuration("web", parsed(externalTrafficPolicy=policy))


def test_ports_that_the_balancer_does_not_have() -> None:
    found = sections(configuration("web", parsed(balancer=balancer(ports=["http2", "https"]))))
    assert [name for name in found if name.startswith("listen ")] == ["listen web.http2", "listen web.https"]
    # It still asks there.
    assert "server 192.168.0.10 192.168.0.10:30391" in found["backend web"]


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed: `make tools` does that")
@pytest.mark.parametrize("gateways", [["web"], ["istio-ingressgateway", "web"]])
def test_haproxy_takes_it(tmp_path: Path, gateways: list[str]) -> None:
    for gateway in gateways:
        (tmp_path / f"{gateway}.cfg").write_text(configuration(gateway, parsed()))
    assert checked(tmp_path) == 0


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed: `make tools` does that")
def test_haproxy_refuses_what_is_wrong(tmp_path: Path) -> None:
    """The check above can fail."""
    text = configuration("web", parsed())
    (tmp_path / "web.cfg").write_text(text.replace("track web/192.168.0.11", "track web/192.168.0.99"))
    assert checked(tmp_path) != 0


def checked(directory: Path) -> int:
    assert HAPROXY is not None
    return subprocess.run([HAPROXY, "-c", "-q", "-f", directory], capture_output=True).returncode


# The example environment on-prem


def test_onprem_has_the_documents_ports(onprem_program: Program) -> None:
    release = onprem_program.one("onprem-ingress-manual-ingressgateway-release")
    exposed = release.inputs["values"]["service"]
    assert (exposed["type"], exposed["externalTrafficPolicy"]) == ("NodePort", "Local")
    assert {port["name"]: (port["port"], port["nodePort"]) for port in exposed["ports"]} == DOCUMENT
    assert all(port["targetPort"] == port["port"] for port in exposed["ports"])
    text = onprem_program.outputs["ingress_balancers"]["manual-ingressgateway"]
    assert len([line for line in text.splitlines() if line.startswith("listen ")]) == len(DOCUMENT)


def test_onprem_asks_for_the_documents_address(onprem_program: Program) -> None:
    release = onprem_program.one("onprem-ingress-istio-ingressgateway-release")
    assert release.inputs["values"]["service"]["loadBalancerIP"] == VIP
    assert onprem_program.outputs["ingress_balancers"].keys() == {"manual-ingressgateway"}
