"""The scenario `sidecar` as one component."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.custom_resource import custom_resource
from components.mesh.http_gateway import HttpGateway, HttpGatewayArgs
from components.mesh.revisions import Revisions
from components.sidecar.web_server import PORT, WebServer, WebServerArgs
from settings.mesh import IstioSettings
from settings.sidecar import SidecarSettings

GATEWAY = "sidecar-gateway"
ROUTE = "nginx-service"
"""Name of the VirtualService, as in the source document."""


@dataclass(kw_only=True)
class SidecarArgs:
    """Arguments of Sidecar."""

    sidecar: SidecarSettings
    istio: IstioSettings
    revisions: Revisions
    """The mesh whose sidecars the pods get."""


class Sidecar(pulumi.ComponentResource):
    """A web server in a namespace that is injected by its label, and a gateway that has one host for it.

    Source: KANS 7, Istio sidecar hands-on. References: Istio, "Installing the Sidecar", "Ingress Gateways".
    """

    namespace: pulumi.Output[str]
    address: pulumi.Output[str]
    """Where clients reach the gateway."""

    port: pulumi.Output[int]

    def __init__(self, name: str, args: SidecarArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:sidecar:Sidecar", name, None, opts)
        self._name = name
        child = pulumi.ResourceOptions(parent=self)
        sidecar = args.sidecar
        self.namespace = self._namespace("namespace", sidecar.namespace, args.revisions)
        gateway_namespace = self._namespace("gateway-namespace", sidecar.gateway_namespace, args.revisions)
        server = WebServer(
            f"{name}-server",
            WebServerArgs(
                image=sidecar.image,
                namespace=self.namespace,
                revision=args.revisions.serving(sidecar.namespace),
            ),
            opts=child,
        )
        gateway = HttpGateway(
            f"{name}-gateway",
            HttpGatewayArgs(
                gateway_name=GATEWAY,
                namespace=gateway_namespace,
                revision=args.revisions.serving(sidecar.gateway_namespace),
                gateway=sidecar.gateway,
                istio=args.istio,
            ),
            opts=child,
        )
        custom_resource(
            f"{name}-route",
            "networking.istio.io/v1",
            "VirtualService",
            ROUTE,
            gateway_namespace,
            {
                "hosts": [sidecar.host],
                "gateways": [GATEWAY],
                # Only the gateway, which is in this namespace, needs to know it.
                "exportTo": ["."],
                "http": [{"route": [{"destination": {"host": server.host, "port": {"number": PORT}}}]}],
            },
            opts=child,
        )
        self.address, self.port = gateway.address, gateway.port
        self.register_outputs({"namespace": self.namespace, "address": self.address, "port": self.port})

    def _namespace(self, key: str, namespace: str, revisions: Revisions) -> pulumi.Output[str]:
        return kubernetes.core.v1.Namespace(
            f"{self._name}-{key}",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=namespace, labels={"istio.io/rev": revisions.label(namespace)}
            ),
            opts=pulumi.ResourceOptions(parent=self),
        ).metadata.name
