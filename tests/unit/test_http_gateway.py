"""Gateways that speak http alone: their settings, what is made of them, and where clients are told to go."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest
from pydantic import TypeAdapter, ValidationError

from components.mesh.http_gateway import HttpGateway, HttpGatewayArgs
from settings.http_gateway import HttpGateway as HttpGatewaySettings
from settings.mesh import IstioSettings
from tests.unit import sdk
from tests.unit.program import Program, build

NODE_PORT = {"type": "NodePort", "addresses": ["10.0.0.11", "10.0.0.12"]}


def settings(**section: Any) -> HttpGatewaySettings:
    return TypeAdapter(HttpGatewaySettings).validate_python(section)


def gateway(
    service: dict[str, Any], *, balancer: dict[str, str] | None = None, hosts: tuple[str, ...] = ("*",), **section: Any
) -> Program:
    """The gateway `shop-gateway` alone, on a mesh whose revision is 1-31-1; exported what it says of itself."""

    def make() -> None:
        made = HttpGateway(
            "prod-shop",
            HttpGatewayArgs(
                gateway_name="shop-gateway",
                namespace=pulumi.Output.from_input("shop-ingress"),
                revision="1-31-1",
                gateway=settings(service=service, **section),
                istio=IstioSettings(),
                hosts=hosts,
            ),
        )
        for name in ("address", "port", "gateway"):
            pulumi.export(name, getattr(made, name))

    return build(make, balancer=balancer)


def values(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = program.one("prod-shop-release").inputs["values"]
    return found


def test_node_port() -> None:
    program = gateway({**NODE_PORT, "nodePort": 30001})
    assert values(program)["service"] == {
        "type": "NodePort",
        "externalTrafficPolicy": "Cluster",
        "ports": [{"name": "http2", "port": 80, "targetPort": 80, "protocol": "TCP", "nodePort": 30001}],
    }
    # The port is what the cluster says of the Service, be it the one that was asked for or not.
    assert program.outputs == {"address": "10.0.0.11", "port": 31080, "gateway": "shop-ingress/shop-gateway"}


def test_any_node_port_is_asked_for_without_saying_one() -> None:
    (port,) = values(gateway({**NODE_PORT, "externalTrafficPolicy": "Local"}))["service"]["ports"]
    assert "nodePort" not in port


@pytest.mark.parametrize("balancer", [{"ip": "203.0.113.7"}, {"hostname": "shop.elb.example.com"}])
def test_load_balancer(balancer: dict[str, str]) -> None:
    service = {
        "type": "LoadBalancer",
        "loadBalancerIP": "203.0.113.7",
        "annotations": {"a": "b"},
        "sourceRanges": ["198.51.100.0/24"],
    }
    program = gateway(service, balancer=balancer)
    assert values(program)["service"] == {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "annotations": {"a": "b"},
        "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "loadBalancerIP": "203.0.113.7",
        "ports": [{"name": "http2", "port": 80, "targetPort": 80, "protocol": "TCP"}],
    }
    assert program.outputs["address"] in balancer.values()
    assert program.outputs["port"] == 80


def test_cluster_ip() -> None:
    program = gateway({"type": "ClusterIP"})
    assert values(program)["service"]["type"] == "ClusterIP"
    assert program.outputs["address"] == "shop-gateway.shop-ingress.svc.cluster.local"
    assert program.outputs["port"] == 80


def test_the_gateway_selects_its_own_pods_and_serves_http_alone() -> None:
    program = gateway(NODE_PORT, hosts=("shop.example.com", "www.example.com"))
    found = program.one("prod-shop-gateway")
    assert found.type == "kubernetes:networking.istio.io/v1:Gateway"
    assert found.inputs["metadata"] == {"name": "shop-gateway", "namespace": "shop-ingress"}
    assert found.inputs["spec"] == {
        "selector": {"istio": "shop-gateway"},
        "servers": [
            {
                "hosts": ["shop.example.com", "www.example.com"],
                "port": {"number": 80, "name": "http", "protocol": "HTTP"},
            }
        ],
    }
    assert values(program)["labels"] == {"app": "shop-gateway", "istio": "shop-gateway"}


def test_another_revision_makes_the_pods_anew() -> None:
    annotations = values(gateway(NODE_PORT))["podAnnotations"]
    assert annotations["meshgate.dev/revision"] == "1-31-1"
    assert "proxyStatsMatcher" in json.loads(annotations["proxy.istio.io/config"])


def test_size() -> None:
    program = gateway(NODE_PORT, replicas={"min": 1, "max": 3}, resources={"cpu": "20m", "memory": "64Mi"})
    assert values(program)["autoscaling"] == {"minReplicas": 1, "maxReplicas": 3}
    assert values(program)["resources"] == {"requests": {"cpu": "20m", "memory": "64Mi"}}
    assert "podDisruptionBudget" not in values(program)
    # By default a node may be emptied without the gateway being gone.
    assert values(gateway(NODE_PORT))["podDisruptionBudget"] == {"minAvailable": 1}


def test_inputs_are_what_the_sdk_asks_for_and_stand_below_the_component() -> None:
    made = [it for it in gateway(NODE_PORT).resources if not it.read and not it.type.startswith("meshgate:")]
    assert [sdk.problems(resource.type, resource.inputs) for resource in made] == [[], []]
    assert {resource.parent for resource in made} == {"prod-shop"}


# Settings


def test_clients_of_a_node_port_have_to_be_told_a_node() -> None:
    with pytest.raises(ValidationError, match="addresses"):
        settings(service={"type": "NodePort"})


@pytest.mark.parametrize("port", [80, 29999, 32768])
def test_a_node_port_is_one_that_nodes_have(port: int) -> None:
    with pytest.raises(ValidationError, match="nodePort"):
        settings(service={**NODE_PORT, "nodePort": port})


def test_problems_say_where() -> None:
    header = "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol"
    wrong = settings(
        service={"type": "LoadBalancer", "annotations": {header: "*"}},
        replicas={"min": 3, "max": 2},
    )
    assert [problem.key for problem in wrong.problems()] == ["service.annotations", "replicas.min"]
    assert list(settings(service={"type": "ClusterIP"}).problems()) == []
