"""Settings of the scenario `sidecar`: injection, a web server at a gateway, interception (source: KANS 7)."""

from __future__ import annotations

from collections.abc import Iterator

from settings.http_gateway import HttpGateway
from settings.model import HostName, Model, Namespace, Problem


class SidecarSettings(Model):
    """A web server with a sidecar."""

    namespace: Namespace = "sidecar"
    gateway_namespace: Namespace = "sidecar-ingress"
    host: HostName
    """The one host that the gateway answers for."""

    image: str = "docker.io/library/nginx:1.29"
    """nginx; it reads /etc/nginx/conf.d."""

    gateway: HttpGateway

    @property
    def made_namespaces(self) -> tuple[tuple[str, str], ...]:
        """The namespaces that it makes: key in this section, name."""
        return (("namespace", self.namespace), ("gatewayNamespace", self.gateway_namespace))

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("gateway") for problem in self.gateway.problems())
