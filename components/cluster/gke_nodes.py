"""Node pools of a GKE cluster: what they have in common, whatever runs on them."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp import container

from settings.cluster import Taint
from settings.model import Replicas

_EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
"""Of taints: what GKE's API calls what Kubernetes calls so."""


def node_config(machine_type: str, account: pulumi.Input[str], taint: Taint | None = None) -> dict[str, Any]:
    """How a node starts: as a Shielded VM, with the account of its role, and with GKE's metadata server before pods.

    `account` is an e-mail address. References: GKE, "Harden your cluster's security", "Workload Identity Federation".
    """
    return {
        "machine_type": machine_type,
        "image_type": "COS_CONTAINERD",
        "service_account": account,
        # Roles decide what the account may do; narrower scopes would only hide what they say.
        "oauth_scopes": ["https://www.googleapis.com/auth/cloud-platform"],
        "shielded_instance_config": {"enable_secure_boot": True, "enable_integrity_monitoring": True},
        "workload_metadata_config": {"mode": "GKE_METADATA"},
        "metadata": {"disable-legacy-endpoints": "true"},
        "kubelet_config": {"insecure_kubelet_readonly_port_enabled": "FALSE"},
        **({"taints": [{"key": taint.key, "value": taint.value, "effect": _EFFECTS[taint.effect]}]} if taint else {}),
    }


def node_pool(
    resource_name: str,
    *,
    project: str,
    cluster: pulumi.Input[str],
    location: pulumi.Input[str],
    name: str,
    machine_type: str,
    nodes: Replicas,
    account: pulumi.Input[str],
    subnet: pulumi.Input[str],
    pods_range: pulumi.Input[str],
    parent: pulumi.Resource,
    taint: Taint | None = None,
) -> container.NodePool:
    """A node pool of private nodes that scales, repairs and upgrades itself.

    `nodes` are per zone. `subnet` is always named: in a cluster with several, GKE would put the pool where most
    addresses are free, and application nodes with it into the gateway's subnet, which has a way to the internet.
    """
    return container.NodePool(
        resource_name,
        project=project,
        cluster=cluster,
        location=location,
        name=name,
        initial_node_count=nodes.min,
        autoscaling=container.NodePoolAutoscalingArgs(min_node_count=nodes.min, max_node_count=nodes.max),
        management=container.NodePoolManagementArgs(auto_repair=True, auto_upgrade=True),
        network_config=container.NodePoolNetworkConfigArgs(
            enable_private_nodes=True,
            subnetwork=pulumi.Output.from_input(subnet).apply(subnet_path),
            pod_range=pods_range,
        ),
        node_config=node_config(machine_type, account, taint),
        # It is the size at the beginning only; a new minimum must not make the pool anew.
        opts=pulumi.ResourceOptions(parent=parent, ignore_changes=["initialNodeCount"]),
    )


def subnet_path(subnet: str) -> str:
    """A subnet's self link as GKE writes it, projects/.../subnetworks/...: in another form it would seem to change."""
    _, projects, path = subnet.partition("projects/")
    return projects + path if projects else subnet
