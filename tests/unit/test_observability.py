"""Scenario observability: what is asked for metrics, where spans go, who is let in, and the charts' values."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
import yaml

from settings import SettingsError, load
from settings.mesh import IstiodMesh, ManagedMesh
from settings.observability import ObservabilitySettings, Storage, misfits
from tests.unit.program import UPSTREAM, Program, run

OBSERVABILITY = "prod-observability"
WHOLE: dict[str, Any] = {
    "jaeger": {"maxTraces": 500},
    "grafana": {},
    "kiali": {},
    "tracing": {"namespaces": ["shop", "shop-ingress"], "samplingPercentage": 100},
    "dnsAddresses": ["169.254.20.10/32"],
}


def config(**section: Any) -> dict[str, Any]:
    return {
        "name": "prod",
        "layers": ["observability"],
        "upstream": {"cluster": "base", "mesh": "base"},
        # An empty section is none.
        "observability": {"namespace": "observability", **section},
    }


def observability(**section: Any) -> Program:
    """The layer alone, on a cluster and a mesh of another stack."""
    return run(config(**section), stack="prod", references={"base": dict(UPSTREAM)})


@pytest.fixture(scope="module")
def program() -> Program:
    """With Prometheus alone."""
    return observability()


@pytest.fixture(scope="module")
def whole() -> Program:
    """With everything."""
    return observability(**WHOLE)


def spec(program: Program, name: str) -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{OBSERVABILITY}-{name}").inputs["spec"]
    return found


def file(program: Program, name: str) -> dict[str, Any]:
    """A program's configuration."""
    data = program.one(f"{OBSERVABILITY}-{name}-configuration").inputs["data"]
    return dict(yaml.safe_load(data[f"{name}.yaml"]))


def values(program: Program, name: str) -> dict[str, Any]:
    return dict(program.one(f"{OBSERVABILITY}-{name}-release").inputs["values"])


def near(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}


def tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


# What there is


def test_prometheus_alone_unless_more_is_named(program: Program) -> None:
    assert [one.inputs["metadata"]["name"] for one in program.of("apps/v1:Deployment")] == ["prometheus"]
    assert not program.of("helm.sh/v3:Release")
    assert not program.of(":Telemetry")
    assert program.outputs["observability_addresses"] == {
        "prometheus": "http://prometheus.observability.svc.cluster.local:9090"
    }


def test_addresses_are_those_of_the_services(whole: Program) -> None:
    assert whole.outputs["observability_namespace"] == "observability"
    assert whole.outputs["observability_addresses"] == {
        "prometheus": "http://prometheus.observability.svc.cluster.local:9090",
        "jaeger": "http://jaeger.observability.svc.cluster.local:16686",
        "grafana": "http://grafana.observability.svc.cluster.local:3000",
        "kiali": "http://kiali.observability.svc.cluster.local:20001/kiali",
    }
    for service, ports in {"prometheus": {"http": 9090}, "jaeger": {"http-query": 16686, "grpc-otlp": 4317}}.items():
        found = spec(whole, f"{service}-service")
        # Inside the cluster only.
        assert found.get("type", "ClusterIP") == "ClusterIP"
        assert {port["name"]: port["port"] for port in found["ports"]} == ports
        assert {port["name"]: port["targetPort"] for port in found["ports"]} == {name: name for name in ports}


def test_the_namespace_has_no_sidecars_and_admits_no_privileges(program: Program) -> None:
    labels = program.one(f"{OBSERVABILITY}-namespace").inputs["metadata"]["labels"]
    assert labels == {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


@pytest.mark.parametrize("name", ["prometheus", "jaeger"])
def test_programs_have_no_privileges(whole: Program, name: str) -> None:
    pod = spec(whole, f"{name}-deployment")["template"]
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "runAsGroup": 65534,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["spec"]["automountServiceAccountToken"] is (name == "prometheus")
    assert container["resources"]["limits"] == {"memory": "2Gi" if name == "prometheus" else "1Gi"}


def test_prometheus_may_read_pods_and_nothing_else(program: Program) -> None:
    role = program.one(f"{OBSERVABILITY}-prometheus-role").inputs
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    binding = program.one(f"{OBSERVABILITY}-prometheus-binding").inputs
    assert binding["metadata"]["name"] == "observability-prometheus"
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "observability"}]
    assert spec(program, "prometheus-deployment")["template"]["spec"]["serviceAccountName"] == "prometheus"


