"""What the firewall's rules let through, found out without a cloud: the rules are evaluated as the cloud does it.

The rules are those of `components.network.firewall`: what the settings declare, what GKE adds by itself, and what every
VPC implies. Reference: Virtual Private Cloud, "VPC firewall rules".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from components.network.firewall import FirewallRule, Traffic, in_order, platform_rules, rules
from settings.addresses import PRIVATE
from settings.errors import SettingsError, from_validation
from settings.network import GOOGLE_APIS, HEALTH_CHECKERS, METADATA_SERVER, GkeNetwork, NetworkSettings
from settings.network_eks import EksNetwork
from verify.errors import VerifyError

Protocol = Literal["tcp", "udp", "icmp", "sctp", "esp", "ah"]


@dataclass(frozen=True)
class Party:
    """One end of a connection."""

    name: str
    address: IPv4Address
    account: str | None = None
    """Whose machine it is, by the account's role; any other name stands for a machine of the VPC with another account,
    and None for what is no machine of the VPC: the firewall decides nothing there."""


@dataclass(frozen=True)
class Decision:
    """What one rule said."""

    allowed: bool
    rule: str


@dataclass(frozen=True)
class Answer:
    """What became of a connection. Its answers come back by themselves: the firewall tracks connections."""

    egress: Decision | None
    """Where it starts; None where that is no machine of the VPC."""

    ingress: Decision | None
    """Where it goes; None likewise."""

    @property
    def allowed(self) -> bool:
        return all(decision.allowed for decision in (self.egress, self.ingress) if decision)

    @property
    def decided_by(self) -> str:
        """The rule that denied it, or those that let it through."""
        decisions = [decision for decision in (self.egress, self.ingress) if decision]
        return ", ".join(
            [decision.rule for decision in decisions if not decision.allowed][:1]
            or [decision.rule for decision in decisions]
        )


class Firewall:
    """Rules in the order in which the cloud asks them."""

    def __init__(self, rules: Iterable[FirewallRule]) -> None:
        self.rules = in_order(rules)

    @classmethod
    def of(cls, settings: GkeNetwork) -> Firewall:
        """The firewall that a network has once its cluster is there."""
        return cls([*rules(settings), *platform_rules(settings)])

    def ask(self, source: Party, target: Party, protocol: Protocol, port: int | None = None) -> Answer:
        """Whether a connection may be made, and by which rules. `port` is None for a protocol that has none."""
        return Answer(
            egress=self._decide("EGRESS", source.account, target.address, protocol, port),
            ingress=self._decide("INGRESS", target.account, source.address, protocol, port),
        )

    def _decide(
        self, direction: str, account: str | None, other: IPv4Address, protocol: Protocol, port: int | None
    ) -> Decision | None:
        if account is None:
            return None
        for rule in self.rules:
            if (
                rule.direction == direction
                and (not rule.targets or account in rule.targets)
                and any(other in cidr for cidr in rule.ranges)
                and any(_covers(traffic, protocol, port) for traffic in rule.traffic)
            ):
                return Decision(rule.action == "ALLOW", rule.name)
        raise AssertionError("the implied rules are for everything")


def _covers(traffic: Traffic, protocol: Protocol, port: int | None) -> bool:
    if traffic.protocol not in ("all", protocol):
        return False
    return not traffic.ports or (port is not None and any(first <= port <= last for first, last in _spans(traffic)))


def _spans(traffic: Traffic) -> Iterator[tuple[int, int]]:
    for ports in traffic.ports:
        first, _, last = ports.partition("-")
        yield int(first), int(last or first)


@dataclass(frozen=True)
class Cell:
    """One question of the matrix and its answer."""

    source: Party
    target: Party
    protocol: Protocol
    port: int | None
    answer: Answer

    @property
    def traffic(self) -> str:
        return f"{self.protocol}/{self.port}" if self.port is not None else self.protocol


INTERNET = IPv4Address("198.51.100.10")
PUBLIC_DNS = IPv4Address("8.8.8.8")


def matrix(settings: GkeNetwork, firewall: Firewall | None = None) -> tuple[Cell, ...]:
    """From each account to everything that matters, and from outside to each account's machines."""
    firewall = firewall or Firewall.of(settings)
    cidrs = settings.cidrs
    own = {
        "application": (cidrs.nodes, cidrs.pods),
        "gateway": (cidrs.gateway.nodes, cidrs.gateway.pods) if cidrs.gateway else (cidrs.nodes, cidrs.pods),
    }
    nodes = {role: Party(f"{role} nodes", _host(cidr), role) for role, (cidr, _) in own.items()}
    pods = {role: Party(f"{role} pods", _host(cidr), role) for role, (_, cidr) in own.items()}
    services = Party("services", _host(cidrs.services))
    control_plane = Party("control plane", _host(cidrs.control_plane))
    internet = Party("internet", INTERNET)
    metadata = Party("metadata server", METADATA_SERVER[0])
    health_checker = Party("health checkers", _host(HEALTH_CHECKERS[1]))

    asked: list[tuple[Party, Party, Protocol, tuple[int | None, ...]]] = []
    for source in pods.values():
        asked += [
            (source, internet, "tcp", (80, 443, 22, 25, 8443)),
            (source, internet, "udp", (443,)),
            (source, internet, "icmp", (None,)),
            *((source, Party("public DNS", PUBLIC_DNS), protocol, (53,)) for protocol in ("udp", "tcp")),
            (source, control_plane, "tcp", (443, 8132, 10250, 22)),
            *((source, target, "tcp", (8080, 15012)) for target in pods.values()),
            *((source, target, "udp", (53,)) for target in pods.values()),
            (source, services, "tcp", (443,)),
            (source, services, "udp", (53,)),
            *((source, target, "tcp", (10250, 10255, 5473, 22)) for target in nodes.values()),
            *((source, Party(f"{name} Google APIs", _host(cidr)), "tcp", (443,)) for name, cidr in GOOGLE_APIS.items()),
            (source, metadata, "tcp", (80,)),
            (source, metadata, "udp", (53,)),
        ]
    for role in own:
        asked += [
            (control_plane, nodes[role], "tcp", (443, 10250, 10255, 22)),
            (control_plane, pods[role], "tcp", (15017,)),
            (health_checker, pods[role], "tcp", (80, 443, 15021)),
            (internet, nodes[role], "tcp", (80, 443, 22, 10250, 10255)),
        ]
    return tuple(
        Cell(source, target, protocol, port, firewall.ask(source, target, protocol, port))
        for source, target, protocol, ports in asked
        for port in ports
    )


