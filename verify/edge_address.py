"""Who is let in by address at gateways behind network load balancers: rows E6 (the gateway does not get to know the
client's address), E7 (it is kept) and E8 (PROXY protocol), with what a client may forge."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import quote

from lightkube.resources.core_v1 import Node

from verify import counters, curl, mesh
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, Request, Response
from verify.edge_site import (
    NOT_LOGGED,
    PORTS,
    SCENARIO,
    Asked,
    Attempt,
    Caller,
    Scheme,
    Site,
    address_of,
    by_admitted,
    by_denied,
    callers,
)
from verify.edge_tls import Successes, row, served
from verify.egress_http import DENIED
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.logs import AccessLogLine
from verify.probe import Outcome, Probe
from verify.straight import stopped_by_policy

CODEC_ERROR = "http1.codec_error"
"""What Envoy says of bytes that are no HTTP."""

BAD_REQUEST, FORBIDDEN = 400, 403


def unseen(sites: Sequence[Site], successes: Mapping[Site, Successes]) -> Iterator[Probe]:
    """Probes of the gateways whose rules hold against addresses that they do not see."""
    logged: Probe | None = None
    # Those with a log first: that a log has no line says something only where another has it.
    for site in sorted(sites, key=lambda site: not site.gateway.access_log):
        scheme = site.served
        if site.gateway.access_log:
            first = _unseen("E6", site, scheme, partial(_unmatched, site, scheme), successes[site][scheme])
            logged = logged or first
            yield first
        else:
            yield _unseen("E6", site, scheme, partial(_unlogged, site, scheme), logged)
        if site.gateway.access_log and site.gateway.balancer.client_address == "preserve":
            yield _unseen("E7", site, "http", partial(_unmatched, site, "http"), successes[site]["http"])


def _unseen(of: str, site: Site, scheme: Scheme, attempt: Attempt, pair: Probe | None) -> Probe:
    kept = (
        "kept by the balancer, lost at the node" if site.gateway.balancer.client_address == "preserve" else "not kept"
    )
    log = (
        f"the log has the {_whose(site)} address instead"
        if site.gateway.access_log
        else "the access log, off, has no line"
    )
    return Probe(
        row=of,
        scenario=SCENARIO,
        expected=f"{site.at(scheme)} from a client that the rules turn away, its address {kept}: "
        f"{site.status(scheme)}, no rule matches; {log}",
        attempt=partial(by_denied, site, attempt),
        pair=pair,
    )


def nobody(site: Site) -> Probe:
    """The probe of a gateway that lets in only addresses that it never sees."""
    return Probe(
        row="E6",
        scenario=SCENARIO,
        expected=f"{site.at(site.served)} from a client that the rules let in, its address not kept: 403, the log has "
        f"the {_whose(site)} address instead",
        attempt=partial(by_admitted, site, partial(_unknown, site)),
    )


def seen(site: Site, successes: Successes) -> Iterator[Probe]:
    """Probes of a gateway whose rules hold against clients' addresses."""
    for scheme in PORTS:
        if scheme == "https" and not site.https_served:
            continue
        yield _denied(
            site,
            f"{site.at(scheme)} from a client that the rules turn away: 403 '{DENIED}', its address in the log",
            partial(_forbidden, site, scheme),
            successes[scheme],
        )
    # Elsewhere there is no 200 to tell a denial from.
    if site.https_served and not site.loops:
        yield from _with_headers(site, successes["https"])
    raw = _admitted(
        site,
        f"{site.at('http')} as bare bytes from a client that is let in: {site.status('http')}",
        partial(_raw, site),
        None,
    )
    yield raw
    yield _denied(
        site,
        f"{site.at('http')} as bare bytes from a client that the rules turn away, after a PROXY header of its own with "
        f"the address of one that is let in: {BAD_REQUEST}, to the gateway that header is no HTTP",
        partial(_own_header, site),
        raw,
    )


