"""What Envoy is told: envoy-demo.yaml, and envoy-override.yaml, which is laid over it; plain data.

Reference: Envoy, "Quick start" (static configuration, override configuration, securing with TLS).
"""

from __future__ import annotations

from typing import Any

from settings.standalone_envoy import DEMO_ADMIN_PORT, LISTENER_PORT, AdminOverride, Upstream

LISTENER = "listener_0"
CLUSTER = "service_envoyproxy_io"
"""As the source document names them."""

SYSTEM_CAS = "/etc/ssl/certs/ca-certificates.crt"
"""Those of Envoy's image."""

LOG_FORMAT = {
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_tls_version": "%UPSTREAM_TLS_VERSION%",
    "upstream_peer_dns_san": "%UPSTREAM_PEER_DNS_SAN%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""The access log: a JSON object a line."""


def demo(upstream: Upstream, cas: str) -> dict[str, Any]:
    """envoy-demo.yaml: port 10000 to the upstream by TLS; `cas` is the path of the CAs in the container.

    Other than the source document's it checks the upstream's certificate, which Envoy does only when it is told to.
    """
    return {
        "admin": _admin("127.0.0.1", DEMO_ADMIN_PORT),
        "static_resources": {"listeners": [_listener(upstream)], "clusters": [_cluster(upstream, cas)]},
    }


def override(admin: AdminOverride) -> dict[str, Any]:
    """envoy-override.yaml; what is not in it stays as it is."""
    return {"admin": _admin(admin.address, admin.port)}


def _admin(address: str, port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": address, "port_value": port}}}


def _listener(upstream: Upstream) -> dict[str, Any]:
    route = {"host_rewrite_literal": upstream.host, "cluster": CLUSTER}
    hosts = {"name": "local_service", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
    log = _typed("access_loggers.stream.v3.StdoutAccessLog", {"log_format": {"json_format": LOG_FORMAT}})
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": "ingress_http",
            "access_log": [{"name": "envoy.access_loggers.stdout", "typed_config": log}],
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": _typed("filters.http.router.v3.Router", {})}
            ],
            "route_config": {"name": "local_route", "virtual_hosts": [hosts]},
        },
    )
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": LISTENER_PORT}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _cluster(upstream: Upstream, cas: str) -> dict[str, Any]:
    address = {"socket_address": {"address": upstream.host, "port_value": upstream.port}}
    tls = _typed(
        "transport_sockets.tls.v3.UpstreamTlsContext",
        {
            "sni": upstream.host,
            "common_tls_context": {
                # Without it Envoy stops at 1.2 as a client.
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {
                    "trusted_ca": {"filename": cas},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": upstream.host}}],
                },
            },
        },
    )
    return {
        "name": CLUSTER,
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "V4_ONLY",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _typed(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}
