"""Settings of the layer `teams`: who may reach what outside (source: Anthos Service Mesh egress gateways on GKE)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from settings.model import Cidr, DnsLabel, HostName, Model, Namespace, Port, Problem, matching

RESERVED_LABELS = ("istio.io/", "istio-injection", "kubernetes.io/", "meshgate.dev/", "pod-security.kubernetes.io/")
"""Beginnings of the labels that decide about injection, policies and Pod Security."""

MAX_HOST = 200
"""Characters of a host: the server name on the way to the gateway has the team's name too, and 253 at most."""

OutsideHost = Annotated[
    HostName,
    matching(rf".{{1,{MAX_HOST}}}", f"at most {MAX_HOST} characters"),
    matching(r"(?!.*(\.svc|\.cluster\.local)$).*", "a host outside the cluster; Services are reached by `calls`"),
]
"""A host that is not one of the cluster's own Services."""

TeamName = Annotated[DnsLabel, matching(r".{1,40}", "at most 40 characters: names in the cluster carry it")]


class Requests(Model):
    """Requests that are allowed: any of the methods to any of the paths; all of them where a list is empty."""

    methods: tuple[Annotated[str, matching(r"[A-Z]+", "a method in capital letters, for example GET")], ...] = ()
    paths: tuple[
        Annotated[
            str,
            matching(
                r"/[^*\s]*\*?|\*[^*\s]*", "a path, with '*' only as its first or last character, for example /status/*"
            ),
        ],
        ...,
    ] = ()
    """As AuthorizationPolicy takes them: exact, /prefix/* or */suffix."""


def _allow(value: Any) -> str | None:
    if value in ("none", "all"):
        return "word"
    return "requests" if isinstance(value, list | tuple) else None


Allow = Annotated[
    Annotated[Literal["none", "all"], Tag("word")]
    | Annotated[tuple[Requests, ...], Field(min_length=1), Tag("requests")],
    Discriminator(
        _allow,
        custom_error_type="allow",
        custom_error_message="must be none, all, or a list of methods and paths",
    ),
]
"""What a team may do with a host that it sees. none: the gateway answers 403."""


class HttpHost(Model):
    """Plain HTTP from the application to the host, by the gateway."""

    mode: Literal["http"]
    host: OutsideHost
    port: Port = 80
    allow: Allow = "none"


class UpstreamTls(Model):
    """TLS from the gateway to a host whose certificate no public CA signs, or that asks for a client certificate."""

    mode: Literal["SIMPLE", "MUTUAL"] = "SIMPLE"
    credential: DnsLabel
    """A name under `credentials`: the CA to trust and, for MUTUAL, the gateway's certificate."""


class OriginateHost(Model):
    """Plain HTTP from the application to the gateway, TLS from there to the host."""

    mode: Literal["originate"]
    host: OutsideHost
    port: Port = 80
    """The port that the application uses."""

    target_port: Port = 443
    tls: UpstreamTls | None = None
    """Left out: the host's certificate is verified with the public CAs that the proxy's image brings."""

    allow: Allow = "none"


class PassthroughHost(Model):
    """TLS end to end, inside mutual TLS to the gateway: authorized by namespace and server name."""

    mode: Literal["passthrough"]
    host: OutsideHost
    port: Port = 443
    allow: Literal["none", "all"] = "none"


class OpenPassthroughHost(Model):
    """TLS end to end as the document has it, without mutual TLS: the gateway does not know who calls.

    Weaker: ANY pod that reaches the gateway and says the right server name passes.
    """

    mode: Literal["passthrough-open"]
    host: OutsideHost
    port: Port = 443


class DirectPort(Model):
    """A port of a host that is reached directly."""

    number: Port
    protocol: Literal["HTTP", "TLS", "TCP"]


class Redirect(Model):
    """Where a node sends connections instead, before NetworkPolicies see them."""

    address: Cidr
    port: Port


class DirectHost(Model):
    """A host inside the network's own reach, not by the gateway: a cloud's APIs and metadata server, a database."""

    mode: Literal["direct"]
    host: OutsideHost
    ports: Annotated[tuple[DirectPort, ...], Field(min_length=1)]
    addresses: Annotated[tuple[Cidr, ...], Field(min_length=1)]
    """The ranges that the namespace's NetworkPolicy opens for these ports."""

    redirects: tuple[Redirect, ...] = ()
    """It opens these too, for example 127.0.0.1/32 port 988: GKE's metadata server without Dataplane V2."""


Host = Annotated[
    HttpHost | OriginateHost | PassthroughHost | OpenPassthroughHost | DirectHost, Field(discriminator="mode")
]


