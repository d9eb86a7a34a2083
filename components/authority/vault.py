"""The HSM client's secret in Vault: where it is kept, and which of the cluster's accounts may read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_vault as vault
import yaml

from components.authority.token_reviewer import TokenReviewer, TokenReviewerArgs
from settings.authority import VaultSettings

KEPT_VERSIONS = 2
"""Of the secret, with kv v2: what was replaced can be had back once, and older PINs are gone."""


@dataclass(kw_only=True)
class HsmCredentialArgs:
    """Arguments of HsmCredential."""

    vault: VaultSettings
    namespace: pulumi.Input[str]
    """The control plane's namespace, which exists: Vault lets its service accounts in, and its pods need Vault's CA."""

    kubeconfig: pulumi.Input[str]
    """A self-contained kubeconfig with one context, in YAML: where Vault reaches the API server, unless the settings
    say it."""

    protect: bool
    """Whether the secrets engine is protected from deletion: with it the secret would be gone."""


class HsmCredential(pulumi.ComponentResource):
    """A kv secrets engine and the policy to read its secret `hsm`; a Kubernetes auth method by which istiod gets it.

    The secret's values are not here: `python -m authority provision` writes them. Vault is outside the cluster; it asks
    the API server about every token (TokenReview), as a service account of its own, whose token does not end.

    Source: Anthos Service Mesh on premises with an HSM and Vault. References: Vault, "Kubernetes auth method";
    Kubernetes, "Manually create a long-lived API token for a ServiceAccount".
    """

    namespace: pulumi.Output[str]
    """The control plane's namespace, known when istiod could log in there."""

    def __init__(self, name: str, args: HsmCredentialArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:authority:HsmCredential", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.vault

        mount = vault.Mount(
            f"{name}-mount",
            path=settings.mount,
            type="kv",
            options={"version": str(settings.kv_version)},
            max_lease_ttl_seconds=settings.max_lease_hours * 3600,
            description="Credentials of the mesh CA's HSM client",
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        policy = vault.Policy(
            f"{name}-policy",
            name=settings.policy,
            policy=f'path "{settings.api_path}" {{\n  capabilities = ["read"]\n}}\n',
            opts=child,
        )
        reviewer = TokenReviewer(
            f"{name}-reviewer", TokenReviewerArgs(namespace=settings.reviewer_namespace), opts=child
        )
        auth = vault.AuthBackend(
            f"{name}-auth",
            type="kubernetes",
            path=settings.auth_path,
            description="istiod's service accounts, for the HSM client's credentials",
            opts=child,
        )
        if settings.kv_version == 2:
            vault.generic.Endpoint(
                f"{name}-metadata",
                path=f"{settings.mount}/metadata/hsm",
                data_json=json.dumps({"max_versions": KEPT_VERSIONS}),
                ignore_absent_fields=True,
                # Deleted, it would take all versions of the secret with it; that is for the engine alone to do.
                disable_delete=True,
                # A new engine of version 2 is still being set up for a moment.
                opts=pulumi.ResourceOptions(parent=self, depends_on=[mount, auth]),
            )
        config = vault.kubernetes.AuthBackendConfig(
            f"{name}-config",
            backend=auth.path,
            kubernetes_host=settings.kubernetes_host or _server(args.kubeconfig),
            kubernetes_ca_cert=reviewer.certificate,
            token_reviewer_jwt=reviewer.token,
            # Vault is not in this cluster: what it may find at its own place in a pod is another's.
            disable_local_ca_jwt=True,
            # The API server says whose the tokens are; Vault cannot know the issuer that it was started with.
            disable_iss_validation=True,
            opts=child,
        )
        seconds = settings.token_ttl_hours * 3600
        role = vault.kubernetes.AuthBackendRole(
            f"{name}-role",
            backend=auth.path,
            role_name=settings.role,
            bound_service_account_names=list(settings.service_accounts),
            bound_service_account_namespaces=[args.namespace],
            audience=settings.audience,
            token_policies=[policy.name],
            token_ttl=seconds,
            token_max_ttl=seconds,
            opts=child,
        )
        certificate = kubernetes.core.v1.ConfigMap(
            f"{name}-ca",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="vault-tls-cert", namespace=args.namespace),
            data={"cert": Path(settings.ca).expanduser().read_text()},
            opts=child,
        )

        ready = pulumi.Output.all(args.namespace, mount.id, config.id, role.id, certificate.id)
        self.namespace = ready.apply(lambda values: str(values[0]))
        self.register_outputs({"namespace": self.namespace})


def _server(kubeconfig: pulumi.Input[str]) -> pulumi.Output[str]:
    """The API server of a kubeconfig; not secret, as the kubeconfig is."""
    return pulumi.Output.unsecret(pulumi.Output.from_input(kubeconfig).apply(_address))


def _address(kubeconfig: str) -> str:
    config: Any = yaml.safe_load(kubeconfig)
    return str(config["clusters"][0]["cluster"]["server"])
