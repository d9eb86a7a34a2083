"""The layer `edge` as one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components.authority.private_ca import PrivateCa, PrivateCaArgs
from components.edge.demo import EdgeDemo, EdgeDemoArgs
from components.edge.gateway import NlbGateway, NlbGatewayArgs
from components.ingress.credential import server_credentials
from components.mesh.revisions import Revisions
from settings.edge import AcmCertificate, BalancerTls, ExistingAcmCertificate, NlbEdge
from settings.mesh import IstioSettings


@dataclass(kw_only=True)
class EdgeArgs:
    """Arguments of Edge."""

    edge: NlbEdge
    istio: IstioSettings
    revisions: Revisions
    """The mesh that the gateways belong to."""

    zones: pulumi.Input[Mapping[str, str]]
    """Ids of the public hosted zones by their domain; empty when the settings name none."""

    protect: bool
    """Whether the certificate authorities are protected from deletion."""


class Edge(pulumi.ComponentResource):
    """The gateways' namespace, certificates, gateways and their names; nginx and echo when wanted."""

    gateways: dict[str, NlbGateway]
    """By name in the settings."""

    root_certificates: dict[str, pulumi.Output[str]]
    """PEM, by the authority's name in the settings."""

    def __init__(self, name: str, args: EdgeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:edge:Edge", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        edge = args.edge

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=edge.namespace, labels={"istio.io/rev": args.revisions.label(edge.namespace)}
            ),
            opts=child,
        ).metadata.name
        if edge.demo is not None:
            EdgeDemo(f"{name}-demo", EdgeDemoArgs(demo=edge.demo, revisions=args.revisions), opts=child)
        authorities = {
            key: PrivateCa(
                f"{name}-{key}-ca",
                PrivateCaArgs(common_name=key, organization="meshgate", lifetimes=lifetimes, protect=args.protect),
                opts=child,
            )
            for key, lifetimes in edge.authorities.items()
        }
        credentials = server_credentials(name, edge.certificates, authorities, namespace, child)
        certificates = _balancer_certificates(name, args, child)
        self.gateways = {
            key: NlbGateway(
                f"{name}-{key}",
                NlbGatewayArgs(
                    gateway_name=key,
                    namespace=namespace,
                    revision=args.revisions.serving(edge.namespace),
                    gateway=gateway,
                    istio=args.istio,
                    credentials=credentials,
                    balancer_certificate=certificates[gateway.tls.certificate]
                    if isinstance(gateway.tls, BalancerTls)
                    else None,
                    balancer_cidrs=[str(cidr) for cidr in edge.balancer_cidrs],
                    metrics_from=edge.metrics_from,
                ),
                opts=child,
            )
            for key, gateway in edge.gateways.items()
        }
        _records(name, args, self.gateways, child)
        self.root_certificates = {key: authority.root_certificate for key, authority in authorities.items()}
        self.register_outputs({"rootCertificates": self.root_certificates})


def _balancer_certificates(name: str, args: EdgeArgs, opts: pulumi.ResourceOptions) -> dict[str, pulumi.Input[str]]:
    """ARNs by the certificate's name in the settings."""
    wanted = args.edge.balancer_certificates
    arns: dict[str, pulumi.Input[str]] = {
        key: certificate.arn for key, certificate in wanted.items() if isinstance(certificate, ExistingAcmCertificate)
    }
    made = {key: certificate for key, certificate in wanted.items() if isinstance(certificate, AcmCertificate)}
    if made:
        # Only where something is made in AWS is its SDK loaded.
        from components.edge.certificates import AcmCertificates, AcmCertificatesArgs

        issued = AcmCertificates(f"{name}-acm", AcmCertificatesArgs(certificates=made, zones=args.zones), opts=opts)
        arns.update(issued.arns)
    return arns


def _records(name: str, args: EdgeArgs, gateways: Mapping[str, NlbGateway], opts: pulumi.ResourceOptions) -> None:
    for key, gateway in args.edge.gateways.items():
        if gateway.zone is not None:
            from components.edge.records import BalancerRecords, BalancerRecordsArgs

            BalancerRecords(
                f"{name}-{key}-records",
                BalancerRecordsArgs(
                    hosts=[host.host for host in gateway.hosts],
                    zone=gateway.zone,
                    zones=args.zones,
                    address=gateways[key].address,
                ),
                opts=opts,
            )
