"""Who may reach an NLB: its security group, as nftables rules of the machine `nlb`.

A packet from elsewhere than loadBalancerSourceRanges, or to a port without a listener, is dropped without an answer.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from pathlib import Path

from lab.counters import SECURITY_GROUPS as TABLE
from lab.counters import listed, nft


@dataclass(frozen=True)
class Group:
    """An NLB's security group."""

    service: str
    """namespace/name"""
    addresses: tuple[IPv4Address, ...]
    ports: tuple[int, ...]
    sources: tuple[IPv4Network, ...]

    @property
    def counter(self) -> str:
        """The name of the counter of dropped packets."""
        return f"nlb-{self.service}"


def render(groups: Iterable[Group], former_counters: Collection[str] = ()) -> str:
    """An nftables script that replaces the rules in one step. Counters go on.

    `former_counters` are those that exist; what of them nobody uses any more is deleted.
    """
    ordered = sorted(groups, key=lambda group: group.service)
    counters = {group.counter for group in ordered}
    rules = "".join(
        f"        ip daddr {_set(group.addresses)} tcp dport {_set(group.ports)}{_from(group.sources)} accept\n"
        f'        ip daddr {_set(group.addresses)} counter name "{group.counter}" drop\n'
        for group in ordered
    )
    declared = "".join(f"    counter {name} {{ }}\n" for name in sorted(counters))
    removed = "".join(f"delete counter ip {TABLE} {name}\n" for name in sorted(set(former_counters) - counters))
    return f"""table ip {TABLE} {{
{declared}    chain security-groups {{
        type filter hook prerouting priority filter; policy drop;
    }}
}}
flush chain ip {TABLE} security-groups
{removed}table ip {TABLE} {{
    chain security-groups {{
        iifname "lo" accept
        # kube-proxy says so of a Service without pods; HAProxy calls such a target without pause until it hears more.
        icmp type destination-unreachable icmp code != frag-needed drop
        ct state established,related accept
{rules}    }}
}}
"""


class Table:
    """The rules in the machine's network namespace. The kernel holds them."""

    def __init__(self, namespace: Path) -> None:
        self.namespace = namespace

    def counters(self) -> dict[str, int]:
        """Dropped packets by the counter's name; empty before the agent's first start."""
        return listed(self.namespace, TABLE)

    def set(self, groups: Iterable[Group]) -> None:
        nft(self.namespace, "--file", "-", text=render(groups, self.counters()))


def _from(sources: Iterable[IPv4Network]) -> str:
    few = list(collapse_addresses(sources))
    return "" if few == [IPv4Network("0.0.0.0/0")] else f" ip saddr {_set(few)}"


def _set(items: Iterable[object]) -> str:
    return "{ " + ", ".join(map(str, items)) + " }"
