"""Which address a Service gets, and which nodes may take its connections."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from lightkube import AsyncClient
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
from lightkube.resources.core_v1 import Event, Node, Service
from lightkube.resources.discovery_v1 import EndpointSlice

from lab.load_balancer import POOL, allocate, candidates, is_ready, reconcile


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


def given(*services: Service) -> dict[str, str]:
    """Addresses by the Services' names."""
    return {name: str(address) for (_, name), address in allocate(services).addresses.items()}


def refused(*services: Service) -> dict[str, str]:
    return {name: why for (_, name), why in allocate(services).refused.items()}


def test_only_load_balancers_get_an_address() -> None:
    assert given(service("a", kind="ClusterIP"), service("b", kind="NodePort")) == {}


def test_a_service_for_an_nlb_gets_none() -> None:
    nlb = service("a")
    assert nlb.metadata
    nlb.metadata.annotations = {"service.beta.kubernetes.io/aws-load-balancer-type": "external"}
    assert given(nlb, service("b")).keys() == {"b"}


def test_an_address_is_in_the_pool_and_the_same_each_time() -> None:
    first = given(service("a"), service("b"))
    assert set(first.values()) <= set(map(str, POOL))
    assert len(set(first.values())) == 2
    assert given(service("b"), service("a")) == first
    assert given(service("a"))["a"] == first["a"]


def test_a_given_address_stays() -> None:
    assert given(service("a", current="203.0.113.150")) == {"a": "203.0.113.150"}


def test_a_requested_address_is_honoured() -> None:
    both = (service("a", requested="203.0.113.120"), service("b", requested="203.0.113.121", current="203.0.113.199"))
    assert given(*both) == {"a": "203.0.113.120", "b": "203.0.113.121"}
    assert refused(*both) == {}


def test_the_reserved_address_is_for_who_asks() -> None:
    assert given(service("a", requested="203.0.113.1")) == {"a": "203.0.113.1"}
    assert "203.0.113.1" not in map(str, POOL)
    # Asked for no longer, it is free for another one.
    swapped = (service("a", current="203.0.113.1"), service("b", requested="203.0.113.1"))
    assert given(*swapped)["b"] == "203.0.113.1"
    assert given(*swapped)["a"] in map(str, POOL)


def test_a_request_that_cannot_be_met_is_refused() -> None:
    services = (
        service("a", current="203.0.113.120"),
        service("b", requested="203.0.113.120"),
        service("c", requested="10.0.0.1"),
        service("d", requested="203.0.113.2"),
        service("e", requested="nowhere"),
    )
    assert given(*services) == {"a": "203.0.113.120"}
    ours = "one of the load balancer's addresses (203.0.113.1, 203.0.113.100 to 203.0.113.199)"
    assert refused(*services) == {
        "b": "203.0.113.120 is taken by default/a",
        "c": f"10.0.0.1 is not {ours}",
        "d": f"203.0.113.2 is not {ours}",
        "e": f"nowhere is not {ours}",
    }


def test_who_is_refused_keeps_what_it_has() -> None:
    services = (service("a", requested="10.0.0.1", current="203.0.113.150"), service("b", requested="203.0.113.150"))
    # Somebody who asks for it comes first.
    assert given(*services) == {"b": "203.0.113.150"}
    assert given(services[0]) == {"a": "203.0.113.150"}
    assert refused(services[0]).keys() == {"a"}


def test_no_two_services_share_an_address() -> None:
    result = given(*(service(f"s{n}") for n in range(len(POOL) + 5)))
    assert len(result) == len(set(result.values())) == len(POOL)


class Api:
    """An API server with some Services; it writes down what it is told."""

    def __init__(self, *services: Service) -> None:
        self.services = services
        self.events: list[Event] = []
        self.patches: list[tuple[str, Any]] = []

    async def list(self, kind: Any, namespace: str = "") -> AsyncIterator[Any]:
        for it in self.services if kind is Service else ():
            yield it

    async def create(self, event: Event) -> None:
        self.events.append(event)

    async def patch(self, kind: Any, name: str, patch: Any, **_: Any) -> None:
        self.patches.append((name, patch))


def test_a_refusal_is_an_event_and_told_once() -> None:
    api = Api(service("a", requested="203.0.113.1"), service("b", requested="10.0.0.1"))
    said: dict[tuple[str, str], str] = {}

    def reconciled() -> None:
        asyncio.run(reconcile(cast(AsyncClient, api), None, said))

    reconciled()
    reconciled()
    assert api.patches[0] == ("a", {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}})
    assert {name for name, _ in api.patches} == {"a"}
    (event,) = api.events
    assert (event.type, event.reason, event.involvedObject.name) == ("Warning", "SyncLoadBalancerFailed", "b")
    assert str(event.message).startswith("Error syncing load balancer: 10.0.0.1 is not one of")
    # Refused for another reason, it is told again.
    api.services = (service("a", requested="203.0.113.1"), service("b", requested="203.0.113.1"))
    reconciled()
    assert api.events[-1].message == "Error syncing load balancer: 203.0.113.1 is taken by default/a"


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
