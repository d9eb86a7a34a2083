"""Whether an existing cluster is what the settings say, asked before anything is made on it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING

import yaml

from settings.cluster import NodePool, OnpremCluster
from settings.model import Problem

if TYPE_CHECKING:
    from lightkube.models.core_v1 import Node as NodeModel
    from lightkube.resources.core_v1 import Node

TIMEOUT_SECONDS = 10


def preflight(kubeconfig: str, settings: OnpremCluster) -> list[Problem]:
    """Compare server version, nodes, their labels, taints and addresses with the settings.

    `kubeconfig` is YAML with one context. Returns what differs, with keys below the section `cluster`; an unreachable
    cluster is one problem.
    """
    # Imported here, so that a stack without this layer does not load a Kubernetes client.
    import httpx2
    from lightkube import Client, KubeConfig
    from lightkube.config.client_adapter import Client as connect
    from lightkube.config.client_adapter import ConnectionParams
    from lightkube.core.exceptions import ApiError, ConfigError
    from lightkube.resources.core_v1 import Node

    config = KubeConfig.from_dict(yaml.safe_load(kubeconfig)).get()
    assert config is not None
    server = config.cluster.server
    try:
        params = ConnectionParams(timeout=httpx2.Timeout(TIMEOUT_SECONDS))
        with connect(config, params) as http:
            answer = http.get("/version")
            answer.raise_for_status()
            version = str(answer.json()["major"]), str(answer.json()["minor"])
        nodes = list(Client(config, timeout=httpx2.Timeout(TIMEOUT_SECONDS)).list(Node))
    except (httpx2.HTTPError, ApiError, ConfigError) as error:
        reason = str(error) or type(error).__name__
    except (ValueError, KeyError, TypeError):
        reason = "its /version is not that of a Kubernetes API server"
    else:
        return [
            # Some platforms say 34+.
            *_version(".".join(version).rstrip("+"), settings),
            *_pools(nodes, settings.node_pools),
            *_addresses(nodes, settings),
        ]
    return [Problem(key="kubeconfig", message=f"the API server {server} does not answer as it should: {reason}")]


def _version(found: str, settings: OnpremCluster) -> Iterator[Problem]:
    if _numbers(found) < _numbers(settings.minimum_version):
        yield Problem(
            key="minimumVersion",
            message=f"the server is Kubernetes {found}, older than {settings.minimum_version}; upgrade it",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _pools(nodes: list[Node], pools: tuple[NodePool, ...]) -> Iterator[Problem]:
    for index, pool in enumerate(pools):
        where = f"nodePools[{index}]"
        members = [node for node in nodes if pool.labels.items() <= _labels(node).items()]
        if len(members) < pool.count:
            labels = ",".join(f"{key}={value}" for key, value in pool.labels.items())
            yield Problem(
                key=where,
                message=f"pool '{pool.name}' should have {pool.count} nodes labelled {labels}; "
                f"the cluster has {len(members)}",
            )
        expected = {str(taint) for taint in pool.taints}
        for node in members:
            found = {taint for taint in _taints(node) if not taint.startswith("node.kubernetes.io/")}
            if found != expected:
                yield Problem(
                    key=f"{where}.taints",
                    message=f"node '{_name(node)}' has {_listed(found)}; "
                    f"pool '{pool.name}' should have {_listed(expected)}",
                )


def _addresses(nodes: list[Node], settings: OnpremCluster) -> Iterator[Problem]:
    for node in nodes:
        addresses = (node.status and node.status.addresses) or []
        for address in addresses:
            if address.type == "InternalIP" and not _inside(address.address, settings.cidrs.nodes):
                yield Problem(
                    key="cidrs.nodes",
                    message=f"node '{_name(node)}' has the address {address.address}, outside {settings.cidrs.nodes}",
                )
        pod_cidr = node.spec and node.spec.podCIDR
        # Some networks (Calico, Cilium) give pods addresses without the node's podCIDR: nothing to compare then.
        if pod_cidr and not _subnet(pod_cidr, settings.cidrs.pods):
            yield Problem(
                key="cidrs.pods",
                message=f"node '{_name(node)}' gives its pods addresses of {pod_cidr}, outside {settings.cidrs.pods}",
            )


def _inside(address: str, network: IPv4Network) -> bool:
    parsed = ip_address(address)
    return not isinstance(parsed, IPv4Address) or parsed in network


def _subnet(cidr: str, network: IPv4Network) -> bool:
    parsed = ip_network(cidr)
    return not isinstance(parsed, IPv4Network) or parsed.subnet_of(network)


def _labels(node: NodeModel) -> dict[str, str]:
    return dict((node.metadata and node.metadata.labels) or {})


def _taints(node: NodeModel) -> list[str]:
    taints = (node.spec and node.spec.taints) or []
    return [f"{taint.key}={taint.value or ''}:{taint.effect}" for taint in taints]


def _name(node: NodeModel) -> str:
    return str(node.metadata and node.metadata.name)


def _listed(taints: set[str]) -> str:
    return ", ".join(sorted(taints)) or "no taint"
