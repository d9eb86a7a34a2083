"""Two revisions side by side: the steps of a canary upgrade on the resource graph, tags, and who follows whom."""

from __future__ import annotations

from typing import Any

import pytest

from settings import SettingsError, load
from tests.unit.program import UPSTREAM, Program, Registered, run

MESH: dict[str, Any] = {"name": "prod", "layers": ["mesh"], "upstream": {"cluster": "base", "authority": "base"}}
OLD, NEW = "1-31-1", "1-32-0"

STEPS: dict[str, dict[str, Any]] = {
    "before": {"revision": OLD},
    "second": {"revision": OLD, "canary": {"revision": NEW}},
    "one moved": {"revision": OLD, "canary": {"revision": NEW, "namespaces": ["shop"]}},
    "promoted": {"revision": NEW, "canary": {"revision": OLD}},
    "removed": {"revision": NEW},
}
"""The settings of the mesh at each step of docs/scenarios/mesh.md, "Upgrade with a canary"."""


def mesh(settings: dict[str, Any], *, namespace: str = "istio-system", **istio: Any) -> Program:
    """The layer alone with these settings."""
    config = {**MESH, "mesh": settings, **({"istio": istio} if istio else {})}
    return run(config, stack="prod", references={"base": {**UPSTREAM, "authority_namespace": namespace}})


def istiods(program: Program) -> dict[str, Registered]:
    """The control planes by revision."""
    named = {release.inputs["values"].get("revision"): release for release in program.of("helm.sh/v3:Release")}
    return {revision: release for revision, release in named.items() if revision}


def webhooks(program: Program, tag: str = "stable") -> list[dict[str, Any]]:
    """Those of a tag."""
    made: list[dict[str, Any]] = program.one(f"prod-mesh-tag-{tag}").inputs["webhooks"]
    return made


# The steps


@pytest.mark.parametrize(
    ("step", "there", "tagged", "moved"),
    [
        ("before", {OLD}, OLD, {}),
        ("second", {OLD, NEW}, OLD, {}),
        ("one moved", {OLD, NEW}, OLD, {"shop": NEW}),
        ("promoted", {OLD, NEW}, NEW, {}),
        ("removed", {NEW}, NEW, {}),
    ],
)
def test_steps(step: str, there: set[str], tagged: str, moved: dict[str, str]) -> None:
    program = mesh(STEPS[step])
    assert set(istiods(program)) == there
    assert {istiod.inputs["name"] for istiod in istiods(program).values()} == {f"istiod-{one}" for one in there}
    # What is there once follows the revision that the tags name.
    assert program.one("prod-mesh-tag-stable").inputs["metadata"]["labels"]["istio.io/rev"] == tagged
    assert {hook["clientConfig"]["service"]["name"] for hook in webhooks(program)} == {f"istiod-{tagged}"}
    assert program.one("prod-mesh-base").inputs["values"]["defaultRevision"] == tagged
    assert program.one("prod-mesh-istiod").inputs["spec"]["selector"]["istio.io/rev"] == tagged
    assert program.outputs["mesh_revision_tag"] == "stable"
    assert (program.outputs["mesh_revision"], program.outputs["mesh_moved"]) == (tagged, moved)


def test_promotion_changes_neither_istiod() -> None:
    """What the engine would compare: the same resources with the same inputs, in each other's place."""

    def compared(step: str) -> dict[str, tuple[str, dict[str, Any]]]:
        made = mesh(STEPS[step], version="1.31.1").resources
        return {one.name: (one.type, one.inputs) for one in made}

    before, after = compared("second"), compared("promoted")
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"prod-mesh-base", "prod-mesh-istiod", "prod-mesh-tag-stable"}
    for name in changed:
        # In place: what a resource is called and where it is stays.
        one, other = before[name][1], after[name][1]
        assert one.get("metadata", {}).get("name") == other.get("metadata", {}).get("name")
        assert one.get("name") == other.get("name")


