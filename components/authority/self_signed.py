"""The mesh CA whose root the program makes itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.authority.private_ca import PrivateCa, PrivateCaArgs
from settings.authority import SelfSignedAuthority


@dataclass(kw_only=True)
class SelfSignedMeshCaArgs:
    """Arguments of SelfSignedMeshCa."""

    namespace: pulumi.Input[str]
    """The control plane's namespace; it is made here, because `cacerts` must be there before istiod starts."""

    environment: str
    """Name of the environment, for the certificates' subjects."""

    authority: SelfSignedAuthority
    protect: bool
    """Whether the CA is protected from deletion."""


class SelfSignedMeshCa(pulumi.ComponentResource):
    """The control plane's namespace and the Secret `cacerts`, which plugs an intermediate CA into istiod.

    Reference: Istio, "Plug in CA Certificates".
    """

    namespace: pulumi.Output[str]
    root_certificate: pulumi.Output[str]

    def __init__(self, name: str, args: SelfSignedMeshCaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:authority:SelfSignedMeshCa", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.namespace),
            opts=child,
        )
        ca = PrivateCa(
            f"{name}-ca",
            PrivateCaArgs(
                common_name=f"{args.environment} mesh",
                organization=args.authority.organization,
                lifetimes=args.authority,
                protect=args.protect,
            ),
            opts=child,
        )
        cacerts = kubernetes.core.v1.Secret(
            f"{name}-cacerts",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="cacerts", namespace=namespace.metadata.name),
            string_data={
                "ca-cert.pem": ca.certificate,
                "ca-key.pem": ca.key,
                "cert-chain.pem": pulumi.Output.concat(ca.certificate, ca.root_certificate),
                "root-cert.pem": ca.root_certificate,
            },
            opts=child,
        )

        # Read from the Secret, so that what uses the contract waits until istiod would find it.
        self.namespace = cacerts.metadata.namespace
        self.root_certificate = ca.root_certificate
        self.register_outputs({"namespace": self.namespace, "rootCertificate": self.root_certificate})
