"""Istio's resources of each stage; plain data.

Source: KANS 7, traffic management and security. What the document only names (timeouts, retries, outlier detection,
circuit breaking, shifting) is as in Istio's tasks of these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pulumi

from settings.bookinfo import NO_MESH, STEPS, Step

APPS = ("productpage", "details", "reviews", "ratings")
PORT = 9080
"""Where each of them listens, and of its Service."""

GATEWAY = "bookinfo-gateway"
"""Name of the gateway, of its Service and of its Gateway."""

FAULTY = "v-faulty"
"""The version of ratings that answers half of the requests with 503."""

USER = "jason"
"""Who logs in, in the source document."""

USER_HEADER = "end-user"
"""Where productpage says who is logged in."""

MATCHES: Mapping[Step, Mapping[str, str]] = {
    "jason-exact": {"exact": USER},
    "jason-prefix": {"prefix": "jas"},
    "jason-regex": {"regex": "ja.*n"},
}
"""Whom the stage takes for the user; a regular expression matches the whole name."""

SHIFTS: Mapping[Step, Mapping[str, int]] = {
    "shift-50": {"v1": 50, "v3": 50},
    "shift-10": {"v1": 90, "v3": 10},
}
"""Per cent of the requests for reviews, by version."""

DELAY = "7s"
"""Longer than productpage waits, twice 3 seconds."""

ABORT_STATUS = 500

TIMEOUT = "0.5s"
"""Of reviews, which takes longer as ratings answers late."""

LATE = "2s"
"""How late, at the stage `timeout`."""

ATTEMPTS = 10
"""Of a request that the faulty ratings refused; one in two thousand is refused eleven times."""

OUTLIER_DETECTION: Mapping[str, Any] = {
    "consecutive5xxErrors": 1,
    "interval": "1s",
    "baseEjectionTime": "180s",
    # The one that is left still answers: without this no more than one in ten is taken out.
    "maxEjectionPercent": 100,
}

CONNECTION_POOL: Mapping[str, Any] = {
    "tcp": {"maxConnections": 1},
    "http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1},
}
"""One request under way, one that waits."""

BUSY = "1s"
"""How long a request for reviews is under way at the stage `circuit-breaker`."""

SUBSETS: Mapping[str, tuple[str, ...]] = {
    "productpage": ("v1",),
    "reviews": ("v1", "v2", "v3"),
    "ratings": ("v1", "v2", "v2-mysql", "v2-mysql-vm"),
    "details": ("v1", "v2"),
}
"""The document's, by host; some have no pods."""

CALLERS: Mapping[str, str | None] = {
    "productpage": None,
    "details": "productpage",
    "reviews": "productpage",
    "ratings": "reviews",
}
"""By application: who may GET from it, everybody where there is none. In the order in which the stages let them in."""

API_VERSIONS: Mapping[str, str] = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
}
"""By kind."""

_FAULTY_STEPS: tuple[Step, ...] = ("faulty", "retries", "outlier-detection")


def _to(host: str, version: str) -> dict[str, Any]:
    return {"route": [{"destination": {"host": host, "subset": version}}]}


def _shifted(weights: Mapping[str, int]) -> dict[str, Any]:
    return {
        "route": [
            {"destination": {"host": "reviews", "subset": version}, "weight": weight}
            for version, weight in weights.items()
        ]
    }


def _if(match: Mapping[str, str]) -> dict[str, Any]:
    return {"match": [{"headers": {USER_HEADER: dict(match)}}]}


def _late(fixed: str) -> dict[str, Any]:
    return {"fault": {"delay": {"percentage": {"value": 100.0}, "fixedDelay": fixed}}}


_REVIEWS: Mapping[Step, list[dict[str, Any]]] = {
    **{step: [_if(match) | _to("reviews", "v2"), _to("reviews", "v1")] for step, match in MATCHES.items()},
    "delay": [_if({"exact": USER}) | _to("reviews", "v2"), _to("reviews", "v1")],
    "abort": [_if({"exact": USER}) | _to("reviews", "v2"), _to("reviews", "v1")],
    **{step: [_shifted(weights)] for step, weights in SHIFTS.items()},
    "timeout": [_to("reviews", "v2") | {"timeout": TIMEOUT}],
    "faulty": [_to("reviews", "v2")],
    "retries": [_to("reviews", "v2")],
    "outlier-detection": [_to("reviews", "v2")],
    # What the breaker refuses is refused once.
    "circuit-breaker": [_to("reviews", "v2") | {"retries": {"attempts": 0}}],
}
"""Rules for reviews where not everybody gets v1."""

_RATINGS: Mapping[Step, list[dict[str, Any]]] = {
    "delay": [_if({"exact": USER}) | _late(DELAY) | _to("ratings", "v1"), _to("ratings", "v1")],
    "abort": [
        _if({"exact": USER})
        | {"fault": {"abort": {"percentage": {"value": 100.0}, "httpStatus": ABORT_STATUS}}}
        | _to("ratings", "v1"),
        _to("ratings", "v1"),
    ],
    "timeout": [_late(LATE) | _to("ratings", "v1")],
    "faulty": [_to("ratings", FAULTY) | {"retries": {"attempts": 0}}],
    "retries": [_to("ratings", FAULTY) | {"retries": {"attempts": ATTEMPTS, "retryOn": "5xx"}}],
    # Both versions; retries would hide the errors until the faulty one is out.
    "outlier-detection": [{"route": [{"destination": {"host": "ratings"}}], "retries": {"attempts": 0}}],
    "circuit-breaker": [_late(BUSY) | _to("ratings", "v1")],
}
"""Rules for ratings where not everybody gets v1 at once."""


