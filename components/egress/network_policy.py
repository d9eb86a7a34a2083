"""What NetworkPolicies are made of, and the one around the egress gateway; plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TEAM_LABEL = "meshgate.dev/team"
"""On every namespace of a team; its value is the team's name."""

DNS_PORT = 53
CONTROL_PLANE_PORT = 15012
"""Of istiod: configuration and certificates, both by TLS."""

EXTERNAL_CONTROL_PLANE_PORTS = (443, CONTROL_PLANE_PORT)
METRICS_PORT = 15020
EVERYWHERE = "0.0.0.0/0"
LINK_LOCAL = "169.254.0.0/16"
"""The cloud's metadata server is there: whoever may ask it is somebody else."""


def gateway_policy(
    *,
    ports: Sequence[int],
    metrics_from: Sequence[str],
    dns_addresses: Sequence[str],
    cluster_cidrs: Sequence[str],
    mesh_namespace: str,
    control_plane_cidrs: Sequence[str],
) -> Any:
    """The spec. In: teams to the gateway's ports. Out: names, the control plane, and what is not the cluster.

    The kubelet's probes come from the node, which NetworkPolicies do not restrict.
    """
    ingress = [
        {
            "from": [{"namespaceSelector": {"matchExpressions": [{"key": TEAM_LABEL, "operator": "Exists"}]}}],
            "ports": tcp(*ports),
        }
    ]
    if metrics_from:
        ingress.append({"from": [namespace(name) for name in metrics_from], "ports": tcp(METRICS_PORT)})
    world = {"ipBlock": {"cidr": EVERYWHERE, "except": [*cluster_cidrs, LINK_LOCAL]}}
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": [*infrastructure(dns_addresses, mesh_namespace, control_plane_cidrs), {"to": [world]}],
    }


def infrastructure(
    dns_addresses: Sequence[str], mesh_namespace: str, control_plane_cidrs: Sequence[str]
) -> list[dict[str, Any]]:
    """Egress rules that every proxy needs: names and the control plane."""
    dns = [namespace("kube-system"), *blocks(dns_addresses)]
    istiod = {**namespace(mesh_namespace), "podSelector": {"matchLabels": {"app": "istiod"}}}
    rules: list[dict[str, Any]] = [
        {"to": dns, "ports": [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]},
        {"to": [istiod], "ports": tcp(CONTROL_PLANE_PORT)},
    ]
    # An empty `to` would be everywhere.
    if control_plane_cidrs:
        rules.append({"to": blocks(control_plane_cidrs), "ports": tcp(*EXTERNAL_CONTROL_PLANE_PORTS)})
    return rules


def namespace(name: str) -> dict[str, Any]:
    """All pods of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def blocks(cidrs: Sequence[str]) -> list[dict[str, Any]]:
    """Ranges of addresses."""
    return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]


def tcp(*ports: int) -> list[dict[str, Any]]:
    """TCP ports."""
    return [{"port": port, "protocol": "TCP"} for port in ports]
