"""The AWS Load Balancer Controller: it makes a network load balancer of a Service, and takes it away again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi_aws import eks
from pulumi_kubernetes.helm.v3 import Release, ReleaseArgs, RepositoryOptsArgs

from components.cluster.eks_roles import SYSTEM_NAMESPACE, Identity, PodIdentity, pod_trust, role
from components.cluster.load_balancer_policy import Place, document
from settings.cluster_eks import LoadBalancerController as LoadBalancerControllerSettings

NAME = "aws-load-balancer-controller"
"""Of the chart, the release, the Deployment and its service account."""

PUBLIC_REGISTRY = "public.ecr.aws"
TIMEOUT_SECONDS = 300


@dataclass(kw_only=True)
class LoadBalancerControllerArgs:
    """Arguments of LoadBalancerController."""

    environment: str
    region: str
    controller: LoadBalancerControllerSettings
    cluster: str
    """The cluster's name."""

    account: pulumi.Input[str]
    """Id of the cluster's account."""

    network: pulumi.Input[str]
    """Id of the VPC."""

    security_groups: pulumi.Input[Mapping[str, str]]
    """Ids of the security groups of `application` and of `gateway` nodes."""

    image_prefixes: pulumi.Input[Mapping[str, str]]
    """By public registry: what stands in an image's name instead of the registry's host."""

    identity: Identity


class LoadBalancerController(pulumi.ComponentResource):
    """The controller's Helm release, with a role of its own. It is for Services that ask for it by their annotations.

    The caller gives the Kubernetes provider; when that may be used, nodes and DNS are there. References: AWS Load
    Balancer Controller, "Installation"; EKS, "EKS Pod Identity".
    """

    release: Release
    """Ready when the controller is."""

    def __init__(self, name: str, args: LoadBalancerControllerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:cluster:LoadBalancerController", name, None, opts)
        groups = pulumi.Output.from_input(args.security_groups)
        prefixes = pulumi.Output.from_input(args.image_prefixes)

        def allowed(values: list[str]) -> str:
            account, network, *node_groups = values
            return document(
                Place(
                    cluster=args.cluster,
                    region=args.region,
                    account=account,
                    vpc=network,
                    node_groups=tuple(node_groups),
                )
            )

        controller_role = role(
            f"{name}-role",
            description=f"AWS Load Balancer Controller of the cluster {args.cluster}",
            trust=pod_trust(args.identity, NAME),
            inline={
                "load-balancers": pulumi.Output.all(
                    args.account, args.network, groups["application"], groups["gateway"]
                ).apply(allowed)
            },
            parent=self,
        )
        by_agent = isinstance(args.identity, PodIdentity)
        # The agent's webhook equips pods as they are made: they must come after the association.
        associations: list[pulumi.Resource] = (
            [
                eks.PodIdentityAssociation(
                    f"{name}-identity",
                    cluster_name=args.cluster,
                    namespace=SYSTEM_NAMESPACE,
                    service_account=NAME,
                    role_arn=controller_role,
                    opts=pulumi.ResourceOptions(parent=self),
                )
            ]
            if by_agent
            else []
        )
        values: dict[str, Any] = {
            "clusterName": args.cluster,
            # Pods cannot ask the metadata service, which answers on the node only.
            "region": args.region,
            "vpcId": args.network,
            "replicaCount": args.controller.replicas,
            "podDisruptionBudget": {"maxUnavailable": 1},
            "image": {"repository": args.controller.image or prefixes.apply(_image)},
            "serviceAccount": {
                "create": True,
                "name": NAME,
                "annotations": {} if by_agent else {"eks.amazonaws.com/role-arn": controller_role},
            },
            "defaultTags": {"meshgate.dev/environment": args.environment},
            # A Service says itself that it wants a network load balancer.
            "enableServiceMutatorWebhook": False,
            # Application load balancers and what belongs to them: the role may not make them either.
            "createIngressClassResource": False,
            "ingressClassParams": {"create": False},
            "disableIngressClassAnnotation": True,
            "controllerConfig": {"featureGates": {"ALBGatewayAPI": False, "NLBGatewayAPI": False}},
            "enableShield": False,
            "enableWaf": False,
            "enableWafv2": False,
        }
        self.release = Release(
            f"{name}-release",
            ReleaseArgs(
                **_source(args.controller),
                name=NAME,
                namespace=SYSTEM_NAMESPACE,
                values=values,
                timeout=TIMEOUT_SECONDS,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=associations),
        )
        self.register_outputs({"release": self.release.name})


def _image(prefixes: Mapping[str, str]) -> str:
    """The image's repository: in the network's cache of the public registry, where it has one."""
    return f"{prefixes.get(PUBLIC_REGISTRY, PUBLIC_REGISTRY)}/eks/{NAME}"


def _source(controller: LoadBalancerControllerSettings) -> dict[str, Any]:
    """The chart: from a repository, or from a directory that holds it."""
    if controller.charts.startswith("oci://"):
        return {"chart": f"{controller.charts}/{NAME}", "version": controller.version}
    if controller.charts.startswith("https://"):
        return {
            "chart": NAME,
            "version": controller.version,
            "repository_opts": RepositoryOptsArgs(repo=controller.charts),
        }
    return {"chart": str(Path(controller.charts).expanduser() / NAME)}
