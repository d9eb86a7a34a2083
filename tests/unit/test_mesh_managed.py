"""The managed mesh of a fleet (row G3): what is made, in which order, and what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from settings import SettingsError, load
from tests.unit import sdk
from tests.unit.conftest import part, stack_file
from tests.unit.program import UPSTREAM, Program, run


def managed(config: dict[str, Any], **mesh: Any) -> dict[str, Any]:
    """gke with the managed mesh instead of istiod."""
    config["layers"] = [layer for layer in config["layers"] if layer != "authority"]
    del config["authority"]
    config["mesh"] = {"kind": "managed", **mesh}
    config["network"]["firewall"]["inClusterIstiod"] = False
    return config


def alone(config: dict[str, Any], **mesh: Any) -> Program:
    """The layer alone, in the cluster of another stack."""
    return run(part(managed(config, **mesh), ["mesh"], "base"), references={"base": UPSTREAM})


@pytest.fixture(scope="module")
def program() -> Program:
    """The whole environment with the managed mesh."""
    return run(managed(stack_file("gke")), stack="gke")


def test_everything_that_is_made(program: Program) -> None:
    mesh = [resource for resource in program.resources if resource.parent == "gke-mesh"]
    assert {resource.name.removeprefix("gke-mesh-"): resource.type.rsplit(":", 1)[1] for resource in mesh} == {
        "gkehub": "Service",
        "mesh": "Service",
        "membership": "Membership",
        "feature": "Feature",
        "namespace": "Namespace",
        "config": "ConfigMap",
        "enabled": "FeatureMembership",
        "wait-account": "ServiceAccount",
        "wait-role": "ClusterRole",
        "wait-binding": "ClusterRoleBinding",
        "wait": "Job",
        "strict": "PeerAuthentication",
        "access-log": "Telemetry",
    }
    assert [problem for one in mesh for problem in sdk.problems(one.type, one.inputs)] == []
    assert program.of(":SelfSignedMeshCa") == []
    assert [release.inputs["chart"] for release in program.of(":Release")] == ["gateway"]


def test_membership_and_feature(program: Program) -> None:
    path = "projects/my-project/locations/europe-west1-b/clusters/cluster1"
    assert program.one("gke-mesh-membership").inputs == {
        "project": "my-project",
        "location": "europe-west1",
        "membershipId": "cluster1",
        "endpoint": {"gkeCluster": {"resourceLink": f"//container.googleapis.com/{path}"}},
        "authority": {"issuer": f"https://container.googleapis.com/v1/{path}"},
    }
    assert program.one("gke-mesh-feature").inputs == {
        "project": "my-project",
        "location": "global",
        "name": "servicemesh",
    }
    assert program.one("gke-mesh-enabled").inputs == {
        "project": "my-project",
        "location": "global",
        "feature": "servicemesh",
        "membership": "cluster1",
        "membershipLocation": "europe-west1",
        "mesh": {"management": "MANAGEMENT_AUTOMATIC"},
    }


def test_apis_stay_for_others(program: Program) -> None:
    for api in ("gkehub", "mesh"):
        assert program.one(f"gke-mesh-{api}").inputs == {
            "project": "my-project",
            "service": f"{api}.googleapis.com",
            "disableOnDestroy": False,
        }
        assert f"gke-mesh-{api}" in program.one("gke-mesh-membership").dependencies


def test_a_fleet_has_the_feature_once(gke: dict[str, Any]) -> None:
    program = alone(gke, fleetFeature="existing")
    assert program.of(":Feature") == []
    assert program.one("gke-mesh-enabled").inputs["feature"] == "servicemesh"


@pytest.mark.parametrize(
    ("channel", "revision"),
    [("rapid", "asm-managed-rapid"), ("regular", "asm-managed"), ("stable", "asm-managed-stable")],
)
def test_mesh_wide_configuration_by_channel(gke: dict[str, Any], channel: str, revision: str) -> None:
    program = alone(gke, channel=channel)
    config = program.one("gke-mesh-config").inputs
    assert config["metadata"] == {"name": f"istio-{revision}", "namespace": "istio-system"}
    assert yaml.safe_load(config["data"]["mesh"]) == {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    assert program.outputs["mesh_revision_tag"] == revision
    waited = [container["args"][2] for container in steps(program)]
    assert waited.count(f"controlplanerevision/{revision}") == 2


def test_strict_and_the_access_log(program: Program) -> None:
    strict, log = program.one("gke-mesh-strict").inputs, program.one("gke-mesh-access-log").inputs
    assert strict["metadata"] == log["metadata"] == {"name": "default", "namespace": "istio-system"}
    assert strict["spec"] == {"mtls": {"mode": "STRICT"}}
    assert log["spec"] == {
        "accessLogging": [
            {"providers": [{"name": "envoy"}]},
            {"providers": [{"name": "stackdriver"}], "disabled": True},
        ]
    }


def steps(program: Program) -> list[dict[str, Any]]:
    """The containers of the Job that waits, in their order."""
    pod = program.one("gke-mesh-wait").inputs["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def test_waits_until_the_control_plane_is_reconciled(program: Program) -> None:
    end = ["--namespace=istio-system", "--timeout=1800s"]
    crd = "customresourcedefinition/"
    assert [step["args"] for step in steps(program)] == [
        ["wait", "--for=create", f"{crd}controlplanerevisions.mesh.cloud.google.com", *end],
        ["wait", "--for=create", "controlplanerevision/asm-managed", *end],
        ["wait", "--for=condition=Reconciled", "controlplanerevision/asm-managed", *end],
        ["wait", "--for=condition=Established", f"{crd}peerauthentications.security.istio.io", *end],
    ]
    job = program.one("gke-mesh-wait")
    assert job.inputs["spec"]["activeDeadlineSeconds"] == 1800
    # Longer than the Job's own limit, so that its reason is seen.
    assert job.create_timeout == "35m"


def test_what_waits_may_only_look(program: Program) -> None:
    assert program.one("gke-mesh-wait-role").inputs["rules"] == [
        {
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["mesh.cloud.google.com"],
            "resources": ["controlplanerevisions"],
            "verbs": ["get", "list", "watch"],
        },
    ]
    assert program.one("gke-mesh-wait-binding").inputs["subjects"] == [
        {"kind": "ServiceAccount", "name": "meshgate-wait", "namespace": "istio-system"}
    ]
    pod = program.one("gke-mesh-wait").inputs["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for step in steps(program):
        assert step["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_image_of_a_mirror(gke: dict[str, Any]) -> None:
    program = alone(gke, kubectlImage="registry.example.com/kubectl:v1")
    assert {step["image"] for step in steps(program)} == {"registry.example.com/kubectl:v1"}


def test_contract(program: Program) -> None:
    assert {name: value for name, value in program.outputs.items() if name.startswith("mesh_")} == {
        "mesh_contract": 1,
        "mesh_namespace": "istio-system",
        "mesh_revision_tag": "asm-managed",
        "mesh_revision": "asm-managed",
        "mesh_moved": {},
        "mesh_trust_domain": "my-project.svc.id.goog",
        # Google's APIs by either name, and the metadata server.
        "mesh_control_plane_cidrs": ["199.36.153.8/30", "199.36.153.4/30", "169.254.169.254/32"],
    }
    assert (
        program.outputs["egress_identity"] == "spiffe://my-project.svc.id.goog/ns/istio-egress/sa/istio-egressgateway"
    )


def test_order(program: Program) -> None:
    """The configuration before the control plane, its CRDs before what is made of them, all of it before tenants."""
    assert "gke-mesh-config" in program.one("gke-mesh-enabled").dependencies
    assert {"gke-mesh-enabled", "gke-mesh-wait-binding"} <= program.one("gke-mesh-wait").dependencies
    assert "gke-cluster-cluster" in program.one("gke-mesh-membership").dependencies
    ready = {"gke-mesh-wait", "gke-mesh-strict", "gke-mesh-access-log"}
    for name in ("gke-mesh-strict", "gke-mesh-access-log"):
        assert "gke-mesh-wait" in program.one(name).dependencies
    namespaces = [one for one in program.of(":Namespace") if one.parent != "gke-mesh"]
    assert len(namespaces) == 3
    assert [one.name for one in namespaces if not ready <= one.dependencies] == []
    assert {one.inputs["metadata"]["labels"]["istio.io/rev"] for one in namespaces} == {"asm-managed"}


# Its limits


def said(config: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by key."""
    with pytest.raises(SettingsError) as error:
        load(config)
    return {problem.key: problem.message for problem in error.value.problems}


