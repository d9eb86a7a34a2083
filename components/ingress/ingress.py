"""The scenario `ingress` as one component."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.authority.private_ca import PrivateCa, PrivateCaArgs
from components.ingress.coolstore import Coolstore, CoolstoreArgs
from components.ingress.credential import Credential, CredentialArgs, server_credentials
from components.ingress.gateway import IngressGateway, IngressGatewayArgs
from components.mesh.revisions import Revisions
from settings.ingress import IngressGateway as IngressGatewaySettings
from settings.ingress import IngressSettings, NodePortService
from settings.mesh import IstioSettings


@dataclass(kw_only=True)
class IngressArgs:
    """Arguments of Ingress."""

    ingress: IngressSettings
    istio: IstioSettings
    revisions: Revisions
    """The mesh that the gateways belong to."""

    protect: bool
    """Whether the certificate authorities are protected from deletion."""


class Ingress(pulumi.ComponentResource):
    """The gateways' namespace, certificate authorities, credentials and gateways; webapp and catalog when wanted."""

    gateways: dict[str, IngressGateway]
    """By name in the settings."""

    root_certificates: dict[str, pulumi.Output[str]]
    """PEM, by the authority's name in the settings."""

    def __init__(self, name: str, args: IngressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:ingress:Ingress", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        ingress = args.ingress

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=ingress.namespace, labels={"istio.io/rev": args.revisions.label(ingress.namespace)}
            ),
            opts=child,
        ).metadata.name
        if ingress.coolstore is not None:
            Coolstore(
                f"{name}-coolstore",
                CoolstoreArgs(coolstore=ingress.coolstore, revisions=args.revisions),
                opts=child,
            )
        authorities = {
            key: PrivateCa(
                f"{name}-{key}-ca",
                PrivateCaArgs(common_name=key, organization="meshgate", lifetimes=lifetimes, protect=args.protect),
                opts=child,
            )
            for key, lifetimes in ingress.authorities.items()
        }
        credentials = server_credentials(name, ingress.certificates, authorities, namespace, child)
        for key, client in ingress.clients.items():
            Credential(
                f"{name}-{key}",
                CredentialArgs(
                    secret_name=key,
                    namespace=namespace,
                    common_name=client.common_name,
                    allowed_uses=["client_auth"],
                    authority=authorities[client.authority],
                    validity_hours=client.validity_hours,
                    early_renewal_hours=client.early_renewal_hours,
                ),
                opts=child,
            )

        self.gateways = {}
        # Those that ask for certain ports of the nodes come first: the API server gives others any that is free.
        for key, gateway in sorted(ingress.gateways.items(), key=lambda item: not _is_fixed(item[1])):
            claims = [it for name, it in self.gateways.items() if _is_fixed(ingress.gateways[name])]
            self.gateways[key] = IngressGateway(
                f"{name}-{key}",
                IngressGatewayArgs(
                    gateway_name=key,
                    namespace=namespace,
                    revision=args.revisions.serving(ingress.namespace),
                    gateway=gateway,
                    istio=args.istio,
                    credentials=credentials,
                    after=[] if _is_fixed(gateway) else claims,
                ),
                opts=child,
            )
        self.root_certificates = {key: authority.root_certificate for key, authority in authorities.items()}
        self.register_outputs({"rootCertificates": self.root_certificates})


def _is_fixed(gateway: IngressGatewaySettings) -> bool:
    return isinstance(gateway.service, NodePortService)