class Team(Model):
    """A tenant: its namespaces, and the hosts that it sees."""

    name: TeamName
    namespaces: Annotated[tuple[Namespace, ...], Field(min_length=1)]
    labels: dict[str, str] = {}
    """Further labels of its namespaces."""

    members: tuple[str, ...] = ()
    """RBAC groups that may work in its namespaces (ClusterRole `edit`)."""

    hosts: Annotated[tuple[Host, ...], Field(max_length=256)] = ()
    """What it does not name here, it cannot see: its sidecars answer 502."""

    calls: tuple[TeamName, ...] = ()
    """Teams whose workloads its own may call."""

    called_by: tuple[TeamName, ...] = ()
    """Teams whose workloads may call its own; the other side names this team under `calls`."""

    ingress_from: tuple[DnsLabel, ...] = ()
    """Namespaces of no team whose pods may call its workloads, for example those of ingress gateways or monitoring."""

    def problems(self) -> Iterator[Problem]:
        by_gateway = Counter(host.host for host in self.hosts if isinstance(host, HttpHost | OriginateHost))
        by_name = Counter(host.host for host in self.hosts if isinstance(host, PassthroughHost | OpenPassthroughHost))
        direct = Counter(host.host for host in self.hosts if isinstance(host, DirectHost))
        for index, host in enumerate(self.hosts):
            key = f"hosts[{index}].host"
            if by_gateway[host.host] > 1 and isinstance(host, HttpHost | OriginateHost):
                yield Problem(key=key, message=f"'{host.host}' has more than one entry of http or originate; keep one")
            if by_name[host.host] > 1 and isinstance(host, PassthroughHost | OpenPassthroughHost):
                yield Problem(key=key, message=f"'{host.host}' has more than one entry of passthrough; keep one")
            if direct[host.host] and by_gateway[host.host] + by_name[host.host] + direct[host.host] > 1:
                yield Problem(key=key, message=f"'{host.host}' is reached directly; it can have no other entry")
            if isinstance(host, DirectHost):
                for port, times in Counter(port.number for port in host.ports).items():
                    if times > 1:
                        yield Problem(key=f"hosts[{index}].ports", message=f"{port} is there {times} times")
        yield from self._ports()
        for key in self.labels:
            if key.startswith(RESERVED_LABELS):
                yield Problem(key=f"labels.{key}", message="is set by the program; take it out")
        for field in ("calls", "called_by"):
            if self.name in getattr(self, field):
                yield Problem(
                    key="calls" if field == "calls" else "calledBy",
                    message=f"has '{self.name}' itself; its own namespaces may always call each other",
                )

    def _ports(self) -> Iterator[Problem]:
        """A sidecar listens for one thing on a port: for requests, or for connections that it does not look into."""
        spoken: dict[int, tuple[str, str]] = {}
        for index, host in enumerate(self.hosts):
            for port, protocol in _asked(host):
                said, other = spoken.setdefault(port, (protocol, host.host))
                if said != protocol:
                    yield Problem(
                        key=f"hosts[{index}]",
                        message=f"'{host.host}' has {protocol} on port {port}, but '{other}' {said}; "
                        "a team's hosts agree on what is spoken on a port",
                    )


def _asked(host: Host) -> list[tuple[int, str]]:
    if isinstance(host, DirectHost):
        # TCP is told apart by its addresses.
        return [(port.number, port.protocol) for port in host.ports if port.protocol != "TCP"]
    return [(host.port, "HTTP" if isinstance(host, HttpHost | OriginateHost) else "TLS")]


class FilesCredential(Model):
    """PEM files on the machine that runs `pulumi up`, as a Secret beside the gateway; secret in the state."""

    kind: Literal["files"]
    ca: str
    """Path of the certificates to trust."""

    certificate: str | None = None
    """Path of the gateway's own certificate, with its chain; needed for MUTUAL."""

    key: str | None = None
    """Path of its private key."""

    def problems(self) -> Iterator[Problem]:
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            yield Problem(key=missing, message="is missing; certificate and key are given together or not at all")


class ExistingCredential(Model):
    """A Secret that something else (cert-manager, an operator) keeps beside the gateway, under this name."""

    kind: Literal["existing"]


Credential = Annotated[FilesCredential | ExistingCredential, Field(discriminator="kind")]


