"""Layer `cluster`: the Kubernetes cluster that the layers above it are built on.

A kind's component is imported when it is used: it loads an SDK that the other kind does not need.
"""

from __future__ import annotations

import pulumi

from settings import Problem, Settings
from settings.cluster import ClusterSettings, GkeCluster, OnpremCluster
from settings.cluster_eks import EksCluster
from stacks.contracts import Cluster
from stacks.upstream import Upstream


def check(settings: ClusterSettings) -> list[Problem]:
    """What differs between the settings and the cluster that exists."""
    if not isinstance(settings, OnpremCluster):
        return []
    from components.cluster.kubeconfig import KubeconfigError, self_contained
    from components.cluster.preflight import preflight

    try:
        kubeconfig = self_contained(settings.kubeconfig, settings.context)
    except KubeconfigError as error:
        return [Problem(key="kubeconfig", message=str(error))]
    return preflight(kubeconfig, settings)


def build(settings: Settings, upstream: Upstream) -> Cluster:
    """Make a cluster, or hand on an existing one's address and credentials."""
    assert settings.cluster is not None
    if isinstance(settings.cluster, GkeCluster):
        return _gke(settings, settings.cluster, upstream)
    if isinstance(settings.cluster, EksCluster):
        return _eks(settings, settings.cluster, upstream)
    return _onprem(settings.name, settings.cluster)


def _gke(settings: Settings, gke: GkeCluster, upstream: Upstream) -> Cluster:
    from components.cluster import gke as component

    assert settings.gcp is not None
    network = upstream.network
    cluster = component.GkeCluster(
        f"{settings.name}-cluster",
        component.GkeClusterArgs(
            project=settings.gcp.project,
            cluster=gke,
            network=network.network,
            subnets=network.subnets,
            ranges=network.ranges,
            cidrs=network.cidrs,
            node_account=network.node_accounts["application"],
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.gcp]),
    )
    return Cluster(
        identifier=cluster.identifier,
        kubeconfig=cluster.kubeconfig,
        pod_cidr=cluster.pod_cidr,
        service_cidr=cluster.service_cidr,
        name=cluster.name,
        location=cluster.location,
    )


def _eks(settings: Settings, eks: EksCluster, upstream: Upstream) -> Cluster:
    from components.cluster import eks as component

    assert settings.aws is not None
    network = upstream.network
    cluster = component.EksCluster(
        f"{settings.name}-cluster",
        component.EksClusterArgs(
            environment=settings.name,
            region=settings.aws.region,
            cluster=eks,
            network=network.network,
            subnets=network.subnets,
            cidrs=network.cidrs,
            security_groups=network.security_groups,
            image_prefixes=network.image_prefixes,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.aws]),
    )
    return Cluster(
        identifier=cluster.identifier,
        kubeconfig=cluster.kubeconfig,
        pod_cidr=cluster.pod_cidr,
        service_cidr=cluster.service_cidr,
        name=cluster.name,
        location=cluster.location,
    )


def _onprem(environment: str, onprem: OnpremCluster) -> Cluster:
    from components.cluster import onprem as component
    from components.cluster.kubeconfig import self_contained

    cluster = component.OnpremCluster(
        f"{environment}-cluster",
        component.OnpremClusterArgs(
            identifier=environment,
            kubeconfig=self_contained(onprem.kubeconfig, onprem.context),
            pod_cidr=str(onprem.cidrs.pods),
            service_cidr=str(onprem.cidrs.services),
        ),
    )
    return Cluster(
        identifier=cluster.identifier,
        kubeconfig=cluster.kubeconfig,
        pod_cidr=cluster.pod_cidr,
        service_cidr=cluster.service_cidr,
        name=pulumi.Output.from_input(onprem.context or environment),
        location=pulumi.Output.from_input(""),
    )