def test_tags_move_when_the_new_one_is_ready() -> None:
    program = mesh(STEPS["promoted"])
    assert f"prod-mesh-istiod-{NEW}" in program.one("prod-mesh-tag-stable").dependencies
    assert f"prod-mesh-istiod-{NEW}" in program.one("prod-mesh-istiod").dependencies
    for istiod in istiods(program).values():
        assert "prod-mesh-base" in istiod.dependencies


def test_a_canary_has_a_version_of_its_own() -> None:
    canary = {"revision": NEW, "version": "1.32.0"}
    there = istiods(mesh({"revision": OLD, "canary": canary}, version="1.31.1", hub="registry.example.com"))
    assert {revision: one.inputs["version"] for revision, one in there.items()} == {OLD: "1.31.1", NEW: "1.32.0"}
    assert {revision: one.inputs["values"]["global"]["tag"] for revision, one in there.items()} == {
        OLD: "1.31.1",
        NEW: "1.32.0",
    }
    # All else is the same.
    values = [one.inputs["values"] for one in there.values()]
    assert values[0]["meshConfig"] == values[1]["meshConfig"]
    assert {one["global"]["hub"] for one in values} == {"registry.example.com"}


# Who follows whom

ABOVE: dict[str, Any] = {
    "name": "prod",
    "layers": ["ingress"],
    "upstream": {"cluster": "base", "mesh": "base"},
    "ingress": {
        "namespace": "gateways",
        "coolstore": {"namespace": "shop"},
        "authorities": {"webapp": {}},
        "certificates": {
            "webapp": {"kind": "issued", "authority": "webapp", "hosts": ["webapp.example.com"]},
        },
        "gateways": {
            "front": {
                "service": {"type": "LoadBalancer"},
                "hosts": [
                    {
                        "host": "webapp.example.com",
                        "tls": {"mode": "SIMPLE", "credential": "webapp"},
                        "http": "redirect",
                        "backend": {"service": "webapp.shop.svc.cluster.local"},
                        "path": "/",
                    }
                ],
            }
        },
    },
}


def followers(revision: str, moved: dict[str, str]) -> dict[str, str]:
    """istio.io/rev of each namespace, and `pods`: the revision that the gateway's pods are made for."""
    outputs = {**UPSTREAM, "mesh_revision_tag": "stable", "mesh_revision": revision, "mesh_moved": moved}
    program = run(ABOVE, stack="prod", references={"base": outputs})
    namespaces = [one.inputs["metadata"] for one in program.of(":Namespace")]
    values = program.one("prod-ingress-front-release").inputs["values"]
    # With a label of their own the pods could say something else than their namespace.
    assert "revision" not in values
    return {
        **{one["name"]: one["labels"]["istio.io/rev"] for one in namespaces},
        "pods": values["podAnnotations"]["meshgate.dev/revision"],
    }


def test_namespaces_follow_the_tag_or_the_canary() -> None:
    assert followers(OLD, {}) == {"gateways": "stable", "shop": "stable", "pods": OLD}
    assert followers(OLD, {"shop": NEW}) == {"gateways": "stable", "shop": NEW, "pods": OLD}
    assert followers(OLD, {"gateways": NEW}) == {"gateways": NEW, "shop": "stable", "pods": NEW}


def test_a_gateway_is_made_anew_once() -> None:
    """When it is moved, or else when the tag moves; never a second time by going back to the tag."""
    early = [followers(OLD, {}), followers(OLD, {"gateways": NEW}), followers(NEW, {})]
    assert [step["pods"] for step in early] == [OLD, NEW, NEW]
    late = [followers(OLD, {}), followers(OLD, {}), followers(NEW, {})]
    assert [step["pods"] for step in late] == [OLD, OLD, NEW]


# Tags