def test_gke_with_the_managed_mesh_loads(gke: dict[str, Any]) -> None:
    load(managed(gke))


@pytest.mark.parametrize(
    ("release", "channel", "fits"),
    [
        ("RAPID", "rapid", True),
        ("REGULAR", "regular", True),
        ("STABLE", "stable", True),
        ("EXTENDED", "regular", True),
        ("RAPID", "regular", False),
        ("REGULAR", "stable", False),
        ("EXTENDED", "stable", False),
    ],
)
def test_channel_is_the_clusters(gke: dict[str, Any], release: str, channel: str, fits: bool) -> None:
    config = managed(gke, channel=channel)
    config["cluster"]["releaseChannel"] = release
    if fits:
        load(config)
    else:
        assert list(said(config)) == ["mesh.channel"]


def test_text_about_the_channel(gke: dict[str, Any]) -> None:
    assert said(managed(gke, channel="stable")) == {
        "mesh.channel": "is 'stable'; the managed mesh follows the cluster, whose releaseChannel is REGULAR: "
        "make it 'regular'"
    }


def test_no_other_namespace(gke: dict[str, Any]) -> None:
    assert list(said(managed(gke, namespace="mesh"))) == ["mesh.namespace"]


def test_webhooks_rule_has_no_use(gke: dict[str, Any]) -> None:
    config = managed(gke)
    config["network"]["firewall"]["inClusterIstiod"] = True
    assert said(config) == {
        "network.firewall.inClusterIstiod": "is true, but the managed mesh has no webhooks in the cluster; "
        "set false, to keep 15017 shut"
    }


def test_no_credentials_for_tls_from_the_gateway(gke: dict[str, Any]) -> None:
    config = managed(gke)
    config["teams"]["credentials"] = {"internet": {"kind": "existing"}}
    config["teams"]["teams"][0]["hosts"][0]["tls"] = {"credential": "internet"}
    assert said(config) == {
        "teams.teams[0].hosts[0].tls": "needs credentialName in a DestinationRule, which the managed mesh lacks; "
        "take it out (public CAs), use passthrough, or use istiod"
    }
