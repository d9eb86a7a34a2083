"""The router's rules: the VPC firewall's own data, then what the lab needs besides, then nftables text.

The nodes' rules are those that `verify --firewall` analyses (components.network.firewall), for the lab's ranges: egress
is decided where a packet leaves a node, ingress where it comes to one, in the cloud's order. A packet that no rule lets
through is dropped without an answer, as in a VPC.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import Literal

from components.network.firewall import (
    ANYWHERE,
    LOWEST,
    FirewallRule,
    Traffic,
    in_order,
    platform_rules,
    rules,
)
from lab import topology
from lab.counters import FIREWALL as TABLE
from lab.topology import (
    BALANCER_ADDRESS,
    LOAD_BALANCER_FIRST,
    LOAD_BALANCER_LAST,
    LOAD_BALANCER_RESERVED,
    NAT,
    POOLS,
    ZONES,
)
from settings.network import GkeNetwork, NodeRole

NETWORK = GkeNetwork.model_validate(
    {
        "kind": "gke",
        "cidrs": {
            "nodes": str(topology.NODES_RANGE),
            "pods": str(topology.PODS_RANGE),
            "services": str(topology.SERVICES_RANGE),
            "controlPlane": str(topology.CONTROL_PLANE_RANGE),
            "gateway": None,
        },
        "nat": {"subnets": "all"},
    }
)
"""The lab's network as the document has it: one subnet for both pools."""

ACCOUNTS: dict[str, NodeRole] = {"application": "application", "gateway": "gateway", "open": "application"}
"""The account that a pool's nodes run as. The pool `open` exists in the lab alone: application nodes with one rule
more, OPEN."""

LAB_RULES = (
    FirewallRule(
        name="lab-allow-egress-dns",
        direction="EGRESS",
        action="ALLOW",
        ranges=(IPv4Network(topology.CONTROL_PLANE), IPv4Network(topology.RESOLVER)),
        traffic=(Traffic("udp", ("53",)), Traffic("tcp", ("53",))),
        description="The lab's resolver is in the control machine; GKE's is in pods and at the metadata address",
    ),
    FirewallRule(
        name="lab-allow-egress-registry",
        direction="EGRESS",
        action="ALLOW",
        ranges=(IPv4Network(topology.CONTROL_PLANE),),
        traffic=(Traffic("tcp", (str(topology.REGISTRY_PORT),)),),
        description="Stands for Artifact Registry, which nodes reach at the addresses of Google's APIs",
    ),
    FirewallRule(
        name="lab-allow-egress-vault",
        direction="EGRESS",
        action="ALLOW",
        ranges=(IPv4Network(topology.VAULT_ADDRESS),),
        traffic=(Traffic("tcp", (str(topology.VAULT_PORT),)),),
        description="Workloads fetch their credentials from Vault, which is in the operator's network",
    ),
    FirewallRule(
        name="lab-allow-ingress-shell",
        direction="INGRESS",
        action="ALLOW",
        ranges=(IPv4Network(topology.CONTROL_PLANE),),
        traffic=(Traffic("all"),),
        priority=LOWEST - 1,
        description="People at a shell in the control machine; what the API server may do is decided before",
    ),
)
OPEN = FirewallRule(
    name="lab-open-allow-egress-all",
    direction="EGRESS",
    action="ALLOW",
    ranges=ANYWHERE,
    traffic=(Traffic("all"),),
    priority=0,
    description="Pods of the outbound labs may go straight out",
)


def pool_rules(pool: str) -> tuple[FirewallRule, ...]:
    """The rules for the nodes of a pool, in the order in which they are asked."""
    found = [
        replace(rule, traffic=(Traffic("tcp", (str(topology.API_PORT), "10250")),))
        # The lab's API server listens where the address of its Service leads to, which is not 443.
        if rule.name == "allow-egress-to-api-server"
        else rule
        for rule in [*rules(NETWORK), *platform_rules(NETWORK), *LAB_RULES]
        if not rule.targets or ACCOUNTS[pool] in rule.targets
    ]
    return in_order([*found, *((OPEN,) if pool == "open" else ())])


@dataclass(frozen=True)
class Way:
    """A way between machines that the VPC's rules say nothing about. The first that fits a packet lets it through."""

    name: str
    """Names its counter too."""
    source: str
    """A zone of topology.ZONES."""
    target: str
    why: str
    match: str = ""
    """A further nftables condition."""


