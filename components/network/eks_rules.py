"""The security groups of an EKS cluster's VPC as plain data.

Each node has exactly one of these groups, as the AWS Load Balancer Controller wants it: it opens the ports that its
load balancers' targets have by itself. The control plane's interfaces have `control_plane` besides the group that EKS
makes, which no rule here speaks of.
Reference: Amazon EKS, "View Amazon EKS security group requirements for clusters".
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal, get_args

from settings.network_eks import EksNetwork

Group = Literal["application", "gateway", "control_plane", "endpoints"]
GROUPS: tuple[Group, ...] = get_args(Group)
NODES: tuple[Group, ...] = ("application", "gateway")
ANYWHERE = IPv4Network("0.0.0.0/0")
WEB = (80, 443)

CALLED_BY_CONTROL_PLANE = (443, 9443, 10250, 15017)
"""Aggregated APIs and webhooks, those of the load balancer controller, the kubelet, istiod's webhooks."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a group; what no rule allows is denied."""

    group: Group
    direction: Literal["ingress", "egress"]
    peer: Group | IPv4Network | Literal["s3"]
    """The other side; S3 by its prefix list."""

    port: int | None
    """TCP; None for every protocol and port."""

    description: str
    """AWS takes no apostrophes here."""

    @property
    def name(self) -> str:
        """Tells the rule from all others."""
        peer = str(self.peer).replace("/", "-").replace("_", "-")
        return f"{self.group.replace('_', '-')}-{self.direction}-{peer}-{self.port or 'all'}"


def rules(settings: EksNetwork) -> tuple[Rule, ...]:
    """The rules that are made. DNS, time and metadata need none: the VPC answers them whatever a group says."""
    made: list[Rule] = []

    def connection(source: Group, destination: Group, port: int | None, description: str) -> None:
        made.append(Rule(group=source, direction="egress", peer=destination, port=port, description=description))
        made.append(Rule(group=destination, direction="ingress", peer=source, port=port, description=description))

    def leave(node: Group, peer: IPv4Network | Group | Literal["s3"], port: int, description: str) -> None:
        made.append(Rule(group=node, direction="egress", peer=peer, port=port, description=description))

    def enter(group: Group, source: IPv4Network, description: str) -> None:
        made.append(Rule(group=group, direction="ingress", peer=source, port=443, description=description))

    for node in NODES:
        for other in NODES:
            # Pods have their nodes' groups: what pods may say to each other is NetworkPolicies' and the mesh's matter.
            connection(node, other, None, "Nodes and pods reach each other")
        connection(node, "control_plane", 443, "Nodes and pods reach the API server")
        for port in dict.fromkeys([*CALLED_BY_CONTROL_PLANE, *settings.webhook_ports]):
            connection("control_plane", node, port, "The API server reaches kubelets and webhooks")
        leave(node, "endpoints", 443, "APIs of AWS, through the VPC endpoints")
        leave(node, "s3", 443, "Layers of images")
        if node == "gateway" or settings.application_egress == "open":
            for port in WEB:
                leave(node, ANYWHERE, port, "The internet")
    enter("endpoints", settings.cidr, "APIs of AWS, for the VPC")
    for client in settings.control_plane_clients:
        enter("control_plane", client, "Clients of the API server outside the cluster")
    return tuple(made)
