"""The router's rules: data first, then nftables text.

They stand for a VPC's firewall: what each node pool may reach outside, and what the internet may reach inside. A
packet that no rule accepts is dropped without an answer, as a VPC does it.
"""

from dataclasses import dataclass
from typing import Literal

from lab.topology import LOAD_BALANCER_FIRST, LOAD_BALANCER_LAST, NAT, ZONES

TABLE = "meshgate"


@dataclass(frozen=True)
class Rule:
    """One rule of the router. The first that matches a new connection decides."""

    name: str
    """Names the rule's counter too."""
    source: str
    """A zone of topology.ZONES."""
    target: str
    verdict: Literal["accept", "drop"]
    why: str
    match: str = ""
    """A further nftables condition."""


RULES = (
    Rule("application-to-internet", "application", "internet", "drop", "application nodes have no way out"),
    Rule("open-to-internet", "open", "internet", "accept", "pods of the outbound labs may go straight out"),
    Rule("gateway-to-internet", "gateway", "internet", "accept", "egress gateways go out"),
    Rule("nodes-to-nodes", "nodes", "nodes", "accept", "pods and services"),
    Rule("nodes-to-control", "nodes", "control", "accept", "API server, DNS, registry"),
    Rule("control-to-nodes", "control", "nodes", "accept", "kubelets, webhooks, people at a shell"),
    Rule("control-to-internet", "control", "internet", "accept", "people at a shell"),
    Rule("nodes-to-google", "nodes", "google", "accept", "Google's APIs and the metadata server"),
    Rule("control-to-google", "control", "google", "accept", "people at a shell"),
    Rule(
        "google-to-control",
        "google",
        "control",
        "accept",
        "the metadata server asks whose an address is",
        "tcp dport 6443",
    ),
    Rule("internet-to-internet", "internet", "internet", "accept", "not ours to forbid"),
    Rule(
        "internet-to-dns",
        "internet",
        "control",
        "accept",
        "the lab has one resolver",
        "meta l4proto { tcp, udp } th dport 53",
    ),
    Rule(
        "internet-to-load-balancer",
        "internet",
        "nodes",
        "accept",
        "addresses of Services of type LoadBalancer",
        f"ip daddr {LOAD_BALANCER_FIRST}-{LOAD_BALANCER_LAST}",
    ),
    Rule("internet-to-node-port", "internet", "nodes", "accept", "Services of type NodePort", "tcp dport 30000-32767"),
)
DEFAULT = "default-deny"
"""The counter of packets that no rule accepted."""


def render(rules: tuple[Rule, ...] = RULES) -> str:
    """The rules as an nftables script that replaces the router's table in one step."""
    counters = "".join(f"    counter {name} {{ }}\n" for name in [*(rule.name for rule in rules), DEFAULT])
    lines = "".join(f"        {_line(rule)}\n" for rule in rules)
    return f"""table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
{counters}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
{lines}        counter name "{DEFAULT}" comment "nothing else passes"
    }}
    chain source-nat {{
        type nat hook postrouting priority srcnat;
        ip saddr 10.0.0.0/8 oifname {_zone("internet")} snat to {NAT} comment "the internet sees one address"
    }}
}}
"""


def _line(rule: Rule) -> str:
    match = f"{rule.match} " if rule.match else ""
    return (
        f'iifname {_zone(rule.source)} oifname {_zone(rule.target)} {match}counter name "{rule.name}" '
        f'{rule.verdict} comment "{rule.why}"'
    )


def _zone(name: str) -> str:
    return "{ " + ", ".join(f'"{machine}"' for machine in ZONES[name]) + " }"
