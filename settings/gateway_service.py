"""The Service of a gateway where the platform's load balancer gives it an address."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import Field

from settings.model import Cidr, Model, Problem

PROXY_HEADERS = {
    "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol": "",
    "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes": "proxy_protocol_v2.enabled=true",
}
"""Annotations with which a balancer of AWS sends PROXY headers, when they have this in them."""


class LoadBalancerService(Model):
    """The gateway at an address that the platform's load balancer gives."""

    type: Literal["LoadBalancer"]
    load_balancer_ip: Annotated[IPv4Address | None, Field(alias="loadBalancerIP")] = None
    """An address asked for, where the platform supports it."""

    annotations: dict[str, str] = {}
    source_ranges: tuple[Cidr, ...] = ()
    """Who may connect at all; everybody when empty."""

    external_traffic_policy: Literal["Cluster", "Local"] = "Local"
    """Local keeps the client's address."""

    def problems(self) -> Iterator[Problem]:
        for name, sign in PROXY_HEADERS.items():
            if name in self.annotations and sign in self.annotations[name]:
                yield Problem(
                    key="annotations",
                    message=f"'{name}' has the balancer begin every connection with a PROXY header, which these "
                    "gateways do not expect: no request would get through; take it out, or use a gateway of the layer "
                    "edge with balancer.clientAddress proxy-protocol, which does",
                )
