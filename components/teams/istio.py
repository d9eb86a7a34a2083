"""Istio's resources for a team's rules; plain data, with what the egress layer hands on filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.egress.gateway import originate_subset
from components.teams.rules import DirectGroup, HostGroup, Port, TeamRules, label, outer_server_name
from settings.teams import Allow, HttpHost, OpenPassthroughHost, OriginateHost, PassthroughHost

TEAM_HEADER = "x-meshgate-team"
"""The sidecar sets it, whatever the application sent; the gateway takes it away before a request leaves. It tells
apart the routes of teams that reach the same host in different ways. Nobody is trusted for it: a team's rules want its
namespaces and its own name in the header together."""


INTERNAL_HEADERS = (
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-external-address",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
)
"""They tell of pods, their addresses and their certificates, which is nothing for the world outside."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What the teams' resources need to know of the gateway (contract Egress) and of the mesh (contract Mesh)."""

    namespace: str
    service: str
    gateway: str
    selector: dict[str, str]
    identity: str
    http_port: int
    tls_port: int
    originate_subset: str
    mesh_namespace: str
    control_plane_cidrs: Sequence[str]


HTTP_PORT, TLS_PORT = 80, 443
"""Of the gateway's Service."""


# In each of the team's namespaces


def sidecar(rules: TeamRules, gateway: Gateway, namespace: str) -> dict[str, Any]:
    """What the namespace's sidecars know: their own, the way out, and the namespaces that they may call."""
    others = sorted({*rules.namespaces, *rules.called_namespaces} - {namespace})
    return {
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        "egress": [{"hosts": ["./*", f"{gateway.namespace}/*", *(f"{other}/*" for other in others)]}],
    }


def to_gateway(rules: TeamRules, gateway: Gateway) -> dict[str, Any]:
    """DestinationRule: mutual TLS to the gateway and nobody else; for passthrough with the host in the server name."""

    def mutual(**more: Any) -> dict[str, Any]:
        return {"tls": {"mode": "ISTIO_MUTUAL", "subjectAltNames": [gateway.identity], **more}}

    subsets = [
        {"name": label(host.host), "trafficPolicy": mutual(sni=outer_server_name(host.host, rules.name))}
        for host in rules.passthrough
    ]
    if rules.open_passthrough:
        subsets.append({"name": OPEN_SUBSET, "trafficPolicy": {"tls": {"mode": "DISABLE"}}})
    return {
        "host": gateway.service,
        "exportTo": ["."],
        "trafficPolicy": mutual(),
        **({"subsets": subsets} if subsets else {}),
    }


OPEN_SUBSET = "passthrough-open"
"""A label of a host ends in its hash, so it is none of those."""


def visible_entry(group: HostGroup) -> dict[str, Any]:
    """ServiceEntry for the team's sidecars: the names, on the ports that applications use, and no address.

    Where no route leads to the gateway, a sidecar has nowhere to send a request.
    """
    return {
        "hosts": list(group.hosts),
        "ports": _ports(group.ports),
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "exportTo": ["."],
    }


def direct_entry(group: DirectGroup) -> dict[str, Any]:
    """ServiceEntry for hosts that the team's sidecars reach themselves."""
    entry: dict[str, Any] = {
        "hosts": list(group.hosts),
        "ports": _ports(group.ports),
        "location": "MESH_EXTERNAL",
        "exportTo": ["."],
    }
    if group.by_address:
        return entry | {"resolution": "NONE", "addresses": list(group.addresses)}
    return entry | {"resolution": "DNS"}


# In the gateway's namespace


def upstream_entry(group: HostGroup) -> dict[str, Any]:
    """ServiceEntry for the gateway: the same hosts on the ports that it connects to."""
    return {
        "hosts": list(group.hosts),
        "ports": _ports(group.ports),
        "location": "MESH_EXTERNAL",
        "resolution": "DNS",
        "exportTo": ["."],
    }


