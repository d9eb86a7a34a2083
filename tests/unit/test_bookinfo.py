"""Scenario bookinfo: its applications with and without sidecars, the gateway, and what each stage registers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from components.bookinfo.application import proxy_config
from settings import SettingsError, load, requires
from settings.bookinfo import STEPS, Step
from tests.unit import sdk
from tests.unit.program import UPSTREAM, Program, Registered, run

NAME = "prod-bookinfo"
GATEWAY: dict[str, Any] = {"service": {"type": "NodePort", "addresses": ["10.0.0.11"]}}
ISTIO_KINDS = ("VirtualService", "DestinationRule", "Gateway", "PeerAuthentication", "AuthorizationPolicy")


def config(**section: Any) -> dict[str, Any]:
    bookinfo = {"gateway": GATEWAY, **section}
    needed = requires("bookinfo", bookinfo)
    assert needed is not None
    return {
        "name": "prod",
        "layers": ["bookinfo"],
        "upstream": {layer: "base" for layer in needed},
        "bookinfo": bookinfo,
    }


def bookinfo(outputs: Mapping[str, Any] = UPSTREAM, **section: Any) -> Program:
    """The layer alone, on a cluster and a mesh of another stack."""
    return run(config(**section), stack="prod", references={"base": dict(outputs)})


STAGES: tuple[Step, ...] = ("no-mesh", "no-rules", "all-v1", "faulty", "circuit-breaker", "ratings-viewer")
"""Those between which other things change than specs alone; test_bookinfo_stages.py has all of them."""


@pytest.fixture(scope="module")
def stages() -> dict[str, Program]:
    """One run of each stage for all tests that only look at it."""
    return {step: bookinfo(step=step) for step in STAGES}


@pytest.fixture(scope="module")
def last(stages: dict[str, Program]) -> Program:
    return stages["ratings-viewer"]


def one(program: Program, name: str) -> Registered:
    return program.one(f"{NAME}-{name}")


def inputs(program: Program) -> dict[str, Any]:
    """All resources' inputs, by name."""
    return {resource.name: resource.inputs for resource in program.resources}


def deployments(program: Program) -> dict[str, dict[str, Any]]:
    """Pod templates by the Deployment's name."""
    return {made.inputs["metadata"]["name"]: made.inputs["spec"]["template"] for made in program.of(":Deployment")}


# Stages as resources


def difference(before: Program, after: Program) -> tuple[set[str], set[str], set[str]]:
    """What is made, changed and taken away, by names without the scenario's own."""
    old, new = inputs(before), inputs(after)
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    made, changed, gone = (
        {name.removeprefix(f"{NAME}-") for name in names}
        for names in (new.keys() - old.keys(), changed, old.keys() - new.keys())
    )
    return made, changed, gone


def test_with_the_mesh_come_the_gateway_and_new_pods(stages: dict[str, Program]) -> None:
    pods = {f"deployment-{app}-v1" for app in ("productpage", "details", "ratings")}
    pods |= {f"deployment-reviews-{version}" for version in ("v1", "v2", "v3")}
    assert difference(stages["no-mesh"], stages["no-rules"]) == (
        {
            "gateway",
            "gateway-gateway",
            "gateway-namespace",
            "gateway-release",
            "gateway-service",
            "virtualservice-bookinfo",
        },
        {"namespace", *pods},
        set(),
    )


def test_rules_come_without_new_pods(stages: dict[str, Program]) -> None:
    rules = {
        f"{kind}-{app}"
        for kind in ("virtualservice", "destinationrule")
        for app in ("productpage", "details", "reviews", "ratings")
    }
    assert difference(stages["no-rules"], stages["all-v1"]) == (rules, set(), set())
    made, changed, gone = difference(stages["circuit-breaker"], stages["ratings-viewer"])
    assert (changed, gone) == (set(), rules)
    assert made == {
        "peerauthentication-default-strict",
        "authorizationpolicy-allow-nothing",
        *(f"authorizationpolicy-{app}-viewer" for app in ("productpage", "details", "reviews", "ratings")),
    }


def test_the_faulty_version_comes_and_goes(stages: dict[str, Program]) -> None:
    made, changed, gone = difference(stages["all-v1"], stages["faulty"])
    assert (made, gone) == ({"deployment-ratings-v-faulty"}, set())
    assert changed == {"destinationrule-ratings", "virtualservice-ratings", "virtualservice-reviews"}
    assert difference(stages["faulty"], stages["circuit-breaker"])[2] == {"deployment-ratings-v-faulty"}


def test_no_request_is_sent_to_what_is_not_there_yet(stages: dict[str, Program]) -> None:
    faulty = stages["faulty"]
    assert f"{NAME}-deployment-ratings-v-faulty" in one(faulty, "destinationrule-ratings").dependencies
    assert f"{NAME}-destinationrule-ratings" in one(faulty, "virtualservice-ratings").dependencies


