"""What a gateway answers for: its servers, and the routes of a host. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from components.edge.annotations import HTTPS_PORT
from settings.edge import BalancerTls, EdgeHost, NlbGateway

HTTP_PORT = 80

TARGET_HTTP, TARGET_HTTPS = 8080, 8443
"""Ports of the pods. No privilege is needed to listen there."""

T = TypeVar("T")


def target_ports(gateway: NlbGateway) -> tuple[int, int]:
    """Ports of the pods that get what comes to the balancer's 80 and 443."""
    shared = isinstance(gateway.tls, BalancerTls) and gateway.tls.target_ports == "shared"
    return TARGET_HTTP, TARGET_HTTP if shared else TARGET_HTTPS


def servers(gateway: NlbGateway, credentials: Mapping[str, T]) -> list[dict[str, Any]]:
    """The servers of the Gateway; their ports are the Service's, which istiod knows the pods' ports by.

    A balancer that ends TLS sends what came to 443 on as http: then the server of 443 is one of the protocol HTTP, and
    only its port tells it from the other.
    """
    hosts = [host.host for host in gateway.hosts]
    redirected = [host.host for host in gateway.hosts if host.redirect == "gateway"]
    served = [host for host in hosts if host not in redirected]
    found: list[dict[str, Any]] = []
    if served:
        found.append({"hosts": served, "port": _port(HTTP_PORT, "http", "HTTP")})
    if redirected:
        found.append(
            {
                "hosts": redirected,
                "port": _port(HTTP_PORT, "http-redirect", "HTTP"),
                "tls": {"httpsRedirect": True},
            }
        )
    tls = gateway.tls
    if isinstance(tls, BalancerTls) and not tls.https_server:
        return found
    if tls.credential is not None:
        found.append(
            {
                # A balancer that speaks TLS to its targets names no server.
                "hosts": ["*"] if isinstance(tls, BalancerTls) or tls.any_server_name else hosts,
                "port": _port(HTTPS_PORT, "https", "HTTPS"),
                "tls": {
                    "mode": "SIMPLE",
                    "credentialName": credentials[tls.credential],
                    "minProtocolVersion": "TLSV1_2",
                },
            }
        )
    elif _https_comes_as_http(gateway):
        found.append({"hosts": hosts, "port": _port(HTTPS_PORT, "http-tls-ended", "HTTP")})
    return found


def rules(gateway: NlbGateway, host: EdgeHost) -> list[dict[str, Any]]:
    """The HTTP rules of the host's VirtualService.

    A redirect is for what came by http. Where TLS ends at the gateway, or comes there again, Envoy tells that by the
    request's scheme. Where it ends at the balancer, Envoy takes all for http, and the port tells it; there the balancer
    says nothing about https to the application either, so that the gateway does.
    """
    route = {"route": [{"destination": {"host": host.backend.service, "port": {"number": host.backend.port}}}]}
    found: list[dict[str, Any]] = []
    by_port = _https_comes_as_http(gateway)
    if host.redirect == "route":
        match = {"port": HTTP_PORT} if by_port else {"scheme": {"exact": "http"}}
        found.append({"match": [match], "redirect": {"scheme": "https", "redirectCode": 308}})
    if by_port:
        headers = {"request": {"set": {"x-forwarded-proto": "https"}}}
        found.append({"match": [{"port": HTTPS_PORT}], "headers": headers, **route})
    return [*found, route]


def _https_comes_as_http(gateway: NlbGateway) -> bool:
    """Whether what came to 443 comes as http to a port of its own."""
    tls = gateway.tls
    return (
        isinstance(tls, BalancerTls)
        and tls.target_ports == "split"
        and tls.https_server
        and tls.backend_protocol == "tcp"
    )


def _port(number: int, name: str, protocol: str) -> dict[str, Any]:
    return {"number": number, "name": name, "protocol": protocol}
