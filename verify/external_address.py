"""The external address of gateways on-prem, row H7: an integrated balancer gives the address that was asked for, and
one that is configured by hand forwards its ports to the nodes' (source: Anthos Service Mesh on-premises).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from cryptography import x509

from settings import Settings
from settings.gateway_service import LoadBalancerService
from settings.ingress import HTTP, HTTPS, STANDARD_PORTS, STATUS, NodePortService
from verify import certificates, curl
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, Request, Response
from verify.exchange import differs, judged
from verify.ingress import NOT_LOGGED, SCENARIO
from verify.logs import AccessLogLine
from verify.probe import Outcome, Probe
from verify.site import Site

ROW = "H7"

CLOSED = (curl.EMPTY, curl.READ_FAILED, curl.WRITE_FAILED)
"""How http fails when HAProxy has taken a connection and the gateway does not; what is refused (7) is not forwarded."""

READY_PATH = "/healthz/ready"

SEVERAL_NODES = 3
"""How many nodes are asked directly; one that answers is enough."""


def probes(settings: Settings) -> list[Probe]:
    """The probes for every gateway that asks for an address, or has a balancer of its own."""
    ingress = settings.ingress
    assert ingress is not None
    integrated: list[Probe] = []
    manual: list[Probe] = []
    # Pulumi hands a mapping on in the order of its keys, whatever the file's was: ids must not depend on it.
    for name, gateway in sorted(ingress.gateways.items()):
        sites = [Site(ingress, name, host) for host in gateway.hosts]
        if isinstance(gateway.service, LoadBalancerService) and gateway.service.load_balancer_ip is not None:
            integrated.append(_integrated(sites[0], str(gateway.service.load_balancer_ip)))
        elif isinstance(gateway.service, NodePortService) and gateway.service.balancer is not None:
            manual += _manual(sites, gateway.service)
    return [*integrated, *manual]


def _probe(expected: str, attempt: partial[Outcome], pair: Probe | None = None) -> Probe:
    return Probe(row=ROW, scenario=SCENARIO, expected=expected, attempt=attempt, pair=pair)


def _integrated(site: Site, address: str) -> Probe:
    return _probe(
        f"{site} at {address}, the address asked for: 200, its certificate checked", partial(_asked_for, site, address)
    )


def _manual(sites: list[Site], service: NodePortService) -> Iterator[Probe]:
    first, ports = sites[0], service.balanced_ports
    where = f"gateway {first.gateway} by the balancer's address {service.address}"
    https = _probe(
        f"{first.host.host} at {where}, port 443: 200, its certificate checked",
        partial(_balanced, first, service, HTTPS),
    )
    yield https
    if plain := [site for site in sites if site.host.http != "none"]:
        answer = "200" if plain[0].host.http == "serve" else "301"
        yield _probe(f"{plain[0].host.host} at {where}, port 80: {answer}", partial(_balanced, plain[0], service, HTTP))
    if STATUS in ports:
        yield _probe(f"{where}, port {STANDARD_PORTS[STATUS]}: ready (200)", partial(_ready, service))
    if others := [name for name in ports if name not in STANDARD_PORTS]:
        yield _probe(
            f"{where}, {', '.join(f'{name} ({ports[name][0]})' for name in others)}: forwarded; closed where the "
            "gateway has no listener",
            partial(_others, first, service, others),
            pair=https,
        )
    wanted = ", ".join(f"{name} {_pair(pair)}" for name, pair in service.all_ports.items())
    yield _probe(f"Service of gateway {first.gateway} has these ports alone: {wanted}", partial(_ports, first, service))


def _asked_for(site: Site, address: str, context: Context) -> Outcome:
    given, _ = site.address(context, STANDARD_PORTS[HTTPS])
    asked = _ask(site, HTTPS, (address, STANDARD_PORTS[HTTPS]), context)
    faults = [*differs("the platform's address", given, address), *_faults(site, HTTPS, asked, context)]
    return judged(_observed(asked.response), faults, _said(site, asked))


def _balanced(site: Site, service: NodePortService, name: str, context: Context) -> Outcome:
    """One of the ports 80 and 443, at the balancer and then at a node itself."""
    port, node_port = service.balanced_ports[name]
    asked = _ask(site, name, (str(service.address), port), context)
    faults = _faults(site, name, asked, context)
    if asked.line is not None and asked.line.downstream_remote_address == asked.response.local:
        faults.append("the gateway saw the client's own address: nothing stood between them")
    direct = _at_node(service, lambda node: _send(site, name, (node, node_port), context, UNREACHED_SECONDS)[0])
    return _compared(_observed(asked.response), faults, _said(site, asked), asked.response, direct)


def _ready(service: NodePortService, context: Context) -> Outcome:
    port, node_port = service.balanced_ports[STATUS]

    def ask(address: str, number: int, seconds: int = curl.TIMEOUT) -> Response:
        url = f"http://{address}:{number}{READY_PATH}"
        return curl.send(context.clients[0], Request(url=url, user_agent=user_agent(ROW), connect_seconds=seconds))

    response = ask(str(service.address), port)
    direct = _at_node(service, lambda node: ask(node, node_port, UNREACHED_SECONDS))
    server = ", ".join(response.headers.get("server", ["nobody"]))
    faults = differs("status", response.status, 200)
    return _compared(_observed(response), faults, f"answered by {server}", response, direct)


def _others(site: Site, service: NodePortService, names: list[str], context: Context) -> Outcome:
    listening = site.proxies(context).ports()
    seen, faults = [], []
    for name in names:
        port, _ = service.balanced_ports[name]
        url = f"http://{service.address}:{port}/"
        response = curl.send(context.clients[0], Request(url=url, user_agent=user_agent(ROW)))
        seen.append(f"{name}: {'listener' if port in listening else 'no listener'}, exit {response.exit_code}")
        if response.exit_code in (curl.REFUSED, curl.TIMED_OUT):
            faults.append(f"port {port} is not forwarded: {response}")
        elif port not in listening and response.exit_code not in CLOSED:
            faults.append(f"port {port} answers, though the gateway has no listener there: {response}")
    ports = ", ".join(map(str, sorted(listening)))
    observed = "; ".join([*seen, *faults])
    return Outcome(ok=not faults, observed=observed, evidence=f"gateway {site.gateway} listens on {ports}")


def _ports(site: Site, service: NodePortService, context: Context) -> Outcome:
    spec = context.kube.service(site.ingress.namespace, site.gateway)
    found = {port.name or "": (port.port, port.nodePort) for port in spec.ports or []}
    wanted = {
        # Where the settings leave it open, any will do.
        name: (port, node_port or found.get(name, (0, 0))[1])
        for name, (port, node_port) in service.all_ports.items()
    }
    faults = [
        f"{name} is {_pair(found.get(name))}, not {_pair(wanted.get(name))}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    observed = ", ".join(f"{name} {_pair(pair)}" for name, pair in found.items())
    return judged(
        f"{spec.type}: {observed}",
        [*differs("type", spec.type, "NodePort"), *faults],
        f"Service {site.ingress.namespace}/{site.gateway}",
    )


@dataclass(frozen=True)
class _Asked:
    """A request by a host's name, and what the gateway logged of it."""

    response: Response
    line: AccessLogLine | None


