"""The bench of many teams without a lab: the teams, what a preview says, what is taken from Envoy's configuration."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from bench import sidecar_size, teams_preview, tenants
from bench.stacks import BenchError
from settings import load
from tests.unit.program import UPSTREAM, run


def settings(count: int) -> dict[str, Any]:
    """What the bench's program gets to see."""
    given = {key.removeprefix("meshgate:"): value for key, value in tenants.CONFIG.items()}
    return given | {"teams": json.loads(json.dumps(tenants.section(count)))}


# --- the teams ---


def test_the_stack_holds_teams_alone_with_as_many_hosts_as_said() -> None:
    loaded = load(settings(3))
    assert loaded.layers == ("teams",)
    assert loaded.teams is not None
    assert [team.name for team in loaded.teams.teams] == ["bench-000", "bench-001", "bench-002"]
    for team in loaded.teams.teams:
        assert len({host.host for host in team.hosts}) == tenants.HOSTS
        assert Counter(host.mode for host in team.hosts) == {"originate": 14, "http": 4, "passthrough": 2}


def test_teams_share_some_hosts_and_have_their_own() -> None:
    one, other = ({host["host"] for host in tenants.team(number)["hosts"]} for number in (1, 2))
    assert len(one & other) == 4


def test_names_sort_by_number() -> None:
    names = [tenants.name(number) for number in range(max(tenants.COUNTS))]
    assert names == sorted(names)


def test_resources_grow_with_teams_and_nothing_else() -> None:
    counts = [len(run(settings(count), references={"dev": UPSTREAM}).resources) for count in (1, 2, 4)]
    of_a_team = counts[1] - counts[0]
    assert counts[2] - counts[1] == 2 * of_a_team
    assert of_a_team < tenants.HOSTS


# --- the preview ---


def test_the_number_of_resources_is_what_the_preview_says() -> None:
    assert teams_preview.to_create("a + 3 to create b\n\nResources:\n    + 172 to create\n") == 172
    with pytest.raises(BenchError, match="would create nothing"):
        teams_preview.to_create("Resources:\n    172 unchanged\n")


def test_the_cost_of_a_resource_leaves_out_what_each_run_begins_with() -> None:
    seconds = {10: [7.0, 8.0, 60.0], 100: [28.0]}
    assert teams_preview.cost(seconds, {10: 100, 100: 300}, 10, 100) == pytest.approx(0.1)


def step(kind: str, name: str, team: str, inputs: dict[str, Any]) -> dict[str, Any]:
    parent = f"urn:pulumi:bench-teams::meshgate::meshgate:teams:Team::{team}"
    return {"op": "create", "newState": {"type": kind, "urn": f"{parent}::{name}", "parent": parent, "inputs": inputs}}


def test_objects_of_a_preview_are_taken_by_team() -> None:
    steps = [
        {"op": "create", "newState": {"type": "pulumi:pulumi:Stack"}},
        {"op": "create", "newState": {"type": "pulumi:providers:kubernetes", "inputs": {"kubeconfig": "[secret]"}}},
        step("kubernetes:core/v1:Namespace", "b", "bench-teams-bench-001", {"b": 1}),
        step("kubernetes:core/v1:Namespace", "a", "bench-teams-bench-000", {"a": 1}),
        step("kubernetes:networking.istio.io/v1:Sidecar", "c", "bench-teams-bench-001", {"c": 1}),
        {"op": "read"},
    ]
    assert sidecar_size.objects({"steps": steps}) == [[{"a": 1}], [{"b": 1}, {"c": 1}]]


@pytest.mark.parametrize("shown", sidecar_size.NOT_KNOWN)
def test_an_object_that_a_preview_does_not_know_is_not_made_up(shown: str) -> None:
    unknown = step("kubernetes:core/v1:Namespace", "a", "bench-teams-bench-000", {"metadata": {"name": shown}})
    with pytest.raises(BenchError, match="does not know"):
        sidecar_size.objects({"steps": [unknown]})


# --- the size ---


def dump(time: str = "1", clusters: tuple[str, ...] = ("outbound|80||a.example.com",)) -> dict[str, Any]:
    """Envoy's config_dump, as much of it as matters."""
    kind = "type.googleapis.com/envoy.admin.v3."
    noise = {"version_info": time, "last_updated": time}
    cluster = [{**noise, "cluster": {"name": name}} for name in clusters]
    return {
        "configs": [
            {"@type": f"{kind}BootstrapConfigDump", "bootstrap": {"node": time}},
            {"@type": f"{kind}ClustersConfigDump", "static_clusters": [noise], "dynamic_active_clusters": cluster[:1]}
            | {"dynamic_warming_clusters": cluster[1:]},
            {"@type": f"{kind}EndpointsConfigDump", "dynamic_endpoint_configs": [{"address": time}]},
            {
                "@type": f"{kind}ListenersConfigDump",
                "dynamic_listeners": [
                    {"name": "l", "active_state": {**noise, "listener": {"name": "l"}}},
                    {"name": "m", "warming_state": {**noise, "listener": {"server_names": ["tls.example.com.shop"]}}},
                ],
            },
            {
                "@type": f"{kind}RoutesConfigDump",
                "dynamic_route_configs": [{**noise, "route_config": {"domains": ["a.example.com"]}}],
            },
            {"@type": f"{kind}SecretsConfigDump", "dynamic_active_secrets": [{"name": time}]},
        ]
    }


def test_the_size_is_of_clusters_listeners_and_routes() -> None:
    text = sidecar_size.configuration(dump(clusters=("one", "two")))
    assert json.loads(text) == {
        "clusters": [{"name": "one"}, {"name": "two"}],
        "listeners": [{"name": "l"}, {"server_names": ["tls.example.com.shop"]}],
        "routes": [{"domains": ["a.example.com"]}],
    }
    assert sidecar_size.kilobytes(text) == len(text) / 1000


def test_times_versions_endpoints_and_certificates_do_not_count() -> None:
    assert sidecar_size.configuration(dump("1")) == sidecar_size.configuration(dump("2026-11-21T10:00:00.123Z"))


@pytest.mark.parametrize(
    ("host", "clusters", "missing"),
    [
        ("a.example.com", ("outbound|80||a.example.com",), False),
        ("tls.example.com", ("outbound|443||tls.example.com",), False),
        ("a.example.com", (), True),
        ("a.example.com", ("outbound|80||aa.example.com",), True),
        ("b.example.com", ("outbound|80||b.example.com",), True),
    ],
)
def test_a_host_is_known_when_there_is_a_way_to_it(host: str, clusters: tuple[str, ...], missing: bool) -> None:
    text = sidecar_size.configuration(dump(clusters=clusters))
    found = list(sidecar_size.unknown(text, {"name": "shop", "hosts": [{"host": host}]}))
    assert found == ([host] if missing else [])
