"""A private certificate authority: a root that signs one intermediate, which signs everything else."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_tls as tls

from settings.authority import CaLifetimes


@dataclass(kw_only=True)
class PrivateCaArgs:
    """Arguments of PrivateCa."""

    common_name: str
    """Prefix of the subjects' common names, for example `dev mesh`."""

    organization: str
    lifetimes: CaLifetimes
    protect: bool
    """Whether keys and certificates are protected from deletion."""


class PrivateCa(pulumi.ComponentResource):
    """Keys (ECDSA; P384 for the root, P256 for the intermediate) and certificates of a CA, made by the tls plugin.

    The keys are secret in the state. A certificate is made anew by the first `pulumi up` in its last
    `early_renewal_hours`.
    """

    root_certificate: pulumi.Output[str]
    """PEM; what clients trust."""

    certificate: pulumi.Output[str]
    """The intermediate's certificate, PEM."""

    key: pulumi.Output[str]
    """The intermediate's private key, PEM; secret."""

    def __init__(self, name: str, args: PrivateCaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:authority:PrivateCa", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, protect=args.protect)

        root_key = tls.PrivateKey(f"{name}-root-key", algorithm="ECDSA", ecdsa_curve="P384", opts=child)
        root = tls.SelfSignedCert(
            f"{name}-root",
            private_key_pem=root_key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(
                common_name=f"{args.common_name} root", organization=args.organization
            ),
            is_ca_certificate=True,
            max_path_length=1,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=args.lifetimes.root_validity_hours,
            early_renewal_hours=args.lifetimes.early_renewal_hours,
            opts=child,
        )
        key = tls.PrivateKey(f"{name}-intermediate-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        request = tls.CertRequest(
            f"{name}-intermediate-request",
            private_key_pem=key.private_key_pem,
            subject=tls.CertRequestSubjectArgs(
                common_name=f"{args.common_name} intermediate", organization=args.organization
            ),
            opts=child,
        )
        intermediate = tls.LocallySignedCert(
            f"{name}-intermediate",
            cert_request_pem=request.cert_request_pem,
            ca_cert_pem=root.cert_pem,
            ca_private_key_pem=root_key.private_key_pem,
            is_ca_certificate=True,
            max_path_length=0,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing", "digital_signature"],
            validity_period_hours=args.lifetimes.intermediate_validity_hours,
            early_renewal_hours=args.lifetimes.early_renewal_hours,
            opts=child,
        )

        self.root_certificate = root.cert_pem
        self.certificate = intermediate.cert_pem
        self.key = pulumi.Output.secret(key.private_key_pem)
        self.register_outputs({"rootCertificate": self.root_certificate, "certificate": self.certificate})
