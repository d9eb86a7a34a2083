"""The firewall's rules as the cloud's resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from components.network.firewall import FirewallRule, Traffic
from settings.network import NodeRole


@dataclass(kw_only=True)
class VpcFirewallArgs:
    """Arguments of VpcFirewall."""

    project: pulumi.Input[str]
    network: pulumi.Input[str]
    """Self link of the VPC."""

    rules: tuple[FirewallRule, ...]
    accounts: Mapping[NodeRole, pulumi.Input[str]]
    """The e-mail address of each role's account."""

    prefix: str
    """Before every rule's name."""

    log_allowed: bool
    log_denied: bool


class VpcFirewall(pulumi.ComponentResource):
    """One VPC firewall rule for each rule of the data."""

    rules: list[compute.Firewall]

    def __init__(self, name: str, args: VpcFirewallArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:VpcFirewall", name, None, opts)
        self.rules = []
        for rule in args.rules:
            ranges = [str(cidr) for cidr in rule.ranges]
            allowed = rule.action == "ALLOW"
            logged = args.log_allowed if allowed else args.log_denied
            self.rules.append(
                compute.Firewall(
                    f"{name}-{rule.name}",
                    project=args.project,
                    network=args.network,
                    name=f"{args.prefix}{rule.name}",
                    description=rule.description,
                    direction=rule.direction,
                    priority=rule.priority,
                    destination_ranges=ranges if rule.direction == "EGRESS" else None,
                    source_ranges=ranges if rule.direction == "INGRESS" else None,
                    allows=[_allow(traffic) for traffic in rule.traffic] if allowed else None,
                    denies=None if allowed else [_deny(traffic) for traffic in rule.traffic],
                    target_service_accounts=[args.accounts[role] for role in rule.targets] or None,
                    log_config=compute.FirewallLogConfigArgs(metadata="INCLUDE_ALL_METADATA") if logged else None,
                    opts=pulumi.ResourceOptions(parent=self),
                )
            )
        self.register_outputs({})


def _allow(traffic: Traffic) -> compute.FirewallAllowArgs:
    return compute.FirewallAllowArgs(protocol=traffic.protocol, ports=list(traffic.ports) or None)


def _deny(traffic: Traffic) -> compute.FirewallDenyArgs:
    return compute.FirewallDenyArgs(protocol=traffic.protocol, ports=list(traffic.ports) or None)
