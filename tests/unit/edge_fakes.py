"""Gateways behind load balancers that do what dev's settings promise; each promise can be broken.

They stand in for curl at two clients and in a probe pod, the balancers, the gateways and the applications behind them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

from lightkube.models.core_v1 import NodeAddress, NodeSpec, NodeStatus, PodStatus, ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod

from tests.unit.test_verify_ingress import Ca, pem
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import log_line, option, transfer
from verify.counters import Firewall
from verify.shell import Completed

CLIENT_A, CLIENT_B = "203.0.113.10", "203.0.113.20"
NODE, BALANCER, POD = "10.0.0.11", "10.6.0.7", "10.1.4.5"

SETTINGS_CLIENTS = [{"name": "client-a", "address": CLIENT_A}, {"name": "client-b", "address": CLIENT_B}]

GATEWAYS = (
    *("tls", "loop", "unserved", "split", "reencrypt", "hidden", "unlogged"),
    *("preserved-instance", "preserved-ip", "proxy-protocol", "forwarded", "ranges"),
)
PORTS = {name: 1000 * (index + 1) for index, name in enumerate(GATEWAYS)}
TLS_AT_BALANCER = ("loop", "unserved", "split", "reencrypt")
ECHO = ("split", "reencrypt")
KEPT = ("preserved-instance", "preserved-ip", "proxy-protocol", "forwarded", "ranges")
BY_HEADER = ("proxy-protocol", "forwarded")
DENYING = ("hidden", "unlogged", "preserved-instance", "preserved-ip", "proxy-protocol", "forwarded")

DENIED = "rbac_access_denied_matched_policy[ns[istio-edge]-policy[x]-rule[0]]"


@dataclass
class Ask:
    """A curl command, and what becomes of it on the way."""

    client: str
    command: Sequence[str]
    gateway: str
    scheme: str
    host: str
    path: str
    agent: str
    headers: dict[str, str]
    posted: str | None
    server_name: str = "-"
    redirects: int = 0


@dataclass
class Edge(Cluster):
    """`broken` names the promise that is not kept; empty: all are."""

    broken: str = ""
    ca: Ca = field(default_factory=lambda: Ca("example"))
    public: Ca = field(default_factory=lambda: Ca("public"))
    packets: dict[str, int] = field(default_factory=lambda: {"nlb-istio-edge/ranges": 4, "ingress-istio-edge": 2})
    node_ports: bool = False

    def __post_init__(self) -> None:
        self.leaf, self.public_leaf, self.other_leaf = (
            ca.leaf("*.example.com")[0] for ca in (self.ca, self.public, self.ca)
        )
        self.lines["unlogged"] = [] if self.broken == "log not read" else ["Envoy proxy is ready"]

    def contracts(self) -> dict[str, dict[str, Any]]:
        gateways = {
            name: {"address": "nlb.elb.example", "http_port": port + 80, "https_port": port + 443}
            for name, port in PORTS.items()
        }
        return {"edge": {"gateways": gateways, "root_certificates": {"example": pem(self.ca.root)}}}

    # --- the API server ---

    def nodes(self, labels: Mapping[str, str]) -> list[Node]:
        address = "10.0.0.99" if self.broken == "somebody else's address" else NODE
        status = NodeStatus(addresses=[NodeAddress(address=address, type="InternalIP")])
        return [Node(metadata=ObjectMeta(name="app-1"), spec=NodeSpec(podCIDR="10.1.1.0/24"), status=status)]

    def running(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        assert namespace == "istio-edge"
        return [Pod(metadata=ObjectMeta(name=labels["istio"]), status=PodStatus(podIP=POD, hostIP=NODE))]

    def service(self, namespace: str, name: str) -> ServiceSpec:
        return ServiceSpec(ports=[ServicePort(port=80, nodePort=30080 if self.node_ports else None)])

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        return [labels["istio"]]

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        self.ran.append((pod, list(command)))
        if container == "istio-proxy":
            assert command[-1] == "listeners"
            ports = [8080, 15021, *([8443] if self.broken == "unserved listens" else [])]
            return Completed(0, "".join(f"0.0.0.0_{port}::0.0.0.0:{port}\n" for port in ports), "")
        place = urlsplit(command[-1])
        if self.broken != "past the balancer":
            self.packets["ingress-istio-edge"] += self.broken != "policy drops nothing"
            return transfer(command, exit_code=28, error="timed out", tried=f"{place.hostname}:{place.port}", tls=None)
        return transfer(command, body="HTTP/1.1 200 OK\r\n\r\n", tls=None)

    # --- curl at the clients ---

    def curl(self, client: str, command: Sequence[str]) -> Completed:
        url = urlsplit(command[-1])
        if url.scheme == "gopher":
            return self._bytes(client, command)
        to = [value for name, value in pairwise(command) if name == "--connect-to"]
        if to:
            port = int(next(one for one in to if one.split(":")[1] == _port(url.scheme)).rpartition(":")[2])
        else:
            port = url.port or PORTS[(url.hostname or "").split("-")[0].partition(".")[0]] + 443
        headers = dict(value.split(": ", 1) for name, value in pairwise(command) if name == "--header")
        name = url.hostname or ""
        ask = Ask(
            client,
            command,
            _gateway(port),
            url.scheme,
            headers.pop("Host", name),
            url.path,
            option(command, "--user-agent") or "",
            headers,
            option(command, "--json"),
            "-" if name[0].isdigit() or url.scheme == "http" else name,
        )
        if ask.gateway == "ranges" and client != CLIENT_A and self.broken != "everybody connects":
            self.packets["nlb-istio-edge/ranges"] += 1
            return transfer(command, exit_code=28, error="timed out", tls=None)
        if url.scheme == "https" and (fails := self._handshake(ask)):
            return fails
        return self._answer(ask)

    def _handshake(self, ask: Ask) -> Completed | None:
        pin = option(ask.command, "--pinnedpubkey")
        if ask.gateway in TLS_AT_BALANCER:
            # The client's own CAs know the public one.
            assert option(ask.command, "--cacert") is None
            if ask.gateway == "unserved" and self.broken != "unserved answers":
                return transfer(ask.command, exit_code=52, error="Empty reply from server")
            return None
        known = ask.server_name.endswith(".example.com") or ask.gateway == "tls"
        if (not known and self.broken != "any name served") or (pin and self.broken == "no other name served"):
            self._log(ask, response_code_details="filter_chain_not_found", user_agent="-")
            return transfer(ask.command, exit_code=35, error="Connection reset by peer")
        if not known:
            return transfer(ask.command, exit_code=60, error="no alternative name matches")
        return None

    def _seen(self, ask: Ask) -> str:
        """The client's address, as the gateway has it."""
        if ask.gateway not in KEPT:
            if self.broken == "balancer's address":
                return BALANCER
            return ask.client if self.broken == "address not lost" else NODE
        believes = ask.gateway == "forwarded" or self.broken == "headers believed"
        if believes and self.broken != "header has no weight" and "X-Forwarded-For" in ask.headers:
            return ask.headers["X-Forwarded-For"].split(", ")[-1]
        return NODE if self.broken == "address lost" else ask.client

    def _answer(self, ask: Ask) -> Completed:
        seen = self._seen(ask)
        denied = NODE if self.broken == "a node is denied" else CLIENT_B
        if ask.gateway in DENYING and seen == denied and self.broken != "no rule":
            details = "via_upstream" if self.broken == "refused by the backend" else DENIED
            self._log(ask, seen, response_code="403", response_code_details=details)
            return self._transfer(ask, 403, body="RBAC: access denied")
        status = self._redirects(ask)
        if status is None:
            return self._backend(ask, seen)
        return self._redirect(ask, seen, status)

    def _redirects(self, ask: Ask) -> int | None:
        by_http = ask.scheme == "http" or (ask.gateway == "loop" and self.broken != "no loop")
        if not by_http or self.broken == "no redirect":
            return None
        if self.broken == "scheme believed" and ask.headers.get("X-Forwarded-Proto") == "https":
            return None
        if "gateway-redirect" in ask.host:
            return 301
        return 308 if "route-redirect" in ask.host else None

    def _redirect(self, ask: Ask, seen: str, status: int) -> Completed:
        self._log(ask, seen, response_code=str(status))
        location = f"{'http' if self.broken == 'redirect to http' else 'https'}://{ask.host}{ask.path}"
        if "--location" not in ask.command:
            return self._transfer(ask, status, headers={"location": [location]})
        ask.redirects += 2 if self.broken == "redirected twice" else 1
        if ask.redirects > 5:
            ask.redirects = 5
            return self._transfer(ask, status, exit_code=47, error="Maximum (5) redirects followed", url=location)
        ask.scheme, ask.server_name = "https", ask.host
        if status == 301 or self.broken == "nothing posted again":
            ask.posted = None
        return self._answer(ask)

    def _backend(self, ask: Ask, seen: str) -> Completed:
        status = 503 if self.broken == "no backend" else 200
        app = "echo" if ask.gateway in ECHO else "nginx"
        service = "other" if self.broken == "wrong backend" else app
        cluster = f"outbound|80||{service}.edge-demo.svc.cluster.local"
        body = "welcome"
        if app == "echo":
            body, status = self._echo(ask, seen, status)
        self._log(ask, seen, response_code=str(status), upstream_cluster=cluster, response_code_details="via_upstream")
        return self._transfer(ask, status, body=body)

    def _echo(self, ask: Ask, seen: str, status: int) -> tuple[str, int]:
        if ask.posted is not None:
            return ("{}" if self.broken == "something else comes back" else ask.posted), status
        if self.broken == "original image":
            return "Method Not Allowed", 405
        scheme = "http" if self.broken == "scheme lost" else ask.scheme
        if self.broken == "scheme believed":
            scheme = ask.headers.get("X-Forwarded-Proto", scheme)
        headers = {**ask.headers, "X-Forwarded-Proto": scheme, "X-Forwarded-For": seen}
        if self.broken == "headers lost":
            headers.pop("X-Meshgate-Probe", None)
        host = "nlb.elb.example" if self.broken == "host lost" else ask.host
        return json.dumps(
            {"method": "GET", "path": ask.path, "host": host, "scheme": scheme, "headers": headers}
        ), status

    def _bytes(self, client: str, command: Sequence[str]) -> Completed:
        url = urlsplit(command[-1])
        text = unquote(url.path.removeprefix("/_")) + "\r\n"
        gateway = _gateway(url.port or 0)
        header, rest = "", text
        if text.startswith("PROXY "):
            header, _, rest = text.partition("\r\n")
        lines = rest.split("\r\n")
        assert lines[-2:] == ["", ""], "a request ends with an empty line"
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        ask = Ask(client, command, gateway, "http", fields["Host"], lines[0].split()[1], fields["User-Agent"], {}, None)
        seen = client
        if header and self.broken != "own PROXY header believed":
            self._log(ask, client, response_code="400", response_code_details="http1.codec_error", user_agent="-")
            return transfer(
                command, body="HTTP/1.1 400 Bad Request\ncontent-length: 0\n\n", http_version="0", status=0, tls=None
            )
        if header:
            seen = header.split()[2]
        status = 503 if self.broken == "no backend" else 200
        if seen == CLIENT_B and self.broken != "no rule":
            status = 403
        self._log(ask, seen, response_code=str(status))
        body = f"HTTP/1.1 {status} Whatever\nserver: istio-envoy\n\nwelcome"
        return transfer(command, body=body, http_version="0", status=0, tls=None)

    def _transfer(self, ask: Ask, status: int, **more: Any) -> Completed:
        tls = ask.scheme == "https"
        at_balancer = ask.gateway in TLS_AT_BALANCER
        ca, leaf = (self.public, self.public_leaf) if at_balancer else (self.ca, self.leaf)
        if self.broken == "another certificate" and option(ask.command, "--pinnedpubkey"):
            leaf = self.other_leaf
        chain = [leaf] if self.broken == "no intermediate" else [leaf, ca.intermediate]
        version = "2" if tls and not at_balancer and self.broken != "no HTTP/2" else "1.1"
        return transfer(
            ask.command,
            status=status,
            tls="TLSv1.3" if tls else None,
            http_version=version,
            certificates=chain if tls else (),
            redirects=ask.redirects,
            remote="198.51.100.66" if self.broken == "record elsewhere" else "192.0.2.4",
            **{"url": f"{ask.scheme}://{ask.host}{ask.path}", **more},
        )

    def _log(self, ask: Ask, seen: str = NODE, **operators: str) -> None:
        if ask.gateway == "unlogged" and self.broken != "log not off":
            return
        if self.broken == "no log" and ask.gateway != "unlogged":
            return
        port = 8443 if ask.scheme == "https" and ask.gateway != "loop" else 8080
        if self.broken == "one port" and ask.scheme == "https":
            port = 8080
        local = f"{BALANCER}:443" if ask.gateway in BY_HEADER else f"{POD}:{port}"
        name = ask.server_name if ask.scheme == "https" and ask.gateway not in TLS_AT_BALANCER else "-"
        method = "POST" if ask.posted is not None else "GET"
        line = log_line(
            **{
                "user_agent": ask.agent,
                "downstream_remote_address": f"{seen}:40000",
                "downstream_local_address": local,
                "requested_server_name": name,
                **operators,
            }
        )
        # The first quoted part is the request's own.
        _, _, rest = line.partition('"')
        _, _, rest = rest.partition('"')
        self.lines.setdefault(ask.gateway, []).append(f'[-] "{method} {ask.path} HTTP/1.1"{rest}')


class Counters(Firewall):
    """What the lab counts of a fake edge; `shown`: which of them."""

    def __init__(self, edge: Edge, *shown: str) -> None:
        super().__init__(("firewall", "counters"))
        self.edge, self.only = edge, shown

    def _printed(self) -> Mapping[str, int]:
        return {name: count for name, count in self.edge.packets.items() if not self.only or name in self.only}


def _port(scheme: str) -> str:
    return "443" if scheme == "https" else "80"


def _gateway(port: int) -> str:
    return next(name for name, first in PORTS.items() if first <= port < first + 1000)
