"""Scenario bookinfo: Istio's resources of each stage, and what a step from one to the next changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import yaml

from components.bookinfo.stages import (
    APPS,
    MATCHES,
    SHIFTS,
    has_rules,
    mutual_tls,
    objects,
    versions,
    viewers,
)
from settings.bookinfo import STEPS, Step

PRINCIPALS = {app: f"cluster.local/ns/default/sa/bookinfo-{app}" for app in APPS}
"""The source document's applications are in the namespace `default`."""

RULES = {f"{kind} {app}" for kind in ("DestinationRule", "VirtualService") for app in APPS}
VIEWERS = [f"AuthorizationPolicy {app}-viewer" for app in APPS]
STRICT = "PeerAuthentication default-strict"
NOTHING = "AuthorizationPolicy allow-nothing"


def stage(step: Step) -> dict[str, dict[str, Any]]:
    """The specs of a stage, by kind and name."""
    made = objects(step, gateway_namespace="edge", principals=PRINCIPALS)
    found = {f"{one.kind} {one.name}": one.spec for one in made}
    assert len(found) == len(made)
    return found


def rules(step: Step, app: str) -> Any:
    """The rules for requests to an application."""
    return stage(step)[f"VirtualService {app}"]["http"]


def route(host: str, version: str) -> list[dict[str, Any]]:
    return [{"destination": {"host": host, "subset": version}}]


# What each step changes


CHANGES: dict[Step, tuple[set[str], set[str], set[str]]] = {
    "no-rules": ({"VirtualService bookinfo"}, set(), set()),
    "all-v1": (RULES, set(), set()),
    "jason-exact": (set(), {"VirtualService reviews"}, set()),
    "jason-prefix": (set(), {"VirtualService reviews"}, set()),
    "jason-regex": (set(), {"VirtualService reviews"}, set()),
    "delay": (set(), {"VirtualService reviews", "VirtualService ratings"}, set()),
    "abort": (set(), {"VirtualService ratings"}, set()),
    "shift-50": (set(), {"VirtualService reviews", "VirtualService ratings"}, set()),
    "shift-10": (set(), {"VirtualService reviews"}, set()),
    "timeout": (set(), {"VirtualService reviews", "VirtualService ratings"}, set()),
    "faulty": (set(), {"DestinationRule ratings", "VirtualService reviews", "VirtualService ratings"}, set()),
    "retries": (set(), {"VirtualService ratings"}, set()),
    "outlier-detection": (set(), {"DestinationRule ratings", "VirtualService ratings"}, set()),
    "circuit-breaker": (
        set(),
        {"DestinationRule ratings", "VirtualService ratings", "DestinationRule reviews", "VirtualService reviews"},
        set(),
    ),
    "permissive": ({STRICT}, set(), RULES),
    "strict": (set(), {STRICT}, set()),
    "allow-nothing": ({NOTHING}, set(), set()),
    "productpage-viewer": ({VIEWERS[0]}, set(), set()),
    "details-viewer": ({VIEWERS[1]}, set(), set()),
    "reviews-viewer": ({VIEWERS[2]}, set(), set()),
    "ratings-viewer": ({VIEWERS[3]}, set(), set()),
}
"""What is made, changed and taken away, by the step that one comes to."""


def test_changes_are_said_of_each_step() -> None:
    assert tuple(CHANGES) == STEPS[1:]


@pytest.mark.parametrize(("before", "step"), list(pairwise(STEPS)))
def test_a_step_changes_what_differs_and_no_more(before: Step, step: Step) -> None:
    old, new = stage(before), stage(step)
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    assert (new.keys() - old.keys(), changed, old.keys() - new.keys()) == CHANGES[step]


def test_without_a_mesh_there_is_nothing_of_istio() -> None:
    assert stage("no-mesh") == {}


def test_the_last_stage_has_every_policy_and_no_rule() -> None:
    assert set(stage("ratings-viewer")) == {"VirtualService bookinfo", STRICT, NOTHING, *VIEWERS}


# As in the source document


def same_as_documented(step: Step, name: str, documented: str) -> None:
    spec = stage(step)[name]
    # What the document does not have: other namespaces' proxies do not get these.
    assert spec.pop("exportTo") == ["."]
    assert spec == yaml.safe_load(documented)