def _with_headers(site: Site, https: Probe) -> Iterator[Probe]:
    """What clients say of themselves in headers."""
    if site.by_header and site.gateway.num_trusted_proxies:
        yield _denied(
            site,
            f"{site.at('https')} from a client that the rules turn away, with a forged X-Forwarded-For: 200, the "
            "header wins",
            partial(_header_wins, site),
            https,
        )
        yield _admitted(
            site,
            f"{site.at('https')} from a client that is let in, with the X-Forwarded-For of one that is not: 403",
            partial(_header_loses, site),
            https,
        )
    else:
        yield _denied(
            site,
            f"{site.at('https')} from a client that the rules turn away, which names one that is let in in the headers "
            f"{', '.join(_forgeable(site))}: 403 each time, its own address in the log",
            partial(_forged, site),
            https,
        )
        yield _admitted(
            site,
            f"{site.at('https')} from a client that is let in, which names one that is not in the same headers: "
            "200 each time, its own address in the log",
            partial(_unharmed, site),
            https,
        )


def past_balancer(site: Site, successes: Successes) -> Probe:
    """Past the balancer to a gateway that believes PROXY headers."""
    return Probe(
        row="E8",
        scenario=SCENARIO,
        expected=f"gateway {site.name} from a pod of the cluster, past the balancer, with a PROXY header: no "
        "connection, stopped by the gateway's NetworkPolicy",
        attempt=partial(_past_balancer, site),
        workloads=(mesh.OUTSIDER,),
        pair=successes["http"],
    )


def _admitted(site: Site, expected: str, attempt: Attempt, pair: Probe | None) -> Probe:
    chosen = partial(by_admitted, site, attempt)
    return Probe(row=row(site), scenario=SCENARIO, expected=expected, attempt=chosen, pair=pair)


def _denied(site: Site, expected: str, attempt: Attempt, pair: Probe | None) -> Probe:
    chosen = partial(by_denied, site, attempt)
    return Probe(row=row(site), scenario=SCENARIO, expected=expected, attempt=chosen, pair=pair)


# Addresses that are not seen


def _lost_at_node(site: Site) -> bool:
    """Whether a node puts its own address in place of the client's."""
    gateway = site.gateway
    return gateway.balancer.target_type == "instance" and gateway.external_traffic_policy == "Cluster"


def _whose(site: Site) -> str:
    return "node's" if _lost_at_node(site) else "balancer's"


def _unmatched(site: Site, scheme: Scheme, caller: Caller, context: Context) -> Outcome:
    asked = site.ask(context, caller, site.request(context, scheme, row(site)))
    response, line = asked.response, asked.line
    if response.exit_code or line is None:
        return Outcome(ok=False, observed=str(response) if response.exit_code else f"{response}: {NOT_LOGGED}")
    return judged(
        f"{response}; {caller} is {address_of(line)} to the gateway",
        [
            *differs("status", response.status, site.status(scheme)),
            *_stranger_faults(context, site, line),
            *site.line_faults(scheme, asked),
        ],
        site.said(line),
    )


def _unknown(site: Site, caller: Caller, context: Context) -> Outcome:
    asked = site.ask(context, caller, site.request(context, site.served, "E6"))
    if asked.line is None:
        return Outcome(ok=False, observed=f"{asked.response}: {NOT_LOGGED}")
    refused = _refused(site, asked, IPv4Address(address_of(asked.line)))
    faults = _stranger_faults(context, site, asked.line)
    return replace(refused, ok=False, observed=f"{refused.observed}: {'; '.join(faults)}") if faults else refused


def _stranger_faults(context: Context, site: Site, line: AccessLogLine) -> list[str]:
    """Whether the gateway took the client for who it should: a node or the balancer."""
    address = IPv4Address(address_of(line))
    nodes = {found for node in context.kube.nodes({}) for found in _addresses(node)}
    if _lost_at_node(site):
        return [] if address in nodes else [f"{address} is no node's"]
    balancers = site.edge.balancer_cidrs
    if balancers:
        return [] if any(address in cidr for cidr in balancers) else [f"{address} is not the balancer's"]
    # All that can be said without the balancers' CIDRs is whose it is not.
    clients = {caller.address for caller in callers(context)}
    return [f"{address} is a node's or a client's"] if address in nodes | clients else []


def _addresses(node: Node) -> set[IPv4Address]:
    """A node's own, and the one that it has towards its pods."""
    status, spec = node.status, node.spec
    own = {IPv4Address(one.address) for one in (status and status.addresses) or [] if one.type == "InternalIP"}
    if spec and spec.podCIDR:
        own.add(IPv4Network(spec.podCIDR)[1])
    return own


