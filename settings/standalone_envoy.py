"""Settings of the scenario `standalone_envoy`: Envoy without a mesh (source: KANS 7, Envoy)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from settings.external import Nodes
from settings.model import Cidr, HostName, Model, Namespace, Port, Problem, Resources

LISTENER_PORT = 10000
"""Where it takes requests."""

DEMO_ADMIN_PORT = 9901
"""Of the administration interface in envoy-demo.yaml, which the override moves."""


class Upstream(Model):
    """Where every request goes, by TLS."""

    host: HostName
    """Also the server name (SNI) and Host header that it gets, and a name of its certificate."""

    port: Port = 443
    ca: Annotated[str, Field(min_length=1)] | None = None
    """Path of a PEM file with the CAs that may have signed its certificate; those of Envoy's image when not given."""


class AdminOverride(Model):
    """envoy-override.yaml: where the administration interface is instead. Whoever reaches it controls Envoy."""

    address: Literal["127.0.0.1", "0.0.0.0"] = "127.0.0.1"
    """The pod alone, or (as in the source document) everybody whom the NetworkPolicy lets in: its own namespace."""

    port: Port = 9902

    @property
    def exposed(self) -> bool:
        """Whether others than the pod itself can connect to it."""
        return self.address != "127.0.0.1"


class StandaloneEnvoySettings(Model):
    """An Envoy on its own."""

    namespace: Namespace = "standalone-envoy"
    image: str = "docker.io/envoyproxy/envoy:v1.40.0"
    upstream: Upstream
    admin: AdminOverride = AdminOverride()
    resources: Resources = Resources(cpu="50m", memory="64Mi")
    nodes: Nodes = Nodes()
    """Where pods run whose traffic may go straight out."""

    dns_addresses: tuple[Cidr, ...] = ()
    """Where it asks names besides kube-system's pods, for example 169.254.20.10/32 (NodeLocal DNSCache)."""

    @property
    def made_namespaces(self) -> tuple[tuple[str, str], ...]:
        """The namespaces that it makes: key in this section, name."""
        return (("namespace", self.namespace),)

    def problems(self) -> Iterator[Problem]:
        taken = {LISTENER_PORT: "the listener's", DEMO_ADMIN_PORT: "where the override moves it away from"}
        if self.admin.port in taken:
            yield Problem(key="admin.port", message=f"{self.admin.port} is {taken[self.admin.port]}; use another port")
