"""What the AWS Load Balancer Controller may do: the calls of version 3.5 for NLBs of Services, as data.

The controller's own policy (docs/install/iam_policy.json of v3.5.0) is for every cluster, account and kind of load
balancer. Here what it makes and changes bears this cluster's tag, is in one region and account, and is a network load
balancer. It changes nothing of what the chart's values switch off: Ingress (listener rules), Gateway API, WAF, Shield,
Cognito. tests/unit/test_load_balancer_controller.py holds it against the calls of that version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.cluster.eks_roles import policy

CLUSTER_TAG = "elbv2.k8s.aws/cluster"
"""The controller gives it to all that it makes; its value is the cluster's name."""

LOOKS = (
    "ec2:DescribeAccountAttributes",
    "ec2:DescribeAddresses",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeCoipPools",
    "ec2:DescribeInstances",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeIpamPools",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DescribeVpcPeeringConnections",
    "ec2:DescribeVpcs",
    "ec2:GetCoipPoolUsage",
    "ec2:GetSecurityGroupsForVpc",
    "elasticloadbalancing:DescribeCapacityReservation",
    "elasticloadbalancing:DescribeListenerAttributes",
    "elasticloadbalancing:DescribeListenerCertificates",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancerAttributes",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeSSLPolicies",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "elasticloadbalancing:DescribeTrustStores",
    "acm:DescribeCertificate",
    "acm:ListCertificates",
    "iam:GetServerCertificate",
    "iam:ListServerCertificates",
)
"""Calls that change nothing, all that the controller's own policy has. AWS takes no resource for most of them."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the controller works."""

    cluster: str
    region: str
    account: str
    vpc: str
    """Id."""

    node_groups: tuple[str, ...]
    """Ids of the nodes' security groups, to which it adds a rule for each load balancer."""


def document(place: Place) -> str:
    """The policy as JSON."""
    ec2 = f"arn:aws:ec2:{place.region}:{place.account}"
    elb = f"arn:aws:elasticloadbalancing:{place.region}:{place.account}"
    security_groups = f"{ec2}:security-group/*"
    balancers = f"{elb}:loadbalancer/net/*/*"
    listeners = f"{elb}:listener/net/*/*/*"
    target_groups = f"{elb}:targetgroup/*/*"
    asked_for = {"StringEquals": {f"aws:RequestTag/{CLUSTER_TAG}": place.cluster}}
    has_it = {"StringEquals": {f"aws:ResourceTag/{CLUSTER_TAG}": place.cluster}}
    # Tags of what it has, but not the tag that says whose it is.
    keeps_it = {**has_it, "Null": {f"aws:RequestTag/{CLUSTER_TAG}": "true"}}

    def while_making(service: str, *actions: str) -> Mapping[str, Any]:
        return {"StringEquals": {**asked_for["StringEquals"], f"{service}:CreateAction": list(actions)}}

    return policy(
        _allow("Look", LOOKS, "*"),
        _allow(
            "ServiceLinkedRole",
            ["iam:CreateServiceLinkedRole"],
            f"arn:aws:iam::{place.account}:role/aws-service-role/elasticloadbalancing.amazonaws.com/*",
            {"StringEquals": {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"}},
        ),
        # Security groups: one for the clients of each load balancer, one that all of them have towards the nodes.
        _allow("SecurityGroupIn", ["ec2:CreateSecurityGroup"], f"{ec2}:vpc/{place.vpc}"),
        _allow("SecurityGroup", ["ec2:CreateSecurityGroup"], security_groups, asked_for),
        _allow("TagNewSecurityGroup", ["ec2:CreateTags"], security_groups, while_making("ec2", "CreateSecurityGroup")),
        _allow("TagSecurityGroup", ["ec2:CreateTags", "ec2:DeleteTags"], security_groups, keeps_it),
        _allow(
            "RulesOfOwn",
            ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", "ec2:DeleteSecurityGroup"],
            security_groups,
            has_it,
        ),
        _allow(
            "RulesOfNodes",
            ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
            [f"{ec2}:security-group/{group}" for group in place.node_groups],
        ),
        # Load balancers, their listeners and target groups.
        _allow(
            "Make",
            ["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"],
            [balancers, target_groups],
            asked_for,
        ),
        _allow("Listen", ["elasticloadbalancing:CreateListener"], balancers, has_it),
        _allow(
            "TagNew",
            ["elasticloadbalancing:AddTags"],
            [balancers, listeners, target_groups],
            while_making("elasticloadbalancing", "CreateLoadBalancer", "CreateListener", "CreateTargetGroup"),
        ),
        _allow(
            "Tag",
            ["elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"],
            [balancers, listeners, target_groups],
            keeps_it,
        ),
        _allow(
            "Balancer",
            [
                "elasticloadbalancing:DeleteLoadBalancer",
                "elasticloadbalancing:ModifyCapacityReservation",
                "elasticloadbalancing:ModifyLoadBalancerAttributes",
                "elasticloadbalancing:SetIpAddressType",
                "elasticloadbalancing:SetSecurityGroups",
                "elasticloadbalancing:SetSubnets",
            ],
            balancers,
            has_it,
        ),
        _allow(
            "Listener",
            [
                "elasticloadbalancing:AddListenerCertificates",
                "elasticloadbalancing:DeleteListener",
                "elasticloadbalancing:ModifyListener",
                "elasticloadbalancing:ModifyListenerAttributes",
                "elasticloadbalancing:RemoveListenerCertificates",
            ],
            listeners,
            has_it,
        ),
        _allow(
            "Targets",
            [
                "elasticloadbalancing:DeleteTargetGroup",
                "elasticloadbalancing:DeregisterTargets",
                "elasticloadbalancing:ModifyTargetGroup",
                "elasticloadbalancing:ModifyTargetGroupAttributes",
                "elasticloadbalancing:RegisterTargets",
            ],
            target_groups,
            has_it,
        ),
    )


def _allow(
    purpose: str, actions: Iterable[str], resource: str | list[str], condition: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    statement = {"Sid": purpose, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})
