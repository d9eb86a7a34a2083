"""What the kinds of several layers mean for each other: whether they fit together, and what a kind lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from settings import observability, rate_limit
from settings import platform_eks as eks
from settings.authority import HsmKmsAuthority
from settings.cluster import GkeCluster, OnpremCluster
from settings.cluster_eks import EksCluster
from settings.edge import NlbEdge, hosted_zones
from settings.gateway_pool import GkeGatewayPool, OnpremGatewayPool
from settings.http_gateway import HttpNodePortService
from settings.ingress import NodePortService
from settings.mesh import IstiodMesh, ManagedMesh
from settings.model import Problem
from settings.network import GkeNetwork
from settings.teams import OriginateHost, TeamsSettings
from settings.workload_identity import GkeWorkloadIdentity


def misfits(good: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems between sections that are right each by itself.

    `good` has those sections, `config` all that were given. What is in another stack is not compared.
    """
    yield from _clouds(good, config)
    cluster = good.get("cluster")
    if cluster is not None:
        yield from _kinds(cluster, good)
    if isinstance(cluster, GkeCluster):
        yield from _gke(cluster, good)
    if isinstance(cluster, OnpremCluster):
        yield from _onprem(cluster, good)
    mesh = good.get("mesh")
    if isinstance(mesh, ManagedMesh):
        yield from _managed_mesh(mesh, good)
    if isinstance(mesh, IstiodMesh):
        yield from _canary(mesh, good)
    network = good.get("network")
    if isinstance(network, GkeNetwork) and isinstance(mesh, IstiodMesh) and not network.firewall.in_cluster_istiod:
        yield Problem(
            key="network.firewall.inClusterIstiod",
            message="is false, but istiod is in the cluster: the API server could not reach its webhooks (15017)",
        )
    yield from _authority(good)
    yield from eks.misfits(good)
    yield from _gateways(good)
    yield from _node_ports(good)
    if good.get("rate_limit"):
        yield from rate_limit.misfits(mesh, good.get("istio"))
    if good.get("observability"):
        yield from observability.misfits(good["observability"], mesh)


def _clouds(good: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Problem]:
    kinds = {layer: getattr(section, "kind", None) for layer, section in good.items()}
    google = next((layer for layer, kind in kinds.items() if kind in ("gke", "managed")), None)
    if google and "gcp" not in config:
        yield Problem(key="gcp", message=f"is missing; {google} is in Google Cloud: give its project and region")
    amazon = next((layer for layer, kind in kinds.items() if kind == "eks"), None)
    if amazon is None and hosted_zones(config.get("edge")):
        amazon = "edge"
    if amazon and "aws" not in config:
        yield Problem(key="aws", message=f"is missing; {amazon} is in AWS: give its region")


def _kinds(cluster: OnpremCluster | GkeCluster | EksCluster, good: Mapping[str, Any]) -> Iterator[Problem]:
    """Layers that are of the cluster's kind, or of none."""
    network, pool = good.get("network"), good.get("gateway_pool")
    if network is not None and cluster.kind != "onprem" and network.kind != cluster.kind:
        yield Problem(
            key="network.kind",
            message=f"is {network.kind}, but the cluster is of the kind {cluster.kind}; use {cluster.kind}",
        )
    if pool is not None and pool.kind != cluster.kind:
        yield Problem(
            key="gateway_pool.kind",
            message=f"is {pool.kind}, but the cluster is of the kind {cluster.kind}; use {cluster.kind}",
        )
    if cluster.kind != "gke" and isinstance(good.get("workload_identity"), GkeWorkloadIdentity):
        yield Problem(
            key="workload_identity.kind",
            message=f"is gke, but the cluster is of the kind {cluster.kind}; use existing",
        )
    if cluster.kind != "gke" and isinstance(good.get("mesh"), ManagedMesh):
        yield Problem(key="mesh.kind", message="is managed, which only a cluster of the kind gke has; use istiod")
    if cluster.kind == "gke" and isinstance(good.get("edge"), NlbEdge):
        yield Problem(
            key="edge.kind",
            message="is nlb, a load balancer of AWS, but the cluster is of the kind gke; use the layer ingress",
        )


def _gke(cluster: GkeCluster, good: Mapping[str, Any]) -> Iterator[Problem]:
    gcp, pool = good.get("gcp"), good.get("gateway_pool")
    if gcp and cluster.location != gcp.region and not cluster.location.startswith(f"{gcp.region}-"):
        yield Problem(
            key="cluster.location",
            message=f"is '{cluster.location}', outside gcp.region ({gcp.region}), where its network is",
        )
    if isinstance(pool, GkeGatewayPool) and pool.name == cluster.application_pool.name:
        yield Problem(
            key="gateway_pool.name", message=f"'{pool.name}' is cluster.applicationPool too; names must differ"
        )


def _authority(good: Mapping[str, Any]) -> Iterator[Problem]:
    authority, mesh = good.get("authority"), good.get("mesh")
    if isinstance(authority, HsmKmsAuthority) and "layers" in good and "mesh" not in good["layers"]:
        yield Problem(
            key="authority.kind",
            message="is hsm-kms, whose istiod makes the request: the layer mesh belongs into the same stack",
        )
    vault = getattr(authority, "vault", None)
    if vault is not None and isinstance(mesh, IstiodMesh):
        for account in sorted({f"istiod-{revision}" for revision in mesh.revisions} - set(vault.service_accounts)):
            yield Problem(
                key="authority.vault.serviceAccounts",
                message=f"lacks '{account}', the account of the mesh's istiod: Vault would refuse it; add it",
            )


