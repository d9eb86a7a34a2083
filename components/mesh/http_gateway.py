"""A gateway that speaks http alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi

from components.egress.custom_resource import custom_resource
from components.mesh.charts import release
from components.mesh.gateway_chart import (
    PROXY_CONFIG,
    gateway_values,
    load_balancer_address,
    load_balancer_values,
    port_number,
    released_service,
    service_port,
)
from settings.gateway_service import LoadBalancerService
from settings.http_gateway import ClusterIpService, HttpNodePortService
from settings.http_gateway import HttpGateway as HttpGatewaySettings
from settings.mesh import IstioSettings

PORT_NAME = "http2"
"""As the chart names it; its pods and clients speak http of any version."""

PORT = 80


@dataclass(kw_only=True)
class HttpGatewayArgs:
    """Arguments of HttpGateway."""

    gateway_name: str
    """Name of the Deployment, the Service and the Gateway; its pods are labelled `istio: <name>`.

    A Gateway selects pods of every namespace, so no two gateways of a mesh may have the same.
    """

    namespace: pulumi.Input[str]
    """It is injected."""

    revision: pulumi.Input[str]
    """The control plane that injects it."""

    gateway: HttpGatewaySettings
    istio: IstioSettings
    hosts: Sequence[str] = ("*",)
    """For which it has routes at all."""


class HttpGateway(pulumi.ComponentResource):
    """Deployment and Service by Istio's gateway chart, and a Gateway for http on port 80; VirtualServices name it.

    What clients send as x-forwarded-client-cert goes no further, as Istio has it for gateways (SANITIZE_SET).
    Source: KANS 7, ingress gateway and NodePort. Reference: Istio, "Ingress Gateways".
    """

    address: pulumi.Output[str]
    """Where clients reach it: an IP address, or a host name."""

    port: pulumi.Output[int]
    """Of that address."""

    gateway: pulumi.Output[str]
    """<namespace>/<name> of the Gateway, for VirtualServices."""

    def __init__(self, name: str, args: HttpGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:mesh:HttpGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        wanted, gateway_name = args.gateway.service, args.gateway_name

        deployment = release(
            f"{name}-release",
            args.istio,
            "gateway",
            name=gateway_name,
            namespace=args.namespace,
            values=gateway_values(
                gateway_name,
                revision=args.revision,
                proxy_config=PROXY_CONFIG,
                service=_service(wanted),
                replicas=args.gateway.replicas,
                resources=args.gateway.resources,
            ),
            opts=child,
        )
        custom_resource(
            f"{name}-gateway",
            "networking.istio.io/v1",
            "Gateway",
            gateway_name,
            args.namespace,
            {
                "selector": {"istio": gateway_name},
                "servers": [
                    {"hosts": list(args.hosts), "port": {"number": PORT, "name": "http", "protocol": "HTTP"}},
                ],
            },
            opts=child,
        )
        service = released_service(f"{name}-service", deployment, opts=child)
        exposed = "port"
        if isinstance(wanted, HttpNodePortService):
            self.address = pulumi.Output.from_input(str(wanted.addresses[0]))
            exposed = "node_port"
        elif isinstance(wanted, LoadBalancerService):
            self.address = service.status.apply(load_balancer_address)
        else:
            self.address = pulumi.Output.concat(gateway_name, ".", args.namespace, ".svc.cluster.local")
        self.port = service.spec.apply(partial(port_number, name=PORT_NAME, exposed=exposed))
        self.gateway = pulumi.Output.concat(args.namespace, "/", gateway_name)
        self.register_outputs({"address": self.address, "port": self.port, "gateway": self.gateway})


def _service(service: LoadBalancerService | HttpNodePortService | ClusterIpService) -> dict[str, Any]:
    port = service_port(PORT_NAME, PORT, PORT)
    if isinstance(service, ClusterIpService):
        return {"type": service.type, "ports": [port]}
    if isinstance(service, LoadBalancerService):
        return {**load_balancer_values(service), "ports": [port]}
    if service.node_port is not None:
        port["nodePort"] = service.node_port
    return {"type": service.type, "externalTrafficPolicy": service.external_traffic_policy, "ports": [port]}