# Prometheus


def job(program: Program, name: str) -> dict[str, Any]:
    (found,) = (one for one in file(program, "prometheus")["scrape_configs"] if one["job_name"] == name)
    return dict(found)


def relabelled(job: dict[str, Any], **labels: str) -> dict[str, str] | None:
    """What becomes of a discovered target, as Prometheus' relabelling goes; None when it is dropped."""
    found = {"__address__": "10.1.1.5:8080", "__metrics_path__": "/metrics", "__scheme__": "http"}
    found |= {f"__meta_kubernetes_{name}": value for name, value in labels.items()}
    for rule in job["relabel_configs"]:
        value = ";".join(found.get(label, "") for label in rule["source_labels"])
        match = re.fullmatch(rule["regex"], value)
        if (rule.get("action") == "keep" and not match) or (rule.get("action") == "drop" and match):
            return None
        if rule.get("action", "replace") == "replace" and match:
            found[rule["target_label"]] = match.expand(rule.get("replacement", "$1").replace("$", "\\"))
    return {label: value for label, value in found.items() if not label.startswith("__meta")}


SIDECAR = {
    "namespace": "shop",
    "pod_name": "cart-1",
    "pod_ip": "10.1.1.5",
    "pod_phase": "Running",
    "pod_label_app": "cart",
    "pod_label_version": "v2",
    "pod_annotationpresent_sidecar_istio_io_status": "true",
    "pod_annotation_prometheus_io_scrape": "true",
    "pod_annotation_prometheus_io_port": "15020",
    "pod_annotation_prometheus_io_path": "/stats/prometheus",
}


def test_proxies_are_asked_where_the_injector_says(program: Program) -> None:
    assert relabelled(job(program, "istio-proxies"), **SIDECAR) == {
        "__address__": "10.1.1.5:15020",
        "__metrics_path__": "/stats/prometheus",
        "__scheme__": "http",
        "namespace": "shop",
        "pod": "cart-1",
        "app": "cart",
        "version": "v2",
    }
    assert relabelled(job(program, "pods"), **SIDECAR) is None


@pytest.mark.parametrize(
    "other",
    [
        {"pod_annotation_prometheus_io_scrape": "false"},
        {"pod_annotation_prometheus_io_scrape": ""},
        {"pod_phase": "Succeeded"},
        {"pod_phase": "Failed"},
        {"pod_annotationpresent_sidecar_istio_io_status": ""},
    ],
)
def test_proxies_that_are_not_asked(program: Program, other: dict[str, str]) -> None:
    assert relabelled(job(program, "istio-proxies"), **{**SIDECAR, **other}) is None


def test_pods_without_a_proxy_are_asked_by_their_annotations(program: Program) -> None:
    pod = {
        "namespace": "observability",
        "pod_name": "jaeger-1",
        "pod_ip": "10.1.1.6",
        "pod_phase": "Running",
        "pod_label_app_kubernetes_io_name": "jaeger",
        "pod_annotation_prometheus_io_scrape": "true",
        "pod_annotation_prometheus_io_port": "8888",
        "pod_annotation_prometheus_io_scheme": "https",
    }
    found = relabelled(job(program, "pods"), **pod)
    assert found is not None
    assert (found["__scheme__"], found["__address__"], found["__metrics_path__"]) == (
        "https",
        "10.1.1.6:8888",
        "/metrics",
    )
    assert (found["app"], found["pod"]) == ("jaeger", "jaeger-1")
    assert relabelled(job(program, "istio-proxies"), **pod) is None
    # istiod has the annotations too, and a job of its own.
    assert relabelled(job(program, "pods"), **{**pod, "pod_label_app": "istiod"}) is None


def test_istiod_of_every_revision_is_asked_on_15014(program: Program) -> None:
    istiod = job(program, "istiod")
    assert istiod["kubernetes_sd_configs"] == [
        {
            "role": "pod",
            "namespaces": {"names": ["istio-control"]},
            "selectors": [{"role": "pod", "label": "app=istiod"}],
        }
    ]
    pod = {
        "namespace": "istio-control",
        "pod_name": "istiod-1",
        "pod_phase": "Running",
        "pod_label_app": "istiod",
        "pod_label_istio_io_rev": "1-31-1",
        "pod_container_port_number": "15014",
    }
    found = relabelled(istiod, **pod)
    assert found is not None
    assert (found["app"], found["revision"], found["pod"]) == ("istiod", "1-31-1", "istiod-1")
    assert relabelled(istiod, **{**pod, "pod_container_port_number": "15012"}) is None