def test_the_gateway_forwards_five_matches() -> None:
    spec = stage("no-rules")["VirtualService bookinfo"]
    assert spec == {
        "hosts": ["*"],
        "gateways": ["edge/bookinfo-gateway"],
        # Its proxies alone use it.
        "exportTo": ["edge"],
        "http": yaml.safe_load("""
            - match:
              - uri: {exact: /productpage}
              - uri: {prefix: /static}
              - uri: {exact: /login}
              - uri: {exact: /logout}
              - uri: {prefix: /api/v1/products}
              route:
              - destination: {host: productpage, port: {number: 9080}}
        """),
    }


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_gateway_forwards_the_same_at_every_stage(step: Step) -> None:
    assert stage(step)["VirtualService bookinfo"] == stage("no-rules")["VirtualService bookinfo"]


@pytest.mark.parametrize(
    ("app", "subsets"),
    [
        ("productpage", ["v1"]),
        ("reviews", ["v1", "v2", "v3"]),
        ("ratings", ["v1", "v2", "v2-mysql", "v2-mysql-vm"]),
        ("details", ["v1", "v2"]),
    ],
)
def test_subsets(app: str, subsets: list[str]) -> None:
    assert stage("all-v1")[f"DestinationRule {app}"] == {
        "host": app,
        "exportTo": ["."],
        "subsets": [{"name": subset, "labels": {"version": subset}} for subset in subsets],
    }


@pytest.mark.parametrize("app", APPS)
def test_all_to_v1(app: str) -> None:
    assert stage("all-v1")[f"VirtualService {app}"] == {
        "hosts": [app],
        "exportTo": ["."],
        "http": [{"route": route(app, "v1")}],
    }


def test_jason_gets_reviews_v2() -> None:
    same_as_documented(
        "jason-exact",
        "VirtualService reviews",
        """
        hosts: [reviews]
        http:
        - match:
          - headers: {end-user: {exact: jason}}
          route:
          - destination: {host: reviews, subset: v2}
        - route:
          - destination: {host: reviews, subset: v1}
        """,
    )


def test_jason_waits_for_ratings() -> None:
    same_as_documented(
        "delay",
        "VirtualService ratings",
        """
        hosts: [ratings]
        http:
        - match:
          - headers: {end-user: {exact: jason}}
          fault:
            delay: {percentage: {value: 100.0}, fixedDelay: 7s}
          route:
          - destination: {host: ratings, subset: v1}
        - route:
          - destination: {host: ratings, subset: v1}
        """,
    )


def test_jason_is_refused_ratings() -> None:
    same_as_documented(
        "abort",
        "VirtualService ratings",
        """
        hosts: [ratings]
        http:
        - match:
          - headers: {end-user: {exact: jason}}
          fault:
            abort: {percentage: {value: 100.0}, httpStatus: 500}
          route:
          - destination: {host: ratings, subset: v1}
        - route:
          - destination: {host: ratings, subset: v1}
        """,
    )


POLICIES = """
productpage:
  selector: {matchLabels: {app: productpage}}
  action: ALLOW
  rules:
  - to: [{operation: {methods: [GET]}}]
details:
  selector: {matchLabels: {app: details}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-productpage]}}]
    to: [{operation: {methods: [GET]}}]
reviews:
  selector: {matchLabels: {app: reviews}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-productpage]}}]
    to: [{operation: {methods: [GET]}}]
ratings:
  selector: {matchLabels: {app: ratings}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-reviews]}}]
    to: [{operation: {methods: [GET]}}]
"""


def test_who_may_get_what() -> None:
    last = stage("ratings-viewer")
    assert last[NOTHING] == {}
    assert {app: last[f"AuthorizationPolicy {app}-viewer"] for app in APPS} == yaml.safe_load(POLICIES)


@pytest.mark.parametrize(
    ("step", "mode"),
    [("no-rules", None), ("circuit-breaker", None), ("permissive", "PERMISSIVE"), ("strict", "STRICT")]
    + [(step, "STRICT") for step in STEPS[STEPS.index("allow-nothing") :]],
)
def test_mutual_tls(step: Step, mode: str | None) -> None:
    assert mutual_tls(step) == mode
    assert stage(step).get(STRICT) == (None if mode is None else {"mtls": {"mode": mode}})


# What the document names without a manifest


def users_of(step: Step) -> set[str]:
    """Who of a few users gets reviews v2, as Envoy matches headers."""
    first, others = rules(step, "reviews")
    assert first["route"] == route("reviews", "v2")
    assert others == {"route": route("reviews", "v1")}
    ((kind, value),) = first["match"][0]["headers"]["end-user"].items()
    matches: dict[str, Callable[[str], bool]] = {
        "exact": lambda user: user == value,
        "prefix": lambda user: user.startswith(value),
        "regex": lambda user: bool(re.fullmatch(value, user)),
    }
    return {user for user in ("jason", "jasper", "jan", "julia", "Jason", "jasonx") if matches[kind](user)}