def _unlogged(site: Site, scheme: Scheme, caller: Caller, context: Context) -> Outcome:
    request = site.request(context, scheme, row(site))
    response = curl.send(caller.shell, request)
    if response.exit_code or response.status != site.status(scheme):
        return Outcome(ok=False, observed=str(response))
    lines, of_it = site.proxies(context).count(request.user_agent)
    observed = f"{response}; {of_it} of the {lines} lines of the gateway's log are the request's"
    return Outcome(
        # A log without any line would be one that was not read.
        ok=lines > 0 and of_it == 0,
        observed=observed,
        evidence=f"gateway {site.name}: {lines} lines, none with {request.user_agent}" if not of_it else "",
    )


# Addresses that are seen

FORGED = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Envoy-External-Address", "True-Client-IP")
"""Headers in which proxies tell of the client's address."""


def _forgeable(site: Site) -> tuple[str, ...]:
    """Those that nothing at the gateway believes; the log alone, not the rules, may believe X-Forwarded-For."""
    return tuple(name for name in FORGED if name != "X-Forwarded-For" or not site.gateway.num_trusted_proxies)


def _forbidden(
    site: Site, scheme: Scheme, caller: Caller, context: Context, *, headers: Mapping[str, str] | None = None
) -> Outcome:
    request = replace(site.request(context, scheme, row(site)), headers=headers or {})
    return _refused(site, site.ask(context, caller, request), caller.address)


def _refused(site: Site, asked: Asked, address: IPv4Address | None) -> Outcome:
    """Turned away by the gateway, which takes it for that address."""
    response, line = asked.response, asked.line
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    body = next(iter(response.body.splitlines()), "")[:80]
    faults = [*differs("status", response.status, FORBIDDEN), *differs("the body", body, DENIED)]
    if line is not None:
        faults += [] if line.refused else [f"the gateway did not refuse it: {line.response_code_details}"]
        faults += differs("logged client", address_of(line), str(address))
    elif site.gateway.access_log:
        faults.append(NOT_LOGGED)
    return judged(f"{response}{f', {body}' if body == DENIED else ''}", faults, site.said(line))


def _forged(site: Site, caller: Caller, context: Context) -> Outcome:
    return _with_each_header(_forbidden, site, caller, site.admitted(context), context)


def _unharmed(site: Site, caller: Caller, context: Context) -> Outcome:
    return _with_each_header(served, site, caller, site.denied(context), context)


def _with_each_header(
    attempt: Callable[..., Outcome], site: Site, caller: Caller, other: Caller | None, context: Context
) -> Outcome:
    """With each of the headers alone, then with all together, side by side."""
    if other is None:
        return _nobody_to_forge(site)
    values = {name: f"for={other.address}" if name == "Forwarded" else str(other.address) for name in _forgeable(site)}
    several = [*({name: value} for name, value in values.items()), values]
    with ThreadPoolExecutor(len(several)) as side_by_side:
        outcomes = list(
            side_by_side.map(lambda headers: attempt(site, "https", caller, context, headers=headers), several)
        )
    for headers, outcome in zip(several, outcomes, strict=True):
        if not outcome.ok:
            return replace(outcome, observed=f"with {', '.join(headers)}: {outcome.observed}")
    return replace(outcomes[-1], observed=f"{len(outcomes)} times {outcomes[-1].observed}")


def _nobody_to_forge(site: Site) -> Outcome:
    return Outcome(
        ok=None,
        observed="nobody's address to forge: meshgate:verify.clients needs one client that the rules of gateway "
        f"{site.name} turn away, and one that they do not, each with its `address`",
    )


def _header_wins(site: Site, caller: Caller, context: Context) -> Outcome:
    other = site.admitted(context)
    if other is None:
        return _nobody_to_forge(site)
    asked = _with_forwarded_for(site, caller, other, context)
    response, line = asked.response, asked.line
    return judged(
        f"{response}{f'; {caller} is {address_of(line)} to the gateway' if line else ''}",
        [*differs("status", response.status, 200), *_logged_faults(site, line, other.address)],
        site.said(line),
    )


def _header_loses(site: Site, caller: Caller, context: Context) -> Outcome:
    other = site.denied(context)
    if other is None:
        return _nobody_to_forge(site)
    return _refused(site, _with_forwarded_for(site, caller, other, context), other.address)