def _ask(site: Site, name: str, at: tuple[str, int], context: Context) -> _Asked:
    start = time.monotonic()
    response, agent = _send(site, name, at, context)
    if response.exit_code:
        return _Asked(response, None)
    return _Asked(response, site.proxies(context).line(lambda line: line.user_agent == agent, start))


def _send(
    site: Site, name: str, at: tuple[str, int], context: Context, seconds: int = curl.TIMEOUT
) -> tuple[Response, str]:
    agent = user_agent(ROW)
    https = name == HTTPS
    response = site.ask(
        context,
        site.https_url if https else site.http_url,
        agent,
        trust=site.root(context) if https else None,
        certificate=site.client_certificate(context) if https else None,
        at={STANDARD_PORTS[name]: at},
        connect_seconds=seconds,
    )
    return response, agent


def _faults(site: Site, name: str, asked: _Asked, context: Context) -> list[str]:
    status = 301 if name == HTTP and site.host.http == "redirect" else 200
    faults = differs("status", asked.response.status, status)
    if name == HTTPS and not asked.response.exit_code:
        root = site.root(context)
        trusted = None if root is None else x509.load_pem_x509_certificate(root.encode())
        faults += certificates.chain_faults(asked.response.certificates, trusted)
    if not asked.response.exit_code and asked.line is None:
        faults.append(NOT_LOGGED)
    return faults


def _at_node(service: NodePortService, ask: Callable[[str], Response]) -> Response | None:
    """The answer of a node itself; None where the client reaches none of them, as behind a firewall."""
    assert service.balancer is not None
    answers = (ask(str(node)) for node in service.balancer.nodes[:SEVERAL_NODES])
    return next((answer for answer in answers if not answer.exit_code), None)


def _compared(observed: str, faults: list[str], said: str, balanced: Response, direct: Response | None) -> Outcome:
    """With what a node said: there the gateway is asked without the balancer."""
    if direct is None:
        return judged(observed, faults, f"{said}; the client reaches no node to compare")
    differences = differs(f"status at {direct.connected}, without the balancer,", direct.status, balanced.status)
    return judged(observed, [*faults, *differences], f"{said}; {direct.connected} without the balancer: {direct}")


def _observed(response: Response) -> str:
    chain = f", {certificates.described(response.certificates)}" if response.certificates else ""
    return f"{response}{chain}, at {response.connected or response.tried or 'nowhere'}"


def _said(site: Site, asked: _Asked) -> str:
    return f"gateway {site.gateway}: {asked.line}" if asked.line else f"gateway {site.gateway}: no line in its log"


def _pair(ports: tuple[int, int | None] | None) -> str:
    return "missing" if ports is None else ":".join("any" if port is None else str(port) for port in ports)
