"""The security groups as the cloud's resources."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TypedDict

import pulumi
from pulumi_aws import ec2, vpc

from components.network.eks_rules import GROUPS, Group, Rule
from components.network.ordering import after

DESCRIPTIONS: dict[Group, str] = {
    "application": "Application nodes and their pods",
    "gateway": "Gateway nodes and their pods",
    "control_plane": "The interfaces of the control plane",
    "endpoints": "VPC endpoints of AWS APIs",
}


@dataclass(kw_only=True)
class EksSecurityGroupsArgs:
    """Arguments of EksSecurityGroups."""

    environment: str
    """For the tag Name."""

    vpc_id: pulumi.Input[str]
    s3_prefix_list: pulumi.Input[str]
    """Id of the prefix list of S3 in the region."""

    rules: tuple[Rule, ...]


class EksSecurityGroups(pulumi.ComponentResource):
    """The groups, and one resource for each rule of the data: rules that others add to a group stay."""

    ids: dict[Group, pulumi.Output[str]]
    """Known when the rules of every group exist: each connection takes a rule of two of them."""

    rules: list[pulumi.Resource]

    def __init__(self, name: str, args: EksSecurityGroupsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:EksSecurityGroups", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        # The provider gives each a name with a random end: a group that is replaced exists twice for a while.
        groups = {
            group: ec2.SecurityGroup(
                f"{name}-{group.replace('_', '-')}",
                vpc_id=args.vpc_id,
                description=DESCRIPTIONS[group],
                tags={"Name": f"{args.environment}-{group.replace('_', '-')}"},
                opts=child,
            )
            for group in GROUPS
        }
        self.rules = []
        for rule in args.rules:
            kind = vpc.SecurityGroupIngressRule if rule.direction == "ingress" else vpc.SecurityGroupEgressRule
            self.rules.append(
                kind(
                    f"{name}-{rule.name}",
                    security_group_id=groups[rule.group].id,
                    description=rule.description,
                    ip_protocol="tcp" if rule.port else "-1",
                    from_port=rule.port,
                    to_port=rule.port,
                    **_peer(rule, groups, args.s3_prefix_list),
                    opts=child,
                )
            )
        self.ids = {group: after(made.id, *self.rules) for group, made in groups.items()}
        self.register_outputs({"ids": self.ids})


class _Peer(TypedDict, total=False):
    cidr_ipv4: str
    prefix_list_id: pulumi.Input[str]
    referenced_security_group_id: pulumi.Input[str]


def _peer(rule: Rule, groups: dict[Group, ec2.SecurityGroup], s3_prefix_list: pulumi.Input[str]) -> _Peer:
    if isinstance(rule.peer, IPv4Network):
        return {"cidr_ipv4": str(rule.peer)}
    if rule.peer == "s3":
        return {"prefix_list_id": s3_prefix_list}
    return {"referenced_security_group_id": groups[rule.peer].id}