def _with_forwarded_for(site: Site, caller: Caller, other: Caller, context: Context) -> Asked:
    # As many entries as are believed, so that the first of them is the client's.
    value = ", ".join([str(other.address)] * site.gateway.num_trusted_proxies)
    request = replace(site.request(context, "https", row(site)), headers={"X-Forwarded-For": value})
    return site.ask(context, caller, request)


def _logged_faults(site: Site, line: AccessLogLine | None, address: IPv4Address | None) -> list[str]:
    if line is None:
        return [NOT_LOGGED] if site.gateway.access_log else []
    return differs("logged client", address_of(line), str(address))


# PROXY headers that are not the balancer's


def _raw(site: Site, caller: Caller, context: Context) -> Outcome:
    agent, start = user_agent(row(site)), time.monotonic()
    response = curl.send(caller.shell, _bytes(site, agent, *site.address(context, "http")))
    status = _status(response)
    line = None
    if status and site.gateway.access_log:
        line = site.proxies(context).line(lambda line: line.user_agent == agent, start)
    return judged(
        _first_line(response),
        [*differs("status", status, site.status("http")), *_logged_faults(site, line, caller.address)],
        site.said(line),
    )


def _own_header(site: Site, caller: Caller, context: Context) -> Outcome:
    other = site.admitted(context)
    if other is None:
        return _nobody_to_forge(site)
    start = time.monotonic()
    request = _bytes(site, user_agent(row(site)), *site.address(context, "http"), header=_proxy_header(other.address))
    response = curl.send(caller.shell, request)
    line = None
    if site.gateway.access_log:
        line = site.proxies(context).line(
            lambda line: line.response_code_details.startswith(CODEC_ERROR) and address_of(line) == str(caller.address),
            start,
        )
    return judged(
        _first_line(response),
        [
            *differs("status", _status(response), BAD_REQUEST),
            *_logged_faults(site, line, caller.address),
        ],
        site.said(line),
    )


def _past_balancer(site: Site, context: Context) -> Outcome:
    caller = site.admitted(context)
    header = _proxy_header(caller.address if caller else None)
    outsider = context.pods.get(mesh.OUTSIDER)
    requests = [
        replace(_bytes(site, user_agent("E8"), *place, header=header), connect_seconds=UNREACHED_SECONDS)
        for place in _places(site, context)
    ]
    return stopped_by_policy(context, outsider, [counters.ingress(site.edge.namespace)], *requests)


def _places(site: Site, context: Context) -> Iterator[tuple[str, int]]:
    """The ports of one of the gateway's pods, and those of its node that lead there."""
    pods = context.kube.running(site.edge.namespace, {"istio": site.name})
    status = pods[0].status if pods else None
    if status is None or not status.podIP or not status.hostIP:
        raise VerifyError(f"no pod of gateway {site.name} runs in {site.edge.namespace}")
    for scheme in PORTS:
        yield status.podIP, site.target_port(scheme)
    for port in context.kube.service(site.edge.namespace, site.name).ports or []:
        if port.nodePort:
            yield status.hostIP, port.nodePort


def _proxy_header(address: IPv4Address | None) -> str:
    """A header of PROXY protocol v1, which Envoy takes as well as v2."""
    return f"PROXY TCP4 {address or mesh.NOWHERE} {mesh.NOWHERE} 40000 80\r\n"


def _bytes(site: Site, agent: str, address: str, port: int, *, header: str = "") -> Request:
    """A request byte by byte: nothing comes before it but `header`."""
    body = '{"meshgate": true}' if site.is_echo else ""
    lines = [
        f"{'POST' if body else 'GET'} {site.host.path} HTTP/1.1",
        f"Host: {site.host.host}",
        f"User-Agent: {agent}",
        "Connection: close",
        *(["Content-Type: application/json", f"Content-Length: {len(body)}", "", body] if body else []),
    ]
    # curl sends what a gopher URL names as it is, ends it with a line break and reads what comes until the end.
    text = header + "\r\n".join(lines) + ("" if body else "\r\n")
    return Request(url=f"gopher://{address}:{port}/_{quote(text, safe='')}", user_agent=agent)


def _status(response: Response) -> int:
    found = re.match(r"HTTP/1\.[01] (\d{3})\b", response.body)
    return int(found[1]) if found else 0


def _first_line(response: Response) -> str:
    return next(iter(response.body.splitlines()), str(response))[:80]
