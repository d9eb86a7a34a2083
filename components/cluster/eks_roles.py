"""IAM roles in a cluster: who may take them, and that they are complete when they are used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import iam

from components.network.ordering import after

MANAGED = "arn:aws:iam::aws:policy/"
"""Before the names of AWS's own policies."""

SYSTEM_NAMESPACE = "kube-system"


@dataclass(frozen=True, kw_only=True)
class PodIdentity:
    """Through EKS Pod Identity: its agent on the node hands the pod the role's credentials."""

    cluster: str
    """Its name."""


@dataclass(frozen=True, kw_only=True)
class WebIdentity:
    """Through the cluster's OIDC issuer (IRSA): the pod exchanges its service account's token for credentials."""

    provider: pulumi.Input[str]
    """ARN of the issuer in IAM."""

    issuer: pulumi.Input[str]
    """Its URL, https://..."""


Identity = PodIdentity | WebIdentity


def policy(*statements: Mapping[str, Any]) -> str:
    """A policy document as JSON."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def service_trust(service: str) -> str:
    """An AWS service may take the role, for example eks.amazonaws.com."""
    return policy({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


def pod_trust(identity: Identity, service_account: str) -> pulumi.Output[str]:
    """The pods of one service account in kube-system may take the role, and no others of this cluster or another."""
    if isinstance(identity, PodIdentity):
        tags = {
            "eks-cluster-name": identity.cluster,
            "kubernetes-namespace": SYSTEM_NAMESPACE,
            "kubernetes-service-account": service_account,
        }
        return pulumi.Output.from_input(
            policy(
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "pods.eks.amazonaws.com"},
                    # The agent tags its sessions with the pod's cluster, namespace and service account.
                    "Action": ["sts:AssumeRole", "sts:TagSession"],
                    "Condition": {"StringEquals": {f"aws:RequestTag/{key}": value for key, value in tags.items()}},
                }
            )
        )

    def render(values: list[str]) -> str:
        provider, issuer = values
        name = issuer.removeprefix("https://")
        return policy(
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {
                        f"{name}:aud": "sts.amazonaws.com",
                        f"{name}:sub": f"system:serviceaccount:{SYSTEM_NAMESPACE}:{service_account}",
                    }
                },
            }
        )

    return pulumi.Output.all(identity.provider, identity.issuer).apply(render)


def role(
    resource_name: str,
    *,
    description: str,
    trust: pulumi.Input[str],
    parent: pulumi.Resource,
    managed: tuple[str, ...] = (),
    inline: Mapping[str, pulumi.Input[str]] | None = None,
) -> pulumi.Output[str]:
    """A role with AWS's own policies (`managed`, names) and ones of ours (`inline`, documents by name).

    Returns its ARN, known when it has all of them; they go only after everything that uses it.
    """
    child = pulumi.ResourceOptions(parent=parent)
    made = iam.Role(resource_name, description=description, assume_role_policy=trust, opts=child)
    return after(
        made.arn,
        *(
            iam.RolePolicyAttachment(
                f"{resource_name}-{name}", role=made.name, policy_arn=f"{MANAGED}{name}", opts=child
            )
            for name in managed
        ),
        *(
            iam.RolePolicy(f"{resource_name}-{name}", role=made.name, name=name, policy=document, opts=child)
            for name, document in (inline or {}).items()
        ),
    )
