"""Managed node groups of an EKS cluster: what they have in common, whatever runs on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2, eks

from components.cluster.eks_roles import policy, role, service_trust
from settings.cluster import Taint
from settings.cluster_eks import EksNodes

_EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
"""Of taints: what EKS's API calls what Kubernetes calls so."""

_IMAGES = {"x86_64": "AL2023_x86_64_STANDARD", "arm64": "AL2023_ARM_64_STANDARD"}
_PRIVATE = "private/"


class ZoneError(pulumi.RunError):
    """A node group is to be in a zone that the network does not have."""


@dataclass(kw_only=True)
class EksNodeGroupArgs:
    """Arguments of EksNodeGroup."""

    environment: str
    region: str
    nodes: EksNodes
    group: str
    """The node group's name, by which its nodes are labelled."""

    version: str
    """Kubernetes of the nodes, for example 1.34."""

    cluster: pulumi.Input[str]
    """The cluster's name; known when nodes can become ready, with the add-ons that run on each."""

    subnets: pulumi.Input[Mapping[str, str]]
    """Ids of the subnets, `private/<zone>`."""

    security_group: pulumi.Input[str]
    """Id of the nodes' one security group, by which the network knows what they may reach."""

    taint: Taint | None = None


class EksNodeGroup(pulumi.ComponentResource):
    """A managed node group with a role and a launch template of its own.

    References: EKS, "Customize managed nodes with launch templates", "Amazon EKS node IAM role"; EKS Best Practices,
    "Restrict access to the instance profile assigned to the node".
    """

    group: eks.NodeGroup

    def __init__(self, name: str, args: EksNodeGroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:cluster:EksNodeGroup", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        nodes = args.nodes
        node_role = role(
            f"{name}-role",
            description=f"Nodes of the group {args.group} of {args.environment}",
            trust=service_trust("ec2.amazonaws.com"),
            # The VPC CNI has a role of its own: with its policy here, every pod with the node's network would have it.
            managed=("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"),
            inline={"image-cache": _image_cache(args.environment, args.region)},
            parent=self,
        )
        template = ec2.LaunchTemplate(
            f"{name}-template",
            description=f"Nodes of the group {args.group} of {args.environment}",
            update_default_version=True,
            # This one alone, not the group that EKS makes for a cluster: the load balancer controller adds its rules to
            # a node's one group without asking for a tag.
            vpc_security_group_ids=[args.security_group],
            metadata_options=ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled",
                # Version 2 only, and answers that end on the node: pods cannot have the node's credentials.
                http_tokens="required",
                http_put_response_hop_limit=1,
                instance_metadata_tags="disabled",
            ),
            block_device_mappings=[
                ec2.LaunchTemplateBlockDeviceMappingArgs(
                    device_name="/dev/xvda",
                    ebs=ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                        volume_size=nodes.disk, volume_type="gp3", encrypted="true", delete_on_termination="true"
                    ),
                )
            ],
            # The provider's tags are on the template; what it starts has those that are said here.
            tag_specifications=[
                ec2.LaunchTemplateTagSpecificationArgs(
                    resource_type=kind,
                    tags={"Name": f"{args.environment}-{args.group}", "meshgate.dev/environment": args.environment},
                )
                for kind in ("instance", "volume", "network-interface")
            ],
            opts=child,
        )
        self.group = eks.NodeGroup(
            f"{name}-nodes",
            cluster_name=args.cluster,
            node_group_name=args.group,
            node_role_arn=node_role,
            subnet_ids=private_subnets(args.subnets, nodes.zones, args.group),
            version=args.version,
            ami_type=_IMAGES[nodes.architecture],
            instance_types=list(nodes.instance_types),
            capacity_type="ON_DEMAND",
            launch_template=eks.NodeGroupLaunchTemplateArgs(
                id=template.id, version=template.latest_version.apply(lambda version: str(int(version)))
            ),
            scaling_config=eks.NodeGroupScalingConfigArgs(
                min_size=nodes.nodes.min, max_size=nodes.nodes.max, desired_size=nodes.nodes.min
            ),
            update_config=eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            node_repair_config=eks.NodeGroupNodeRepairConfigArgs(enabled=True),
            taints=[eks.NodeGroupTaintArgs(key=taint.key, value=taint.value, effect=_EFFECTS[taint.effect])]
            if (taint := args.taint)
            else None,
            opts=pulumi.ResourceOptions(
                parent=self,
                # It is the size at the beginning only; an autoscaler's must not be undone.
                ignore_changes=["scalingConfig.desiredSize"],
                # Its name is in its nodes' label: there cannot be two at a time.
                delete_before_replace=True,
            ),
        )
        self.register_outputs({"group": self.group.node_group_name})


def private_subnets(
    subnets: pulumi.Input[Mapping[str, str]], zones: tuple[str, ...], group: str
) -> pulumi.Output[list[str]]:
    """Ids of the private subnets in `zones`, or of all of them.

    Raises ZoneError for a zone without one. Where the network is in the same stack, that is said before: with settings.
    """

    def choose(values: Mapping[str, str]) -> list[str]:
        private = {key.removeprefix(_PRIVATE): subnet for key, subnet in values.items() if key.startswith(_PRIVATE)}
        for zone in zones:
            if zone not in private:
                raise ZoneError(
                    f"node group '{group}' is to be in the zone '{zone}', where the network has no subnet "
                    f"(it has: {', '.join(sorted(private))}); take it out of `zones`, or add it to the network's"
                )
        return [private[zone] for zone in zones or sorted(private)]

    return pulumi.Output.from_input(subnets).apply(choose)


def _image_cache(environment: str, region: str) -> str:
    """What the first pull of an image through the network's caches takes: AWS's policy lets nodes read only."""
    return policy(
        {
            "Effect": "Allow",
            "Action": ["ecr:CreateRepository", "ecr:BatchImportUpstreamImage"],
            "Resource": f"arn:aws:ecr:{region}:*:repository/{environment}/*",
        }
    )