def test_how_often_and_how_long(program: Program) -> None:
    assert file(program, "prometheus")["global"] == {
        "scrape_interval": "15s",
        "scrape_timeout": "10s",
        "evaluation_interval": "15s",
    }
    # A timeout above the interval is refused.
    assert file(observability(prometheus={"scrapeSeconds": 5}), "prometheus")["global"]["scrape_timeout"] == "5s"
    (container,) = spec(program, "prometheus-deployment")["template"]["spec"]["containers"]
    assert container["command"] == ["prometheus"]
    assert container["args"] == [
        "--config.file=/etc/meshgate/prometheus.yaml",
        "--storage.tsdb.path=/prometheus",
        "--storage.tsdb.retention.time=15d",
        "--storage.tsdb.retention.size=6553MB",
    ]


@pytest.mark.parametrize(("size", "kept"), [("8Gi", "6553MB"), ("1.5G", "1144MB"), ("512Mi", "409MB")])
def test_a_fifth_of_the_storage_is_left(size: str, kept: str) -> None:
    assert Storage(size=size).kept == kept


def test_storage_goes_with_the_pod_or_is_claimed(program: Program) -> None:
    volumes = spec(program, "prometheus-deployment")["template"]["spec"]["volumes"]
    assert {"name": "data", "emptyDir": {"sizeLimit": "8Gi"}} in volumes
    claimed = observability(prometheus={"storage": {"persistent": True, "size": "20Gi", "storageClass": "fast"}})
    claim = spec(claimed, "prometheus-claim")
    assert claim["resources"]["requests"] == {"storage": "20Gi"}
    assert (claim["storageClassName"], claim["accessModes"]) == ("fast", ["ReadWriteOnce"])
    volumes = spec(claimed, "prometheus-deployment")["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "prometheus"}} in volumes
    # Two pods cannot have it at once.
    assert spec(claimed, "prometheus-deployment")["strategy"] == {"type": "Recreate"}


def test_another_configuration_makes_the_pod_anew(program: Program) -> None:
    text = program.one(f"{OBSERVABILITY}-prometheus-configuration").inputs["data"]["prometheus.yaml"]
    annotations = spec(program, "prometheus-deployment")["template"]["metadata"]["annotations"]
    assert annotations["meshgate.dev/configuration"] == hashlib.sha256(text.encode()).hexdigest()
    assert (annotations["prometheus.io/scrape"], annotations["prometheus.io/port"]) == ("true", "9090")


# Traces


def test_spans_of_the_named_namespaces_go_to_the_meshs_provider(whole: Program) -> None:
    found = {one.inputs["metadata"]["namespace"]: one.inputs for one in whole.of(":Telemetry")}
    assert set(found) == {"shop", "shop-ingress"}
    for one in found.values():
        assert (one["apiVersion"], one["metadata"]["name"]) == ("telemetry.istio.io/v1", "tracing")
        assert one["spec"] == {"tracing": [{"providers": [{"name": "jaeger"}], "randomSamplingPercentage": 100}]}


def test_one_request_in_a_hundred_unless_more_is_said() -> None:
    (one,) = observability(tracing={"namespaces": ["shop"]}).of(":Telemetry")
    assert one.inputs["spec"]["tracing"][0]["randomSamplingPercentage"] == 1


def test_jaeger_takes_spans_by_opentelemetry_and_keeps_so_many_traces(whole: Program) -> None:
    found = file(whole, "jaeger")
    assert found["receivers"] == {"otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}}}}
    extensions = found["extensions"]
    assert extensions["jaeger_storage"] == {"backends": {"traces": {"memory": {"max_traces": 500}}}}
    assert extensions["jaeger_query"]["http"] == {"endpoint": "0.0.0.0:16686"}
    assert extensions["jaeger_query"]["storage"] == {"traces": "traces"}
    assert found["exporters"] == {"jaeger_storage_exporter": {"trace_storage": "traces"}}
    assert sorted(found["service"]["extensions"]) == sorted(extensions)
    (container,) = spec(whole, "jaeger-deployment")["template"]["spec"]["containers"]
    assert container["args"] == ["--config", "/etc/meshgate/jaeger.yaml"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/status", "port": 13133}
    annotations = spec(whole, "jaeger-deployment")["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8888"


# Who is let in, and where to


def test_network_policy_of_prometheus(program: Program) -> None:
    found = spec(program, "prometheus-network")
    assert found == {
        **near("prometheus"),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {}}], "ports": tcp(9090)}],
        "egress": [
            {"to": [{"namespaceSelector": {}}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": tcp(443, 6443)},
        ],
    }


def test_network_policy_of_jaeger(whole: Program) -> None:
    found = spec(whole, "jaeger-network")
    assert found["ingress"] == [
        {"from": [namespace("shop"), namespace("shop-ingress")], "ports": tcp(4317)},
        {"from": [{"podSelector": {}}], "ports": tcp(16686)},
        {"from": [near("prometheus")], "ports": tcp(8888)},
    ]
    assert found["egress"] == []


def test_nobody_sends_spans_when_nobody_is_traced() -> None:
    # An empty `from` would be everybody.
    ingress = spec(observability(jaeger={"maxTraces": 1}), "jaeger-network")["ingress"]
    assert all(rule["from"] for rule in ingress)
    assert 4317 not in {port["port"] for rule in ingress for port in rule["ports"]}


DNS = {
    "to": [namespace("kube-system"), {"ipBlock": {"cidr": "169.254.20.10/32"}}],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}


def test_network_policy_of_grafana(whole: Program) -> None:
    found = spec(whole, "grafana-network")
    inside = ["10.1.0.0/16", "10.2.0.0/20", "169.254.0.0/16"]
    assert found["podSelector"] == near("grafana")["podSelector"]
    assert found["ingress"] == [{"from": [{"podSelector": {}}], "ports": tcp(3000)}]
    assert found["egress"] == [
        DNS,
        {"to": [near("prometheus")], "ports": tcp(9090)},
        {"to": [near("jaeger")], "ports": tcp(16686)},
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": inside}}], "ports": tcp(443)},
    ]


def test_network_policy_of_kiali(whole: Program) -> None:
    found = spec(whole, "kiali-network")
    istiod = {**namespace("istio-control"), "podSelector": {"matchLabels": {"app": "istiod"}}}
    assert found["podSelector"] == near("kiali")["podSelector"]
    assert found["ingress"] == [{"from": [{"podSelector": {}}], "ports": tcp(20001, 9090)}]
    assert found["egress"] == [
        DNS,
        {"to": [near("prometheus")], "ports": tcp(9090)},
        {"to": [near("jaeger")], "ports": tcp(16686)},
        {"to": [near("grafana")], "ports": tcp(3000)},
        {"to": [istiod], "ports": tcp(15014)},
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": tcp(443, 6443)},
    ]


@pytest.mark.parametrize("name", ["prometheus", "jaeger"])
def test_a_program_is_closed_before_its_first_pod(whole: Program, name: str) -> None:
    assert f"{OBSERVABILITY}-{name}-network" in whole.one(f"{OBSERVABILITY}-{name}-deployment").dependencies


@pytest.mark.parametrize("name", ["grafana", "kiali"])
def test_a_chart_is_closed_before_its_first_pod(whole: Program, name: str) -> None:
    assert f"{OBSERVABILITY}-{name}-network" in whole.one(f"{OBSERVABILITY}-{name}-release").dependencies


# Grafana and Kiali


@pytest.mark.parametrize(
    ("name", "chart", "version", "repository"),
    [
        # As Istio 1.31's manifests/addons/gen.sh has them.
        ("grafana", "grafana", "9.2.2", "https://grafana.github.io/helm-charts"),
        ("kiali", "kiali-server", "2.27.0", "https://kiali.org/helm-charts"),
    ],
)
def test_charts(whole: Program, name: str, chart: str, version: str, repository: str) -> None:
    inputs = whole.one(f"{OBSERVABILITY}-{name}-release").inputs
    assert (inputs["chart"], inputs["version"], inputs["repositoryOpts"]) == (chart, version, {"repo": repository})
    assert (inputs["name"], inputs["namespace"]) == (name, "observability")


def test_grafana_has_prometheus_and_jaeger(whole: Program) -> None:
    found = values(whole, "grafana")
    assert (found["fullnameOverride"], found["service"]) == ("grafana", {"port": 3000})
    sources = found["datasources"]["datasources.yaml"]["datasources"]
    assert [(one["name"], one["type"], one["url"], one.get("isDefault", False)) for one in sources] == [
        ("Prometheus", "prometheus", "http://prometheus.observability.svc.cluster.local:9090", True),
        ("Jaeger", "jaeger", "http://jaeger.observability.svc.cluster.local:16686", False),
    ]


def test_grafana_loads_istios_dashboards_of_its_version(whole: Program) -> None:
    found = values(whole, "grafana")
    (provider,) = found["dashboardProviders"]["dashboardproviders.yaml"]["providers"]
    (loader,) = found["extraInitContainers"]
    assert provider["options"] == {"path": "/var/lib/grafana/dashboards/istio"}
    command = loader["command"]
    assert command[command.index("--output-dir") + 1] == provider["options"]["path"]
    assert not {"-k", "--insecure"} & set(command)
    place = "https://raw.githubusercontent.com/istio/istio/1.31.1/manifests/addons/dashboards"
    assert [part for part in command if part.startswith("https://")] == [
        f"{place}/istio-mesh-dashboard.gen.json",
        f"{place}/istio-service-dashboard.json",
        f"{place}/istio-workload-dashboard.json",
        f"{place}/istio-performance-dashboard.json",
        f"{place}/istio-extension-dashboard.json",
        f"{place}/pilot-dashboard.gen.json",
        f"{place}/ztunnel-dashboard.gen.json",
    ]
    # On the chart's volume for its home.
    assert loader["volumeMounts"] == [{"name": "storage", "mountPath": "/var/lib/grafana"}]


def test_grafana_has_no_privileges_and_no_open_door(whole: Program) -> None:
    found = values(whole, "grafana")
    assert found["rbac"]["create"] is False
    assert found["automountServiceAccountToken"] is False
    assert found["initChownData"] == {"enabled": False}
    # Anonymous administrators are what Istio's own sample has.
    assert "env" not in found
    assert "auth.anonymous" not in found["grafana.ini"]
    assert "adminPassword" not in found


def test_kiali_knows_the_others(whole: Program) -> None:
    found = values(whole, "kiali")
    assert found["external_services"] == {
        "istio": {"root_namespace": "istio-control"},
        "prometheus": {"url": "http://prometheus.observability.svc.cluster.local:9090"},
        "tracing": {
            "enabled": True,
            "provider": "jaeger",
            "internal_url": "http://jaeger.observability.svc.cluster.local:16686",
            "use_grpc": False,
        },
        "grafana": {
            "enabled": True,
            "internal_url": "http://grafana.observability.svc.cluster.local:3000",
            "auth": {
                "type": "basic",
                "username": "secret:grafana:admin-user",
                "password": "secret:grafana:admin-password",
            },
        },
    }
    assert found["auth"] == {"strategy": "token"}
    assert found["deployment"]["view_only_mode"] is True
    assert found["deployment"]["pod_labels"] == {"sidecar.istio.io/inject": "false"}


def test_kiali_alone_and_with_values_of_ones_own() -> None:
    alone = observability(kiali={"viewOnly": False, "values": {"deployment": {"replicas": 2}, "server": {"port": 80}}})
    found = values(alone, "kiali")
    assert found["external_services"]["tracing"] == {"enabled": False}
    assert found["external_services"]["grafana"] == {"enabled": False}
    assert (found["deployment"]["view_only_mode"], found["deployment"]["replicas"]) == (False, 2)
    assert found["server"] == {"port": 80}


# Settings


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"namespace": "default"}, "observability.namespace", "does not make"),
        ({"prometheus": {"retention": "15"}}, "observability.prometheus.retention", "h, d, w or y"),
        ({"prometheus": {"scrapeSeconds": 0}}, "observability.prometheus.scrapeSeconds", ""),
        ({"prometheus": {"storage": {"size": "32Mi"}}}, "observability.prometheus.storage.size", "64Mi at least"),
        ({"prometheus": {"storage": {"size": "100m"}}}, "observability.prometheus.storage.size", "a size"),
        (
            {"prometheus": {"storage": {"storageClass": "fast"}}},
            "observability.prometheus.storage.storageClass",
            "set persistent",
        ),
        ({"tracing": {"namespaces": []}}, "observability.tracing.namespaces", ""),
        ({"tracing": {"namespaces": ["a", "a"]}}, "observability.tracing.namespaces", "'a' is there 2 times"),
        ({"tracing": {"namespaces": ["observability"]}}, "observability.tracing.namespaces", "where no proxies are"),
        ({"tracing": {"namespaces": ["a"], "samplingPercentage": 101}}, "observability.tracing.samplingPercentage", ""),
        ({"grafana": {"version": "latest"}}, "observability.grafana.version", "a version"),
        ({"grafana": {"dashboards": "http://example.com"}}, "observability.grafana.dashboards", "https://"),
        ({"kiali": {"charts": "ftp://example.com"}}, "observability.kiali.charts", "https://"),
        ({"apiServerPorts": []}, "observability.apiServerPorts", ""),
    ],
)
def test_bad_settings(section: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(**section))
    (problem,) = error.value.problems
    assert problem.key == key
    assert message in problem.message


