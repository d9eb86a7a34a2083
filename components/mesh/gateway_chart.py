"""What gateways in front of the mesh have in common: values of Istio's gateway chart, and where clients reach them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.helm.v3 import Release

from settings.gateway_service import LoadBalancerService
from settings.model import Replicas, Resources

STATUS_PORT = 15021

PROXY_CONFIG: Mapping[str, Any] = {
    # Counters of handshakes that were refused; Istio leaves them out, but they tell where a client was turned away.
    "proxyStatsMatcher": {
        "inclusionRegexps": [r"listener\..*\.(ssl\.(fail_verify.*|handshake|no_certificate)|no_filter_chain_match)"]
    }
}
"""The proxy's own configuration, to which a gateway may add."""


def gateway_values(
    gateway_name: str,
    *,
    revision: pulumi.Input[str],
    proxy_config: Mapping[str, Any],
    service: Mapping[str, Any],
    replicas: Replicas,
    resources: Resources,
) -> dict[str, Any]:
    """Values for a gateway whose pods are labelled `istio: <gateway_name>`; `service` is the chart's own section.

    `revision` is the control plane that injects its namespace.
    """
    return {
        "podAnnotations": pod_annotations(revision, proxy_config),
        "labels": {"app": gateway_name, "istio": gateway_name},
        "service": service,
        "autoscaling": {"minReplicas": replicas.min, "maxReplicas": replicas.max},
        **({"podDisruptionBudget": {"minAvailable": 1}} if replicas.min > 1 else {}),
        "resources": {"requests": {"cpu": resources.cpu, "memory": resources.memory}},
    }


def pod_annotations(revision: pulumi.Input[str], proxy_config: Mapping[str, Any]) -> dict[str, pulumi.Input[str]]:
    """The proxy's own configuration, and what makes the pods anew when another control plane is to inject them.

    The namespace's label alone says which one does; with the chart's `revision` the pods would say it once more.
    """
    return {"proxy.istio.io/config": json.dumps(proxy_config), "meshgate.dev/revision": revision}


def service_port(name: str, port: int, target_port: int) -> dict[str, Any]:
    """A port of the chart's section `service`."""
    return {"name": name, "port": port, "targetPort": target_port, "protocol": "TCP"}


def load_balancer_values(service: LoadBalancerService) -> dict[str, Any]:
    """The chart's section `service` without its ports."""
    values: dict[str, Any] = {
        "type": service.type,
        "externalTrafficPolicy": service.external_traffic_policy,
        "annotations": dict(service.annotations),
        "loadBalancerSourceRanges": [str(cidr) for cidr in service.source_ranges],
    }
    if service.load_balancer_ip is not None:
        values["loadBalancerIP"] = str(service.load_balancer_ip)
    return values


def released_service(
    resource_name: str, deployment: Release, opts: pulumi.ResourceOptions
) -> kubernetes.core.v1.Service:
    """The Service that a gateway's release has made, read."""
    return kubernetes.core.v1.Service.get(
        resource_name,
        # Out of the release's status: known when Helm has waited until the Service has its address.
        pulumi.Output.concat(deployment.status.namespace, "/", deployment.status.name),
        opts=opts,
    )


def port_number(spec: Any, name: str, exposed: str) -> int:
    """A port by its name out of a Service's spec; `exposed` is which of its numbers, port or node_port."""
    return next(int(getattr(port, exposed)) for port in spec.ports if port.name == name)


def load_balancer_address(status: Any) -> str:
    """The IP address, or the host name where the platform gives one, out of a Service's status."""
    ingress = status.load_balancer.ingress[0]
    return str(ingress.ip or ingress.hostname)
