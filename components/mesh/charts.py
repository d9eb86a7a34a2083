"""Istio's Helm charts: from a repository, or from a directory that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
from pulumi_kubernetes.helm.v3 import Release, ReleaseArgs, RepositoryOptsArgs

from settings.mesh import IstioSettings

TIMEOUT_SECONDS = 300


def release(
    resource_name: str,
    istio: IstioSettings,
    chart: str,
    *,
    name: str,
    namespace: pulumi.Input[str],
    values: dict[str, Any],
    opts: pulumi.ResourceOptions,
    ready: bool = True,
) -> Release:
    """A Helm release of one of Istio's charts (base, istiod, gateway), ready when its Deployments are.

    Without `ready` nothing waits for them.

    `helm.v3.Release` and not `helm.v4.Chart`: Istio's charts need Helm's hooks, and istiod patches its own webhooks.
    """
    return Release(
        resource_name,
        ReleaseArgs(
            **chart_source(istio.charts, chart, istio.version),
            name=name,
            namespace=namespace,
            values=values,
            timeout=TIMEOUT_SECONDS,
            skip_await=None if ready else True,
        ),
        opts=opts,
    )


def chart_source(charts: str, chart: str, version: str) -> dict[str, Any]:
    """Where a release takes its chart from: a repository (https://, oci://), or a directory that holds it."""
    if charts.startswith("oci://"):
        return {"chart": f"{charts}/{chart}", "version": version}
    if charts.startswith("https://"):
        return {"chart": chart, "version": version, "repository_opts": RepositoryOptsArgs(repo=charts)}
    return {"chart": str(Path(charts).expanduser() / chart)}
