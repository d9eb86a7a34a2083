"""What every layer's `build` gets besides its own settings: the layers below it, and the cluster's provider."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import pulumi
import pulumi_kubernetes as kubernetes

from settings import Layer, Settings
from stacks import contracts

if TYPE_CHECKING:
    import pulumi_aws as aws
    import pulumi_gcp as gcp
    import pulumi_vault as vault

C = TypeVar("C", bound=contracts.Contract)


class Upstream:
    """The contracts of the layers that are already built, in this stack or in another one."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.name
        self._aws = settings.aws
        self._gcp = settings.gcp
        self._vault = settings.vault
        self._stacks = settings.upstream
        self._built: dict[Layer, contracts.Contract] = {}
        self._references: dict[str, pulumi.StackReference] = {}

    def add(self, layer: Layer, contract: contracts.Contract) -> None:
        """Keep what a layer of this stack hands on, for the layers above it and as stack outputs."""
        contract.export()
        self._built[layer] = contract

    def made(self, layer: str) -> contracts.Contract | None:
        """What a layer of this stack hands on; None when the stack has none of that name, or it comes later."""
        return {str(name): contract for name, contract in self._built.items()}.get(layer)

    @cached_property
    def network(self) -> contracts.Network:
        """The network."""
        return self._contract("network", contracts.Network)

    @cached_property
    def cluster(self) -> contracts.Cluster:
        """The cluster."""
        return self._contract("cluster", contracts.Cluster)

    @cached_property
    def gateway_pool(self) -> contracts.GatewayPool:
        """The egress gateway's nodes."""
        return self._contract("gateway_pool", contracts.GatewayPool)

    @cached_property
    def authority(self) -> contracts.Authority:
        """The mesh CA."""
        return self._contract("authority", contracts.Authority)

    @cached_property
    def mesh(self) -> contracts.Mesh:
        """The mesh."""
        return self._contract("mesh", contracts.Mesh)

    @cached_property
    def egress(self) -> contracts.Egress:
        """The egress gateway."""
        return self._contract("egress", contracts.Egress)

    @cached_property
    def teams(self) -> contracts.Teams:
        """The teams' namespaces."""
        return self._contract("teams", contracts.Teams)

    @cached_property
    def gcp(self) -> gcp.Provider:
        """The one provider for Google Cloud; every resource of the stack there is made with it."""
        # Only stacks in Google Cloud load its SDK.
        import pulumi_gcp

        assert self._gcp is not None
        return pulumi_gcp.Provider(f"{self._name}-gcp", project=self._gcp.project, region=self._gcp.region)

    @cached_property
    def aws(self) -> aws.Provider:
        """The one provider for AWS; every resource of the stack there is made with it, and tagged with its name."""
        # Only stacks in AWS load its SDK.
        import pulumi_aws

        assert self._aws is not None
        return pulumi_aws.Provider(
            f"{self._name}-aws",
            region=self._aws.region,
            allowed_account_ids=[self._aws.account_id] if self._aws.account_id else None,
            default_tags=pulumi_aws.ProviderDefaultTagsArgs(tags={"meshgate.dev/environment": self._name}),
        )

    @cached_property
    def vault(self) -> vault.Provider:
        """The one provider for Vault. Its token is the operator's own (VAULT_TOKEN): as an input it would be kept."""
        # Only stacks with Vault load its SDK.
        import pulumi_vault

        assert self._vault is not None
        return pulumi_vault.Provider(
            f"{self._name}-vault",
            address=self._vault.address,
            ca_cert_file=str(Path(self._vault.ca).expanduser()),
            skip_tls_verify=False,
        )

    @cached_property
    def kubernetes(self) -> kubernetes.Provider:
        """The one provider for the cluster; every Kubernetes resource of the stack is made with it."""
        return kubernetes.Provider(
            f"{self._name}-kubernetes",
            kubeconfig=self.cluster.kubeconfig,
            # A kubeconfig with fresh credentials must not replace every resource.
            cluster_identifier=self.cluster.identifier,
            enable_server_side_apply=True,
            # A certificate's Secret changes in place: replaced, it would be gone for a moment.
            enable_secret_mutable=True,
            enable_config_map_mutable=True,
        )

    def _contract(self, layer: Layer, contract: type[C]) -> C:
        if layer in self._built:
            return cast(C, self._built[layer])
        stack = self._stacks[layer]
        return contract.from_stack(self._reference(stack), stack)

    def _reference(self, stack: str) -> pulumi.StackReference:
        if stack not in self._references:
            self._references[stack] = pulumi.StackReference(stack)
        return self._references[stack]
