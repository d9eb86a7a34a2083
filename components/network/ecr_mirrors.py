"""Public images for nodes that have no way to the internet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import ecr

from settings.network_eks import Registry, UpstreamRegistry

UPSTREAMS: Mapping[UpstreamRegistry, tuple[str, str]] = {
    "public.ecr.aws": ("public.ecr.aws", "ecr-public"),
    "registry.k8s.io": ("registry.k8s.io", "k8s"),
    "quay.io": ("quay.io", "quay"),
    "docker.io": ("registry-1.docker.io", "docker-hub"),
    "ghcr.io": ("ghcr.io", "github"),
}
"""Where ECR asks, and the last part of the prefix. All of a prefix has at most 30 characters."""


@dataclass(kw_only=True)
class EcrMirrorsArgs:
    """Arguments of EcrMirrors."""

    environment: str
    """Before every prefix: rules are the account's, in the region."""

    region: str
    registries: tuple[Registry, ...]


class EcrMirrors(pulumi.ComponentResource):
    """A pull through cache rule of ECR for each public registry: it fetches and keeps what nodes ask for."""

    prefixes: dict[str, pulumi.Output[str]]
    """By registry: what stands in an image's name instead of the registry's host."""

    def __init__(self, name: str, args: EcrMirrorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:EcrMirrors", name, None, opts)
        self.prefixes = {}
        for registry in args.registries:
            upstream, label = UPSTREAMS[registry.host]
            rule = ecr.PullThroughCacheRule(
                f"{name}-{label}",
                ecr_repository_prefix=f"{args.environment}/{label}",
                upstream_registry_url=upstream,
                credential_arn=registry.credential_arn,
                opts=pulumi.ResourceOptions(parent=self),
            )
            self.prefixes[registry.host] = pulumi.Output.concat(
                rule.registry_id, f".dkr.ecr.{args.region}.amazonaws.com/", rule.ecr_repository_prefix
            )
        self.register_outputs({"prefixes": self.prefixes})