WAYS = (
    Way("control-to-internet", "control", "internet", "people at a shell"),
    Way("control-to-google", "control", "google", "people at a shell"),
    Way(
        "google-to-control",
        "google",
        "control",
        "the metadata server asks whose an address is",
        f"tcp dport {topology.API_PORT}",
    ),
    Way("control-to-vault", "control", "vault", "people and Pulumi at a shell", f"tcp dport {topology.VAULT_PORT}"),
    Way("vault-to-control", "vault", "control", "Vault has tokens reviewed", f"tcp dport {topology.API_PORT}"),
    Way("internet-to-internet", "internet", "internet", "not ours to forbid"),
    Way(
        "internet-to-dns",
        "internet",
        "control",
        "the lab has one resolver",
        "meta l4proto { tcp, udp } th dport 53",
    ),
    # A cloud makes rules for these when such a Service is made.
    Way(
        "internet-to-load-balancer",
        "internet",
        "nodes",
        "addresses of Services of type LoadBalancer",
        f"ip daddr {{ {LOAD_BALANCER_RESERVED}, {LOAD_BALANCER_FIRST}-{LOAD_BALANCER_LAST} }}",
    ),
    Way("internet-to-node-port", "internet", "nodes", "Services of type NodePort", "tcp dport 30000-32767"),
    Way("internet-to-balancer", "internet", "balancer", "its virtual address", f"ip daddr {BALANCER_ADDRESS}"),
    Way("control-to-balancer", "control", "balancer", "people at a shell"),
    Way("balancer-to-node-port", "balancer", "nodes", "where it balances to", "tcp dport 30000-32767"),
    # The load balancer's own security group, in its machine, decides on these.
    Way("lab-internet-to-nlb", "internet", "nlb", "public addresses of NLBs", f"ip daddr {topology.NLB_RANGE}"),
    Way("lab-control-to-nlb", "control", "nlb", "people at a shell"),
    # The AWS load balancer controller opens the nodes' security group to an NLB, and for its health checks.
    Way("lab-nlb-to-nodes", "nlb", "nodes", "NLBs reach their targets", "meta l4proto tcp"),
)
PROXIED = 1
"""The mark of connections that a proxying machine began, maybe in a client's name: replies go back to that machine."""
DEFAULT = "default-deny"
"""The counter of packets between other machines than nodes that have no way."""


def render() -> str:
    """The rules as an nftables script that replaces the router's table in one step."""
    names = [
        *(way.name for way in WAYS),
        *(f"{pool.name}/{rule.name}" for pool in POOLS for rule in pool_rules(pool.name)),
        DEFAULT,
    ]
    counters = "".join(f"    counter {name} {{ }}\n" for name in names)
    chains = "".join(_chain(pool.name, direction) for pool in POOLS for direction in DIRECTIONS)
    ways = "".join(f"        {_way(way)}\n" for way in WAYS)
    jumps = "".join(
        f"        {interface} {_zone(pool.name)} jump {_chain_name(pool.name, direction)}\n"
        for direction, (interface, _) in DIRECTIONS.items()
        for pool in POOLS
    )
    return f"""table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
{counters}
{chains}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
{ways}{jumps}        iifname {_zone("nodes")} accept comment "egress is allowed, and ingress where that is a node"
        oifname {_zone("nodes")} accept comment "ingress is allowed"
        counter name "{DEFAULT}" comment "nothing else passes"
    }}
    chain proxied {{
        type filter hook prerouting priority mangle;
        iifname {_zone("nlb")} ct state new ct mark set {PROXIED}
        iifname != {_zone("nlb")} ct mark {PROXIED} meta mark set {PROXIED} comment "its source is not where it goes"
    }}
    chain source-nat {{
        type nat hook postrouting priority srcnat;
        ip saddr 10.0.0.0/8 oifname {_zone("internet", "nlb")} snat to {NAT} comment "the internet sees one address"
    }}
}}
"""


DIRECTIONS: dict[Literal["EGRESS", "INGRESS"], tuple[str, str]] = {
    "EGRESS": ("iifname", "daddr"),
    "INGRESS": ("oifname", "saddr"),
}
"""The router's interface to the node that a rule is for, and where the other side's address is."""


def _chain(pool: str, direction: Literal["EGRESS", "INGRESS"]) -> str:
    # What is allowed returns, to be asked for the other direction.
    _, address = DIRECTIONS[direction]
    lines = "".join(
        f'        {match}counter name "{pool}/{rule.name}" {"return" if rule.action == "ALLOW" else "drop"} '
        f'comment "{rule.description}"\n'
        for rule in pool_rules(pool)
        if rule.direction == direction
        for match in _matches(rule, address)
    )
    return f"    chain {_chain_name(pool, direction)} {{\n{lines}    }}\n"


def _matches(rule: FirewallRule, address: str) -> Iterator[str]:
    where = "" if rule.ranges == ANYWHERE else f"ip {address} {_set(map(str, rule.ranges))} "
    for traffic in rule.traffic:
        if traffic.ports:
            yield f"{where}{traffic.protocol} dport {_set(traffic.ports)} "
        else:
            yield where if traffic.protocol == "all" else f"{where}meta l4proto {traffic.protocol} "


def _way(way: Way) -> str:
    match = f"{way.match} " if way.match else ""
    return (
        f'iifname {_zone(way.source)} oifname {_zone(way.target)} {match}counter name "{way.name}" '
        f'accept comment "{way.why}"'
    )


def _chain_name(pool: str, direction: str) -> str:
    return f"{pool}-{direction.lower()}"


def _zone(*names: str) -> str:
    return _set(f'"{machine}"' for name in names for machine in ZONES[name])


def _set(items: Iterable[str]) -> str:
    return "{ " + ", ".join(items) + " }"