def test_a_tag_is_what_istioctl_would_make() -> None:
    program = mesh({"revision": OLD})
    metadata = program.one("prod-mesh-tag-stable").inputs["metadata"]
    assert metadata["name"] == "istio-revision-tag-stable"
    assert metadata["labels"] == {"app": "sidecar-injector", "istio.io/rev": OLD, "istio.io/tag": "stable"}
    wanted = {"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}
    revision = {"key": "istio.io/rev", "operator": "In", "values": ["stable"]}
    none = [{"key": key, "operator": "DoesNotExist"} for key in ("istio.io/rev", "istio-injection")]
    assert [
        (
            hook["name"],
            hook["namespaceSelector"]["matchExpressions"],
            hook["objectSelector"]["matchExpressions"],
        )
        for hook in webhooks(program)
    ] == [
        ("rev.namespace.sidecar-injector.istio.io", [revision, none[1]], [wanted]),
        ("rev.object.sidecar-injector.istio.io", none, [wanted, revision]),
    ]
    for hook in webhooks(program):
        # A pod that could not be injected is refused; and the CA bundle is istiod's to write.
        assert hook["failurePolicy"] == "Fail"
        assert hook["clientConfig"] == {
            "service": {"name": f"istiod-{OLD}", "namespace": "istio-system", "path": "/inject", "port": 443}
        }
        assert hook["rules"] == [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}
        ]


def test_several_tags() -> None:
    program = mesh({"revision": OLD, "revisionTags": ["prod", "stable"]})
    assert {one.name for one in program.of(":MutatingWebhookConfiguration")} == {
        "prod-mesh-tag-prod",
        "prod-mesh-tag-stable",
    }
    assert program.outputs["mesh_revision_tag"] == "prod"


def test_the_default_tag_serves_namespaces_that_name_no_revision() -> None:
    hooks = {hook["name"]: hook for hook in webhooks(mesh({"revision": OLD, "revisionTags": ["default"]}), "default")}
    assert set(hooks) == {
        f"{one}.sidecar-injector.istio.io" for one in ("rev.namespace", "rev.object", "namespace", "object")
    }
    enabled = {"key": "istio-injection", "operator": "In", "values": ["enabled"]}
    assert hooks["namespace.sidecar-injector.istio.io"]["namespaceSelector"]["matchExpressions"] == [enabled]
    asked = {"key": "sidecar.istio.io/inject", "operator": "In", "values": ["true"]}
    assert asked in hooks["object.sidecar-injector.istio.io"]["objectSelector"]["matchExpressions"]


def test_a_tag_of_another_namespace() -> None:
    """Istio looks for it under this name."""
    program = mesh({"revision": OLD}, namespace="istio-control")
    assert program.one("prod-mesh-tag-stable").inputs["metadata"]["name"] == "istio-revision-tag-stable-istio-control"
    assert {hook["clientConfig"]["service"]["namespace"] for hook in webhooks(program)} == {"istio-control"}


# What is wrong


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        (
            {"canary": {"revision": OLD}},
            "mesh.canary.revision",
            "'1-31-1' is mesh.revision too; a second istiod needs another",
        ),
        (
            {"canary": {"revision": "stable"}},
            "mesh.revisionTags",
            "'stable' is the revision itself; a tag needs another name",
        ),
        (
            {"canary": {"revision": NEW, "namespaces": ["shop", "shop"]}},
            "mesh.canary.namespaces",
            "'shop' is there 2 times; name each once",
        ),
        (
            {"canary": {"revision": NEW, "version": "1.32.0"}},
            "mesh.canary.version",
            "is 1.32.0, but istio.charts is a directory, which holds one version (1.31.1); name a repository there",
        ),
    ],
)
def test_wrong(settings: dict[str, Any], key: str, message: str) -> None:
    config = {**MESH, "istio": {"charts": "/opt/charts"}, "mesh": {"revision": OLD, **settings}}
    with pytest.raises(SettingsError) as error:
        load(config)
    assert {problem.key: problem.message for problem in error.value.problems} == {key: message}


def test_a_directory_may_name_its_own_version() -> None:
    canary = {"revision": NEW, "version": "1.31.1"}
    load({**MESH, "istio": {"charts": "/opt/charts"}, "mesh": {"revision": OLD, "canary": canary}})