def test_without_a_mesh_nothing_is_asked_of_it() -> None:
    outputs = {key: value for key, value in UPSTREAM.items() if key.startswith("cluster_")}
    program = bookinfo(outputs, step="no-mesh")
    assert [made.name for kind in ISTIO_KINDS for made in program.of(f":{kind}")] == []
    (namespace,) = program.of("core/v1:Namespace")
    assert namespace.inputs["metadata"] == {
        "name": "bookinfo",
        "labels": {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")},
    }
    assert all("annotations" not in pod["metadata"] for pod in deployments(program).values())
    assert program.outputs["bookinfo_gateways"] == {}
    assert program.outputs["bookinfo_step"] == "no-mesh"


def test_namespaces_and_pods_follow_their_revisions() -> None:
    outputs = {**UPSTREAM, "mesh_revision": "1-31-1", "mesh_moved": {"bookinfo": "1-32-0"}}
    program = bookinfo(outputs, step="no-rules")
    labels = {made.inputs["metadata"]["name"]: made.inputs["metadata"]["labels"] for made in program.of(":Namespace")}
    assert labels == {"bookinfo": {"istio.io/rev": "1-32-0"}, "bookinfo-ingress": {"istio.io/rev": "canary"}}
    for pod in deployments(program).values():
        assert pod["metadata"]["annotations"]["meshgate.dev/revision"] == "1-32-0"
    values = one(program, "gateway-release").inputs["values"]
    assert values["podAnnotations"]["meshgate.dev/revision"] == "1-31-1"


def test_principals_are_of_this_namespace_and_this_mesh() -> None:
    program = bookinfo({**UPSTREAM, "mesh_trust_domain": "asm-c1"}, namespace="books")
    principals = {
        policy.inputs["metadata"]["name"]: policy.inputs["spec"]["rules"][0].get("from")
        for policy in program.of(":AuthorizationPolicy")
        if policy.inputs["spec"]
    }

    def only(app: str) -> list[dict[str, Any]]:
        return [{"source": {"principals": [f"asm-c1/ns/books/sa/bookinfo-{app}"]}}]

    assert principals == {
        "productpage-viewer": None,
        "details-viewer": only("productpage"),
        "reviews-viewer": only("productpage"),
        "ratings-viewer": only("reviews"),
    }


def test_policies_and_rules_are_the_applications_own(last: Program, stages: dict[str, Program]) -> None:
    for program in (last, stages["faulty"]):
        for kind in ISTIO_KINDS:
            for made in program.of(f":{kind}"):
                assert made.inputs["metadata"]["namespace"] == ("bookinfo-ingress" if kind == "Gateway" else "bookinfo")
    # Sent with the spec that it has: an empty one, by which nobody is allowed anything.
    assert one(last, "authorizationpolicy-allow-nothing").inputs["spec"] == {}


def test_inputs_are_what_the_sdk_asks_for(stages: dict[str, Program]) -> None:
    for program in stages.values():
        for resource in program.resources:
            if not resource.read and not resource.type.startswith("meshgate:"):
                assert sdk.problems(resource.type, resource.inputs) == []


# Applications


def test_versions_images_and_accounts(stages: dict[str, Program]) -> None:
    found = {
        name: (pod["spec"]["containers"][0]["image"], pod["spec"]["serviceAccountName"], pod["metadata"]["labels"])
        for name, pod in deployments(stages["faulty"]).items()
    }
    images = "docker.io/istio/examples-bookinfo"

    def of(app: str, version: str, image: str) -> tuple[str, str, dict[str, str]]:
        return f"{images}-{image}:1.20.3", f"bookinfo-{app}", {"app": app, "version": version}

    assert found == {
        "productpage-v1": of("productpage", "v1", "productpage-v1"),
        "details-v1": of("details", "v1", "details-v1"),
        "ratings-v1": of("ratings", "v1", "ratings-v1"),
        "ratings-v-faulty": of("ratings", "v-faulty", "ratings-v1"),
        "reviews-v1": of("reviews", "v1", "reviews-v1"),
        "reviews-v2": of("reviews", "v2", "reviews-v2"),
        "reviews-v3": of("reviews", "v3", "reviews-v3"),
    }


def test_images_of_another_registry() -> None:
    program = bookinfo(step="no-mesh", images={"registry": "registry.istio.io/release", "tag": "1.20.4"})
    image = deployments(program)["reviews-v3"]["spec"]["containers"][0]["image"]
    assert image == "registry.istio.io/release/examples-bookinfo-reviews-v3:1.20.4"


def test_only_the_faulty_version_is_told_what_it_is(stages: dict[str, Program]) -> None:
    told = {
        name: {entry["value"] for entry in pod["spec"]["containers"][0]["env"] if entry["name"] == "SERVICE_VERSION"}
        for name, pod in deployments(stages["faulty"]).items()
    }
    assert told.pop("ratings-v-faulty") == {"v-faulty"}
    assert set().union(*told.values()) == set()


def test_services_are_of_all_versions(last: Program) -> None:
    specs = {
        made.inputs["metadata"]["name"]: made.inputs["spec"] for made in last.of("core/v1:Service") if not made.read
    }
    assert specs == {
        app: {"selector": {"app": app}, "ports": [{"name": "http", "port": 9080, "targetPort": "http"}]}
        for app in ("productpage", "details", "reviews", "ratings")
    }


@pytest.mark.parametrize(
    ("name", "user", "writes"),
    [
        ("productpage-v1", 1000, ["/tmp"]),
        ("details-v1", 1000, []),
        ("ratings-v1", 1000, []),
        ("reviews-v2", 1001, ["/tmp", "/opt/ibm/wlp/output"]),
    ],
)
def test_pods_are_as_the_images_ask_and_have_no_privileges(
    last: Program, name: str, user: int, writes: list[str]
) -> None:
    pod = deployments(last)[name]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [mount["mountPath"] for mount in container.get("volumeMounts", [])] == writes
    assert all(volume["emptyDir"] == {} for volume in pod.get("volumes", []))
    assert container["ports"] == [{"name": "http", "containerPort": 9080}]
    assert container["resources"] == {"requests": {"cpu": "10m", "memory": "64Mi"}}
    logs = [entry["value"] for entry in container["env"] if entry["name"] == "LOG_DIR"]
    assert logs == (["/tmp/logs"] if name == "reviews-v2" else [])


def test_resources() -> None:
    program = bookinfo(step="no-mesh", resources={"cpu": "100m", "memory": "256Mi"})
    for pod in deployments(program).values():
        assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "100m", "memory": "256Mi"}


