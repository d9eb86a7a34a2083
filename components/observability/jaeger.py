"""Jaeger: takes spans by OpenTelemetry's protocol, keeps the traces in memory, and shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import yaml

from components.egress.network_policy import namespace, tcp
from components.observability import prometheus
from components.observability.program import DIRECTORY, NEIGHBOURS, Program, pods, policy, program
from settings.observability import JAEGER, OTLP_PORT, ObservabilitySettings

FILE = "jaeger.yaml"
QUERY_PORT = 16686
METRICS_PORT = 8888
STATUS_PORT = 13133


@dataclass(kw_only=True)
class JaegerArgs:
    """Arguments of Jaeger."""

    observability: ObservabilitySettings
    namespace: pulumi.Input[str]


class Jaeger(pulumi.ComponentResource):
    """A Deployment without rights, with its configuration and Service.

    Spans come in plaintext: its pod has no sidecar, as the mesh's own traffic would be traced with it. The
    NetworkPolicy lets the traced namespaces alone send any. References: Istio, "OpenTelemetry"; Jaeger 2,
    "Configuration".
    """

    url: pulumi.Output[str]
    """Of its pages and its API, inside the cluster; known when it is ready."""

    def __init__(self, name: str, args: JaegerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:observability:Jaeger", name, None, opts)
        settings = args.observability.jaeger
        assert settings is not None
        service = program(
            name,
            Program(
                name=JAEGER,
                image=settings.image,
                file=FILE,
                text=configuration(settings.max_traces),
                args=["--config", f"{DIRECTORY}/{FILE}"],
                ports={"http-query": QUERY_PORT, "grpc-otlp": OTLP_PORT},
                ready=("/status", STATUS_PORT),
                metrics_port=METRICS_PORT,
                resources=settings.resources,
                memory_limit=settings.memory_limit,
                network_policy=network_policy(args.observability.traced),
            ),
            namespace=args.namespace,
            opts=pulumi.ResourceOptions(parent=self),
            parent=self,
        )
        self.url = pulumi.Output.concat(
            "http://", service.metadata.name, ".", service.metadata.namespace, f".svc.cluster.local:{QUERY_PORT}"
        )
        self.register_outputs({"url": self.url})


def configuration(max_traces: int) -> str:
    """Jaeger's configuration file, that of an OpenTelemetry collector."""
    storage = "traces"
    reader = {"pull": {"exporter": {"prometheus": {"host": "0.0.0.0", "port": METRICS_PORT}}}}
    return yaml.safe_dump(
        {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
                "pipelines": {
                    "traces": {
                        "receivers": ["otlp"],
                        "processors": ["batch"],
                        "exporters": ["jaeger_storage_exporter"],
                    }
                },
                "telemetry": {"metrics": {"level": "normal", "readers": [reader]}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {storage: {"memory": {"max_traces": max_traces}}}},
                "jaeger_query": {
                    "storage": {"traces": storage},
                    "http": {"endpoint": f"0.0.0.0:{QUERY_PORT}"},
                    # Nobody asks by it.
                    "grpc": {"endpoint": "localhost:16685"},
                },
                "healthcheckv2": {"use_v2": True, "http": {"endpoint": f"0.0.0.0:{STATUS_PORT}"}},
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"0.0.0.0:{OTLP_PORT}"}}}},
            "processors": {"batch": {}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": storage}},
        },
        sort_keys=False,
    )


def network_policy(traced: Sequence[str]) -> dict[str, Any]:
    """The spec. In: the traced namespaces' spans, its neighbours, and Prometheus. Out: nothing."""
    spans = [{"from": [namespace(name) for name in traced], "ports": tcp(OTLP_PORT)}] if traced else []
    return policy(
        JAEGER,
        ingress=[
            *spans,
            {"from": [NEIGHBOURS], "ports": tcp(QUERY_PORT)},
            {"from": [pods(prometheus.NAME)], "ports": tcp(METRICS_PORT)},
        ],
        egress=[],
    )
