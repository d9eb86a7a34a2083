"""The scenario `observability` as one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.custom_resource import custom_resource
from components.observability import telemetry
from components.observability.grafana import Grafana, GrafanaArgs
from components.observability.jaeger import Jaeger, JaegerArgs
from components.observability.kiali import Kiali, KialiArgs
from components.observability.prometheus import Prometheus, PrometheusArgs
from components.pod_security import RESTRICTED
from settings.observability import ObservabilitySettings


@dataclass(kw_only=True)
class ObservabilityArgs:
    """Arguments of Observability."""

    observability: ObservabilitySettings
    istio_version: str
    mesh_namespace: pulumi.Input[str]
    """Istio's root namespace."""

    traced: Mapping[str, pulumi.Input[str]]
    """The namespaces of `tracing` by their names, each known when it is there."""

    pod_cidr: pulumi.Input[str]
    service_cidr: pulumi.Input[str]


class Observability(pulumi.ComponentResource):
    """A namespace without sidecars where nothing has privileges, the programs in it, and who sends spans to them.

    References: Istio, "Integrations", "Telemetry API".
    """

    namespace: pulumi.Output[str]
    addresses: dict[str, pulumi.Output[str]]
    """URLs inside the cluster, by program."""

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:observability:Observability", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.observability
        self.namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=settings.namespace,
                labels=RESTRICTED,
            ),
            opts=child,
        ).metadata.name

        prometheus = Prometheus(
            f"{name}-prometheus",
            PrometheusArgs(observability=settings, namespace=self.namespace, mesh_namespace=args.mesh_namespace),
            opts=child,
        )
        self.addresses = {"prometheus": prometheus.url}
        if settings.jaeger is not None:
            self.addresses["jaeger"] = Jaeger(
                f"{name}-jaeger", JaegerArgs(observability=settings, namespace=self.namespace), opts=child
            ).url
        if settings.grafana is not None:
            self.addresses["grafana"] = Grafana(
                f"{name}-grafana",
                GrafanaArgs(
                    observability=settings,
                    istio_version=args.istio_version,
                    namespace=self.namespace,
                    prometheus=prometheus.url,
                    jaeger=self.addresses.get("jaeger"),
                    pod_cidr=args.pod_cidr,
                    service_cidr=args.service_cidr,
                ),
                opts=child,
            ).url
        if settings.kiali is not None:
            self.addresses["kiali"] = Kiali(
                f"{name}-kiali",
                KialiArgs(
                    observability=settings,
                    namespace=self.namespace,
                    mesh_namespace=args.mesh_namespace,
                    prometheus=prometheus.url,
                    jaeger=self.addresses.get("jaeger"),
                    grafana=self.addresses.get("grafana"),
                ),
                opts=child,
            ).url
        if settings.tracing is not None:
            for traced, namespace in args.traced.items():
                custom_resource(
                    f"{name}-{traced}-telemetry",
                    telemetry.API_VERSION,
                    telemetry.KIND,
                    telemetry.NAME,
                    namespace,
                    telemetry.telemetry(settings.tracing),
                    opts=child,
                )
        self.register_outputs({"namespace": self.namespace})
