"""Settings of the scenario `external`: outbound traffic, by itself and through a proxy (source: EKS, outbound)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args

from settings.cluster import Taint
from settings.model import Cidr, HostName, Model, Problem, Resources, matching

Step = Literal[
    "allow-any",
    "registry-only",
    "service-entry",
    "proxy",
    "client",
    "client-allow-any",
    "client-registry-only",
    "client-http",
    "client-tcp",
]
"""Each in a namespace of its own: three without the proxy, the proxy, its client without a sidecar, and the four steps
of its client with one."""

STEPS: tuple[Step, ...] = get_args(Step)


class Nodes(Model):
    """Where pods run whose traffic may go straight out; anywhere when nothing is said."""

    labels: dict[str, str] = {}
    """They select the nodes."""

    taints: tuple[Taint, ...] = ()
    """Of these nodes; the pods tolerate them."""


class Squid(Model):
    """The proxy; it lets the clients' namespaces to the two hosts, and nobody to anything else."""

    image: str = "docker.io/ubuntu/squid:6.6-24.04_edge"
    resources: Resources = Resources(cpu="50m", memory="64Mi")


class ExternalSettings(Model):
    """Namespaces that differ in what their sidecars let out, and a proxy."""

    prefix: Annotated[
        str,
        matching(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "lower-case letters, digits and '-', a letter first, at most 40"),
    ] = "external"
    """What the namespaces' names begin with; the step follows, for example external-allow-any."""

    registered: HostName = "httpbin.org"
    """The host that the step `service-entry` has a ServiceEntry for. Both hosts answer 200 on the ports 80 and 443."""

    unregistered: HostName = "www.google.com"
    """A host that no ServiceEntry names."""

    squid: Squid = Squid()
    nodes: Nodes = Nodes()
    dns_addresses: tuple[Cidr, ...] = ()
    """Where Squid asks names besides kube-system's pods, for example 169.254.20.10/32 (NodeLocal DNSCache)."""

    @property
    def namespaces(self) -> Mapping[Step, str]:
        """Each step's namespace."""
        return {step: f"{self.prefix}-{step}" for step in STEPS}

    def problems(self) -> Iterator[Problem]:
        if self.registered == self.unregistered:
            yield Problem(
                key="unregistered", message=f"is {self.registered}, as `registered`; name a host without a ServiceEntry"
            )
