"""Layer `cluster`: the Kubernetes cluster that the layers above it are built on."""

from __future__ import annotations

from components.cluster.kubeconfig import KubeconfigError, self_contained
from components.cluster.onprem import OnpremCluster, OnpremClusterArgs
from components.cluster.preflight import preflight
from settings import Problem, Settings
from settings.cluster import ClusterSettings
from stacks.contracts import Cluster
from stacks.upstream import Upstream


def check(settings: ClusterSettings) -> list[Problem]:
    """What differs between the settings and the cluster that exists."""
    try:
        kubeconfig = self_contained(settings.kubeconfig, settings.context)
    except KubeconfigError as error:
        return [Problem(key="kubeconfig", message=str(error))]
    return preflight(kubeconfig, settings)


def build(settings: Settings, upstream: Upstream) -> Cluster:
    """Hand on an existing cluster's address and credentials."""
    assert settings.cluster is not None
    cluster = OnpremCluster(
        f"{settings.name}-cluster",
        OnpremClusterArgs(
            identifier=settings.name,
            kubeconfig=self_contained(settings.cluster.kubeconfig, settings.cluster.context),
            pod_cidr=str(settings.cluster.cidrs.pods),
            service_cidr=str(settings.cluster.cidrs.services),
        ),
    )
    return Cluster(
        identifier=cluster.identifier,
        kubeconfig=cluster.kubeconfig,
        pod_cidr=cluster.pod_cidr,
        service_cidr=cluster.service_cidr,
    )
