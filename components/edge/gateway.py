"""A gateway behind a network load balancer of AWS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.edge.access import authorization, balancer_only
from components.edge.annotations import HTTPS_PORT, service_annotations
from components.edge.routes import HTTP_PORT, rules, servers, target_ports
from components.egress.custom_resource import custom_resource
from components.mesh.charts import release
from components.mesh.gateway_chart import (
    PROXY_CONFIG,
    gateway_values,
    load_balancer_address,
    released_service,
    service_port,
)
from settings.edge import NlbGateway as NlbGatewaySettings
from settings.mesh import IstioSettings

BUILT_IN_LOG = "envoy"
"""Istio's name of the log that a mesh's `accessLogFile` switches on."""


@dataclass(kw_only=True)
class NlbGatewayArgs:
    """Arguments of NlbGateway."""

    gateway_name: str
    """Name of the Deployment, the Service and the Gateway; its pods are labelled `istio: <name>`."""

    namespace: pulumi.Input[str]
    revision: pulumi.Input[str]
    """The control plane that injects the proxy's configuration."""

    gateway: NlbGatewaySettings
    istio: IstioSettings
    credentials: Mapping[str, pulumi.Input[str]]
    """Names of the gateways' Secrets by the certificate's name in the settings."""

    balancer_certificate: pulumi.Input[str] | None
    """ARN of the balancer's certificate, where TLS ends there."""

    balancer_cidrs: Sequence[str]
    """The balancers' own addresses."""

    metrics_from: Sequence[str]
    """Namespaces whose pods may read the metrics, where not everybody may."""


class NlbGateway(pulumi.ComponentResource):
    """Deployment and Service by Istio's gateway chart, a Gateway, a VirtualService for each host, and who may use it.

    Source: EKS, Istio ingress gateway (TLS, TLS with NLB, Authorization). References: AWS Load Balancer Controller,
    "Network Load Balancer"; Istio, "Configuring Gateway Network Topology".
    """

    address: pulumi.Output[str]
    """The balancer's host name."""

    def __init__(self, name: str, args: NlbGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:edge:NlbGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        gateway, gateway_name = args.gateway, args.gateway_name

        # Who may use it is settled before the first pod, so that there is no moment in which everybody may.
        closed: list[pulumi.Resource] = []
        policy = authorization(gateway_name, gateway)
        if policy is not None:
            closed.append(
                custom_resource(
                    f"{name}-clients",
                    "security.istio.io/v1",
                    "AuthorizationPolicy",
                    f"{gateway_name}-clients",
                    args.namespace,
                    policy,
                    opts=child,
                )
            )
        if gateway.balancer.client_address == "proxy-protocol":
            closed.append(
                kubernetes.networking.v1.NetworkPolicy(
                    f"{name}-balancer",
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        name=f"{gateway_name}-balancer", namespace=args.namespace
                    ),
                    spec=balancer_only(gateway_name, args.balancer_cidrs, args.metrics_from),
                    opts=child,
                )
            )
        if not gateway.access_log:
            custom_resource(
                f"{name}-unlogged",
                "telemetry.istio.io/v1",
                "Telemetry",
                f"{gateway_name}-unlogged",
                args.namespace,
                {
                    "selector": {"matchLabels": {"istio": gateway_name}},
                    "accessLogging": [{"providers": [{"name": BUILT_IN_LOG}], "disabled": True}],
                },
                opts=child,
            )
        deployment = release(
            f"{name}-release",
            args.istio,
            "gateway",
            name=gateway_name,
            namespace=args.namespace,
            values=_values(args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=closed),
        )
        custom_resource(
            f"{name}-gateway",
            "networking.istio.io/v1",
            "Gateway",
            gateway_name,
            args.namespace,
            {"selector": {"istio": gateway_name}, "servers": servers(gateway, args.credentials)},
            opts=child,
        )
        for host in gateway.hosts:
            custom_resource(
                # With a dot: joined by '-', gateway a with host b-c and gateway a-b with host c would be one name.
                f"{name}.{host.host}",
                "networking.istio.io/v1",
                "VirtualService",
                f"{gateway_name}.{host.host}",
                args.namespace,
                {
                    "hosts": [host.host],
                    "gateways": [gateway_name],
                    # Only the gateways, which are in this namespace, need to know it.
                    "exportTo": ["."],
                    "http": rules(gateway, host),
                },
                opts=child,
            )
        service = released_service(f"{name}-service", deployment, opts=child)
        self.address = service.status.apply(load_balancer_address)
        self.register_outputs({"address": self.address})


def _values(args: NlbGatewayArgs) -> dict[str, Any]:
    gateway = args.gateway
    http, https = target_ports(gateway)
    values = gateway_values(
        args.gateway_name,
        revision=args.revision,
        proxy_config={**PROXY_CONFIG, **_topology(gateway)},
        service={
            "type": "LoadBalancer",
            "externalTrafficPolicy": gateway.external_traffic_policy,
            "annotations": service_annotations(gateway, args.balancer_certificate),
            "loadBalancerSourceRanges": [str(cidr) for cidr in gateway.balancer.source_ranges],
            # Each port is a listener of the balancer: the status port is none, health checks reach it on the pods.
            # A node's port that no balancer uses would be another way in, and hide the client's address.
            **({"allocateLoadBalancerNodePorts": False} if gateway.balancer.target_type == "ip" else {}),
            "ports": [service_port("http2", HTTP_PORT, http), service_port("https", HTTPS_PORT, https)],
        },
        replicas=gateway.replicas,
        resources=gateway.resources,
    )
    if gateway.balancer.client_address == "proxy-protocol":
        # The balancer's health checks begin with a PROXY header, too.
        values["env"] = {"ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL": "true"}
    return values


def _topology(gateway: NlbGatewaySettings) -> dict[str, Any]:
    topology: dict[str, Any] = {}
    if gateway.balancer.client_address == "proxy-protocol":
        topology["proxyProtocol"] = {}
    if gateway.num_trusted_proxies:
        topology["numTrustedProxies"] = gateway.num_trusted_proxies
    return {"gatewayTopology": topology} if topology else {}
