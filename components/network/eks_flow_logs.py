"""The VPC's flow logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch, ec2, iam

from settings.network_eks import FlowLogs

TRAFFIC: Mapping[str, str] = {"all": "ALL", "accepted": "ACCEPT", "rejected": "REJECT"}
AGGREGATION_SECONDS = 600


@dataclass(kw_only=True)
class EksFlowLogsArgs:
    """Arguments of EksFlowLogs."""

    environment: str
    vpc_id: pulumi.Input[str]
    account: pulumi.Input[str]
    """Id of the VPC's account."""

    flow_logs: FlowLogs


class EksFlowLogs(pulumi.ComponentResource):
    """A log group, and the role that the VPC's flow logs write to it with.

    Reference: Amazon VPC, "IAM role for publishing flow logs to CloudWatch Logs".
    """

    def __init__(self, name: str, args: EksFlowLogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:EksFlowLogs", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        group = cloudwatch.LogGroup(
            f"{name}-group",
            name=f"/meshgate/{args.environment}/flow-logs",
            retention_in_days=args.flow_logs.retention_days,
            opts=child,
        )
        role = iam.Role(
            f"{name}-role",
            description="Writes the flow logs of the VPC",
            assume_role_policy=pulumi.Output.json_dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                            # Or anybody's flow logs could write here with it.
                            "Condition": {"StringEquals": {"aws:SourceAccount": args.account}},
                        }
                    ],
                }
            ),
            opts=child,
        )
        policy = iam.RolePolicy(
            f"{name}-policy",
            role=role.name,
            # It may not make log groups: what comes late after a destroy would leave one behind.
            policy=pulumi.Output.json_dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": [
                                "logs:CreateLogStream",
                                "logs:DescribeLogGroups",
                                "logs:DescribeLogStreams",
                                "logs:PutLogEvents",
                            ],
                            "Resource": pulumi.Output.concat(group.arn, ":*"),
                        }
                    ],
                }
            ),
            opts=child,
        )
        ec2.FlowLog(
            f"{name}-log",
            vpc_id=args.vpc_id,
            traffic_type=TRAFFIC[args.flow_logs.traffic],
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=AGGREGATION_SECONDS,
            tags={"Name": f"{args.environment}-flow-logs"},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
        self.register_outputs({})
