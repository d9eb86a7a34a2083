"""Who may change what is beside the egress gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

NAME = "egress-administrators"
ISTIO_GROUPS = ("networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io")


@dataclass(kw_only=True)
class EgressAdministratorsArgs:
    """Arguments of EgressAdministrators."""

    namespace: pulumi.Input[str]
    groups: Sequence[str]
    """RBAC groups."""


class EgressAdministrators(pulumi.ComponentResource):
    """A Role for Istio's resources, which the built-in roles leave out, and the ClusterRole `edit` for the rest.

    Reference: Kubernetes, "Using RBAC Authorization".
    """

    def __init__(self, name: str, args: EgressAdministratorsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:egress:EgressAdministrators", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        subjects = groups(args.groups)
        role = kubernetes.rbac.v1.Role(
            f"{name}-role",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=NAME, namespace=args.namespace),
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(api_groups=list(ISTIO_GROUPS), resources=["*"], verbs=["*"]),
            ],
            opts=child,
        )
        for kind, role_name in (("Role", role.metadata.name), ("ClusterRole", "edit")):
            kubernetes.rbac.v1.RoleBinding(
                f"{name}-{kind.lower()}-binding",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(
                    name=NAME if kind == "Role" else f"{NAME}-edit", namespace=args.namespace
                ),
                role_ref=kubernetes.rbac.v1.RoleRefArgs(
                    api_group="rbac.authorization.k8s.io", kind=kind, name=role_name
                ),
                subjects=subjects,
                opts=child,
            )
        self.register_outputs({})


def groups(names: Sequence[str]) -> list[kubernetes.rbac.v1.SubjectArgs]:
    """Groups as subjects of a binding."""
    return [
        kubernetes.rbac.v1.SubjectArgs(api_group="rbac.authorization.k8s.io", kind="Group", name=name) for name in names
    ]
