"""Workloads that act as accounts which something else has made and bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from components.network.ordering import after
from components.workload_identity.workload import service_account, team_namespace
from settings.workload_identity import ExistingWorkload


@dataclass(kw_only=True)
class ExistingWorkloadIdentityArgs:
    """Arguments of ExistingWorkloadIdentity."""

    workloads: tuple[ExistingWorkload, ...]

    team_namespaces: pulumi.Input[Mapping[str, Sequence[str]]]
    """Existing namespaces by team."""


class ExistingWorkloadIdentity(pulumi.ComponentResource):
    """The Kubernetes service accounts, each with the annotation that names its Google service account."""

    accounts: dict[str, pulumi.Output[str]]
    """E-mail addresses by <namespace>/<service account>."""

    def __init__(
        self, name: str, args: ExistingWorkloadIdentityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("meshgate:workload_identity:ExistingWorkloadIdentity", name, None, opts)
        self.accounts = {}
        for workload in args.workloads:
            bound = service_account(
                f"{name}-{workload.namespace}.{workload.service_account}",
                namespace=team_namespace(args.team_namespaces, workload.namespace),
                name=workload.service_account,
                account=workload.account,
                parent=self,
            )
            self.accounts[workload.key] = after(workload.account, bound)
        self.register_outputs({"accounts": self.accounts})
