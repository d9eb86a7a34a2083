"""Route 53 and ACM: zones, records, certificates that their records prove."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lab.plugins.amazon import balancers
from lab.plugins.amazon.common import derived, find, listed, refused
from lab.plugins.amazon.tokens import CERTIFICATE, LISTENER, RECORD, VALIDATION, VPC, ZONE
from lab.plugins.base import Plain, PluginError
from lab.plugins.cloud import Kind
from lab.plugins.store import Record, World

BALANCER_ZONES = {
    "application": {
        "ap-northeast-1": "Z14GRHDCWA56QT",
        "ap-northeast-2": "ZWKZPGTI48KDX",
        "ap-southeast-1": "Z1LMS91P8CMLE5",
        "ap-southeast-2": "Z1GM3OXH4ZPM65",
        "eu-central-1": "Z215JYRZR1TBD5",
        "eu-north-1": "Z23TAZ6LKFMNIO",
        "eu-west-1": "Z32O12XQLNTSW2",
        "eu-west-2": "ZHURV8PSTC4K8",
        "eu-west-3": "Z3Q77PNBQS71R4",
        "us-east-1": "Z35SXDOTRQ7X7K",
        "us-east-2": "Z3AADJGX6KTTL2",
        "us-west-2": "Z1H1FL5HABSF5",
    },
    "network": {
        "ap-northeast-1": "Z31USIVHYNEOWT",
        "ap-northeast-2": "ZIBE1TIR4HY56",
        "ap-southeast-1": "ZKVM4W9LS7TM",
        "ap-southeast-2": "ZCT6FZBF4DROD",
        "eu-central-1": "Z3F0SRJ5LGBH90",
        "eu-north-1": "Z1UDT6IFJ4EJM",
        "eu-west-1": "Z2IFOLAFXWLO4F",
        "eu-west-2": "ZD4D7Y8KGAS4G",
        "eu-west-3": "Z1CMS0P5QUZ6D5",
        "us-east-1": "Z26RNL4JYFTOTI",
        "us-east-2": "ZLMOA37VPKANP",
        "us-west-2": "Z18D5FSROUN65G",
    },
}
"""The hosted zones of load balancers' host names (https://docs.aws.amazon.com/general/latest/gr/elb.html), of the
regions that the simulation knows."""


def balancer_zone(region: str, type_: str) -> str:
    """The id of the hosted zone of a region's load balancers. Raises PluginError for a region that is not known."""
    try:
        return BALANCER_ZONES[type_][region]
    except KeyError:
        raise PluginError(f"unsupported AWS Region: {region} (load balancers of the type {type_})") from None


def _bare(name: str) -> str:
    return name.rstrip(".").lower()


