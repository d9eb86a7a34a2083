"""The Service's annotations, out of which the AWS Load Balancer Controller makes a network load balancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from components.mesh.gateway_chart import STATUS_PORT
from settings.edge import ANNOTATION_PREFIX, CROSS_ZONE, PRESERVE_CLIENT_IP, BalancerTls, NlbGateway

HTTPS_PORT = 443

T = TypeVar("T")


def service_annotations(gateway: NlbGateway, certificate: T | None) -> dict[str, str | T]:
    """All of them, for a gateway; `certificate` is the ARN of the balancer's, when TLS ends there.

    Reference: AWS Load Balancer Controller, "Service annotations".
    """
    balancer = gateway.balancer
    values: dict[str, str | T] = {
        "type": "external",
        "nlb-target-type": balancer.target_type,
        "scheme": balancer.scheme,
        "attributes": _joined({CROSS_ZONE: _flag(balancer.cross_zone), **balancer.attributes}),
        # The default differs between instance and ip targets, so it is always said. With PROXY protocol the header
        # alone tells the client's address: so the balancer's own is the source, by which the gateway knows it.
        "target-group-attributes": _joined(
            {
                PRESERVE_CLIENT_IP: _flag(balancer.client_address == "preserve"),
                **balancer.target_group_attributes,
            }
        ),
        **_health_check(gateway),
    }
    if balancer.client_address == "proxy-protocol":
        values["proxy-protocol"] = "*"
    if isinstance(gateway.tls, BalancerTls):
        assert certificate is not None
        values |= {
            "ssl-cert": certificate,
            "ssl-ports": str(HTTPS_PORT),
            "ssl-negotiation-policy": gateway.tls.negotiation_policy,
            "backend-protocol": gateway.tls.backend_protocol,
        }
    return {**{f"{ANNOTATION_PREFIX}{name}": value for name, value in values.items()}, **balancer.annotations}


def _health_check(gateway: NlbGateway) -> dict[str, str]:
    balancer = gateway.balancer
    if balancer.target_type == "ip":
        # The gateway itself says whether it is ready.
        asked = {"protocol": "http", "port": str(STATUS_PORT), "path": "/healthz/ready"}
    elif gateway.external_traffic_policy == "Cluster" or balancer.client_address == "proxy-protocol":
        # Any node sends on to a pod that is ready. With Local only nodes with such a pod do, and kube-proxy would say
        # so by HTTP, but it does not understand the PROXY header that then comes before the question.
        asked = {"protocol": "tcp", "port": "traffic-port"}
    else:
        # kube-proxy says whether the node has a pod that is ready; without a port the controller takes the Service's
        # healthCheckNodePort.
        asked = {"protocol": "http", "path": "/healthz"}
    check = balancer.health_check
    asked["interval"] = str(check.interval_seconds)
    asked["healthy-threshold"] = str(check.healthy_threshold)
    asked["unhealthy-threshold"] = str(check.unhealthy_threshold)
    return {f"healthcheck-{name}": value for name, value in asked.items()}


def _joined(attributes: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in attributes.items())


def _flag(value: bool) -> str:
    return "true" if value else "false"
