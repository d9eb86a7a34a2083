"""The mesh CA of the document's patched istiod, which makes its key and request itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from settings.authority import HsmKmsAuthority
from settings.chain import read


@dataclass(kw_only=True)
class HsmKmsMeshCaArgs:
    """Arguments of HsmKmsMeshCa."""

    authority: HsmKmsAuthority
    """Checked: its chain is a chain of CAs."""

    protect: bool
    """Whether namespace and chain are protected from deletion."""


class HsmKmsMeshCa(pulumi.ComponentResource):
    """What that istiod finds in its namespace: the HSM client's configuration and, once signed, its chain.

    istiod writes its request, encrypted, into the Secret `istio-ca-cert-csr` and waits for the Secret `istio-ca-cert`.

    Source: Anthos Service Mesh on premises with an HSM and Vault.
    """

    namespace: pulumi.Output[str]
    """Known when what istiod mounts is there."""

    root_certificate: pulumi.Output[str]
    """PEM; empty while the CA waits."""

    def __init__(self, name: str, args: HsmKmsMeshCaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:authority:HsmKmsMeshCa", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        protected = pulumi.ResourceOptions(parent=self, protect=args.protect)

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.authority.namespace),
            opts=protected,
        )
        client = kubernetes.core.v1.ConfigMap(
            f"{name}-client",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="hsm-client-config", namespace=namespace.metadata.name),
            data={"Chrystoki.conf": args.authority.client_config},
            opts=child,
        )
        self.namespace = client.metadata.namespace
        self.root_certificate = pulumi.Output.from_input("")
        if args.authority.chain is not None:
            chain = read(args.authority.chain)
            signed = kubernetes.core.v1.Secret(
                f"{name}-chain",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(name="istio-ca-cert", namespace=namespace.metadata.name),
                string_data={"cert-chain.pem": chain.text},
                opts=protected,
            )
            self.namespace = pulumi.Output.all(client.metadata.namespace, signed.id).apply(lambda both: str(both[0]))
            self.root_certificate = pulumi.Output.from_input(chain.root)
        self.register_outputs({"namespace": self.namespace, "rootCertificate": self.root_certificate})
