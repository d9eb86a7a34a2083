"""AWS's APIs inside the VPC, for nodes that have no way to the internet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_aws import ec2

from settings.network_eks import EksNetwork

NEEDED = ("ec2", "ecr.api", "ecr.dkr", "sts")
"""Of every node: it joins, pulls images, gets addresses for its pods, and pods get credentials."""
NEEDED_CLOSED = ("eks", "eks-auth", "elasticloadbalancing", "logs")
"""Of nodes without a way out: Pod Identity, the load balancer controller, what agents write."""


def services(settings: EksNetwork) -> tuple[str, ...]:
    """The services with an interface endpoint, by the last part of their names."""
    closed = NEEDED_CLOSED if settings.application_egress == "closed" else ()
    return tuple(dict.fromkeys([*NEEDED, *closed, *settings.endpoints]))


@dataclass(kw_only=True)
class EksEndpointsArgs:
    """Arguments of EksEndpoints."""

    environment: str
    """For the tag Name."""

    region: str
    vpc_id: pulumi.Input[str]
    services: tuple[str, ...]
    subnets: Sequence[pulumi.Input[str]]
    """Ids: one in each zone."""

    security_group: pulumi.Input[str]
    """Id."""


class EksEndpoints(pulumi.ComponentResource):
    """An interface endpoint for each service: inside the VPC the service's own name leads there."""

    endpoints: list[ec2.VpcEndpoint]

    def __init__(self, name: str, args: EksEndpointsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:EksEndpoints", name, None, opts)
        self.endpoints = [
            ec2.VpcEndpoint(
                f"{name}-{service.replace('.', '-')}",
                vpc_id=args.vpc_id,
                vpc_endpoint_type="Interface",
                service_name=f"com.amazonaws.{args.region}.{service}",
                subnet_ids=args.subnets,
                security_group_ids=[args.security_group],
                private_dns_enabled=True,
                tags={"Name": f"{args.environment}-{service.replace('.', '-')}"},
                opts=pulumi.ResourceOptions(parent=self),
            )
            for service in args.services
        ]
        self.register_outputs({})


def s3_policy(buckets: Literal["own", "any"], account: pulumi.Input[str], region: str) -> pulumi.Output[str]:
    """What one reaches through the endpoint of S3: the account's own buckets and the layers of images in ECR, or all.

    `any` is written out too: taken away, a policy would stay as it was.
    """

    def allow(sid: str, action: str, resource: str, **further: object) -> dict[str, object]:
        return {"Sid": sid, "Effect": "Allow", "Principal": "*", "Action": action, "Resource": resource, **further}

    statements = {
        "any": [allow("AnyBucket", "*", "*")],
        "own": [
            allow("OwnBuckets", "s3:*", "*", Condition={"StringEquals": {"aws:ResourceAccount": account}}),
            allow("ImageLayers", "s3:GetObject", f"arn:aws:s3:::prod-{region}-starport-layer-bucket/*"),
        ],
    }
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": statements[buckets]})
