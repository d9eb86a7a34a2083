"""Who may reach what outside, as data: it feeds Istio's resources, NetworkPolicies and the reachability matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from settings.teams import (
    Allow,
    DirectHost,
    HttpHost,
    OpenPassthroughHost,
    OriginateHost,
    PassthroughHost,
    Requests,
    Team,
    TeamsSettings,
)

Protocol = Literal["HTTP", "TLS", "TCP"]
NAME_LENGTH = 63
HASH_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port and what is spoken on it."""

    number: int
    protocol: Protocol

    @property
    def name(self) -> str:
        """For a ServiceEntry: the number is in it, because Istio merges entries of one host by their ports' names."""
        return f"{self.protocol.lower()}-{self.number}"


@dataclass(frozen=True, kw_only=True)
class HostGroup:
    """Hosts of one team that have the same ports, so that they share one ServiceEntry and one VirtualService."""

    ports: tuple[Port, ...]
    hosts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Tells the group from the team's others."""
        return "-".join(port.name for port in self.ports)


@dataclass(frozen=True, kw_only=True)
class DirectGroup:
    """Hosts that the team reaches directly on the same ports, in the same ranges."""

    ports: tuple[Port, ...]
    addresses: tuple[str, ...]
    redirects: tuple[tuple[str, int], ...]
    """Further addresses, with a port each."""

    hosts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Tells the group from the team's others."""
        ports = "-".join(port.name for port in self.ports)
        # Where TCP is spoken a group has one host.
        redirects = (f"{address}:{port}" for address, port in self.redirects)
        return f"{ports}.{_hash(' '.join((*self.addresses, *redirects, *(self.hosts if self.by_address else ()))))}"

    @property
    def by_address(self) -> bool:
        """Whether only the address tells where a connection goes: TCP carries no name."""
        return any(port.protocol == "TCP" for port in self.ports)


@dataclass(frozen=True, kw_only=True)
class TeamRules:
    """One team's rules, in an order that does not depend on that of the settings."""

    name: str
    namespaces: tuple[str, ...]
    visible: tuple[HostGroup, ...]
    """Hosts behind the gateway, with the ports on which the team's applications ask for them."""

    upstream: tuple[HostGroup, ...]
    """Hosts with the ports on which the gateway reaches them, for all teams: of those that several teams see, the first
    team by name has them."""

    requests: tuple[HttpHost | OriginateHost, ...]
    """Hosts whose requests the gateway sees."""

    passthrough: tuple[PassthroughHost, ...]
    open_passthrough: tuple[OpenPassthroughHost, ...]
    open_servers: tuple[OpenPassthroughHost, ...]
    """Those of them that this team's Gateway serves for all teams: their server name does not tell the team."""

    direct: tuple[DirectGroup, ...]
    calls: tuple[str, ...]
    called_by: tuple[str, ...]
    called_namespaces: tuple[str, ...]
    """Namespaces of the teams that it calls."""

    ingress_from: tuple[str, ...]


def team_rules(settings: TeamsSettings) -> dict[str, TeamRules]:
    """The rules of every team, by its name."""
    namespaces = {team.name: team.namespaces for team in settings.teams}
    first: dict[str, str] = {}
    first_open: dict[str, str] = {}
    upstream: dict[str, list[tuple[str, Port]]] = {team.name: [] for team in settings.teams}
    for team in sorted(settings.teams, key=lambda team: team.name):
        for host in team.hosts:
            if isinstance(host, DirectHost):
                continue
            # The gateway has one way to a host for all teams, and the first of them brings it.
            upstream[first.setdefault(host.host, team.name)].append((host.host, _reached(host)))
            if isinstance(host, OpenPassthroughHost):
                first_open.setdefault(host.host, team.name)
    return {team.name: _rules(team, namespaces, _grouped(upstream[team.name]), first_open) for team in settings.teams}


def _rules(
    team: Team,
    namespaces: Mapping[str, tuple[str, ...]],
    upstream: tuple[HostGroup, ...],
    first_open: Mapping[str, str],
) -> TeamRules:
    hosts = sorted(team.hosts, key=lambda host: (host.host, host.mode))
    open_passthrough = tuple(host for host in hosts if isinstance(host, OpenPassthroughHost))
    return TeamRules(
        name=team.name,
        namespaces=tuple(sorted(team.namespaces)),
        visible=_grouped((host.host, _asked(host)) for host in hosts if not isinstance(host, DirectHost)),
        upstream=upstream,
        requests=tuple(host for host in hosts if isinstance(host, HttpHost | OriginateHost)),
        passthrough=tuple(host for host in hosts if isinstance(host, PassthroughHost)),
        open_passthrough=open_passthrough,
        open_servers=tuple(host for host in open_passthrough if first_open[host.host] == team.name),
        direct=_direct(host for host in hosts if isinstance(host, DirectHost)),
        calls=tuple(sorted(team.calls)),
        called_by=tuple(sorted(team.called_by)),
        called_namespaces=tuple(sorted(namespace for other in team.calls for namespace in namespaces[other])),
        ingress_from=tuple(sorted(team.ingress_from)),
    )


def _asked(host: HttpHost | OriginateHost | PassthroughHost | OpenPassthroughHost) -> Port:
    """The port that applications use."""
    return Port(number=host.port, protocol="HTTP" if isinstance(host, HttpHost | OriginateHost) else "TLS")