class TeamsSettings(Model):
    """Teams whose traffic leaves by the egress gateway. Several stacks may hold teams of one gateway."""

    teams: Annotated[tuple[Team, ...], Field(min_length=1)]
    credentials: dict[DnsLabel, Credential] = {}
    """For hosts whose TLS begins at the gateway: what it trusts and how it identifies itself."""

    pod_security: Literal["privileged", "baseline", "restricted"] = "privileged"
    """What Pod Security enforces in the teams' namespaces; it warns of and audits the next stricter level always.

    Sidecars whose traffic redirection an init container sets up need `privileged` (NET_ADMIN); with the Istio CNI
    plugin it can be stricter. What would get around the gateway is refused in any case."""

    dns_addresses: tuple[Cidr, ...] = ()
    """Where pods ask names besides kube-dns, for example 169.254.20.10/32 (NodeLocal DNSCache)."""

    def problems(self) -> Iterator[Problem]:
        names = [team.name for team in self.teams]
        namespaces: dict[str, str] = {}
        for index, team in enumerate(self.teams):
            where = f"teams[{index}]"
            yield from (problem.below(where) for problem in team.problems())
            if team.name in names[:index]:
                yield Problem(key=f"{where}.name", message=f"'{team.name}' names two teams; names must differ")
            for namespace in team.namespaces:
                if namespace in namespaces:
                    yield Problem(
                        key=f"{where}.namespaces",
                        message=f"'{namespace}' is {namespaces[namespace]}'s already; a namespace has one team",
                    )
                namespaces[namespace] = team.name
            for number, host in enumerate(team.hosts):
                if isinstance(host, OriginateHost) and host.tls is not None:
                    yield from (problem.below(f"{where}.hosts[{number}].tls") for problem in self._credential(host.tls))
        yield from self._calls()
        yield from self._open_ports()
        yield from self._upstream_protocols()
        for name, credential in self.credentials.items():
            yield from (problem.below(f"credentials.{name}") for problem in credential.problems())

    def _credential(self, tls: UpstreamTls) -> Iterator[Problem]:
        credential = self.credentials.get(tls.credential)
        if credential is None:
            known = ", ".join(sorted(self.credentials)) or "none"
            yield Problem(key="credential", message=f"'{tls.credential}' is not under credentials (there: {known})")
        elif tls.mode == "MUTUAL" and isinstance(credential, FilesCredential) and credential.certificate is None:
            yield Problem(key="credential", message=f"'{tls.credential}' has no certificate and key; MUTUAL needs both")

    def _calls(self) -> Iterator[Problem]:
        teams = {team.name: team for team in self.teams}
        for index, team in enumerate(self.teams):
            for field, key, other_field in (("calls", "calls", "calledBy"), ("called_by", "calledBy", "calls")):
                for other in getattr(team, field):
                    where = f"teams[{index}].{key}"
                    if other == team.name:
                        continue
                    if other not in teams:
                        yield Problem(
                            key=where,
                            message=f"has '{other}', which is no team here (there are: {', '.join(sorted(teams))}); "
                            "teams that call each other are in one stack",
                        )
                    elif team.name not in (teams[other].called_by if field == "calls" else teams[other].calls):
                        yield Problem(key=where, message=f"has '{other}', whose {other_field} lacks '{team.name}'")

    def _open_ports(self) -> Iterator[Problem]:
        # Their server name is the host's alone, so there is one way for all teams.
        first: dict[str, tuple[int, str]] = {}
        for index, team in enumerate(self.teams):
            for number, host in enumerate(team.hosts):
                if isinstance(host, OpenPassthroughHost):
                    port, other = first.setdefault(host.host, (host.port, team.name))
                    if port != host.port:
                        yield Problem(
                            key=f"teams[{index}].hosts[{number}].port",
                            message=f"is {host.port}, but team '{other}' has {port} for '{host.host}'; "
                            "passthrough-open has one port for a host",
                        )

    def _upstream_protocols(self) -> Iterator[Problem]:
        """The gateway reaches a host's port in one way for all teams."""
        spoken: dict[tuple[str, int], tuple[str, str]] = {}
        for index, team in enumerate(self.teams):
            for number, host in enumerate(team.hosts):
                if isinstance(host, DirectHost):
                    continue
                port = host.target_port if isinstance(host, OriginateHost) else host.port
                protocol = "HTTP" if isinstance(host, HttpHost) else "TLS"
                said, other = spoken.setdefault((host.host, port), (protocol, team.name))
                if said != protocol:
                    yield Problem(
                        key=f"teams[{index}].hosts[{number}]",
                        message=f"has the gateway speak {protocol} to '{host.host}' on port {port}, but team '{other}' "
                        f"{said}; a host speaks one of them on a port",
                    )
