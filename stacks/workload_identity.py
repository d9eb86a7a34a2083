"""Layer `workload_identity`: workloads that act as accounts of the cloud.

A kind's component is imported when it is used: it loads an SDK that the other kind does not need.
"""

from __future__ import annotations

import pulumi

from settings import Settings
from settings.workload_identity import ExistingWorkloadIdentity, GkeWorkloadIdentity
from stacks.contracts import WorkloadIdentity
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> WorkloadIdentity:
    """Make the accounts and their Kubernetes side, or only that."""
    assert settings.workload_identity is not None
    if isinstance(settings.workload_identity, GkeWorkloadIdentity):
        accounts = _gke(settings, settings.workload_identity, upstream)
    else:
        accounts = _existing(settings.name, settings.workload_identity, upstream)
    return WorkloadIdentity(accounts=pulumi.Output.all(**accounts).apply(lambda values: values))


def _gke(settings: Settings, identity: GkeWorkloadIdentity, upstream: Upstream) -> dict[str, pulumi.Output[str]]:
    from components.workload_identity import gke as component

    assert settings.gcp is not None
    return component.GkeWorkloadIdentity(
        f"{settings.name}-workload-identity",
        component.GkeWorkloadIdentityArgs(
            project=settings.gcp.project,
            region=settings.gcp.region,
            workloads=identity.workloads,
            team_namespaces=upstream.teams.namespaces,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.gcp, upstream.kubernetes]),
    ).accounts


def _existing(
    environment: str, identity: ExistingWorkloadIdentity, upstream: Upstream
) -> dict[str, pulumi.Output[str]]:
    from components.workload_identity import existing as component

    return component.ExistingWorkloadIdentity(
        f"{environment}-workload-identity",
        component.ExistingWorkloadIdentityArgs(workloads=identity.workloads, team_namespaces=upstream.teams.namespaces),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    ).accounts