def _canary(mesh: IstiodMesh, good: Mapping[str, Any]) -> Iterator[Problem]:
    istio, version = good.get("istio"), mesh.canary and mesh.canary.version
    if istio and version not in (None, istio.version) and not istio.in_repository:
        yield Problem(
            key="mesh.canary.version",
            message=f"is {version}, but istio.charts is a directory, which holds one version ({istio.version}); "
            "name a repository there",
        )


def _onprem(cluster: OnpremCluster, good: Mapping[str, Any]) -> Iterator[Problem]:
    pool = good.get("gateway_pool")
    if isinstance(pool, OnpremGatewayPool):
        # The cluster's preflight compares nodePools with the nodes: by it the gateway pool's nodes are checked, too.
        same = [nodes for nodes in cluster.node_pools if nodes.labels == pool.labels]
        if not same:
            known = "; ".join(f"{nodes.name}: {_listed(nodes.labels)}" for nodes in cluster.node_pools)
            yield Problem(
                key="gateway_pool.labels",
                message=f"are {_listed(pool.labels)}, those of no pool under cluster.nodePools (there: {known})",
            )
        for nodes in same:
            if pool.taint not in nodes.taints:
                yield Problem(
                    key="gateway_pool.taint",
                    message=f"is {pool.taint}, which cluster.nodePools does not have for '{nodes.name}'; "
                    "its nodes need it, for nothing else to run there",
                )


def _gateways(good: Mapping[str, Any]) -> Iterator[Problem]:
    """A Gateway selects its pods by their label `istio`, which is the gateway's name, in every namespace."""
    taken = {
        **({"egressgateway": "the egress gateway"} if good.get("egress") else {}),
        **{f"{layer}-gateway": f"the gateway of {layer}" for layer in ("sidecar", "bookinfo") if good.get(layer)},
    }
    for layer in ("ingress", "edge"):
        for name in good[layer].gateways if good.get(layer) else ():
            key = f"{layer}.gateways.{name}"
            if (other := taken.setdefault(name, key)) != key:
                yield Problem(
                    key=key,
                    message=f"has the name of {other}; each would configure the other's pods: use another name",
                )


def _node_ports(good: Mapping[str, Any]) -> Iterator[Problem]:
    """A port of the nodes leads to one Service; the API server would refuse the second, in the middle of `up`."""
    taken: dict[int, str] = {}
    for key, service in _services(good):
        ports = [service.node_port] if isinstance(service, HttpNodePortService) else []
        if isinstance(service, NodePortService):
            ports = [node_port for _, node_port in service.all_ports.values()]
        for port in ports:
            # The ingress gateways' own are compared there.
            if port is not None and not taken.setdefault(port, key).startswith(key.partition(".")[0]):
                message = f"takes the nodes' port {port}, which {taken[port]} has; use another one"
                yield Problem(key=key, message=message)


def _services(good: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The gateways' Services with their keys."""
    for name, gateway in good["ingress"].gateways.items() if good.get("ingress") else ():
        yield f"ingress.gateways.{name}.service", gateway.service
    for layer in ("sidecar", "bookinfo"):
        if section := good.get(layer):
            yield f"{layer}.gateway.service", section.gateway.service


def _managed_mesh(mesh: ManagedMesh, good: Mapping[str, Any]) -> Iterator[Problem]:
    """The managed control plane's limits. docs/environments/gke.md names those that no setting can run into."""
    cluster, network, istio = good.get("cluster"), good.get("network"), good.get("istio")
    if "authority" in good.get("layers", ()):
        yield Problem(
            key="authority", message="has no use: the managed mesh has a CA of its own; take it out, or use istiod"
        )
    if istio and istio.values:
        yield Problem(
            key="istio.values", message="are those of istiod's chart; the managed mesh takes none, take them out"
        )
    if isinstance(cluster, GkeCluster) and mesh.channel != mesh.channel_of(cluster.release_channel):
        yield Problem(
            key="mesh.channel",
            message=f"is '{mesh.channel}'; the managed mesh follows the cluster, whose releaseChannel is "
            f"{cluster.release_channel}: make it '{mesh.channel_of(cluster.release_channel)}'",
        )
    if isinstance(network, GkeNetwork) and network.firewall.in_cluster_istiod:
        yield Problem(
            key="network.firewall.inClusterIstiod",
            message="is true, but the managed mesh has no webhooks in the cluster; set false, to keep 15017 shut",
        )
    teams = good.get("teams")
    for index, team in enumerate(teams.teams if isinstance(teams, TeamsSettings) else ()):
        for number, host in enumerate(team.hosts):
            if isinstance(host, OriginateHost) and host.tls:
                yield Problem(
                    key=f"teams.teams[{index}].hosts[{number}].tls",
                    message="needs credentialName in a DestinationRule, which the managed mesh lacks; "
                    "take it out (public CAs), use passthrough, or use istiod",
                )


def _listed(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
