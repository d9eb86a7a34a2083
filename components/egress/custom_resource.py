"""Resources of Istio's own kinds."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes


def custom_resource(
    resource_name: str,
    api_version: str,
    kind: str,
    name: str,
    namespace: pulumi.Input[str],
    spec: pulumi.Input[dict[str, Any]],
    *,
    opts: pulumi.ResourceOptions,
) -> kubernetes.apiextensions.CustomResource:
    """A resource of one of Istio's kinds."""
    return kubernetes.apiextensions.CustomResource(
        resource_name,
        api_version=api_version,
        kind=kind,
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=name, namespace=namespace),
        spec=spec,
        opts=opts,
    )