def test_sidecars_count_what_the_stages_show(last: Program) -> None:
    annotations = deployments(last)["productpage-v1"]["metadata"]["annotations"]
    assert json.loads(annotations["proxy.istio.io/config"]) == proxy_config("bookinfo")
    (patterns,) = proxy_config("bookinfo")["proxyStatsMatcher"].values()
    # A breaker's limits are exceeded by one connection for each further thread.
    assert proxy_config("bookinfo")["concurrency"] == 1

    def counted(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    reviews = "cluster.outbound|9080|v2|reviews.bookinfo.svc.cluster.local;"
    ratings = "cluster.outbound|9080||ratings.bookinfo.svc.cluster.local;"
    assert counted(f"{reviews}.upstream_rq_pending_overflow")
    assert counted(f"{reviews}.circuit_breakers.default.rq_pending_open")
    assert counted(f"{ratings}.upstream_rq_retry_success")
    assert counted(f"{ratings}.outlier_detection.ejections_enforced_total")
    assert counted("cluster.inbound|9080||;.upstream_rq_2xx")
    assert counted("http.inbound_0.0.0.0_9080;.rbac.denied")
    # Nobody looks at the rest, and every proxy would keep it.
    assert not counted("cluster.outbound|9080||reviews.elsewhere.svc.cluster.local;.upstream_rq_total")
    assert not counted("cluster.outbound|80||webapp.bookinfo.svc.cluster.local;.upstream_rq_total")


def test_contract(last: Program) -> None:
    assert last.outputs["bookinfo_namespace"] == "bookinfo"
    assert last.outputs["bookinfo_step"] == "ratings-viewer"
    # The port that the mocks give a Service's node port.
    assert last.outputs["bookinfo_gateways"] == {"bookinfo-gateway": {"address": "10.0.0.11", "port": 31080}}


# Settings


def test_the_last_step_is_the_one_that_is_closed_most() -> None:
    settings = load(config())
    assert settings.bookinfo is not None
    assert settings.bookinfo.step == STEPS[-1] == "ratings-viewer"


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"step": "all-v2"}, "bookinfo.step", "'jason-exact'"),
        ({"gatewayNamespace": "bookinfo"}, "bookinfo.gatewayNamespace", "'bookinfo' is bookinfo.namespace too"),
        ({"images": {"registry": "docker.io/istio/"}}, "bookinfo.images.registry", "without '/' at the end"),
        ({"images": {"registry": "https://docker.io/istio"}}, "bookinfo.images.registry", "docker.io/istio"),
        ({"images": {"tag": ""}}, "bookinfo.images.tag", "'1.20.3'"),
        ({"images": {"tag": 1.20}}, "bookinfo.images.tag", "in quotes"),
        ({"images": {"prefix": "istio"}}, "bookinfo.images.prefix", "not a known key"),
        ({"gateway": {}}, "bookinfo.gateway.service", "is missing"),
        (
            {"gateway": {**GATEWAY, "replicas": {"min": 3, "max": 2}}},
            "bookinfo.gateway.replicas.min",
            "more than max (2)",
        ),
        ({"version": "v1"}, "bookinfo.version", "not a known key"),
    ],
)
def test_bad_settings(section: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(**section))
    (problem,) = error.value.problems
    assert problem.key == key
    assert message in problem.message


def test_without_a_mesh_no_stack_of_one_is_named() -> None:
    with_mesh = config(step="no-mesh")
    with_mesh["upstream"]["mesh"] = "base"
    with pytest.raises(SettingsError, match=r"upstream\.mesh: names a stack, but no layer here needs it"):
        load(with_mesh)
