"""Who may use a gateway, by the client's address; plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.edge.routes import TARGET_HTTP, TARGET_HTTPS
from components.egress.network_policy import METRICS_PORT, blocks, namespace, tcp
from components.mesh.gateway_chart import STATUS_PORT
from settings.edge import NlbGateway


def authorization(gateway_name: str, gateway: NlbGateway) -> dict[str, Any] | None:
    """Spec of the AuthorizationPolicy that turns clients away; None when everybody may.

    Where the address is the packets' source (`preserve`), `ipBlocks` holds against it, and no header can change it.
    PROXY protocol leaves the source as it is and puts the client's address beside it: `remoteIpBlocks` holds against
    that, which without trusted proxies no header can change either.
    """
    field = "remoteIpBlocks" if gateway.balancer.client_address == "proxy-protocol" else "ipBlocks"
    sources: list[dict[str, Any]] = []
    if gateway.deny:
        sources.append({field: [str(cidr) for cidr in gateway.deny]})
    if gateway.allow:
        # A denial of all others, and no ALLOW: policies of that kind add up, and the next one would open more.
        sources.append({f"not{field[0].upper()}{field[1:]}": [str(cidr) for cidr in gateway.allow]})
    if not sources:
        return None
    return {
        "selector": {"matchLabels": {"istio": gateway_name}},
        "action": "DENY",
        "rules": [{"from": [{"source": source}]} for source in sources],
    }


def balancer_only(gateway_name: str, balancer_cidrs: Sequence[str], metrics_from: Sequence[str]) -> Any:
    """Spec of the NetworkPolicy around a gateway that believes PROXY headers: only the balancer may send them."""
    ingress = [{"from": blocks(balancer_cidrs), "ports": tcp(TARGET_HTTP, TARGET_HTTPS, STATUS_PORT)}]
    # An empty `from` would be everybody.
    if metrics_from:
        ingress.append({"from": [namespace(name) for name in metrics_from], "ports": tcp(METRICS_PORT)})
    return {
        "podSelector": {"matchLabels": {"istio": gateway_name}},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    }
