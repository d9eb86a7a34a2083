"""An ingress gateway: Envoy at the mesh's edge, and what it answers for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

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
from settings.ingress import HTTP, HTTPS, STANDARD_PORTS, Host, NodePortService
from settings.ingress import IngressGateway as IngressGatewaySettings
from settings.mesh import IstioSettings


@dataclass(kw_only=True)
class IngressGatewayArgs:
    """Arguments of IngressGateway."""

    gateway_name: str
    """Name of the Deployment, the Service and the Gateway; its pods are labelled `istio: <name>`."""

    namespace: pulumi.Input[str]
    revision: pulumi.Input[str]
    """The control plane that injects the proxy's configuration."""

    gateway: IngressGatewaySettings
    istio: IstioSettings
    credentials: Mapping[str, pulumi.Input[str]]
    """Names of the Secrets by the certificate's name in the settings."""

    after: Sequence[pulumi.Resource] = ()
    """What is made before its Service."""


class IngressGateway(pulumi.ComponentResource):
    """Deployment and Service by Istio's gateway chart; one server and one VirtualService for each host.

    Source: Istio ingress gateway, part 2 (TLS: SIMPLE, redirect, MUTUAL, several hosts). Reference: Istio, "Secure
    Gateways".
    """

    address: pulumi.Output[str]
    """An IP address, or a host name where the platform gives one."""

    http_port: pulumi.Output[int]
    https_port: pulumi.Output[int]

    def __init__(self, name: str, args: IngressGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:ingress:IngressGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        deployment = release(
            f"{name}-release",
            args.istio,
            "gateway",
            name=args.gateway_name,
            namespace=args.namespace,
            values=gateway_values(
                args.gateway_name,
                revision=args.revision,
                proxy_config=PROXY_CONFIG,
                service=_service(args.gateway.service),
                replicas=args.gateway.replicas,
                resources=args.gateway.resources,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        kubernetes.apiextensions.CustomResource(
            f"{name}-gateway",
            api_version="networking.istio.io/v1",
            kind="Gateway",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.gateway_name, namespace=args.namespace),
            spec={
                "selector": {"istio": args.gateway_name},
                "servers": [server for host in args.gateway.hosts for server in _servers(host, args.credentials)],
            },
            opts=child,
        )
        for host in args.gateway.hosts:
            kubernetes.apiextensions.CustomResource(
                # With a dot: joined by '-', gateway a with host b-c and gateway a-b with host c would be one name.
                f"{name}.{host.host}",
                api_version="networking.istio.io/v1",
                kind="VirtualService",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(
                    name=f"{args.gateway_name}.{host.host}", namespace=args.namespace
                ),
                spec={
                    "hosts": [host.host],
                    "gateways": [args.gateway_name],
                    # Only the gateways, which are in this namespace, need to know it.
                    "exportTo": ["."],
                    "http": [{"route": [{"destination": _destination(host)}]}],
                },
                opts=child,
            )
        service = released_service(f"{name}-service", deployment, opts=child)
        # Where clients meet the nodes themselves, the ports are the nodes'.
        exposed = "port"
        if isinstance(args.gateway.service, NodePortService):
            self.address = pulumi.Output.from_input(str(args.gateway.service.address))
            exposed = "port" if args.gateway.service.balancer else "node_port"
        else:
            self.address = service.status.apply(load_balancer_address)
        self.http_port = service.spec.apply(partial(port_number, name=HTTP, exposed=exposed))
        self.https_port = service.spec.apply(partial(port_number, name=HTTPS, exposed=exposed))
        self.register_outputs({"address": self.address, "httpPort": self.http_port, "httpsPort": self.https_port})


def _service(service: LoadBalancerService | NodePortService) -> dict[str, Any]:
    if isinstance(service, LoadBalancerService):
        ports = [service_port(name, port, port) for name, port in STANDARD_PORTS.items()]
        return {**load_balancer_values(service), "ports": ports}
    ports = [
        service_port(name, port, port) | ({} if node_port is None else {"nodePort": node_port})
        for name, (port, node_port) in service.all_ports.items()
    ]
    return {"type": service.type, "externalTrafficPolicy": service.external_traffic_policy, "ports": ports}


def _servers(host: Host, credentials: Mapping[str, pulumi.Input[str]]) -> list[dict[str, Any]]:
    https = {
        "hosts": [host.host],
        "port": {"number": STANDARD_PORTS[HTTPS], "name": f"https-{host.host}", "protocol": "HTTPS"},
        "tls": {
            "mode": host.tls.mode,
            "credentialName": credentials[host.tls.credential],
            "minProtocolVersion": "TLSV1_2",
        },
    }
    http: dict[str, Any] = {
        "hosts": [host.host],
        "port": {"number": STANDARD_PORTS[HTTP], "name": f"http-{host.host}", "protocol": "HTTP"},
    }
    if host.http == "redirect":
        http["tls"] = {"httpsRedirect": True}
    return [https] if host.http == "none" else [http, https]


def _destination(host: Host) -> dict[str, Any]:
    return {"host": host.backend.service, "port": {"number": host.backend.port}}
