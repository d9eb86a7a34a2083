"""What gateways in front of the mesh have in common: values of Istio's gateway chart, and where clients reach them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi

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


def load_balancer_address(status: Any) -> str:
    """The IP address, or the host name where the platform gives one, out of a Service's status."""
    ingress = status.load_balancer.ingress[0]
    return str(ingress.ip or ingress.hostname)