def to_gateway_routes(rules: TeamRules, gateway: Gateway, group: HostGroup) -> dict[str, Any]:
    """VirtualService of a group: from the team's sidecars to the gateway. Only they see it."""
    http_ports = [port.number for port in group.ports if port.protocol == "HTTP"]
    tls = [
        *(_to_gateway_tls(gateway, host, label(host.host)) for host in rules.passthrough if host.host in group.hosts),
        *(_to_gateway_tls(gateway, host, OPEN_SUBSET) for host in rules.open_passthrough if host.host in group.hosts),
    ]
    http = {
        "match": [{"port": port} for port in http_ports],
        "headers": {"request": {"set": {TEAM_HEADER: rules.name}}},
        "route": [{"destination": {"host": gateway.service, "port": {"number": HTTP_PORT}}}],
    }
    return {
        "hosts": list(group.hosts),
        "gateways": ["mesh"],
        "exportTo": list(rules.namespaces),
        **({"http": [http]} if http_ports else {}),
        **({"tls": tls} if tls else {}),
    }


def from_gateway_routes(rules: TeamRules, gateway: Gateway) -> dict[str, Any]:
    """VirtualService from the gateway to the team's hosts. Only the gateway sees it."""
    open_gateway = f"{gateway.namespace}/{passthrough_gateway_name(rules)}"
    http = [_from_gateway(rules, gateway, host) for host in rules.requests]
    tls = [
        {
            "match": [{"gateways": [open_gateway], "port": TLS_PORT, "sniHosts": [host.host]}],
            "route": [{"destination": {"host": host.host, "port": {"number": host.port}}}],
        }
        for host in rules.open_servers
    ]
    return {
        "hosts": sorted({host.host for host in (*rules.requests, *rules.open_servers)}),
        "gateways": [*([gateway.gateway] if http else []), *([open_gateway] if tls else [])],
        "exportTo": ["."],
        **({"http": http} if http else {}),
        **({"tls": tls} if tls else {}),
    }


def _to_gateway_tls(gateway: Gateway, host: PassthroughHost | OpenPassthroughHost, subset: str) -> dict[str, Any]:
    return {
        "match": [{"port": host.port, "sniHosts": [host.host]}],
        "route": [{"destination": {"host": gateway.service, "port": {"number": TLS_PORT}, "subset": subset}}],
    }


def _from_gateway(rules: TeamRules, gateway: Gateway, host: HttpHost | OriginateHost) -> dict[str, Any]:
    destination: dict[str, Any] = {"host": host.host, "port": {"number": host.port}}
    if isinstance(host, OriginateHost):
        destination = {
            "host": host.host,
            "port": {"number": host.target_port},
            "subset": gateway.originate_subset if host.tls is None else credential_subset(rules),
        }
    return {
        "match": [
            {
                "gateways": [gateway.gateway],
                "port": HTTP_PORT,
                "authority": {"exact": authority},
                "headers": {TEAM_HEADER: {"exact": rules.name}},
            }
            for authority in authorities(host)
        ],
        "headers": {"request": {"remove": [TEAM_HEADER, *INTERNAL_HEADERS]}},
        "route": [{"destination": destination}],
    }


def authorities(host: HttpHost | OriginateHost) -> list[str]:
    """What a request names the host: with the port where it is not HTTP's own, and some clients with that too."""
    return [host.host, f"{host.host}:{host.port}"]


def credential_subset(rules: TeamRules) -> str:
    """The team's subset of a host for which it has a credential."""
    return f"tls-{rules.name}"


def credential_rule(rules: TeamRules, host: OriginateHost) -> dict[str, Any]:
    """DestinationRule of a host for which a team has a credential of its own.

    Istio takes the most specific rule of a host and merges those of one host, so the common subset is in it too: for
    teams that reach the host without a credential.
    """
    assert host.tls is not None
    own = {
        "name": credential_subset(rules),
        "trafficPolicy": {"tls": {"mode": host.tls.mode, "credentialName": host.tls.credential}},
    }
    return {"host": host.host, "exportTo": ["."], "subsets": [own, originate_subset()]}


