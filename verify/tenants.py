"""Teams as probes see them: their pods, and which requests their rules allow or refuse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from settings.teams import (
    DirectHost,
    Host,
    HttpHost,
    OpenPassthroughHost,
    OriginateHost,
    PassthroughHost,
    Requests,
    Team,
    TeamsSettings,
)
from verify.context import Context
from verify.kube import Subject
from verify.pods import ProbePod
from verify.workload import TRUST, Workload

HttpEntry = HttpHost | OriginateHost
"""Hosts that applications ask by plain http."""

TlsEntry = PassthroughHost | OpenPassthroughHost
"""Hosts to which applications speak TLS themselves."""


@dataclass(frozen=True)
class Tenant:
    """A team in one of its namespaces."""

    team: Team = field(compare=False)
    namespace: str
    """No other team's."""

    def __str__(self) -> str:
        first = self.namespace == self.team.namespaces[0]
        return self.team.name if first else f"{self.team.name} in {self.namespace}"

    @property
    def application(self) -> Workload:
        """An ordinary application of it: with a sidecar, it asks."""
        return Workload("application", in_mesh=True, namespace=self.namespace)

    @property
    def server(self) -> Workload:
        """Another that is asked."""
        return Workload("server", in_mesh=True, serves=True, namespace=self.namespace)

    @property
    def plain(self) -> Workload:
        """One that does without a sidecar."""
        return Workload("no-sidecar", in_mesh=False, namespace=self.namespace)

    @property
    def http(self) -> list[HttpEntry]:
        """What it asks by http."""
        return [host for host in self.team.hosts if isinstance(host, HttpEntry)]

    @property
    def tls(self) -> list[TlsEntry]:
        """To what it speaks TLS."""
        return [host for host in self.team.hosts if isinstance(host, TlsEntry)]

    @property
    def direct(self) -> list[DirectHost]:
        """What it reaches past the gateway."""
        return [host for host in self.team.hosts if isinstance(host, DirectHost)]

    def sees(self, host: str) -> bool:
        """Whether it lists a host, in any way."""
        return any(one.host == host for one in self.team.hosts)


def tenants(teams: TeamsSettings) -> list[Tenant]:
    """Every team in each of its namespaces, the first namespace first."""
    return [Tenant(team, namespace) for team in teams.teams for namespace in team.namespaces]


@dataclass(frozen=True)
class Asked:
    """A request to a host, as far as rules look at it."""

    method: str
    path: str

    def __str__(self) -> str:
        return self.path if self.method == "GET" else f"{self.method} {self.path}"


def url(entry: HttpEntry, path: str = "/") -> str:
    """The URL of a path of a host."""
    return f"http://{entry.host}{'' if entry.port == 80 else f':{entry.port}'}{path}"


def tls_url(entry: TlsEntry) -> str:
    """The URL of a host that is spoken TLS with."""
    return f"https://{entry.host}{'' if entry.port == 443 else f':{entry.port}'}/"


def allowed(entry: HttpEntry) -> Asked | None:
    """A request that the rules of an entry allow; None when they allow none."""
    if entry.allow == "none":
        return None
    if entry.allow == "all":
        return Asked("GET", "/")
    first = entry.allow[0]
    # Whatever the star stands for; the host may well answer 404, that is its own.
    path = first.paths[0].replace("*", "meshgate-verify") if first.paths else "/"
    return Asked(first.methods[0] if first.methods else "GET", path if path.startswith("/") else f"/{path}")


UNKNOWN_PATH = "/meshgate-verify"


def refused(entry: HttpEntry) -> Asked | None:
    """A request that the rules of an entry refuse; None when they refuse none, or only what might do harm."""
    if entry.allow == "none":
        return Asked("GET", "/")
    if entry.allow == "all":
        return None
    candidates = (Asked(method, path) for method in ("GET", "HEAD", "OPTIONS") for path in ("/", UNKNOWN_PATH))
    return next((asked for asked in candidates if not any(_fits(asked, rule) for rule in entry.allow)), None)


def _fits(asked: Asked, rule: Requests) -> bool:
    return (not rule.methods or asked.method in rule.methods) and (
        not rule.paths or any(_matches(asked.path, pattern) for pattern in rule.paths)
    )


def _matches(path: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path.endswith(pattern[1:]) if pattern.startswith("*") else path == pattern


def invisible(tenant: Tenant, everyone: Iterable[Tenant]) -> Iterator[Host]:
    """Hosts that others list and this one does not, each once."""
    seen = set()
    for other in everyone:
        for host in other.team.hosts:
            if not tenant.sees(host.host) and host.host not in seen:
                seen.add(host.host)
                yield host


def trust(context: Context) -> Path | None:
    """File in a probe pod with the CAs that it trusts for hosts outside; None for those of its image."""
    return None if context.settings.verify.trust is None else Path(TRUST)


def identity(context: Context, pod: ProbePod) -> str:
    """The SPIFFE id of a pod."""
    return pod.spiffe_id(context.contracts["mesh"]["trust_domain"])


def service_account(namespace: str) -> Subject:
    """A namespace's service account `default`, as the API server knows it."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return Subject(f"system:serviceaccount:{namespace}:default", groups)


def member(group: str) -> Subject:
    """Somebody of an RBAC group."""
    return Subject("meshgate-verify", (group, "system:authenticated"))