def _zone(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        left = [one.id for one in world.of(RECORD) if one.inputs["zoneId"] == record.id]
        if left and not record.inputs.get("forceDestroy"):
            raise refused(
                "HostedZoneNotEmpty",
                "The specified hosted zone contains non-required resource record sets and so cannot be deleted. "
                f"({', '.join(left)})",
            )
        return
    for vpc in listed(record.inputs.get("vpcs")):
        for other in world.of(ZONE):
            names = [one["vpcId"] for one in listed(other.inputs.get("vpcs"))]
            if other.id != record.id and other.outputs["name"] == record.outputs["name"] and vpc["vpcId"] in names:
                raise refused(
                    "ConflictingDomainExists",
                    f"The VPC {vpc['vpcId']} is already associated with {other.id} of the same name",
                )


def full_name(zone: Record, name: str) -> str:
    """A record's name in its zone, which may be left out. Raises PluginError for a name of another domain."""
    domain, given = _bare(zone.outputs["name"]), _bare(name)
    if given == domain or given.endswith(f".{domain}"):
        return given
    if "." in given:
        # The real plugin would silently make the record `name.domain`, which nobody wants.
        raise refused(
            "InvalidChangeBatch", f"[RRSet with DNS name {given}. is not permitted in zone {domain}.] ({zone.id})"
        )
    return f"{given}.{domain}" if given else domain


def _record(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs, zone = record.inputs, find(world, ZONE, record.inputs["zoneId"])
    name = full_name(zone, inputs["name"])
    record.outputs["fqdn"] = name
    for other in world.of(RECORD):
        if other.inputs["zoneId"] != zone.id or other.outputs["fqdn"] != name:
            continue
        if (other.inputs["type"], other.inputs.get("setIdentifier")) == (inputs["type"], inputs.get("setIdentifier")):
            if (operation == "update" and other.id == record.id) or inputs.get("allowOverwrite"):
                continue
            raise refused(
                "InvalidChangeBatch",
                f"[Tried to create resource record set [name='{name}.', type='{inputs['type']}'] but it already "
                "exists]",
            )
        if "CNAME" in (inputs["type"], other.inputs["type"]):
            raise refused(
                "InvalidChangeBatch",
                f"[RRSet of type {inputs['type']} with DNS name {name}. is not permitted because a conflicting "
                f"RRSet of type {other.inputs['type']} with the same DNS name already exists in zone "
                f"{zone.outputs['name']}.]",
            )
    if inputs["type"] == "CNAME" and name == _bare(zone.outputs["name"]):
        raise refused(
            "InvalidChangeBatch",
            f"[RRSet of type CNAME with DNS name {name}. is not permitted at apex in zone {name}.]",
        )
    for alias in listed(inputs.get("aliases")):
        _alias(name, inputs["type"], alias)


def _alias(name: str, type_: str, alias: Mapping[str, Any]) -> None:
    host = _bare(alias["name"])
    region = host.removesuffix(".amazonaws.com").rpartition(".elb.")[2] if ".elb." in host else None
    known = {zones.get(region or "") for zones in BALANCER_ZONES.values()} if region else {alias["zoneId"]}
    if alias["zoneId"] not in known:
        raise refused(
            "InvalidChangeBatch",
            f"[Tried to create an alias that targets {host}., type {type_} in zone {alias['zoneId']}, but the alias "
            f"target name does not lie within the target zone] ({name})",
        )


def validation_options(values: Mapping[str, Any]) -> Plain:
    """The records that prove the right to a certificate's names: one for each name, in no order that counts."""
    names = dict.fromkeys([values["domainName"], *listed(values.get("subjectAlternativeNames"))])
    options: list[Plain] = []
    for name in sorted(names, key=lambda name: hashlib.sha256(f"{values['id']} {name}".encode()).digest()):
        # A wildcard is proved by the record of the name above it.
        above = name.removeprefix("*.")
        digest = hashlib.md5(f"{values['account']} {above}".encode(), usedforsecurity=False).hexdigest()
        options.append(
            {
                "domainName": name,
                "resourceRecordName": f"_{digest}.{above}.",
                "resourceRecordType": "CNAME",
                "resourceRecordValue": f"_{digest[::-1]}.acm-validations.aws.",
            }
        )
    return options


def _certificate(world: World, record: Record, operation: str) -> None:
    if operation == "delete" and (balancer := balancers.with_certificate(world, record.id)):
        raise refused(
            "ResourceInUseException",
            f"Certificate {record.id} in account {record.id.split(':')[4]} is in use. {balancer}",
        )
    if operation == "create" and record.inputs.get("validationMethod") == "NONE":
        raise refused("ValidationException", "a certificate of ACM's own needs a validation method: DNS or EMAIL")


def _validation(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    certificate = find(world, CERTIFICATE, record.inputs["certificateArn"])
    missing = []
    for option in certificate.outputs["domainValidationOptions"]:
        name, value = _bare(option["resourceRecordName"]), _bare(option["resourceRecordValue"])
        if not any(_proves(world, one, name, value) for one in world.of(RECORD)):
            missing.append(f"{name} CNAME {value}")
    if missing:
        raise PluginError(
            f"waiting for ACM Certificate ({certificate.id}) to be issued: timeout while waiting for state to become "
            "'ISSUED' (last state: 'PENDING_VALIDATION', timeout: 1h15m0s). These records are not in a public zone: "
            f"{', '.join(dict.fromkeys(missing))}"
        )
    given = {_bare(name) for name in listed(record.inputs.get("validationRecordFqdns"))}
    needed = {_bare(option["resourceRecordName"]) for option in certificate.outputs["domainValidationOptions"]}
    if given and needed - given:
        raise PluginError(f"{certificate.id}: missing {', '.join(sorted(needed - given))} DNS validation record(s)")
    certificate.outputs["status"] = "ISSUED"


def _proves(world: World, record: Record, name: str, value: str) -> bool:
    zone = find(world, ZONE, record.inputs["zoneId"])
    values = [_bare(one) for one in listed(record.inputs.get("records"))]
    return not zone.inputs.get("vpcs") and (record.outputs["fqdn"], record.inputs["type"], values) == (
        name,
        "CNAME",
        [value],
    )


def _record_id(values: Mapping[str, Any]) -> str:
    parts = [values["zoneId"], _bare(values["name"]), values["type"], values.get("setIdentifier")]
    return "_".join(part for part in parts if part)


def _from_now(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


KINDS: Mapping[str, Kind] = {
    ZONE: Kind(
        id=lambda values: f"Z{derived('', values['random'])[2:].upper()}",
        replaced_by=("delegationSetId",),
        holds={"vpcs[].vpcId": VPC},
        defaults={"comment": "Managed by Pulumi", "forceDestroy": False},
        computed={
            "arn": "arn:aws:route53:::hostedzone/{id}",
            "zoneId": "{id}",
            "primaryNameServer": "ns-512.awsdns-00.net",
            "nameServers": ["ns-0.awsdns-00.com", "ns-512.awsdns-00.net", "ns-1024.awsdns-00.org"],
        },
        rule=_zone,
        errors={
            "missing": "api error NoSuchHostedZone: No hosted zone found with ID: {id}{other}",
            "in_use": "api error HostedZoneNotEmpty: The specified hosted zone contains non-required resource record "
            "sets and so cannot be deleted. ({other})",
        },
    ),
    RECORD: Kind(
        id=_record_id,
        replaced_by=("zoneId",),
        names={"zoneId": ZONE},
        rule=_record,
        # Whether it may be there already is the record's own setting.
        shared=True,
    ),
    CERTIFICATE: Kind(
        id=lambda values: f"arn:aws:acm:{values['region']}:{values['account']}:certificate/{_uuid(values['random'])}",
        replaced_by=(
            *("certificateAuthorityArn", "domainName", "keyAlgorithm", "subjectAlternativeNames"),
            *("validationMethod", "validationOptions"),
        ),
        computed={
            "arn": "{id}",
            "domainValidationOptions": validation_options,
            "keyAlgorithm": "RSA_2048",
            "notAfter": _from_now(395),
            "notBefore": _from_now(0),
            "pendingRenewal": False,
            "renewalEligibility": "INELIGIBLE",
            "status": "PENDING_VALIDATION",
            "subjectAlternativeNames": lambda values: [values["domainName"]],
            "type": "AMAZON_ISSUED",
        },
        rule=_certificate,
        errors={
            "missing": "api error ResourceNotFoundException: Could not find certificate {id}{other}",
            "in_use": "api error ResourceInUseException: Certificate {id} is in use ({other})",
        },
    ),
    VALIDATION: Kind(
        id=lambda values: f"{values['certificateArn']}-validated",
        replaced_by=("certificateArn", "validationRecordFqdns"),
        names={"certificateArn": CERTIFICATE},
        rule=_validation,
        shared=True,
    ),
    LISTENER: Kind(
        id="arn:aws:elasticloadbalancing:{region}:{account}:listener/net/{random}",
        replaced_by=("loadBalancerArn",),
        holds={"certificateArn": CERTIFICATE},
        computed={"arn": "{id}"},
    ),
}


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-8{digits[1:4]}-{digits[4:16]}"