def section(**tracing: Any) -> ObservabilitySettings:
    return ObservabilitySettings.model_validate({"jaeger": {}, "tracing": {"namespaces": ["shop"]}, **tracing})


@pytest.mark.parametrize(
    ("provider", "key", "words"),
    [
        ({}, "mesh.tracing", "jaeger.observability.svc.cluster.local"),
        ({"service": "jaeger.monitoring.svc.cluster.local"}, "mesh.tracing.service", "spans would not come to it"),
        ({"service": "jaeger.observability.svc.cluster.local", "port": 4318}, "mesh.tracing.service", ":4317"),
    ],
)
def test_spans_need_a_mesh_that_knows_where_to(provider: dict[str, Any], key: str, words: str) -> None:
    found = IstiodMesh.model_validate({"revision": "blue", **({"tracing": provider} if provider else {})})
    (problem,) = misfits(section(), found)
    assert problem.key == key
    assert words in problem.message


def test_spans_that_arrive() -> None:
    right = {"revision": "blue", "tracing": {"service": "jaeger.observability.svc.cluster.local"}}
    assert not list(misfits(section(), IstiodMesh.model_validate(right)))
    # A collector of one's own, when no Jaeger is made.
    own = {"revision": "blue", "tracing": {"service": "otel.monitoring.svc.cluster.local", "port": 4319}}
    assert not list(misfits(section(jaeger=None), IstiodMesh.model_validate(own)))
    # What another stack's mesh has is not known; and without tracing there is nothing to fit.
    assert not list(misfits(section(), None))
    assert not list(misfits(section(tracing=None), IstiodMesh.model_validate({"revision": "blue"})))


