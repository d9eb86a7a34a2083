"""Scenario `observability`: metrics, traces and dashboards of the mesh."""

from __future__ import annotations

from dataclasses import fields

import pulumi

from components.observability.observability import Observability, ObservabilityArgs
from settings import Settings, made_namespaces
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.Observability:
    """Make Prometheus and what else the settings name, and have proxies send spans."""
    assert settings.observability is not None
    observability = Observability(
        f"{settings.name}-observability",
        ObservabilityArgs(
            observability=settings.observability,
            istio_version=settings.istio.version,
            mesh_namespace=upstream.mesh.namespace,
            traced={name: _there(name, settings, upstream) for name in settings.observability.traced},
            pod_cidr=upstream.cluster.pod_cidr,
            service_cidr=upstream.cluster.service_cidr,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return contracts.Observability(
        namespace=observability.namespace,
        addresses=pulumi.Output.all(**observability.addresses).apply(lambda values: values),
    )


def _there(namespace: str, settings: Settings, upstream: Upstream) -> pulumi.Input[str]:
    """A namespace, known when the layer of this stack that makes it is there; any other is there already."""
    keys = [key for key, name in made_namespaces(dict(settings)) if name == namespace]
    maker = upstream.made(keys[0].partition(".")[0]) if keys else None
    if maker is None:
        return namespace
    return pulumi.Output.all(*(getattr(maker, field.name) for field in fields(maker))).apply(lambda _: namespace)
