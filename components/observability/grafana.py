"""Grafana with Istio's dashboards, by its own chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.helm.v3 import Release, ReleaseArgs

from components.egress.network_policy import DNS_PORT, EVERYWHERE, LINK_LOCAL, blocks, namespace, tcp
from components.mesh.charts import TIMEOUT_SECONDS, chart_source
from components.mesh.istio import merged
from components.observability import prometheus
from components.observability.jaeger import QUERY_PORT
from components.observability.program import INJECT_LABEL, NEIGHBOURS, pods, policy
from settings.observability import JAEGER, ObservabilitySettings
from settings.observability import Grafana as GrafanaSettings

NAME = "grafana"
PORT = 3000
HTTPS_PORT = 443

DATA_SOURCE = "Prometheus"
FOLDER = "istio"
HOME = "/var/lib/grafana"
DIRECTORY = f"{HOME}/dashboards/istio"

DASHBOARDS = (
    "istio-mesh-dashboard.gen.json",
    "istio-service-dashboard.json",
    "istio-workload-dashboard.json",
    "istio-performance-dashboard.json",
    "istio-extension-dashboard.json",
    "pilot-dashboard.gen.json",
    "ztunnel-dashboard.gen.json",
)
"""Istio's own files (manifests/addons/dashboards), which are of its version; those at grafana.com are numbered anew."""


@dataclass(kw_only=True)
class GrafanaArgs:
    """Arguments of Grafana."""

    observability: ObservabilitySettings
    istio_version: str
    namespace: pulumi.Input[str]
    prometheus: pulumi.Input[str]
    """URL."""

    jaeger: pulumi.Input[str] | None
    """URL, where there is one."""

    pod_cidr: pulumi.Input[str]
    service_cidr: pulumi.Input[str]


class Grafana(pulumi.ComponentResource):
    """The chart's release, with a NetworkPolicy. Its password is the chart's own, in the Secret `grafana`.

    References: Istio, "Grafana" (integrations); the chart grafana/grafana.
    """

    url: pulumi.Output[str]
    """Inside the cluster, known when it is ready."""

    def __init__(self, name: str, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:observability:Grafana", name, None, opts)
        settings = args.observability.grafana
        assert settings is not None
        cidrs = pulumi.Output.all(args.pod_cidr, args.service_cidr)
        closed = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-network",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=NAME, namespace=args.namespace),
            spec=cidrs.apply(lambda inside: network_policy(args.observability, inside)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        release = Release(
            f"{name}-release",
            ReleaseArgs(
                **chart_source(settings.charts, NAME, settings.version),
                name=NAME,
                namespace=args.namespace,
                values=merged(values(settings, args.istio_version, args.prometheus, args.jaeger), settings.values),
                timeout=TIMEOUT_SECONDS,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        self.url = pulumi.Output.all(release.status, args.namespace).apply(
            lambda ready: f"http://{NAME}.{ready[1]}.svc.cluster.local:{PORT}"
        )
        self.register_outputs({"url": self.url})


def values(
    settings: GrafanaSettings,
    istio_version: str,
    prometheus_url: pulumi.Input[str],
    jaeger_url: pulumi.Input[str] | None,
) -> dict[str, Any]:
    """Values of the chart."""
    place = settings.dashboards.format(version=istio_version)
    traces = {"name": "Jaeger", "type": "jaeger", "access": "proxy", "url": jaeger_url}
    return {
        "fullnameOverride": NAME,
        "service": {"port": PORT},
        "podLabels": {INJECT_LABEL: "false"},
        "resources": {"requests": {"cpu": settings.resources.cpu, "memory": settings.resources.memory}},
        # It asks the cluster nothing, and nothing needs root.
        "rbac": {"create": False, "pspEnabled": False},
        "automountServiceAccountToken": False,
        "initChownData": {"enabled": False},
        "testFramework": {"enabled": False},
        "grafana.ini": {"analytics": {"check_for_updates": False, "reporting_enabled": False}},
        "datasources": {
            "datasources.yaml": {
                "apiVersion": 1,
                "datasources": [
                    {
                        "name": DATA_SOURCE,
                        "type": "prometheus",
                        "access": "proxy",
                        "url": prometheus_url,
                        "isDefault": True,
                    },
                    *([traces] if jaeger_url is not None else []),
                ],
            }
        },
        "dashboardProviders": {
            "dashboardproviders.yaml": {
                "apiVersion": 1,
                "providers": [
                    {
                        "name": FOLDER,
                        "orgId": 1,
                        "folder": FOLDER,
                        "type": "file",
                        "disableDeletion": True,
                        "options": {"path": DIRECTORY},
                    }
                ],
            }
        },
        # Their data source is a variable, which begins as the default one.
        "extraInitContainers": [_loader(settings.loader_image, [f"{place}/{file}" for file in DASHBOARDS])],
    }


def _loader(image: str, urls: Sequence[str]) -> dict[str, Any]:
    """A container that fetches the dashboards before Grafana starts; the chart's own would trust any server."""
    return {
        "name": "load-dashboards",
        "image": image,
        "command": [
            *("curl", "--disable", "--fail", "--silent", "--show-error", "--location", "--proto", "=https"),
            *("--max-time", "60", "--retry", "3", "--create-dirs", "--output-dir", DIRECTORY, "--remote-name-all"),
            *urls,
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The chart's own volume.
        "volumeMounts": [{"name": "storage", "mountPath": HOME}],
    }


def network_policy(observability: ObservabilitySettings, inside: Sequence[str]) -> Any:
    """The spec. In: its neighbours. Out: names, Prometheus, Jaeger, and the dashboards, outside the cluster.

    `inside` are the cluster's ranges.
    """
    return policy(
        NAME,
        ingress=[{"from": [NEIGHBOURS], "ports": tcp(PORT)}],
        egress=[
            names(observability),
            {"to": [pods(prometheus.NAME)], "ports": tcp(prometheus.PORT)},
            {"to": [pods(JAEGER)], "ports": tcp(QUERY_PORT)},
            {
                "to": [{"ipBlock": {"cidr": EVERYWHERE, "except": [*inside, LINK_LOCAL]}}],
                "ports": tcp(HTTPS_PORT),
            },
        ],
    )


def names(observability: ObservabilitySettings) -> dict[str, Any]:
    """A rule for asking names."""
    return {
        "to": [namespace("kube-system"), *blocks([str(cidr) for cidr in observability.dns_addresses])],
        "ports": [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")],
    }
