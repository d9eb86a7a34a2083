"""The targets of an NLB's target groups, as the cluster is: nodes, or pods."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from lightkube.resources.core_v1 import Node
from lightkube.resources.discovery_v1 import EndpointSlice

from lab.nlb.spec import Listener, LoadBalancer

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True, order=True)
class Target:
    """Where a target group sends connections."""

    name: str
    """The node's, or the pod's."""
    address: IPv4Address
    port: int
    zone: str


Groups = dict[int, tuple[Target, ...]]
"""An NLB's target groups, by the listener's port."""


def groups(balancer: LoadBalancer, nodes: Iterable[Node], slices: Iterable[EndpointSlice]) -> Groups:
    """The targets of each listener. `nodes` and `slices` are all of the cluster."""
    if balancer.target_type == "instance":
        instances = list(_instances(balancer, nodes))
        return {
            listener.port: tuple(sorted(Target(name, ip, listener.node_port, zone) for name, ip, zone in instances))
            for listener in balancer.listeners
        }
    own = [it for it in slices if _belongs(it, balancer)]
    return {listener.port: tuple(sorted(set(_pods(listener, own)))) for listener in balancer.listeners}


def _instances(balancer: LoadBalancer, nodes: Iterable[Node]) -> Iterator[tuple[str, IPv4Address, str]]:
    for node in nodes:
        name, labels = (node.metadata.name, node.metadata.labels or {}) if node.metadata else (None, {})
        status = node.status
        ready = any(it.type == "Ready" and it.status == "True" for it in (status and status.conditions) or [])
        chosen = EXCLUDED not in labels and all(labels.get(key) == it for key, it in balancer.node_labels.items())
        for address in (status and status.addresses) or []:
            if name and ready and chosen and address.type == "InternalIP":
                yield name, IPv4Address(address.address), labels.get(ZONE, "")


def _belongs(it: EndpointSlice, balancer: LoadBalancer) -> bool:
    metadata = it.metadata
    if not metadata or it.addressType != "IPv4":
        return False
    service = (metadata.labels or {}).get("kubernetes.io/service-name")
    return (metadata.namespace, service) == balancer.key


def _pods(listener: Listener, slices: Iterable[EndpointSlice]) -> Iterator[Target]:
    for part in slices:
        numbers = [it.port for it in part.ports or [] if (it.name or "") == listener.name and it.port]
        for endpoint in part.endpoints or []:
            if endpoint.conditions and endpoint.conditions.ready is False:
                continue
            name = endpoint.targetRef.name if endpoint.targetRef and endpoint.targetRef.name else ""
            for address in endpoint.addresses:
                for number in numbers:
                    yield Target(name or address, IPv4Address(address), number, endpoint.zone or "")
