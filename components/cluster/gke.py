"""A GKE cluster: private, VPC-native and hardened, with its application node pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import yaml
from pulumi_gcp import container

from components.cluster.gke_nodes import node_config, node_pool, subnet_path
from components.network.ordering import after
from settings.cluster import ControlPlane
from settings.cluster import GkeCluster as GkeClusterSettings


@dataclass(kw_only=True)
class GkeClusterArgs:
    """Arguments of GkeCluster."""

    project: str
    cluster: GkeClusterSettings

    network: pulumi.Input[str]
    """Self link of the VPC. It, the subnets and the account are known when firewall, NAT and names work."""

    subnets: pulumi.Input[Mapping[str, str]]
    """Self links of the subnets `nodes` and, with one of its own, `gateway`."""

    ranges: pulumi.Input[Mapping[str, str]]
    """Names of their secondary ranges `pods`, `services` and `gateway_pods`."""

    cidrs: pulumi.Input[Mapping[str, str]]
    """`pods`, `services` and `control_plane`, a /28."""

    node_account: pulumi.Input[str]
    """E-mail address of the application nodes' account."""

    protect: bool
    """Whether Pulumi refuses to delete the cluster."""


class GkeCluster(pulumi.ComponentResource):
    """The cluster and its application pool; its kubeconfig is known when that has nodes, so that workloads can run.

    Sources: "Use Anthos Service Mesh egress gateways on GKE clusters"; GKE, "Harden your cluster's security".
    """

    identifier: pulumi.Output[str]
    """projects/.../locations/.../clusters/..."""

    kubeconfig: pulumi.Output[str]
    """YAML with one context; credentials come from `gke-gcloud-auth-plugin` on the machine that uses it; secret."""

    pod_cidr: pulumi.Output[str]
    service_cidr: pulumi.Output[str]
    name: pulumi.Output[str]
    location: pulumi.Output[str]

    def __init__(self, name: str, args: GkeClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:cluster:GkeCluster", name, None, opts)
        settings, pool = args.cluster, args.cluster.application_pool
        subnets, ranges, cidrs = (
            pulumi.Output.from_input(values) for values in (args.subnets, args.ranges, args.cidrs)
        )

        cluster = container.Cluster(
            f"{name}-cluster",
            project=args.project,
            name=settings.name,
            location=settings.location,
            release_channel=container.ClusterReleaseChannelArgs(channel=settings.release_channel),
            deletion_protection=settings.deletion_protection,
            network=args.network,
            subnetwork=subnets["nodes"],
            networking_mode="VPC_NATIVE",
            ip_allocation_policy=container.ClusterIpAllocationPolicyArgs(
                cluster_secondary_range_name=ranges["pods"],
                services_secondary_range_name=ranges["services"],
                additional_ip_ranges_configs=pulumi.Output.all(subnets, ranges).apply(
                    lambda both: _additional_ranges(*both)
                ),
            ),
            # It enforces NetworkPolicies by itself.
            datapath_provider="ADVANCED_DATAPATH",
            private_cluster_config=container.ClusterPrivateClusterConfigArgs(
                enable_private_nodes=True,
                enable_private_endpoint=not settings.control_plane.public,
                master_ipv4_cidr_block=cidrs["control_plane"],
            ),
            master_authorized_networks_config=_authorized_networks(settings.control_plane),
            control_plane_endpoints_config=container.ClusterControlPlaneEndpointsConfigArgs(
                dns_endpoint_config=container.ClusterControlPlaneEndpointsConfigDnsEndpointConfigArgs(
                    allow_external_traffic=settings.control_plane.dns_endpoint
                ),
                # Nodes use it.
                ip_endpoints_config=container.ClusterControlPlaneEndpointsConfigIpEndpointsConfigArgs(enabled=True),
            ),
            workload_identity_config=container.ClusterWorkloadIdentityConfigArgs(
                workload_pool=f"{args.project}.svc.id.goog"
            ),
            enable_shielded_nodes=True,
            enable_legacy_abac=False,
            # Nobody without a name but health checks, and no new grants to everybody.
            anonymous_authentication_config=container.ClusterAnonymousAuthenticationConfigArgs(mode="LIMITED"),
            rbac_binding_config=container.ClusterRbacBindingConfigArgs(
                enable_insecure_binding_system_authenticated=False,
                enable_insecure_binding_system_unauthenticated=False,
            ),
            logging_config=container.ClusterLoggingConfigArgs(enable_components=["SYSTEM_COMPONENTS", "WORKLOADS"]),
            monitoring_config=container.ClusterMonitoringConfigArgs(
                enable_components=["SYSTEM_COMPONENTS"],
                managed_prometheus=container.ClusterMonitoringConfigManagedPrometheusArgs(enabled=True),
            ),
            node_pool_defaults=container.ClusterNodePoolDefaultsArgs(
                node_config_defaults=container.ClusterNodePoolDefaultsNodeConfigDefaultsArgs(
                    insecure_kubelet_readonly_port_enabled="FALSE"
                )
            ),
            # A cluster begins with a default pool; it goes at once, but its node is one of ours while it is there.
            remove_default_node_pool=True,
            initial_node_count=1,
            node_config=node_config(pool.machine_type, args.node_account),
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protect,
                # nodeConfig is of the default pool, which is gone: GKE shows another pool's there, and a difference
                # would replace the cluster. fleet appears when a managed mesh registers the cluster: that it is not
                # here must not take the cluster out again.
                ignore_changes=["nodeConfig", "fleet"],
            ),
        )
        application = node_pool(
            f"{name}-application",
            project=args.project,
            cluster=cluster.name,
            location=cluster.location,
            name=pool.name,
            machine_type=pool.machine_type,
            nodes=pool.nodes,
            account=args.node_account,
            subnet=subnets["nodes"],
            pods_range=ranges["pods"],
            parent=self,
        )

        self.identifier = cluster.id
        self.name = cluster.name
        self.location = cluster.location
        self.pod_cidr = cidrs["pods"]
        self.service_cidr = cidrs["services"]
        self.kubeconfig = pulumi.Output.secret(
            after(_kubeconfig(cluster, by_name=settings.control_plane.dns_endpoint), application)
        )
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