def _reached(host: HttpHost | OriginateHost | PassthroughHost | OpenPassthroughHost) -> Port:
    """The port that the gateway connects to."""
    if isinstance(host, OriginateHost):
        return Port(number=host.target_port, protocol="TLS")
    return _asked(host)


def _grouped(ports: Iterable[tuple[str, Port]]) -> tuple[HostGroup, ...]:
    by_host: dict[str, dict[int, Port]] = {}
    for host, port in ports:
        by_host.setdefault(host, {})[port.number] = port
    groups: dict[tuple[Port, ...], list[str]] = {}
    for host, numbered in sorted(by_host.items()):
        groups.setdefault(tuple(port for _, port in sorted(numbered.items())), []).append(host)
    made = (HostGroup(ports=ports, hosts=tuple(hosts)) for ports, hosts in groups.items())
    return tuple(sorted(made, key=lambda group: group.name))


def _direct(hosts: Iterable[DirectHost]) -> tuple[DirectGroup, ...]:
    groups: dict[tuple[object, ...], DirectGroup] = {}
    for host in hosts:
        numbered = sorted((port.number, port.protocol) for port in host.ports)
        group = DirectGroup(
            ports=tuple(Port(number=number, protocol=protocol) for number, protocol in numbered),
            addresses=tuple(str(cidr) for cidr in sorted(set(host.addresses))),
            redirects=tuple(sorted({(str(one.address), one.port) for one in host.redirects})),
            hosts=(host.host,),
        )
        key = (group.ports, group.addresses, group.redirects, *(group.hosts if group.by_address else ()))
        same = groups.get(key)
        groups[key] = replace(same, hosts=(*same.hosts, host.host)) if same else group
    return tuple(sorted(groups.values(), key=lambda group: group.name))


def short(name: str) -> str:
    """The name itself, or when it is too long for a label its beginning and a hash of the whole."""
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - HASH_LENGTH - 1].rstrip('-.')}-{_hash(name)}"


def label(host: str) -> str:
    """A DNS label for a host name, with a hash: a-b.c and a.b-c would be the same without."""
    plain = host.replace(".", "-")
    return f"{plain[: NAME_LENGTH - HASH_LENGTH - 1].rstrip('-')}-{_hash(host)}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:HASH_LENGTH]


def outer_server_name(host: str, team: str) -> str:
    """The server name on the way to the gateway. With the team in it, each team's way to a host is one of its own."""
    return f"{host}.{team}"


# Reachability

How = Literal["http", "originate", "passthrough", "passthrough-open", "direct", "refused", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What becomes of a team's connection to a port of a host."""

    team: str
    host: str
    port: int
    how: How
    """By which way it goes; refused: the team sees the host, the gateway lets nothing through; unknown: the team's own
    sidecars know no such host."""

    allow: Allow = "none"
    """Which requests pass. Connections whose content the gateway does not see are `all` or `none`."""

    refusal: Literal["403", "502", "reset", "none"]
    """What a client sees where nothing passes; none where nothing is refused."""


def reach(rules: TeamRules, host: str, port: int) -> Reach:
    """What becomes of a connection of this team's applications, sidecars in place, to this port of a host."""
    for by_gateway in rules.requests:
        if (by_gateway.host, by_gateway.port) == (host, port):
            allow = by_gateway.allow
            how: How = "refused" if allow == "none" else by_gateway.mode
            return Reach(
                team=rules.name,
                host=host,
                port=port,
                how=how,
                allow=allow,
                refusal="none" if _everything(allow) else "403",
            )
    for tls in rules.passthrough:
        if (tls.host, tls.port) == (host, port):
            if tls.allow == "none":
                return Reach(team=rules.name, host=host, port=port, how="refused", refusal="reset")
            return Reach(team=rules.name, host=host, port=port, how=tls.mode, allow="all", refusal="none")
    for open_ in rules.open_passthrough:
        if (open_.host, open_.port) == (host, port):
            return Reach(team=rules.name, host=host, port=port, how=open_.mode, allow="all", refusal="none")
    for direct in rules.direct:
        if host in direct.hosts and port in (one.number for one in direct.ports):
            return Reach(team=rules.name, host=host, port=port, how="direct", allow="all", refusal="none")
    return Reach(
        team=rules.name,
        host=host,
        port=port,
        how="unknown",
        # The sidecars listen for HTTP on port 80, where the gateway is, and where the team's own hosts have HTTP. What
        # comes to other ports is no request to them, so there is no answer but a reset.
        refusal="502" if port in _http_ports(rules) else "reset",
    )


def matrix(settings: TeamsSettings) -> Iterator[Reach]:
    """Every team against every port of every host that any team names."""
    rules = team_rules(settings)
    asked = sorted({pair for team in rules.values() for pair in _pairs(team)})
    for team in rules.values():
        for host, port in asked:
            yield reach(team, host, port)


def _pairs(rules: TeamRules) -> Iterator[tuple[str, int]]:
    for host in (*rules.requests, *rules.passthrough, *rules.open_passthrough):
        yield host.host, host.port
    for direct in rules.direct:
        yield from ((name, port.number) for name in direct.hosts for port in direct.ports)


def _http_ports(rules: TeamRules) -> set[int]:
    reached = {port.number for direct in rules.direct for port in direct.ports if port.protocol == "HTTP"}
    return {80, *(host.port for host in rules.requests)} | reached


def _everything(allow: Allow) -> bool:
    return allow == "all" or (allow != "none" and any(one == Requests() for one in allow))
