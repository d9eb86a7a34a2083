"""Istio's control plane: the values of its charts, what is mesh-wide, and the order."""

from __future__ import annotations

from typing import Any

import pytest

from components.mesh.istio import ACCESS_LOG_FORMAT
from tests.unit.conftest import stack_file
from tests.unit.program import UPSTREAM, Program, Registered, run


def mesh(istio: dict[str, Any] | None = None, **settings: Any) -> Program:
    """The layer alone, on a cluster and a CA of another stack."""
    config = {
        "name": "prod",
        "layers": ["mesh"],
        "upstream": {"cluster": "base", "authority": "base"},
        "mesh": {"revision": "1-31-1", **settings},
    }
    return run({**config, **({"istio": istio} if istio else {})}, stack="prod", references={"base": UPSTREAM})


def releases(program: Program) -> list[Registered]:
    return program.of("helm.sh/v3:Release")


def test_values_of_istiod(dev_program: Program) -> None:
    inputs = dev_program.one("dev-mesh-istiod-1-31-1").inputs
    assert (inputs["name"], inputs["namespace"], inputs["chart"]) == ("istiod-1-31-1", "istio-system", "istiod")
    assert inputs["values"] == {
        "revision": "1-31-1",
        "global": {"hub": "registry.istio.io/release", "tag": "1.31.1", "istioNamespace": "istio-system"},
        "autoscaleMin": 1,
        "autoscaleMax": 1,
        "resources": {"requests": {"cpu": "50m", "memory": "200Mi"}},
        "meshConfig": {
            "trustDomain": "cluster.local",
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "accessLogFile": "/dev/stdout",
            "accessLogFormat": ACCESS_LOG_FORMAT,
            "defaultConfig": {"proxyMetadata": {"CLOUD_PLATFORM": "none", "PROXY_CONFIG_XDS_AGENT": "true"}},
            "extensionProviders": [
                {
                    "name": "jaeger",
                    "opentelemetry": {
                        "service": "jaeger.observability.svc.cluster.local",
                        "port": 4317,
                        "maxTagLength": 256,
                    },
                }
            ],
        },
        "env": {"ISTIO_MULTIROOT_MESH": "true"},
    }


def test_values_of_base(dev_program: Program) -> None:
    inputs = dev_program.one("dev-mesh-base").inputs
    assert (inputs["name"], inputs["namespace"], inputs["chart"]) == ("istio-base", "istio-system", "base")
    assert inputs["values"] == {"defaultRevision": "1-31-1", "global": {"istioNamespace": "istio-system"}}


def test_access_log_ends_with_the_caller() -> None:
    """One line for each request, the caller's SPIFFE id at its end and Istio's own fields before it."""
    fields = ACCESS_LOG_FORMAT.split()
    assert fields[0] == "[%START_TIME%]"
    assert fields[-1] == "%DOWNSTREAM_PEER_URI_SAN%"
    assert fields[-2] == "%ROUTE_NAME%"
    assert ACCESS_LOG_FORMAT.count("\n") == 1
    assert ACCESS_LOG_FORMAT.endswith("%\n")
    assert "%RESPONSE_FLAGS%" in fields


def test_settings_reach_the_charts() -> None:
    program = mesh(
        istio={"version": "1.30.2", "hub": "registry.example.com/istio", "platform": "gke"},
        revision="blue",
        revisionTags=["stable", "canary"],
        trustDomain="prod.example.com",
        replicas={"min": 3, "max": 7},
        resources={"cpu": "2", "memory": "4Gi"},
    )
    istiod = program.one("prod-mesh-istiod-blue").inputs
    assert istiod["name"] == "istiod-blue"
    assert istiod["namespace"] == "istio-control"
    values = istiod["values"]
    assert values["revision"] == "blue"
    assert values["global"] == {
        "hub": "registry.example.com/istio",
        "tag": "1.30.2",
        "platform": "gke",
        "istioNamespace": "istio-control",
    }
    assert (values["autoscaleMin"], values["autoscaleMax"]) == (3, 7)
    assert values["resources"] == {"requests": {"cpu": "2", "memory": "4Gi"}}
    assert values["meshConfig"]["trustDomain"] == "prod.example.com"
    assert program.one("prod-mesh-base").inputs["values"]["defaultRevision"] == "blue"
    assert program.outputs == {
        "mesh_contract": 1,
        "mesh_namespace": "istio-control",
        # The first tag is the one that namespaces follow.
        "mesh_revision_tag": "stable",
        "mesh_revision": "blue",
        "mesh_moved": {},
        "mesh_trust_domain": "prod.example.com",
        "mesh_control_plane_cidrs": [],
    }