def test_a_managed_mesh_takes_no_provider() -> None:
    (problem,) = misfits(section(), ManagedMesh(kind="managed"))
    assert problem.key == "observability.tracing"
    assert "use istiod" in problem.message


# The mesh


def istiods(**mesh: Any) -> dict[str, Any]:
    """The mesh's configuration, by revision, as both istiods have it."""
    program = run(
        {
            "name": "prod",
            "layers": ["mesh"],
            "upstream": {"cluster": "base", "authority": "base"},
            "istio": {"version": "1.31.1"},
            "mesh": {"revision": "blue", "canary": {"revision": "green"}, **mesh},
        },
        stack="prod",
        references={"base": dict(UPSTREAM)},
    )
    return {
        revision: program.one(f"prod-mesh-istiod-{revision}").inputs["values"]["meshConfig"]
        for revision in ("blue", "green")
    }


def test_every_istiod_knows_the_collector() -> None:
    found = istiods(tracing={"service": "otel.monitoring.svc.cluster.local", "port": 4319, "maxTagLength": 64})
    for config in found.values():
        assert config["extensionProviders"] == [
            {
                "name": "jaeger",
                "opentelemetry": {"service": "otel.monitoring.svc.cluster.local", "port": 4319, "maxTagLength": 64},
            }
        ]
        # Nobody sends spans before a Telemetry says so.
        assert "defaultProviders" not in config


def test_without_tracing_there_is_no_provider() -> None:
    assert all("extensionProviders" not in config for config in istiods().values())


def test_telemetry_waits_for_the_layer_that_makes_its_namespace() -> None:
    both = config(tracing={"namespaces": ["peer-authentication-strict", "elsewhere"]})
    both["layers"] = ["peer_authentication", "observability"]
    both["peer_authentication"] = {"prefix": "peer-authentication"}
    program = run(both, stack="prod", references={"base": dict(UPSTREAM)})
    made = "prod-observability-{}-telemetry"
    strict = next(
        one.name for one in program.of("core/v1:Namespace") if one.inputs["metadata"]["name"].endswith("-strict")
    )
    assert strict in program.one(made.format("peer-authentication-strict")).dependencies
    assert strict not in program.one(made.format("elsewhere")).dependencies
