"""Certificates of ACM for balancers, issued when Route 53 has the records that prove whose domain it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import acm, route53

from components.edge.records import zone_id
from settings.edge import AcmCertificate

TTL_SECONDS = 300


@dataclass(kw_only=True)
class AcmCertificatesArgs:
    """Arguments of AcmCertificates."""

    certificates: Mapping[str, AcmCertificate]
    """By the certificate's name in the settings."""

    zones: pulumi.Input[Mapping[str, str]]
    """Ids of the public hosted zones by their domain."""


class AcmCertificates(pulumi.ComponentResource):
    """The certificates, and one validation record for each domain in them.

    A wildcard and its apex are proved by the same record, and so is a domain in several certificates: ACM gives an
    account one record for a domain. Reference: AWS Certificate Manager, "DNS validation".
    """

    arns: dict[str, pulumi.Output[str]]
    """By the certificate's name in the settings; known when it is issued."""

    def __init__(self, name: str, args: AcmCertificatesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:edge:AcmCertificates", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        records: dict[str, route53.Record] = {}
        self.arns = {}
        for key, wanted in args.certificates.items():
            # Other names need another certificate: the engine makes it first, and deletes the old one when the
            # balancer has the new one.
            certificate = acm.Certificate(
                f"{name}-{key}",
                domain_name=wanted.hosts[0],
                # With the first, as ACM has them: none at all would mean to leave them as they are.
                subject_alternative_names=list(wanted.hosts),
                validation_method="DNS",
                opts=child,
            )
            domains = list(dict.fromkeys(host.removeprefix("*.") for host in wanted.hosts))
            for domain in domains:
                if domain not in records:
                    records[domain] = _record(f"{name}-{domain}", certificate, domain, wanted.zone, args.zones, child)
            validation = acm.CertificateValidation(
                f"{name}-{key}-issued",
                certificate_arn=certificate.arn,
                validation_record_fqdns=[records[domain].fqdn for domain in domains],
                opts=child,
            )
            self.arns[key] = validation.certificate_arn
        self.register_outputs({"arns": self.arns})


def _record(
    name: str,
    certificate: acm.Certificate,
    domain: str,
    zone: str,
    zones: pulumi.Input[Mapping[str, str]],
    opts: pulumi.ResourceOptions,
) -> route53.Record:
    option = certificate.domain_validation_options.apply(lambda options: _option(options, domain))
    return route53.Record(
        name,
        zone_id=zone_id(zones, zone),
        name=option.apply(lambda found: str(found.resource_record_name)),
        type=option.apply(lambda found: str(found.resource_record_type)),
        records=[option.apply(lambda found: str(found.resource_record_value))],
        ttl=TTL_SECONDS,
        # Another certificate of the account for the domain, made by somebody else, has just this record.
        allow_overwrite=True,
        opts=opts,
    )


def _option(options: list[Any], domain: str) -> Any:
    return next(option for option in options if option.domain_name.removeprefix("*.") == domain)