def allows_anything(rules: TeamRules) -> bool:
    """Whether the team has anything to be allowed, so that it has an AuthorizationPolicy."""
    return bool(rules.open_passthrough) or any(host.allow != "none" for host in (*rules.requests, *rules.passthrough))


def authorization(rules: TeamRules, gateway: Gateway) -> dict[str, Any]:
    """AuthorizationPolicy: what the team may do at the gateway."""
    of_the_team = [{"source": {"namespaces": list(rules.namespaces)}}]
    policy_rules: list[dict[str, Any]] = []
    operations = [
        {"hosts": authorities(host), **operation} for host in rules.requests for operation in _operations(host.allow)
    ]
    if operations:
        policy_rules.append(
            {
                "from": of_the_team,
                "to": [{"operation": operation} for operation in operations],
                "when": [
                    _port(gateway.http_port),
                    {"key": f"request.headers[{TEAM_HEADER}]", "values": [rules.name]},
                ],
            }
        )
    if names := [outer_server_name(host.host, rules.name) for host in rules.passthrough if host.allow == "all"]:
        policy_rules.append({"from": of_the_team, "when": [_port(gateway.tls_port), _server_name(names)]})
    if names := [host.host for host in rules.open_passthrough]:
        # Nobody's identity is known here: the connection is the application's own.
        policy_rules.append({"when": [_port(gateway.tls_port), _server_name(names)]})
    return {"selector": {"matchLabels": gateway.selector}, "action": "ALLOW", "rules": policy_rules}


def passthrough_gateway_name(rules: TeamRules) -> str:
    """Of the team's Gateway for port 443."""
    return f"{rules.name}-passthrough"


def passthrough_gateway(rules: TeamRules, gateway: Gateway) -> dict[str, Any]:
    """The team's Gateway for port 443: a server for each host, by server name.

    One host each, because Istio leaves out a whole server when another Gateway has one of its names already, as
    happens where teams of two stacks pass the same host openly.
    """
    mutual = [(host.host, outer_server_name(host.host, rules.name), "ISTIO_MUTUAL") for host in rules.passthrough]
    open_ = [(host.host, host.host, "PASSTHROUGH") for host in rules.open_servers]
    return {
        "selector": gateway.selector,
        "servers": [
            {
                "port": {"number": TLS_PORT, "name": label(host), "protocol": "TLS"},
                "hosts": [server_name],
                "tls": {"mode": mode},
            }
            for host, server_name, mode in (*mutual, *open_)
        ],
    }


def passthrough_route(rules: TeamRules, gateway: Gateway, host: PassthroughHost) -> dict[str, Any]:
    """VirtualService from a server of the Gateway to its host.

    One for each host: of TCP routes behind a server that ends TLS, Istio takes the first of a VirtualService.
    """
    return {
        "hosts": [outer_server_name(host.host, rules.name)],
        "gateways": [f"{gateway.namespace}/{passthrough_gateway_name(rules)}"],
        "exportTo": ["."],
        "tcp": [
            {
                "match": [{"port": TLS_PORT}],
                "route": [{"destination": {"host": host.host, "port": {"number": host.port}}}],
            }
        ],
    }


def _ports(ports: Sequence[Port]) -> list[dict[str, Any]]:
    return [{"number": port.number, "name": port.name, "protocol": port.protocol} for port in ports]


def _port(number: int) -> dict[str, Any]:
    return {"key": "destination.port", "values": [str(number)]}


def _server_name(names: list[str]) -> dict[str, Any]:
    return {"key": "connection.sni", "values": names}


def _operations(allow: Allow) -> list[dict[str, list[str]]]:
    if isinstance(allow, str):
        return [{}] if allow == "all" else []
    fields = [{"methods": list(one.methods), "paths": list(one.paths)} for one in allow]
    return [{key: values for key, values in one.items() if values} for one in fields]
