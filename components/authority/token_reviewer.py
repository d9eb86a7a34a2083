"""Whom Vault asks the API server as, when a token is to be reviewed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pulumi
import pulumi_kubernetes as kubernetes


@dataclass(kw_only=True)
class TokenReviewerArgs:
    """Arguments of TokenReviewer."""

    namespace: pulumi.Input[str]
    """Made here, for nothing else."""


class TokenReviewer(pulumi.ComponentResource):
    """A service account that may ask the API server whose a token is, and nothing else; its token does not end.

    Reference: Kubernetes, "Manually create a long-lived API token for a ServiceAccount".
    """

    token: pulumi.Output[str]
    """Secret."""

    certificate: pulumi.Output[str]
    """PEM: the CA of the API server's certificate."""

    def __init__(self, name: str, args: TokenReviewerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:authority:TokenReviewer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.namespace),
            opts=child,
        )
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="vault-reviewer", namespace=namespace.metadata.name),
            # Its token is for Vault; no pod needs one.
            automount_service_account_token=False,
            opts=child,
        )
        binding = kubernetes.rbac.v1.ClusterRoleBinding(
            f"{name}-binding",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="role-tokenreview-binding"),
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="system:auth-delegator"
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=account.metadata.name, namespace=namespace.metadata.name
                )
            ],
            opts=child,
        )
        # Since Kubernetes 1.24 no account has a token by itself; the cluster fills this Secret.
        secret = kubernetes.core.v1.Secret(
            f"{name}-token",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name="vault-reviewer-token",
                namespace=namespace.metadata.name,
                annotations={"kubernetes.io/service-account.name": account.metadata.name},
            ),
            type="kubernetes.io/service-account-token",
            # Whoever gets the token may use it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[binding]),
        )

        self.token = pulumi.Output.secret(secret.data.apply(partial(_filled_in, "token")))
        self.certificate = pulumi.Output.unsecret(secret.data.apply(partial(_filled_in, "ca.crt")))
        self.register_outputs({"token": self.token, "certificate": self.certificate})


def _filled_in(key: str, data: Mapping[str, str] | None) -> str:
    """What the cluster has put into the Secret. In the preview that would make it, there is nothing yet."""
    if data and key in data:
        return base64.b64decode(data[key]).decode()
    if pulumi.runtime.is_dry_run():
        return ""
    raise pulumi.RunError(
        f"the Secret vault-reviewer-token has no '{key}': the cluster's controller manager should have put it there"
    )
