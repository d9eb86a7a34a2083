"""A certificate signed by a private CA, as the Secret that a gateway or a client uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_tls as tls

from components.authority.private_ca import PrivateCa
from settings.ingress import Certificate, IssuedCertificate


@dataclass(kw_only=True)
class CredentialArgs:
    """Arguments of Credential."""

    secret_name: str
    namespace: pulumi.Input[str]
    common_name: str
    dns_names: Sequence[str] = field(default_factory=list)
    """Subject alternative names; empty for a client."""

    allowed_uses: Sequence[str]
    """Extended key usage: server_auth or client_auth."""

    authority: PrivateCa
    validity_hours: int
    early_renewal_hours: int
    """How long before its end the first `pulumi up` makes the certificate anew."""

    client_authority: PrivateCa | None = None
    """The CA of the clients, put into the Secret as ca.crt for mutual TLS."""


class Credential(pulumi.ComponentResource):
    """Key (ECDSA P256), certificate and Secret (tls.key, tls.crt with the chain, ca.crt for MUTUAL).

    Istio serves a changed Secret without a restart. Reference: Istio, "Secure Gateways".
    """

    secret_name: pulumi.Output[str]

    def __init__(self, name: str, args: CredentialArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:ingress:Credential", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        request = tls.CertRequest(
            f"{name}-request",
            private_key_pem=key.private_key_pem,
            subject=tls.CertRequestSubjectArgs(common_name=args.common_name),
            dns_names=list(args.dns_names) or None,
            opts=child,
        )
        certificate = tls.LocallySignedCert(
            f"{name}-certificate",
            cert_request_pem=request.cert_request_pem,
            ca_cert_pem=args.authority.certificate,
            ca_private_key_pem=args.authority.key,
            allowed_uses=["digital_signature", *args.allowed_uses],
            validity_period_hours=args.validity_hours,
            early_renewal_hours=args.early_renewal_hours,
            opts=child,
        )
        data: dict[str, pulumi.Input[str]] = {
            "tls.key": key.private_key_pem,
            "tls.crt": pulumi.Output.concat(certificate.cert_pem, args.authority.certificate),
        }
        if args.client_authority is not None:
            data["ca.crt"] = args.client_authority.root_certificate
        secret = kubernetes.core.v1.Secret(
            f"{name}-secret",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=args.secret_name, namespace=args.namespace),
            type="kubernetes.io/tls",
            string_data=data,
            opts=child,
        )
        self.secret_name = secret.metadata.name
        self.register_outputs({"secretName": self.secret_name})


def server_credentials(
    name: str,
    certificates: Mapping[str, Certificate],
    authorities: Mapping[str, PrivateCa],
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> dict[str, pulumi.Input[str]]:
    """Make the Secrets of the certificates that the settings have issued; names of all, by the settings' names."""
    secrets: dict[str, pulumi.Input[str]] = {}
    for key, certificate in certificates.items():
        if not isinstance(certificate, IssuedCertificate):
            secrets[key] = key
            continue
        secrets[key] = Credential(
            f"{name}-{key}",
            CredentialArgs(
                secret_name=key,
                namespace=namespace,
                common_name=certificate.hosts[0],
                dns_names=certificate.hosts,
                allowed_uses=["server_auth"],
                authority=authorities[certificate.authority],
                validity_hours=certificate.validity_hours,
                early_renewal_hours=certificate.early_renewal_hours,
                client_authority=authorities.get(certificate.client_authority or ""),
            ),
            opts=opts,
        ).secret_name
    return secrets
