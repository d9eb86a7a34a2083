"""What the steps' sidecars let out, as Istio's resources; plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from settings.external import Step

MODES: Mapping[Step, Literal["ALLOW_ANY", "REGISTRY_ONLY"]] = {
    "allow-any": "ALLOW_ANY",
    "registry-only": "REGISTRY_ONLY",
    "service-entry": "REGISTRY_ONLY",
    "client-allow-any": "ALLOW_ANY",
    "client-registry-only": "REGISTRY_ONLY",
    "client-http": "REGISTRY_ONLY",
    "client-tcp": "REGISTRY_ONLY",
}
"""What becomes of traffic to hosts that a step's sidecars do not know; steps that are not here have no sidecars."""

PROTOCOLS: Mapping[Step, Literal["HTTP", "TCP"]] = {"client-http": "HTTP", "client-tcp": "TCP"}
"""As what the step's ServiceEntry declares the proxy."""

LISTENING: tuple[Step, ...] = ("allow-any", "registry-only")
"""Steps with an http listener on port 80 that no host of theirs gives them."""

HTTP_PORT, HTTPS_PORT = 80, 443
"""Of hosts outside."""

PROXY_HOST = "squid.proxy.internal"
"""The proxy's name in ServiceEntries; its clients use the address."""


def sidecar(mode: str) -> dict[str, Any]:
    """Sidecar of a whole namespace: what it knows is its own namespace's, everything else is outside."""
    return {"outboundTrafficPolicy": {"mode": mode}, "egress": [{"hosts": ["./*"]}]}


def host_entry(host: str) -> dict[str, Any]:
    """ServiceEntry of a web server outside."""
    return {
        "hosts": [host],
        "exportTo": ["."],
        "location": "MESH_EXTERNAL",
        "resolution": "DNS",
        "ports": [
            {"number": HTTP_PORT, "name": "http", "protocol": "HTTP"},
            {"number": HTTPS_PORT, "name": "tls", "protocol": "TLS"},
        ],
    }


def proxy_entry(address: str, port: int, protocol: str) -> dict[str, Any]:
    """ServiceEntry of the proxy at an address, reached by this protocol as far as the sidecar is told."""
    return {
        "hosts": [PROXY_HOST],
        "addresses": [address],
        "exportTo": ["."],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "endpoints": [{"address": address}],
        "ports": [{"number": port, "name": protocol.lower(), "protocol": protocol}],
    }
