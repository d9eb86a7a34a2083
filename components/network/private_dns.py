"""Names of Google's APIs and registries, answered inside the VPC with addresses that its nodes may reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_gcp import dns

from settings.network import GOOGLE_APIS, Names

TTL_SECONDS = 300


@dataclass(kw_only=True)
class GooglePrivateDnsArgs:
    """Arguments of GooglePrivateDns."""

    project: pulumi.Input[str]
    network: pulumi.Input[str]
    """Self link of the VPC that sees the names."""

    names: Names
    google_apis: Literal["private", "restricted"]
    protect: bool
    """Whether the zones are protected from deletion: without them every call to Google leaves for the internet."""


class GooglePrivateDns(pulumi.ComponentResource):
    """Private zones for googleapis.com, gcr.io and pkg.dev: every name in them leads to the chosen addresses.

    Reference: Virtual Private Cloud, "Configure Private Google Access".
    """

    records: list[dns.RecordSet]

    def __init__(self, name: str, args: GooglePrivateDnsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:GooglePrivateDns", name, None, opts)
        self.records = []
        for domain, zone_name, served, description in (
            ("googleapis.com", args.names.google_apis_zone, f"{args.google_apis}.googleapis.com.", "Google APIs"),
            ("gcr.io", args.names.container_registry_zone, "gcr.io.", "Container Registry"),
            ("pkg.dev", args.names.artifact_registry_zone, "pkg.dev.", "Artifact Registry"),
        ):
            label = f"{name}-{domain.replace('.', '-')}"
            zone = dns.ManagedZone(
                label,
                project=args.project,
                name=zone_name,
                dns_name=f"{domain}.",
                description=f"Private DNS zone for {description}",
                visibility="private",
                private_visibility_config=dns.ManagedZonePrivateVisibilityConfigArgs(
                    networks=[dns.ManagedZonePrivateVisibilityConfigNetworkArgs(network_url=args.network)]
                ),
                opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
            )
            self.records += [
                dns.RecordSet(
                    f"{label}-{kind.lower()}",
                    project=args.project,
                    managed_zone=zone.name,
                    name=dns_name,
                    type=kind,
                    ttl=TTL_SECONDS,
                    rrdatas=values,
                    opts=pulumi.ResourceOptions(parent=self),
                )
                for kind, dns_name, values in (
                    ("A", served, [str(address) for address in GOOGLE_APIS[args.google_apis]]),
                    ("CNAME", f"*.{domain}.", [served]),
                )
            ]
        self.register_outputs({})