@dataclass(frozen=True, kw_only=True)
class IstioObject:
    """A resource in Bookinfo's namespace, which keeps its name from stage to stage."""

    kind: str
    name: str
    spec: dict[str, Any]

    @property
    def api_version(self) -> str:
        """Of its kind."""
        return API_VERSIONS[self.kind]


def has_mesh(step: Step) -> bool:
    """Whether the pods have sidecars and there is a gateway."""
    return step != NO_MESH


def has_rules(step: Step) -> bool:
    """Whether subsets and routes of the four services are there."""
    return _between(step, "all-v1", "circuit-breaker")


def versions(step: Step) -> dict[str, tuple[str, ...]]:
    """The versions that there are pods of, by application."""
    faulty = (FAULTY,) if step in _FAULTY_STEPS else ()
    return {"productpage": ("v1",), "details": ("v1",), "reviews": ("v1", "v2", "v3"), "ratings": ("v1", *faulty)}


def mutual_tls(step: Step) -> Literal["PERMISSIVE", "STRICT"] | None:
    """What the namespace itself says of connections without TLS; None where it leaves that to the mesh."""
    if step == "permissive":
        return "PERMISSIVE"
    return "STRICT" if _between(step, "strict", STEPS[-1]) else None


def viewers(step: Step) -> tuple[str, ...] | None:
    """The applications that let somebody in when nothing else is allowed; None while everything is."""
    if not _between(step, "allow-nothing", STEPS[-1]):
        return None
    return tuple(CALLERS)[: STEPS.index(step) - STEPS.index("allow-nothing")]


def account(app: str) -> str:
    """The application's service account."""
    return f"bookinfo-{app}"


def objects(
    step: Step, *, gateway_namespace: str, principals: Mapping[str, pulumi.Input[str]]
) -> tuple[IstioObject, ...]:
    """Istio's resources of a stage, but the Gateway; `principals` are the applications' identities, by application."""
    specs: dict[tuple[str, str], dict[str, Any]] = {}
    if has_mesh(step):
        specs["VirtualService", "bookinfo"] = _entry(gateway_namespace)
    if has_rules(step):
        for host in SUBSETS:
            specs["DestinationRule", host] = _destination_rule(step, host)
            specs["VirtualService", host] = _virtual_service(step, host)
    if mode := mutual_tls(step):
        specs["PeerAuthentication", "default-strict"] = {"mtls": {"mode": mode}}
    if (allowed := viewers(step)) is not None:
        specs["AuthorizationPolicy", "allow-nothing"] = {}
        for app in allowed:
            specs["AuthorizationPolicy", f"{app}-viewer"] = _viewer(app, principals)
    return tuple(IstioObject(kind=kind, name=name, spec=spec) for (kind, name), spec in specs.items())


def _between(step: Step, first: Step, last: Step) -> bool:
    return STEPS.index(first) <= STEPS.index(step) <= STEPS.index(last)


def _entry(gateway_namespace: str) -> dict[str, Any]:
    """What the gateway forwards: the five matches."""
    return {
        "hosts": ["*"],
        "gateways": [f"{gateway_namespace}/{GATEWAY}"],
        "exportTo": [gateway_namespace],
        "http": [
            {
                "match": [
                    {"uri": {"exact": "/productpage"}},
                    {"uri": {"prefix": "/static"}},
                    {"uri": {"exact": "/login"}},
                    {"uri": {"exact": "/logout"}},
                    {"uri": {"prefix": "/api/v1/products"}},
                ],
                "route": [{"destination": {"host": "productpage", "port": {"number": PORT}}}],
            }
        ],
    }


def _destination_rule(step: Step, host: str) -> dict[str, Any]:
    subsets = SUBSETS[host]
    if host == "ratings" and step in _FAULTY_STEPS:
        subsets = (*subsets, FAULTY)
    policy: dict[str, Any] = {}
    if (host, step) == ("ratings", "outlier-detection"):
        # Where outlier detection is, Istio prefers pods of the caller's zone: the faulty one might never be asked.
        everywhere = {"localityLbSetting": {"enabled": False}}
        policy = {"trafficPolicy": {"outlierDetection": dict(OUTLIER_DETECTION), "loadBalancer": everywhere}}
    if (host, step) == ("reviews", "circuit-breaker"):
        policy = {"trafficPolicy": {"connectionPool": dict(CONNECTION_POOL)}}
    # No other namespace's proxies need to know what is tried out here.
    return {
        "host": host,
        "exportTo": ["."],
        **policy,
        "subsets": [{"name": subset, "labels": {"version": subset}} for subset in subsets],
    }


def _virtual_service(step: Step, host: str) -> dict[str, Any]:
    exceptions = {"reviews": _REVIEWS, "ratings": _RATINGS}.get(host, {})
    return {"hosts": [host], "exportTo": ["."], "http": exceptions.get(step, [_to(host, "v1")])}


def _viewer(app: str, principals: Mapping[str, pulumi.Input[str]]) -> dict[str, Any]:
    caller = CALLERS[app]
    source: dict[str, Any] = {"from": [{"source": {"principals": [principals[caller]]}}]} if caller else {}
    return {
        "selector": {"matchLabels": {"app": app}},
        "action": "ALLOW",
        "rules": [{**source, "to": [{"operation": {"methods": ["GET"]}}]}],
    }
