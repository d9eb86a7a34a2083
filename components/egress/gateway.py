"""The egress gateway: Envoy on nodes of its own, by which the teams' traffic leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.custom_resource import custom_resource
from components.egress.network_policy import gateway_policy
from components.mesh.charts import release
from components.mesh.gateway_chart import pod_annotations
from components.mesh.revisions import Revisions
from components.pod_security import RESTRICTED
from settings.egress import EgressSettings
from settings.mesh import IstioSettings

NAME = "istio-egressgateway"
"""Of the release, the Deployment, the Service and the service account."""

GATEWAY = "egress-gateway"
SELECTOR = {"istio": "egressgateway"}
"""The chart derives it from the release's name."""

STATUS_PORT = 15021
HTTP_PORT, TLS_PORT = 80, 443
TARGET_PORTS = {"http": 8080, "tls": 8443}
"""Ports of the pods, by the Service's ports' names; policies see these. No privilege is needed to listen there."""

ORIGINATE_SUBSET = "originate-tls"

PROXY_CONFIG = {
    # Counters of connections that were refused before there was a request; Istio leaves them out.
    "proxyStatsMatcher": {
        "inclusionRegexps": [r"listener\..*\.(ssl\.(fail_verify.*|handshake|no_certificate)|no_filter_chain_match)"]
    },
    # What the gateway knows of its caller is nothing for the world outside.
    "proxyHeaders": {
        "forwardedClientCert": "SANITIZE",
        "attemptCount": {"disabled": True},
        "envoyDebugHeaders": {"disabled": True},
    },
}


@dataclass(kw_only=True)
class EgressGatewayArgs:
    """Arguments of EgressGateway."""

    egress: EgressSettings
    istio: IstioSettings
    revisions: Revisions
    """The mesh that injects the proxy's configuration."""

    mesh_namespace: pulumi.Input[str]
    """Where istiod is."""

    trust_domain: pulumi.Input[str]
    control_plane_cidrs: pulumi.Input[Sequence[str]]
    """Where else the control plane is."""

    cluster_cidrs: Sequence[pulumi.Input[str]]
    """Ranges of the cluster's pods and Services, which are not outside."""

    node_labels: pulumi.Input[Mapping[str, str]]
    """They select the gateway's nodes."""

    node_taint: pulumi.Input[Mapping[str, str]]
    """key, value and effect; it keeps everything else off them."""


class EgressGateway(pulumi.ComponentResource):
    """Namespace, Deployment and Service by Istio's gateway chart, where nothing is allowed yet; rules are the teams'.

    Source: Anthos Service Mesh egress gateways on GKE. References: Istio, "Egress Gateways", "Egress TLS Origination".
    """

    namespace: pulumi.Output[str]
    service: pulumi.Output[str]
    """Host name of the Service."""

    gateway: pulumi.Output[str]
    """<namespace>/<name> of the Gateway of port 80."""

    identity: pulumi.Output[str]
    """SPIFFE id of its certificate."""

    def __init__(self, name: str, args: EgressGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:egress:EgressGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        self.namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.egress.namespace,
                labels={
                    "istio.io/rev": args.revisions.label(args.egress.namespace),
                    **RESTRICTED,
                },
            ),
            opts=child,
        ).metadata.name
        # Both are there before the first pod, so that there is no moment in which it lets anything through.
        closed = [
            custom_resource(
                f"{name}-allow-nothing",
                "security.istio.io/v1",
                "AuthorizationPolicy",
                "allow-nothing",
                self.namespace,
                {},
                opts=child,
            ),
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-network",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(name="egress-gateway", namespace=self.namespace),
                spec=pulumi.Output.all(
                    cluster_cidrs=args.cluster_cidrs,
                    mesh_namespace=args.mesh_namespace,
                    control_plane_cidrs=args.control_plane_cidrs,
                ).apply(
                    lambda values: gateway_policy(
                        ports=list(TARGET_PORTS.values()),
                        metrics_from=args.egress.metrics_from,
                        dns_addresses=[str(cidr) for cidr in args.egress.dns_addresses],
                        **values,
                    )
                ),
                opts=child,
            ),
        ]
        deployment = release(
            f"{name}-release",
            args.istio,
            "gateway",
            name=NAME,
            namespace=self.namespace,
            values=_values(args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=closed),
        )
        custom_resource(
            f"{name}-gateway",
            "networking.istio.io/v1",
            "Gateway",
            GATEWAY,
            self.namespace,
            {
                "selector": SELECTOR,
                "servers": [
                    {
                        "port": {"number": HTTP_PORT, "name": "https", "protocol": "HTTPS"},
                        "hosts": ["*"],
                        "tls": {"mode": "ISTIO_MUTUAL"},
                    }
                ],
            },
            opts=child,
        )
        custom_resource(
            f"{name}-originate-tls",
            "networking.istio.io/v1",
            "DestinationRule",
            ORIGINATE_SUBSET,
            self.namespace,
            {
                # A subset only: hosts for which no route asks for it are not touched. Without `sni` and
                # `subjectAltNames` Istio has Envoy take both from the request's host.
                "host": "*",
                "exportTo": ["."],
                "subsets": [originate_subset()],
            },
            opts=child,
        )

        # Known when Helm has seen the Deployment ready: what uses the gateway comes after it.
        self.service = pulumi.Output.concat(
            deployment.status.name, ".", deployment.status.namespace, ".svc.cluster.local"
        )
        self.gateway = pulumi.Output.concat(self.namespace, f"/{GATEWAY}")
        self.identity = pulumi.Output.concat("spiffe://", args.trust_domain, "/ns/", self.namespace, f"/sa/{NAME}")
        self.register_outputs(
            {
                "namespace": self.namespace,
                "service": self.service,
                "gateway": self.gateway,
                "identity": self.identity,
            }
        )


def originate_subset() -> dict[str, Any]:
    """TLS from the gateway to a host that a public CA of the proxy's image has certified."""
    return {"name": ORIGINATE_SUBSET, "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}


def _values(args: EgressGatewayArgs) -> dict[str, Any]:
    egress = args.egress
    return {
        "podAnnotations": pod_annotations(args.revisions.serving(args.egress.namespace), PROXY_CONFIG),
        "service": {
            "type": "ClusterIP",
            "ports": [
                {"name": "status-port", "port": STATUS_PORT, "targetPort": STATUS_PORT, "protocol": "TCP"},
                {"name": "http", "port": HTTP_PORT, "targetPort": TARGET_PORTS["http"], "protocol": "TCP"},
                {"name": "tls", "port": TLS_PORT, "targetPort": TARGET_PORTS["tls"], "protocol": "TCP"},
            ],
        },
        "autoscaling": {"minReplicas": egress.replicas.min, "maxReplicas": egress.replicas.max},
        **({"podDisruptionBudget": {"minAvailable": 1}} if egress.replicas.min > 1 else {}),
        "resources": {
            "requests": {"cpu": egress.resources.cpu, "memory": egress.resources.memory},
            "limits": {"memory": egress.resources.memory_limit},
        },
        # As Pod Security's level `restricted` asks.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": args.node_labels,
        "tolerations": [pulumi.Output.from_input(args.node_taint).apply(_toleration)],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": SELECTOR},
            }
        ],
    }


def _toleration(taint: Mapping[str, str]) -> dict[str, str]:
    return {"key": taint["key"], "operator": "Equal", "value": taint["value"], "effect": taint["effect"]}
