"""What workloads that act as cloud accounts are, whatever cloud or kind binds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as kubernetes

ACCOUNT_ANNOTATION = "iam.gke.io/gcp-service-account"
"""On a Kubernetes service account: the Google service account whose tokens the metadata server gives its pods."""


def team_namespace(teams: pulumi.Input[Mapping[str, Sequence[str]]], namespace: str) -> pulumi.Output[str]:
    """`namespace`, known when the team that it belongs to has it; RunError when it is no team's.

    `teams` has the existing namespaces by the team's name.
    """

    def found(teams: Mapping[str, Sequence[str]]) -> str:
        existing = sorted(name for names in teams.values() for name in names)
        if namespace not in existing:
            raise pulumi.RunError(
                f"meshgate:workload_identity: '{namespace}' is no team's namespace (there are: {', '.join(existing)}); "
                "add it to a team, or take the workload out"
            )
        return namespace

    return pulumi.Output.from_input(teams).apply(found)


def service_account(
    resource_name: str,
    *,
    namespace: pulumi.Input[str],
    name: str,
    account: pulumi.Input[str] | None,
    parent: pulumi.Resource,
) -> kubernetes.core.v1.ServiceAccount:
    """The Kubernetes service account; `account` is the e-mail address of the Google service account that it acts as."""
    return kubernetes.core.v1.ServiceAccount(
        resource_name,
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            namespace=namespace, name=name, annotations=None if account is None else {ACCOUNT_ANNOTATION: account}
        ),
        opts=pulumi.ResourceOptions(parent=parent),
    )
