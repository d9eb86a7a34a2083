"""The limits as Envoy and its rate-limit service are told them; plain data.

A request has a descriptor for its limit: the path and, where the limit counts by a header, that header's value. The
sidecar makes it. For a local limit it looks for a token bucket with that descriptor; for a global one it asks the
service, whose configuration has the same descriptors.
References: Istio, "Enabling Rate Limits using Envoy"; Envoy, "Local rate limit", "Rate limit"; envoyproxy/ratelimit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from settings.rate_limit import SECONDS, Limit

APPLICATION, SERVICE, REDIS = "httpbin", "ratelimit", "redis"
"""Names of Deployments, Services and service accounts."""

REPLICAS = 2
"""Of the application: one more than a single proxy can count for."""

GRPC_PORT = 8081
METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
"""What proxies ask the service."""

PATH = "PATH"
"""Key of the first entry of each descriptor; the second has the header's name."""

WITHOUT = "-"
"""What stands for the header's value in requests without it."""

VALUES = 1000
"""How many values of a header a proxy counts at a time; it forgets that which was not asked for longest."""

SECONDS_TO_DECIDE = 2
"""Envoy's own 20 ms are less than a busy node may take; a service that is gone is noticed at once."""

TYPES = "type.googleapis.com/envoy.extensions.filters.http"
ALWAYS: Mapping[str, Any] = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
HEADERS = "DRAFT_VERSION_03"
"""Answers tell the limit, what is left of it, and the seconds until there is more (x-ratelimit-...)."""


def local_filter(limits: Sequence[Limit]) -> dict[str, Any]:
    """The filter that counts by itself; requests without a descriptor pass it, as it has no bucket for them."""
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{TYPES}.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "http_local_rate_limiter",
            "filter_enabled": dict(ALWAYS),
            "filter_enforced": dict(ALWAYS),
            "enable_x_ratelimit_headers": HEADERS,
            "rate_limits": [descriptor for limit in limits for descriptor in _descriptors(limit)],
            "descriptors": [_bucket(limit) for limit in limits],
            "max_dynamic_descriptors": VALUES,
        },
    }


def global_filter(limits: Sequence[Limit], namespace: str, failure_mode: str) -> dict[str, Any]:
    """The filter that asks the rate-limit service of this namespace, by Istio's own cluster for it: mutual TLS."""
    host = f"{SERVICE}.{namespace}.svc.cluster.local"
    return {
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": f"{TYPES}.ratelimit.v3.RateLimit",
            "domain": namespace,
            "timeout": f"{SECONDS_TO_DECIDE}s",
            "failure_mode_deny": failure_mode == "deny",
            "enable_x_ratelimit_headers": HEADERS,
            "rate_limits": [descriptor for limit in limits for descriptor in _descriptors(limit)],
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {
                    "envoy_grpc": {"cluster_name": f"outbound|{GRPC_PORT}||{host}", "authority": host},
                },
            },
        },
    }


def envoy_filter(http_filter: Mapping[str, Any]) -> dict[str, Any]:
    """EnvoyFilter that gives the application's sidecars one more filter for the requests that come in.

    Last before the router: what an AuthorizationPolicy refuses counts for nobody's limit.
    """
    router = {
        "name": "envoy.filters.network.http_connection_manager",
        "subFilter": {"name": "envoy.filters.http.router"},
    }
    return {
        "workloadSelector": {"labels": {"app": APPLICATION}},
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": {"filter": router}}},
                "patch": {"operation": "INSERT_BEFORE", "value": dict(http_filter)},
            }
        ],
    }


def service_configuration(limits: Sequence[Limit], namespace: str) -> dict[str, Any]:
    """The rate-limit service's file: the limits by their descriptors."""
    return {"domain": namespace, "descriptors": [_counted(limit) for limit in limits]}


def _counted(limit: Limit) -> dict[str, Any]:
    rate = {"rate_limit": {"unit": limit.unit, "requests_per_unit": limit.requests_per_unit}}
    # An entry without a value is any value, each counted by itself.
    return {
        "key": PATH,
        "value": limit.path,
        **({"descriptors": [{"key": limit.header, **rate}]} if limit.header else rate),
    }


def _bucket(limit: Limit) -> dict[str, Any]:
    return {
        "entries": [{"key": PATH, "value": limit.path}, *([{"key": limit.header}] if limit.header else [])],
        "token_bucket": {
            "max_tokens": limit.requests_per_unit,
            "tokens_per_fill": limit.requests_per_unit,
            "fill_interval": f"{SECONDS[limit.unit]}s",
        },
    }


def _descriptors(limit: Limit) -> list[dict[str, Any]]:
    """What makes a limit's descriptor of a request; none is made of requests to other paths."""
    # Envoy matches the whole path, the query included.
    below = {"safe_regex": {"regex": f"{re.escape(limit.path)}([/?].*)?"}}
    path = {
        "header_value_match": {
            "descriptor_key": PATH,
            "descriptor_value": limit.path,
            "headers": [{"name": ":path", "string_match": below}],
        }
    }
    if limit.header is None:
        return [{"actions": [path]}]
    value = {"request_headers": {"header_name": limit.header, "descriptor_key": limit.header}}
    without = {
        "header_value_match": {
            "descriptor_key": limit.header,
            "descriptor_value": WITHOUT,
            "expect_match": False,
            "headers": [{"name": limit.header, "present_match": True}],
        }
    }
    return [{"actions": [path, value]}, {"actions": [path, without]}]
