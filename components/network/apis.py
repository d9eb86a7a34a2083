"""The project's APIs."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import projects

from components.network.ordering import after

NEEDED = (
    "artifactregistry.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "dns.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
)
"""Of the VPC, the cluster, names, accounts and their roles, images, and what nodes write to."""


@dataclass(kw_only=True)
class ProjectApisArgs:
    """Arguments of ProjectApis."""

    project: pulumi.Input[str]
    more: tuple[str, ...]
    """APIs besides NEEDED."""


class ProjectApis(pulumi.ComponentResource):
    """APIs enabled in the project. They stay enabled when the stack goes: others in the project may use them."""

    project: pulumi.Output[str]
    """The project, for those who may go on only when its APIs are enabled."""

    def __init__(self, name: str, args: ProjectApisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:ProjectApis", name, None, opts)
        services = [
            projects.Service(
                f"{name}-{api.removesuffix('.googleapis.com')}",
                project=args.project,
                service=api,
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in dict.fromkeys([*NEEDED, *args.more])
        ]
        self.project = after(args.project, *services)
        self.register_outputs({"project": self.project})
