"""An EKS cluster: private, hardened, with its application nodes, its add-ons and the load balancer controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
import yaml
from pulumi_aws import cloudwatch, eks, iam, kms

from components.cluster.eks_addons import AddOns
from components.cluster.eks_nodes import EksNodeGroup, EksNodeGroupArgs, private_subnets
from components.cluster.eks_roles import Identity, PodIdentity, WebIdentity, role, service_trust
from components.cluster.load_balancer_controller import LoadBalancerController, LoadBalancerControllerArgs
from components.network.ordering import after
from settings.cluster_eks import Access
from settings.cluster_eks import EksCluster as EksClusterSettings

KEY_DELETION_DAYS = 30
"""How long a deleted key can be called back."""

_ACCESS_POLICIES = {
    "cluster-admin": "AmazonEKSClusterAdminPolicy",
    "admin": "AmazonEKSAdminPolicy",
    "edit": "AmazonEKSEditPolicy",
    "view": "AmazonEKSViewPolicy",
}


@dataclass(kw_only=True)
class EksClusterArgs:
    """Arguments of EksCluster."""

    environment: str
    region: str
    cluster: EksClusterSettings

    network: pulumi.Input[str]
    """Id of the VPC. It, the subnets and the security groups are known when routes, endpoints and rules work."""

    subnets: pulumi.Input[Mapping[str, str]]
    """Ids of the subnets, `private/<zone>`."""

    cidrs: pulumi.Input[Mapping[str, str]]
    """`vpc`, where pods have their addresses too."""

    security_groups: pulumi.Input[Mapping[str, str]]
    """Ids of the groups of the `control_plane`, and of `application` and `gateway` nodes."""

    image_prefixes: pulumi.Input[Mapping[str, str]]
    """By public registry: what stands in an image's name instead of the registry's host."""

    protect: bool
    """Whether Pulumi refuses to delete the cluster and the key of its Secrets."""


class EksCluster(pulumi.ComponentResource):
    """The cluster; its kubeconfig is known when workloads can run and Services get load balancers.

    On the way down the controller is thus there until the last Service is gone, and nodes until the controller is.
    Sources: EKS Best Practices, "Security"; EKS user guide.
    """

    identifier: pulumi.Output[str]
    """arn:aws:eks:...:cluster/..."""

    kubeconfig: pulumi.Output[str]
    """YAML with one context; credentials come from `aws eks get-token` on the machine that uses it; secret."""

    pod_cidr: pulumi.Output[str]
    service_cidr: pulumi.Output[str]
    name: pulumi.Output[str]
    """Known when nodes can become ready."""

    location: pulumi.Output[str]

    def __init__(self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:cluster:EksCluster", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.cluster
        groups = pulumi.Output.from_input(args.security_groups)

        cluster = self._control_plane(name, args)
        administrators = [
            resource
            for principal in dict.fromkeys(access.principal for access in settings.access)
            for resource in self._access(name, cluster, principal, settings.access)
        ]
        identity = self._identity(name, cluster, settings)
        add_ons = AddOns(name=f"{name}-add-on", cluster=cluster.name, settings=settings, identity=identity, parent=self)
        self.name = after(cluster.name, *add_ons.on_every_node())
        application = EksNodeGroup(
            f"{name}-application",
            EksNodeGroupArgs(
                environment=args.environment,
                region=args.region,
                nodes=settings.application_nodes,
                group=settings.application_nodes.name,
                version=settings.version,
                cluster=self.name,
                subnets=args.subnets,
                security_group=groups["application"],
            ),
            opts=child,
        )
        reachable: pulumi.Output[str] = after(
            _kubeconfig(cluster, args.region),
            application.group,
            *add_ons.on_some_nodes(application.group),
            *administrators,
        )
        kubeconfig: pulumi.Output[str] = pulumi.Output.secret(reachable)
        # Layers above use one of their own: it is known only when this one has done its work.
        provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=kubeconfig,
            cluster_identifier=cluster.arn,
            enable_server_side_apply=True,
            opts=child,
        )
        controller = LoadBalancerController(
            f"{name}-load-balancers",
            LoadBalancerControllerArgs(
                environment=args.environment,
                region=args.region,
                controller=settings.load_balancer_controller,
                cluster=settings.name,
                account=cluster.arn.apply(lambda arn: arn.split(":")[4]),
                network=args.network,
                security_groups=args.security_groups,
                image_prefixes=args.image_prefixes,
                identity=identity,
            ),
            opts=pulumi.ResourceOptions(parent=self, providers=[provider]),
        )

        self.identifier = cluster.arn
        self.kubeconfig = after(kubeconfig, controller.release)
        self.pod_cidr = pulumi.Output.from_input(args.cidrs)["vpc"]
        self.service_cidr = pulumi.Output.from_input(str(settings.service_cidr))
        self.location = pulumi.Output.from_input(args.region)
        self.register_outputs(
            {
                "identifier": self.identifier,
                "kubeconfig": self.kubeconfig,
                "podCidr": self.pod_cidr,
                "serviceCidr": self.service_cidr,
                "name": self.name,
                "location": self.location,
            }
        )

    def _control_plane(self, name: str, args: EksClusterArgs) -> eks.Cluster:
        child = pulumi.ResourceOptions(parent=self)
        settings = args.cluster
        key = kms.Key(
            f"{name}-secrets",
            description=f"Secrets of the EKS cluster {settings.name}",
            enable_key_rotation=True,
            deletion_window_in_days=KEY_DELETION_DAYS,
            # Without it, the cluster's data cannot be read.
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        kms.Alias(f"{name}-secrets-alias", name=f"alias/eks/{settings.name}", target_key_id=key.key_id, opts=child)
        logs = cloudwatch.LogGroup(
            f"{name}-logs",
            # EKS would make it itself, keep all for ever, and leave it there.
            name=f"/aws/eks/{settings.name}/cluster",
            retention_in_days=settings.logs.retention_days,
            opts=child,
        )
        cluster_role = role(
            f"{name}-role",
            description=f"Control plane of the EKS cluster {settings.name}",
            trust=service_trust("eks.amazonaws.com"),
            managed=("AmazonEKSClusterPolicy",),
            parent=self,
        )
        endpoint = settings.endpoint
        return eks.Cluster(
            f"{name}-cluster",
            name=settings.name,
            version=settings.version,
            role_arn=cluster_role,
            access_config=eks.ClusterAccessConfigArgs(
                authentication_mode="API",
                bootstrap_cluster_creator_admin_permissions=settings.creator_is_administrator,
            ),
            # They are add-ons here, with versions and settings.
            bootstrap_self_managed_addons=False,
            deletion_protection=settings.deletion_protection,
            enabled_cluster_log_types=list(settings.logs.types),
            encryption_config=eks.ClusterEncryptionConfigArgs(
                provider=eks.ClusterEncryptionConfigProviderArgs(key_arn=key.arn), resources=["secrets"]
            ),
            kubernetes_network_config=eks.ClusterKubernetesNetworkConfigArgs(
                ip_family="ipv4", service_ipv4_cidr=str(settings.service_cidr)
            ),
            upgrade_policy=eks.ClusterUpgradePolicyArgs(support_type=settings.upgrade_policy),
            vpc_config=eks.ClusterVpcConfigArgs(
                subnet_ids=private_subnets(args.subnets, (), settings.name),
                security_group_ids=[pulumi.Output.from_input(args.security_groups)["control_plane"]],
                endpoint_private_access=True,
                endpoint_public_access=endpoint.public,
                public_access_cidrs=[str(cidr) for cidr in endpoint.allowed] if endpoint.public else None,
            ),
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect, depends_on=[logs]),
        )

    def _access(
        self, name: str, cluster: eks.Cluster, principal: str, access: tuple[Access, ...]
    ) -> list[pulumi.Resource]:
        """What one principal may do."""
        child = pulumi.ResourceOptions(parent=self)
        label = f"{name}-access-{principal.removeprefix('arn:aws:iam::')}"
        entry = eks.AccessEntry(label, cluster_name=cluster.name, principal_arn=principal, type="STANDARD", opts=child)
        return [
            eks.AccessPolicyAssociation(
                f"{label}-{one.policy}",
                cluster_name=cluster.name,
                principal_arn=entry.principal_arn,
                policy_arn=f"arn:aws:eks::aws:cluster-access-policy/{_ACCESS_POLICIES[one.policy]}",
                access_scope=eks.AccessPolicyAssociationAccessScopeArgs(
                    type="namespace", namespaces=list(one.namespaces)
                )
                if one.namespaces
                else eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
                opts=child,
            )
            for one in access
            if one.principal == principal
        ]

    def _identity(self, name: str, cluster: eks.Cluster, settings: EksClusterSettings) -> Identity:
        """How pods of the system get roles."""
        if settings.identity == "pod-identity":
            return PodIdentity(cluster=settings.name)
        issuer = cluster.identities.apply(lambda identities: str(identities[0].oidcs[0].issuer))
        provider = iam.OpenIdConnectProvider(
            f"{name}-issuer",
            url=issuer,
            client_id_lists=["sts.amazonaws.com"],
            opts=pulumi.ResourceOptions(parent=self),
        )
        return WebIdentity(provider=provider.arn, issuer=issuer)


def _kubeconfig(cluster: eks.Cluster, region: str) -> pulumi.Output[str]:
    """A kubeconfig without credentials: the AWS CLI fetches a short-lived token where it is used."""

    def render(values: list[str]) -> str:
        name, endpoint, trust = values
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": trust}}],
                "users": [
                    {
                        "name": name,
                        "user": {
                            "exec": {
                                "apiVersion": "client.authentication.k8s.io/v1beta1",
                                "command": "aws",
                                "args": [
                                    *("eks", "get-token", "--cluster-name", name),
                                    *("--region", region, "--output", "json"),
                                ],
                                "installHint": "Install the AWS CLI, version 2: "
                                "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
                                "interactiveMode": "Never",
                            }
                        },
                    }
                ],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "current-context": name,
            }
        )

    trust = cluster.certificate_authority.apply(lambda authority: authority.data)
    return pulumi.Output.all(cluster.name, cluster.endpoint, trust).apply(render)