def _host(cidr: IPv4Network) -> IPv4Address:
    """An address in the middle of a range, as a machine there might have."""
    return cidr[min(10, cidr.num_addresses // 2)]


NOT_INTERNET = (
    *PRIVATE,
    *GOOGLE_APIS.values(),
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
)


def ways_out(settings: GkeNetwork, account: str, firewall: Firewall | None = None) -> tuple[Cell, ...]:
    """How machines of an account reach the internet, be it at one port of one address; empty when they do not.

    Nothing is missed: a decision can change only where a rule's range of addresses or ports begins or ends, so all
    those places are asked for, and their neighbours.
    """
    firewall = firewall or Firewall.of(settings)
    egress = [rule for rule in firewall.rules if rule.direction == "EGRESS"]
    cidrs = [*NOT_INTERNET, *(cidr for rule in egress for cidr in rule.ranges)]
    edges = {int(cidr[place]) + step for cidr in cidrs for place in (0, -1) for step in (-1, 0, 1)}
    addresses = [IPv4Address(edge) for edge in sorted(edges) if 0 <= edge < 2**32]
    spans = [span for rule in egress for traffic in rule.traffic for span in _spans(traffic)]
    ports = sorted({1, *(edge + step for span in spans for edge in span for step in (-1, 0, 1))} & set(range(65536)))
    source = Party(f"{account} pods", _host(settings.cidrs.pods), account)
    asked: list[tuple[Protocol, int | None]] = [
        *((protocol, port) for protocol in ("tcp", "udp", "sctp") for port in ports),
        *((protocol, None) for protocol in ("icmp", "esp", "ah")),
    ]
    return tuple(
        Cell(source, target, protocol, port, answer)
        for target in (Party("internet", it) for it in addresses if not any(it in cidr for cidr in NOT_INTERNET))
        for protocol, port in asked
        if (answer := firewall.ask(source, target, protocol, port)).allowed
    )


def read_network(stack: str, directory: Path) -> GkeNetwork:
    """The network of a stack, from the stack's file alone: Pulumi and the cloud are not asked.

    Raises VerifyError when there is none, SettingsError with everything that is wrong in it.
    """
    path = directory / f"Pulumi.{stack.rpartition('/')[2]}.yaml"
    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
        section = config["meshgate:network"]
    except FileNotFoundError:
        raise VerifyError(
            f"there is no {path.name} in {directory.absolute()}: name the stack of an environment"
        ) from None
    except (KeyError, TypeError):
        raise VerifyError(f"{path.name} has no meshgate:network: name the stack that holds the layer") from None
    except yaml.YAMLError as error:
        raise VerifyError(f"{path.name} is no YAML: {error}") from None
    try:
        settings = TypeAdapter[GkeNetwork | EksNetwork](NetworkSettings).validate_python(section)
    except ValidationError as error:
        raise SettingsError([it.below("network") for it in from_validation(error, section)]) from None
    if problems := [problem.below("network") for problem in settings.problems()]:
        raise SettingsError(problems)
    if not isinstance(settings, GkeNetwork):
        raise VerifyError(
            f"{path.name} has a network of the kind {settings.kind}, whose nodes have security groups and no firewall; "
            "name a stack with a network of the kind gke"
        )
    return settings


def as_json(stack: str, cells: Sequence[Cell], leaks: Sequence[Cell]) -> str:
    """The document that `--firewall --json` prints."""
    return json.dumps({"stack": stack, "cells": [*map(_row, cells)], "leaks": [*map(_row, leaks)]}, indent=2)


def _row(cell: Cell) -> dict[str, Any]:
    egress, ingress = cell.answer.egress, cell.answer.ingress
    return {
        "source": cell.source.name,
        "target": cell.target.name,
        "address": str(cell.target.address),
        "traffic": cell.traffic,
        "allowed": cell.answer.allowed,
        "egress": egress.rule if egress else None,
        "ingress": ingress.rule if ingress else None,
    }


def print_table(cells: Sequence[Cell], console: Console) -> None:
    """The table that people see: a line for each question, a section for each source."""
    table = Table()
    for name in ("from", "to", "address", "traffic", "", "egress: decided by", "ingress: decided by"):
        table.add_column(name, overflow="fold")
    for before, cell in zip([None, *cells], cells, strict=False):
        if before and before.source.name != cell.source.name:
            table.add_section()
        row = _row(cell)
        table.add_row(
            row["source"],
            row["target"],
            row["address"],
            row["traffic"],
            "[green]allowed[/]" if cell.answer.allowed else "[red]denied[/]",
            row["egress"] or "",
            row["ingress"] or "",
        )
    console.print(table)


def verdict(leaks: Sequence[Cell]) -> str:
    """In one line, whether application nodes reach the internet."""
    if not leaks:
        return "application nodes do not reach the internet"
    shown = {leak.answer.decided_by: leak for leak in reversed(leaks)}
    examples = ", ".join(f"{rule} (for example {it.traffic} to {it.target.address})" for rule, it in shown.items())
    return f"application nodes REACH the internet, by {examples}"
