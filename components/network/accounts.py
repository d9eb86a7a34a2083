"""The accounts that nodes run as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import projects, serviceaccount

from components.network.ordering import after
from settings.network import NodeRole

ROLES = (
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
    "roles/monitoring.viewer",
    "roles/storage.objectViewer",
    # The document's nodes pulled from Container Registry, which lay in buckets and is closed.
    "roles/artifactregistry.reader",
)
"""What a node needs and no more: it writes logs and metrics and pulls images."""


@dataclass(kw_only=True)
class NodeAccountsArgs:
    """Arguments of NodeAccounts."""

    project: pulumi.Input[str]
    account_ids: Mapping[NodeRole, str]


class NodeAccounts(pulumi.ComponentResource):
    """A service account for each role of nodes, so that the firewall can tell them apart."""

    emails: dict[NodeRole, pulumi.Output[str]]
    """By role; for nodes, so known when the account may do what it must."""

    def __init__(self, name: str, args: NodeAccountsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:NodeAccounts", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.emails = {}
        for role, account_id in args.account_ids.items():
            account = serviceaccount.Account(
                f"{name}-{role}",
                project=args.project,
                account_id=account_id,
                display_name=account_id,
                description=f"SA for {role} nodes",
                opts=child,
            )
            # Additive: the project's other grants are not ours.
            members = [
                projects.IAMMember(
                    f"{name}-{role}-{granted.rpartition('/')[2]}",
                    project=args.project,
                    role=granted,
                    member=pulumi.Output.concat("serviceAccount:", account.email),
                    opts=child,
                )
                for granted in ROLES
            ]
            self.emails[role] = after(account.email, *members)
        self.register_outputs({"emails": self.emails})
