"""Which address a Service gets, and which nodes may take its connections."""

from ipaddress import IPv4Address

from lightkube.models.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    NodeCondition,
    NodeStatus,
    ServiceSpec,
    ServiceStatus,
)
from lightkube.models.discovery_v1 import Endpoint, EndpointConditions
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Service
from lightkube.resources.discovery_v1 import EndpointSlice

from lab.load_balancer import POOL, allocate, candidates, is_ready


def service(
    name: str,
    requested: str | None = None,
    current: str | None = None,
    policy: str = "Cluster",
    kind: str = "LoadBalancer",
) -> Service:
    ingress = [LoadBalancerIngress(ip=current)] if current else None
    return Service(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(type=kind, loadBalancerIP=requested, externalTrafficPolicy=policy),
        status=ServiceStatus(loadBalancer=LoadBalancerStatus(ingress=ingress)),
    )


def endpoints(name: str, nodes: dict[str, bool | None], namespace: str = "default") -> EndpointSlice:
    return EndpointSlice(
        addressType="IPv4",
        endpoints=[
            Endpoint(addresses=["10.1.1.1"], nodeName=node, conditions=EndpointConditions(ready=ready))
            for node, ready in nodes.items()
        ],
        metadata=ObjectMeta(name=f"{name}-x", namespace=namespace, labels={"kubernetes.io/service-name": name}),
    )


def test_only_load_balancers_get_an_address() -> None:
    assert allocate([service("a", kind="ClusterIP"), service("b", kind="NodePort")]) == {}


def test_a_service_for_an_nlb_gets_none() -> None:
    nlb = service("a")
    assert nlb.metadata
    nlb.metadata.annotations = {"service.beta.kubernetes.io/aws-load-balancer-type": "external"}
    assert allocate([nlb, service("b")]).keys() == {("default", "b")}


def test_an_address_is_in_the_pool_and_the_same_each_time() -> None:
    first = allocate([service("a"), service("b")])
    assert set(first.values()) <= set(POOL)
    assert len(set(first.values())) == 2
    assert allocate([service("b"), service("a")]) == first
    assert allocate([service("a")])["default", "a"] == first["default", "a"]


def test_a_given_address_stays() -> None:
    assert allocate([service("a", current="203.0.113.150")])["default", "a"] == IPv4Address("203.0.113.150")


def test_a_requested_address_is_honoured() -> None:
    result = allocate(
        [service("a", requested="203.0.113.120"), service("b", requested="203.0.113.121", current="203.0.113.199")]
    )
    assert result == {
        ("default", "a"): IPv4Address("203.0.113.120"),
        ("default", "b"): IPv4Address("203.0.113.121"),
    }


def test_a_request_that_cannot_be_met_gets_none() -> None:
    taken = service("a", current="203.0.113.120")
    assert allocate([taken, service("b", requested="203.0.113.120"), service("c", requested="10.0.0.1")]) == {
        ("default", "a"): IPv4Address("203.0.113.120")
    }


def test_no_two_services_share_an_address() -> None:
    services = [service(f"s{n}") for n in range(len(POOL) + 5)]
    result = allocate(services)
    assert len(result) == len(set(result.values())) == len(POOL)


def test_cluster_policy_takes_any_ready_node() -> None:
    assert candidates(service("a"), [], ["app-2", "app-1"]) == ["app-1", "app-2"]


def test_local_policy_takes_nodes_with_a_ready_endpoint() -> None:
    slices = [
        endpoints("a", {"app-1": False, "app-2": True, "open": True, "gateway": None}),
        endpoints("b", {"app-1": True}),
        endpoints("a", {"app-1": True}, namespace="other"),
    ]
    local = service("a", policy="Local")
    assert candidates(local, slices, ["app-1", "app-2", "gateway"]) == ["app-2", "gateway"]
    assert candidates(local, [], ["app-1"]) == []


def test_node_readiness() -> None:
    def node(status: str) -> Node:
        return Node(status=NodeStatus(conditions=[NodeCondition(type="Ready", status=status)]))

    assert is_ready(node("True"))
    assert not is_ready(node("Unknown"))
    assert not is_ready(Node())
