"""Public images for nodes that have no way to the internet."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import artifactregistry

from components.network.ordering import after

DOCKER_HUB = "docker.io"


@dataclass(kw_only=True)
class ImageMirrorsArgs:
    """Arguments of ImageMirrors."""

    project: pulumi.Input[str]
    region: str
    registries: tuple[str, ...]
    """Host names, for example registry.k8s.io."""

    prefix: str
    """Before every repository's name."""


class ImageMirrors(pulumi.ComponentResource):
    """A remote repository of Artifact Registry for each public registry: it fetches and keeps what nodes ask for."""

    prefixes: dict[str, pulumi.Output[str]]
    """By registry: what stands in an image's name instead of the registry's host."""

    def __init__(self, name: str, args: ImageMirrorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:ImageMirrors", name, None, opts)
        self.prefixes = {}
        for registry in args.registries:
            label = registry.replace(".", "-")
            repository = artifactregistry.Repository(
                f"{name}-{label}",
                project=args.project,
                location=args.region,
                repository_id=f"{args.prefix}{label}",
                description=f"Images of {registry}, fetched when they are first asked for",
                format="DOCKER",
                mode="REMOTE_REPOSITORY",
                remote_repository_config=artifactregistry.RepositoryRemoteRepositoryConfigArgs(
                    description=registry,
                    docker_repository=artifactregistry.RepositoryRemoteRepositoryConfigDockerRepositoryArgs(
                        public_repository="DOCKER_HUB"
                    )
                    if registry == DOCKER_HUB
                    else None,
                    common_repository=None
                    if registry == DOCKER_HUB
                    else artifactregistry.RepositoryRemoteRepositoryConfigCommonRepositoryArgs(
                        uri=f"https://{registry}"
                    ),
                ),
                opts=pulumi.ResourceOptions(parent=self),
            )
            prefix = pulumi.Output.concat(f"{args.region}-docker.pkg.dev/", args.project, f"/{args.prefix}{label}")
            self.prefixes[registry] = after(prefix, repository)
        self.register_outputs({"prefixes": self.prefixes})
