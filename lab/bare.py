"""The bare control plane: a real API server with its controllers and simulated nodes (kwok), in one machine.

Pods are never run, they are only said to run: enough for the engine's tests and for simulated clouds.
"""

import json
from pathlib import Path

from lab import control_plane, load_balancer, pki
from lab.instance import Instance
from lab.nlb import agent as nlb
from lab.programs import pinned
from lab.service import Service
from lab.topology import CONTROL, NODES, PODS_RANGE

STAGES = Path(__file__).parent / "stages.yaml"


def services(instance: Instance) -> list[list[Service]]:
    """Groups of services, in the order of their start."""
    kwok = pki.kubeconfig(instance, "kwok", "kwok", ["system:masters"])
    return [
        [control_plane.etcd(instance)],
        # No pod answers a webhook here.
        [control_plane.api_server(instance, ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"])],
        [
            *control_plane.controllers(instance),
            Service(
                CONTROL,
                "kwok",
                (
                    *(pinned("kwok"), f"--kubeconfig={kwok}", f"--config={STAGES}"),
                    *("--manage-all-nodes=true", f"--cidr={PODS_RANGE}"),
                ),
                files=(STAGES,),
            ),
            load_balancer.agent(instance, status_only=True),
            nlb.agent(instance, status_only=True),
        ],
    ]


def nodes() -> str:
    """The simulated nodes' manifests: names, labels and taints as in the lab."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node.name,
                "annotations": {"meshgate.dev/address": str(node.address)},  # for stages.yaml
                "labels": {
                    **node.labels,
                    # One set of nodes stands in for those of either cloud.
                    "eks.amazonaws.com/nodegroup": node.pool.name,
                    "kubernetes.io/hostname": node.name,
                    "kubernetes.io/os": "linux",
                },
            },
            "spec": {
                "podCIDR": str(node.pods),
                "podCIDRs": [str(node.pods)],
                "taints": [
                    {"key": key, "value": value, "effect": "NoSchedule"} for key, value in node.pool.taints.items()
                ],
            },
        }
        for node in NODES
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
