"""Kiali, by its own chart: the mesh as a graph, out of Prometheus' series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.helm.v3 import Release, ReleaseArgs

from components.egress.network_policy import EVERYWHERE, namespace, tcp
from components.mesh.charts import TIMEOUT_SECONDS, chart_source
from components.mesh.istio import merged
from components.observability import grafana, prometheus
from components.observability.jaeger import QUERY_PORT
from components.observability.program import INJECT_LABEL, NEIGHBOURS, pods, policy
from settings.observability import JAEGER, ObservabilitySettings
from settings.observability import Kiali as KialiSettings

NAME = "kiali"
CHART = "kiali-server"
PORT = 20001
METRICS_PORT = 9090


@dataclass(kw_only=True)
class KialiArgs:
    """Arguments of Kiali."""

    observability: ObservabilitySettings
    namespace: pulumi.Input[str]
    mesh_namespace: pulumi.Input[str]
    """Istio's root namespace."""

    prometheus: pulumi.Input[str]
    """URL."""

    jaeger: pulumi.Input[str] | None
    grafana: pulumi.Input[str] | None
    """URLs, where there are such."""


class Kiali(pulumi.ComponentResource):
    """The chart's release, with a NetworkPolicy. Who logs in does it with a token of the cluster, and sees by that.

    References: Istio, "Kiali" (integrations); Kiali, "Kiali CR Reference", whose spec are the chart's values.
    """

    url: pulumi.Output[str]
    """Inside the cluster, known when it is ready."""

    def __init__(self, name: str, args: KialiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:observability:Kiali", name, None, opts)
        settings = args.observability.kiali
        assert settings is not None
        closed = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-network",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=NAME, namespace=args.namespace),
            spec=pulumi.Output.from_input(args.mesh_namespace).apply(
                lambda mesh: network_policy(args.observability, mesh)
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        release = Release(
            f"{name}-release",
            ReleaseArgs(
                **chart_source(settings.charts, CHART, settings.version),
                name=NAME,
                namespace=args.namespace,
                values=merged(
                    values(settings, args.mesh_namespace, args.prometheus, args.jaeger, args.grafana), settings.values
                ),
                timeout=TIMEOUT_SECONDS,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        self.url = pulumi.Output.all(release.status, args.namespace).apply(
            lambda ready: f"http://{NAME}.{ready[1]}.svc.cluster.local:{PORT}/kiali"
        )
        self.register_outputs({"url": self.url})


def values(
    settings: KialiSettings,
    mesh_namespace: pulumi.Input[str],
    prometheus_url: pulumi.Input[str],
    jaeger_url: pulumi.Input[str] | None,
    grafana_url: pulumi.Input[str] | None,
) -> dict[str, Any]:
    """Values of the chart."""
    # In the form that Kiali has for a value that is in a Secret of its namespace: here, of Grafana's chart.
    login = {
        "type": "basic",
        "username": f"secret:{grafana.NAME}:admin-user",
        "password": f"secret:{grafana.NAME}:admin-password",
    }
    tracing = {"enabled": True, "provider": "jaeger", "internal_url": jaeger_url, "use_grpc": False}
    dashboards = {"enabled": True, "internal_url": grafana_url, "auth": login}
    return {
        "auth": {"strategy": "token"},
        "deployment": {
            "instance_name": NAME,
            "pod_labels": {INJECT_LABEL: "false"},
            "image_pull_policy": "IfNotPresent",
            "view_only_mode": settings.view_only,
            "network_policy": {"enabled": False},
            "resources": {
                "requests": {"cpu": settings.resources.cpu, "memory": settings.resources.memory},
                "limits": {"memory": settings.memory_limit},
            },
        },
        "external_services": {
            "istio": {"root_namespace": mesh_namespace},
            "prometheus": {"url": prometheus_url},
            "tracing": tracing if jaeger_url is not None else {"enabled": False},
            "grafana": dashboards if grafana_url is not None else {"enabled": False},
        },
    }


def network_policy(observability: ObservabilitySettings, mesh_namespace: str) -> Any:
    """The spec. In: its neighbours, Prometheus. Out: names, what it shows, istiod's state, and the API server."""
    istiod = {**namespace(mesh_namespace), "podSelector": {"matchLabels": {"app": "istiod"}}}
    return policy(
        NAME,
        ingress=[{"from": [NEIGHBOURS], "ports": tcp(PORT, METRICS_PORT)}],
        egress=[
            grafana.names(observability),
            {"to": [pods(prometheus.NAME)], "ports": tcp(prometheus.PORT)},
            {"to": [pods(JAEGER)], "ports": tcp(QUERY_PORT)},
            {"to": [pods(grafana.NAME)], "ports": tcp(grafana.PORT)},
            {"to": [istiod], "ports": tcp(prometheus.ISTIOD_PORT)},
            {"to": [{"ipBlock": {"cidr": EVERYWHERE}}], "ports": tcp(*observability.api_server_ports)},
        ],
    )