def test_three_ways_to_match_a_user() -> None:
    assert users_of("jason-exact") == {"jason"}
    assert users_of("jason-prefix") == {"jason", "jasper", "jasonx"}
    assert users_of("jason-regex") == {"jason", "jan"}
    assert [next(iter(match)) for match in MATCHES.values()] == ["exact", "prefix", "regex"]


@pytest.mark.parametrize(("step", "weights"), [("shift-50", {"v1": 50, "v3": 50}), ("shift-10", {"v1": 90, "v3": 10})])
def test_shifts(step: Step, weights: dict[str, int]) -> None:
    (rule,) = rules(step, "reviews")
    assert {to["destination"]["subset"]: to["weight"] for to in rule["route"]} == weights == SHIFTS[step]
    assert rules(step, "ratings") == [{"route": route("ratings", "v1")}]


def late(fixed: str) -> dict[str, Any]:
    return {"delay": {"percentage": {"value": 100.0}, "fixedDelay": fixed}}


def test_timeout_is_shorter_than_what_it_waits_for() -> None:
    assert rules("timeout", "reviews") == [{"route": route("reviews", "v2"), "timeout": "0.5s"}]
    assert rules("timeout", "ratings") == [{"fault": late("2s"), "route": route("ratings", "v1")}]


def test_only_the_stage_with_retries_tries_again() -> None:
    assert rules("faulty", "ratings") == [{"route": route("ratings", "v-faulty"), "retries": {"attempts": 0}}]
    assert rules("retries", "ratings") == [
        {"route": route("ratings", "v-faulty"), "retries": {"attempts": 10, "retryOn": "5xx"}}
    ]
    assert rules("faulty", "reviews") == rules("retries", "reviews") == [{"route": route("reviews", "v2")}]


def test_outlier_detection_chooses_between_both_versions() -> None:
    # Without a subset.
    assert rules("outlier-detection", "ratings") == [
        {"route": [{"destination": {"host": "ratings"}}], "retries": {"attempts": 0}}
    ]
    assert stage("outlier-detection")["DestinationRule ratings"]["trafficPolicy"] == {
        "outlierDetection": {
            "consecutive5xxErrors": 1,
            "interval": "1s",
            "baseEjectionTime": "180s",
            "maxEjectionPercent": 100,
        },
        "loadBalancer": {"localityLbSetting": {"enabled": False}},
    }


def test_circuit_breaker() -> None:
    assert stage("circuit-breaker")["DestinationRule reviews"]["trafficPolicy"] == {
        "connectionPool": {
            "tcp": {"maxConnections": 1},
            "http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1},
        }
    }
    assert rules("circuit-breaker", "reviews") == [{"route": route("reviews", "v2"), "retries": {"attempts": 0}}]
    assert rules("circuit-breaker", "ratings") == [{"fault": late("1s"), "route": route("ratings", "v1")}]


def test_policies_of_traffic_are_there_at_their_stages_alone() -> None:
    limited = {(step, name) for step in STEPS for name, spec in stage(step).items() if "trafficPolicy" in spec}
    assert limited == {("outlier-detection", "DestinationRule ratings"), ("circuit-breaker", "DestinationRule reviews")}


# Subsets that routes name


@pytest.mark.parametrize("step", [step for step in STEPS if has_rules(step)])
def test_routes_lead_to_subsets_with_pods(step: Step) -> None:
    found, pods = stage(step), versions(step)
    for app in APPS:
        subsets = {subset["name"] for subset in found[f"DestinationRule {app}"]["subsets"]}
        for rule in rules(step, app):
            for to in rule["route"]:
                assert to["destination"]["host"] == app
                if version := to["destination"].get("subset"):
                    assert version in subsets
                    assert version in pods[app]


def test_the_faulty_version_is_there_for_three_stages() -> None:
    assert [step for step in STEPS if "v-faulty" in versions(step)["ratings"]] == [
        "faulty",
        "retries",
        "outlier-detection",
    ]


def test_viewers_are_let_in_one_by_one() -> None:
    assert viewers("strict") is None
    assert [viewers(step) for step in STEPS[STEPS.index("allow-nothing") :]] == [APPS[:count] for count in range(5)]