def _additional_ranges(subnets: Mapping[str, str], ranges: Mapping[str, str]) -> list[dict[str, Any]]:
    """The gateway pool's subnet, where it has one of its own: a node pool may use it only when the cluster knows it."""
    if "gateway" not in subnets:
        return []
    return [{"subnetwork": subnet_path(subnets["gateway"]), "pod_ipv4_range_names": [ranges["gateway_pods"]]}]


def _authorized_networks(control_plane: ControlPlane) -> container.ClusterMasterAuthorizedNetworksConfigArgs:
    return container.ClusterMasterAuthorizedNetworksConfigArgs(
        cidr_blocks=[
            container.ClusterMasterAuthorizedNetworksConfigCidrBlockArgs(
                display_name=network.name, cidr_block=str(network.cidr)
            )
            for network in control_plane.authorized_networks
        ],
        # Else every machine in Google Cloud, whosever it is, could reach the public address.
        gcp_public_cidrs_access_enabled=False,
        private_endpoint_enforcement_enabled=True,
    )


def _kubeconfig(cluster: container.Cluster, *, by_name: bool) -> pulumi.Output[str]:
    """A kubeconfig without credentials: a plugin fetches a short-lived token where it is used.

    `by_name`: at the DNS endpoint, whose certificate public CAs sign; else at the address, trusting the cluster's CA.
    """
    if by_name:
        host = cluster.control_plane_endpoints_config.apply(lambda config: config.dns_endpoint_config.endpoint)
        trust: pulumi.Output[dict[str, str]] = pulumi.Output.from_input({})
    else:
        host = cluster.endpoint
        trust = cluster.master_auth.apply(lambda auth: {"certificate-authority-data": auth.cluster_ca_certificate})

    def render(values: list[Any]) -> str:
        name, host, trust = values
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": {"server": f"https://{host}", **trust}}],
                "users": [
                    {
                        "name": name,
                        "user": {
                            "exec": {
                                "apiVersion": "client.authentication.k8s.io/v1beta1",
                                "command": "gke-gcloud-auth-plugin",
                                "installHint": "Install gke-gcloud-auth-plugin: gcloud components install "
                                "gke-gcloud-auth-plugin, or your distribution's package",
                                "provideClusterInfo": True,
                                "interactiveMode": "Never",
                            }
                        },
                    }
                ],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "current-context": name,
            }
        )

    return pulumi.Output.all(cluster.name, host, trust).apply(render)
