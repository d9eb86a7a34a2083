"""The VPC's firewall as plain data: the rules that the settings ask for, and those that the cloud has by itself.

The same data makes the cloud's rules, the reachability analysis (verify.firewall) and the lab's router (lab.firewall).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal

from settings.network import HEALTH_CHECKERS, METADATA_SERVER, ExtraRule, GkeNetwork, NodeRole

NODES: tuple[NodeRole, ...] = ("application", "gateway")
ANYWHERE = (IPv4Network("0.0.0.0/0"),)
LOWEST = 65535
"""The priority that everything else goes before."""


@dataclass(frozen=True)
class Traffic:
    """A protocol and its ports."""

    protocol: Literal["all", "tcp", "udp", "icmp", "sctp", "esp", "ah"]
    ports: tuple[str, ...] = ()
    """Ports and ranges of ports (`8000-9000`); all when empty."""


@dataclass(frozen=True, kw_only=True)
class FirewallRule:
    """One rule, as the cloud understands it."""

    name: str
    direction: Literal["EGRESS", "INGRESS"]
    action: Literal["ALLOW", "DENY"]
    ranges: tuple[IPv4Network, ...]
    """The other side: destinations of egress, sources of ingress."""

    traffic: tuple[Traffic, ...]
    priority: int = 1000
    """The smallest number decides; at the same priority deny goes before allow."""

    targets: tuple[NodeRole, ...] = ()
    """The accounts of the machines that it is for; every machine of the VPC when empty."""

    description: str


def in_order(rules: Iterable[FirewallRule]) -> tuple[FirewallRule, ...]:
    """The rules as the cloud asks them: by priority, at the same priority those that deny before those that allow."""
    return tuple(sorted(rules, key=lambda rule: (rule.priority, rule.action != "DENY")))


def rules(settings: GkeNetwork) -> tuple[FirewallRule, ...]:
    """The rules that are made, in the document's order and with its names and values where it has them.

    With `hardened`, what the document allows every machine of the VPC is allowed the two node accounts alone. What it
    denies every machine stays so, unless the VPC is an adopted one.
    """
    cidrs, firewall = settings.cidrs, settings.firewall
    everyone = NODES if firewall.hardened else ()

    def allow_egress(
        name: str, ranges: tuple[IPv4Network, ...], traffic: Traffic, description: str, targets: tuple[NodeRole, ...]
    ) -> FirewallRule:
        return FirewallRule(
            name=name,
            direction="EGRESS",
            action="ALLOW",
            ranges=ranges,
            traffic=(traffic,),
            targets=targets,
            description=description,
        )

    def allow_ingress(name: str, ranges: tuple[IPv4Network, ...], traffic: Traffic, description: str) -> FirewallRule:
        return FirewallRule(
            name=name,
            direction="INGRESS",
            action="ALLOW",
            ranges=ranges,
            traffic=(traffic,),
            targets=everyone,
            description=description,
        )

    made = [
        FirewallRule(
            name="global-deny-egress-all",
            direction="EGRESS",
            action="DENY",
            ranges=ANYWHERE,
            traffic=(Traffic("all"),),
            priority=LOWEST,
            targets=NODES if settings.adopt_vpc else (),
            description="Default rule to deny all egress from the network.",
        ),
        allow_egress(
            "gateway-allow-egress-web",
            ANYWHERE,
            Traffic("tcp", ("80", "443")),
            "Allow the nodes running the egress gateways to connect to the web",
            ("gateway",),
        ),
        allow_egress(
            "allow-egress-to-api-server",
            (cidrs.control_plane,),
            Traffic("tcp", ("443", "10250")),
            "Allow nodes to reach the Kubernetes API server.",
            everyone,
        ),
        # The document's control plane called the nodes; today agents on the nodes (konnectivity) call it instead.
        allow_egress(
            "allow-egress-konnectivity",
            (cidrs.control_plane,),
            Traffic("tcp", ("8132",)),
            "Allow the agents through which the API server reaches nodes (exec, logs, webhooks) to connect to it",
            everyone,
        ),
        allow_egress(
            "allow-egress-pods-and-services",
            (*cidrs.all_pods, cidrs.services),
            Traffic("all"),
            "Allow pods and services on nodes to reach each other",
            everyone,
        ),
        # For the same agents: they call the kubelets of other nodes.
        allow_egress(
            "allow-egress-kubelet",
            cidrs.all_nodes,
            Traffic("tcp", ("10250",)),
            "Allow metrics and the API server's agents to reach the kubelets within the subnets",
            everyone,
        ),
        allow_egress(
            "allow-egress-gcp-apis",
            (settings.google_apis_cidr,),
            Traffic("tcp"),
            "Allow access to the VIPs used by Google Cloud APIs (Private Google Access)",
            everyone,
        ),
        allow_ingress(
            "allow-ingress-gcp-health-checker",
            HEALTH_CHECKERS,
            Traffic("tcp", ("80", "443")),
            "Allow workloads to respond to Google Cloud health checks",
        ),
    ]
    if firewall.in_cluster_istiod:
        made.append(
            allow_ingress(
                "allow-ingress-api-server-to-webhook",
                (cidrs.control_plane,),
                Traffic("tcp", ("15017",)),
                "Allow the API server to call the webhooks exposed by istiod discovery",
            )
        )
    if cidrs.gateway:
        # GKE's own rules are sure to cover the subnet that the cluster was made with, and no other.
        made.append(
            allow_ingress(
                "allow-ingress-nodes-and-pods",
                (*cidrs.all_nodes, *cidrs.all_pods),
                Traffic("all"),
                "Allow nodes and pods of the cluster's subnets to reach each other",
            )
        )
    if firewall.calico:
        made.append(
            allow_egress(
                "allow-egress-calico",
                cidrs.all_nodes,
                Traffic("tcp", ("5473",)),
                "Allow Calico Typha within the subnet",
                everyone,
            )
        )
    if firewall.kubelet_readonly:
        made.append(
            allow_egress(
                "allow-egress-kubelet-readonly",
                cidrs.all_nodes,
                Traffic("tcp", ("10255",)),
                "Allow access to the kubelet read-only port within the subnet",
                everyone,
            )
        )
    return (*made, *map(_extra, firewall.rules))


def _extra(rule: ExtraRule) -> FirewallRule:
    return FirewallRule(
        name=rule.name,
        direction="EGRESS" if rule.direction == "egress" else "INGRESS",
        action="ALLOW" if rule.action == "allow" else "DENY",
        ranges=rule.ranges,
        traffic=(Traffic(rule.protocol, rule.ports),),
        priority=rule.priority,
        targets=rule.targets,
        description=rule.description,
    )


ALWAYS_ALLOWED = FirewallRule(
    name="always-allowed-metadata-server",
    direction="EGRESS",
    action="ALLOW",
    ranges=(METADATA_SERVER,),
    traffic=(Traffic("all"),),
    priority=-1,
    description="DHCP, DNS, NTP and metadata of the machine itself: no rule can forbid them",
)

IMPLIED = (
    FirewallRule(
        name="implied-allow-egress",
        direction="EGRESS",
        action="ALLOW",
        ranges=ANYWHERE,
        traffic=(Traffic("all"),),
        priority=LOWEST,
        description="Every VPC allows egress that no rule denies",
    ),
    FirewallRule(
        name="implied-deny-ingress",
        direction="INGRESS",
        action="DENY",
        ranges=ANYWHERE,
        traffic=(Traffic("all"),),
        priority=LOWEST,
        description="Every VPC denies ingress that no rule allows",
    ),
)


def platform_rules(settings: GkeNetwork) -> tuple[FirewallRule, ...]:
    """The rules that nobody declares: the VPC's implied ones and those that GKE makes with a private cluster.

    GKE's names carry the cluster's name and a hash; here they are `gke-` and the last part. They are for the cluster's
    nodes, told by a tag, which are those of the two node accounts. Their sources are taken to be those of the cluster's
    first subnet alone.
    Reference: Google Kubernetes Engine, "Automatically created firewall rules".
    """
    cidrs = settings.cidrs

    def ingress(
        name: str,
        ranges: tuple[IPv4Network, ...],
        traffic: tuple[Traffic, ...],
        description: str,
        *,
        action: Literal["ALLOW", "DENY"] = "ALLOW",
        priority: int = 1000,
    ) -> FirewallRule:
        return FirewallRule(
            name=name,
            direction="INGRESS",
            action=action,
            ranges=ranges,
            traffic=traffic,
            priority=priority,
            targets=NODES,
            description=description,
        )

    return (
        ALWAYS_ALLOWED,
        ingress(
            "gke-master",
            (cidrs.control_plane,),
            (Traffic("tcp", ("443", "10250")),),
            "The control plane calls kubelets and the metrics server",
        ),
        ingress(
            "gke-vms",
            (cidrs.nodes,),
            (Traffic("tcp", ("1-65535",)), Traffic("udp", ("1-65535",)), Traffic("icmp")),
            "Nodes call nodes and pods",
        ),
        ingress(
            "gke-all",
            (cidrs.pods,),
            tuple(Traffic(protocol) for protocol in ("tcp", "udp", "sctp", "icmp", "esp", "ah")),
            "Pods call pods and nodes",
        ),
        ingress(
            "gke-inkubelet",
            (cidrs.nodes, cidrs.pods),
            (Traffic("tcp", ("10255",)),),
            "The kubelet's read-only port, within the cluster",
            priority=999,
        ),
        ingress(
            "gke-exkubelet",
            ANYWHERE,
            (Traffic("tcp", ("10255",)),),
            "The kubelet's read-only port, from elsewhere",
            action="DENY",
        ),
        *IMPLIED,
    )