def test_values_of_ones_own_win_deep() -> None:
    over = {
        "env": {"PILOT_ENABLE_ALPN_FILTER": "false"},
        "meshConfig": {"accessLogFile": "", "defaultConfig": {"concurrency": 1}},
        "resources": {"requests": {"cpu": "1"}},
        "podLabels": {"mine": "yes"},
        "tolerations": ["mine"],
        "global": "replaced",
    }
    values = mesh(istio={"values": over}).one("prod-mesh-istiod-1-31-1").inputs["values"]
    assert values["env"] == {"ISTIO_MULTIROOT_MESH": "true", "PILOT_ENABLE_ALPN_FILTER": "false"}
    assert values["meshConfig"]["accessLogFile"] == ""
    assert values["meshConfig"]["defaultConfig"] == {
        "concurrency": 1,
        "proxyMetadata": {"CLOUD_PLATFORM": "none", "PROXY_CONFIG_XDS_AGENT": "true"},
    }
    # What is beside an overridden value stays.
    assert values["meshConfig"]["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    assert values["resources"] == {"requests": {"cpu": "1", "memory": "2048Mi"}}
    assert (values["podLabels"], values["tolerations"]) == ({"mine": "yes"}, ["mine"])
    # What is no mapping on both sides is replaced.
    assert values["global"] == "replaced"


def test_values_of_ones_own_are_istiods_alone() -> None:
    program = mesh(istio={"values": {"env": {"A": "b"}}})
    assert "env" not in program.one("prod-mesh-base").inputs["values"]


@pytest.mark.parametrize(
    ("charts", "source"),
    [
        (
            "https://charts.example.com/istio",
            {"chart": "istiod", "version": "1.30.2", "repositoryOpts": {"repo": "https://charts.example.com/istio"}},
        ),
        (
            "oci://registry.example.com/charts",
            {"chart": "oci://registry.example.com/charts/istiod", "version": "1.30.2"},
        ),
        # A directory holds one version, which is not asked for again.
        ("/opt/charts", {"chart": "/opt/charts/istiod"}),
        ("~/charts", {"chart": "/home/someone/charts/istiod"}),
    ],
)
def test_sources_of_charts(charts: str, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    inputs = mesh(istio={"version": "1.30.2", "charts": charts}).one("prod-mesh-istiod-1-31-1").inputs
    assert {key: inputs.get(key) for key in ("chart", "version", "repositoryOpts") if key in inputs} == source


def test_strict_for_the_whole_mesh(dev_program: Program) -> None:
    """A PeerAuthentication called default without a selector, in the root namespace."""
    policies = [
        policy
        for policy in dev_program.of("/v1:PeerAuthentication")
        if policy.inputs["metadata"]["namespace"] == "istio-system"
    ]
    assert [policy.name for policy in policies] == ["dev-mesh-strict"]
    assert policies[0].type == "kubernetes:security.istio.io/v1:PeerAuthentication"
    assert policies[0].inputs["metadata"] == {"name": "default", "namespace": "istio-system"}
    assert policies[0].inputs["spec"] == {"mtls": {"mode": "STRICT"}}


def test_releases_wait(dev_program: Program) -> None:
    """Helm waits until all is ready, for a bounded time, in a namespace that the program made."""
    assert {release.name for release in releases(dev_program)} == {
        "dev-mesh-base",
        "dev-mesh-istiod-1-31-1",
        "dev-egress-gateway-release",
        *(f"dev-ingress-{gateway}-release" for gateway in ("simple", "redirect", "mutual", "hosts")),
        *(f"dev-edge-{gateway}-release" for gateway in stack_file("dev")["edge"]["gateways"]),
        "dev-bookinfo-gateway-release",
        "dev-sidecar-gateway-release",
    }
    for release in releases(dev_program):
        assert release.inputs["timeout"] == 300
        assert "skipAwait" not in release.inputs
        assert "createNamespace" not in release.inputs


def test_every_chart_is_of_one_version(dev_program: Program) -> None:
    assert {release.inputs["version"] for release in releases(dev_program)} == {"1.31.1"}


def test_order(dev_program: Program) -> None:
    assert "dev-authority-cacerts" in dev_program.one("dev-mesh-base").dependencies
    assert {"dev-authority-cacerts", "dev-mesh-base"} <= dev_program.one("dev-mesh-istiod-1-31-1").dependencies
    for name in ("dev-mesh-strict", "dev-mesh-tag-stable", "dev-mesh-istiod"):
        assert "dev-mesh-istiod-1-31-1" in dev_program.one(name).dependencies
    # Namespaces are labelled only when there is somebody to inject, and so is everything in them.
    for namespace in ("dev-ingress-namespace", "dev-ingress-coolstore-namespace"):
        before = {"dev-mesh-istiod-1-31-1", "dev-mesh-tag-stable", "dev-mesh-strict"}
        assert before <= dev_program.one(namespace).dependencies
    for release in releases(dev_program):
        if release.name.startswith("dev-ingress"):
            assert {"dev-mesh-istiod-1-31-1", "dev-ingress-namespace"} <= release.dependencies


def test_service_without_a_revision(dev_program: Program) -> None:
    """The document's four ports, by the names that Istio's own Services have."""
    service = dev_program.one("dev-mesh-istiod").inputs
    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("istiod", "istio-system")
    # With istio.io/rev `istioctl tag` would see two control planes of one revision.
    assert service["metadata"]["labels"] == {"app": "istiod", "istio": "pilot"}
    assert service["spec"]["selector"] == {"app": "istiod", "istio.io/rev": "1-31-1"}
    ports = [(port["name"], port["port"], port["targetPort"], port["protocol"]) for port in service["spec"]["ports"]]
    assert ports == [
        ("grpc-xds", 15010, 15010, "TCP"),
        ("https-dns", 15012, 15012, "TCP"),
        ("https-webhook", 443, 15017, "TCP"),
        ("http-monitoring", 15014, 15014, "TCP"),
    ]
