"""Scenario peer_authentication: what each namespace's workloads accept, and that no other namespace is weakened."""

from __future__ import annotations

from typing import Any

import pytest

from settings import SettingsError, load
from settings.peer_authentication import PLACES
from tests.unit import sdk
from tests.unit.program import UPSTREAM, Program, run

NAME = "prod-peer-authentication"


def config(**section: Any) -> dict[str, Any]:
    return {
        "name": "prod",
        "layers": ["peer_authentication"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "peer_authentication": {"prefix": "peer", **section},
    }


@pytest.fixture(scope="module")
def program() -> Program:
    """The layer alone, on a cluster and a mesh of another stack: one run for all tests."""
    return run(config(image="registry.example.com/httpbin:1"), stack="prod", references={"base": dict(UPSTREAM)})


def test_each_place_has_a_namespace_and_only_legacy_is_not_in_the_mesh(program: Program) -> None:
    labels = {
        namespace.inputs["metadata"]["name"]: namespace.inputs["metadata"]["labels"]
        for namespace in program.of("core/v1:Namespace")
    }
    assert labels == {
        **{f"peer-{place}": {"istio.io/rev": "canary"} for place in PLACES},
        "peer-legacy": {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")},
    }


def test_modes(program: Program) -> None:
    found = {
        (policy.inputs["metadata"]["namespace"], policy.inputs["metadata"]["name"]): policy.inputs["spec"]
        for policy in program.of("security.istio.io/v1:PeerAuthentication")
    }
    assert found == {
        ("peer-permissive", "default"): {"mtls": {"mode": "PERMISSIVE"}},
        ("peer-strict", "default"): {"mtls": {"mode": "STRICT"}},
        ("peer-disable", "default"): {"mtls": {"mode": "DISABLE"}},
        # What says no mode has the mesh's; ports are the pods'.
        ("peer-port-level", "default"): {
            "selector": {"matchLabels": {"app": "httpbin"}},
            "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}},
        },
    }


def test_every_place_has_a_server_of_its_own(program: Program) -> None:
    found = {}
    for deployment in program.of("apps/v1:Deployment"):
        template = deployment.inputs["spec"]["template"]
        (container,) = template["spec"]["containers"]
        assert (container["image"], container["ports"][0]["containerPort"]) == ("registry.example.com/httpbin:1", 8080)
        assert template["metadata"]["labels"] == {"app": "httpbin"}
        found[deployment.inputs["metadata"]["namespace"]] = template["metadata"].get("annotations")
    revision = {"meshgate.dev/revision": UPSTREAM["mesh_revision"]}
    assert found == {**{f"peer-{place}": revision for place in PLACES}, "peer-legacy": None}
    services = {
        service.inputs["metadata"]["namespace"]: (service.inputs["metadata"]["name"], service.inputs["spec"]["ports"])
        for service in program.of("core/v1:Service")
    }
    port = [{"name": "http", "port": 80, "targetPort": "http"}]
    assert services == {f"peer-{place}": ("httpbin", port) for place in PLACES}


def test_it_hands_on_the_namespaces(program: Program) -> None:
    assert program.outputs["peer_authentication_namespaces"] == {place: f"peer-{place}" for place in PLACES}


def test_inputs_are_what_the_sdk_asks_for(program: Program) -> None:
    made = [resource for resource in program.resources if not resource.type.startswith(("meshgate:", "pulumi:"))]
    assert [problem for resource in made for problem in sdk.problems(resource.type, resource.inputs)] == []


def test_a_canary_takes_single_namespaces_along() -> None:
    upstream = dict(UPSTREAM) | {"mesh_moved": {"peer-strict": "1-32-0"}}
    program = run(config(), stack="prod", references={"base": upstream})
    labels = {
        namespace.inputs["metadata"]["name"]: namespace.inputs["metadata"]["labels"].get("istio.io/rev")
        for namespace in program.of("core/v1:Namespace")
    }
    assert labels["peer-strict"] == "1-32-0"
    assert labels["peer-permissive"] == "canary"
    annotations = program.one(f"{NAME}-strict-httpbin").inputs["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"meshgate.dev/revision": "1-32-0"}


# Settings


def test_defaults() -> None:
    found = load(config() | {"peer_authentication": {"prefix": "peer-authentication"}}).peer_authentication
    assert found is not None
    assert found.image.startswith("docker.io/mccutchen/go-httpbin:")
    assert found.made_namespaces == tuple(("prefix", f"peer-authentication-{place}") for place in PLACES)


@pytest.mark.parametrize("prefix", ["", "Peer", "1peer", "peer-", "p" * 41])
def test_a_prefix_makes_names_of_namespaces(prefix: str) -> None:
    with pytest.raises(SettingsError, match=r"peer_authentication\.prefix"):
        load(config(prefix=prefix))


def test_namespaces_are_nobody_elses() -> None:
    wrong = config() | {"layers": ["authority", "peer_authentication"]}
    wrong["authority"] = {"kind": "self-signed", "namespace": "peer-strict"}
    with pytest.raises(SettingsError, match=r"peer_authentication\.prefix: 'peer-strict' is authority\.namespace too"):
        load(wrong)
