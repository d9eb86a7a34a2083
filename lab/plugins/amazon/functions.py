"""What the simulated AWS answers to the functions (data sources) that components may use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lab.plugins.amazon.common import listed, refused
from lab.plugins.amazon.domains import balancer_zone
from lab.plugins.amazon.ec2 import S3_ADDRESSES, prefix_list, zone_id, zones
from lab.plugins.amazon.eks import default_version
from lab.plugins.cloud import Properties

CALLER = "user/meshgate-lab"
"""Who works in the simulated account."""


def _caller_identity(given: Mapping[str, Any]) -> Properties:
    account = given["account"]
    return {"accountId": account, "arn": f"arn:aws:iam::{account}:{CALLER}", "id": account, "userId": "AIDASIMULATED"}


def _partition(given: Mapping[str, Any]) -> Properties:
    return {"id": "aws", "partition": "aws", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"}


def _region(given: Mapping[str, Any]) -> Properties:
    region = given["region"]
    return {
        "description": region,
        "endpoint": f"ec2.{region}.amazonaws.com",
        "id": region,
        "name": region,
        "region": region,
    }


def _availability_zones(given: Mapping[str, Any]) -> Properties:
    region = given["region"]
    names = [zone for zone in zones(region) if zone not in listed(given.get("excludeNames"))]
    return {
        "groupNames": [region],
        "id": region,
        "names": [*names],
        "region": region,
        "zoneIds": [zone_id(name) for name in names],
    }


def _hosted_zone_id(given: Mapping[str, Any]) -> Properties:
    id_ = balancer_zone(given["region"], given.get("loadBalancerType", "application"))
    return {"id": id_, "region": given["region"]}


def _service_of(given: Mapping[str, Any]) -> str:
    names = [given.get("name"), *(filter_["values"][0] for filter_ in listed(given.get("filters")))]
    region = given["region"]
    for name in names:
        if name in (f"com.amazonaws.{region}.s3", f"com.amazonaws.{region}.dynamodb"):
            return str(name).rpartition(".")[2]
    for service in ("s3", "dynamodb"):
        if prefix_list(region, service) in (given.get("prefixListId"), given.get("id")):
            return service
    raise refused("InvalidPrefixListId.NotFound", f"no matching prefix list found: {', '.join(map(str, names))}")


def _prefix_list(given: Mapping[str, Any]) -> Properties:
    service, region = _service_of(given), given["region"]
    id_ = prefix_list(region, service)
    return {
        "cidrBlocks": [*S3_ADDRESSES],
        "id": id_,
        "name": f"com.amazonaws.{region}.{service}",
        "prefixListId": id_,
        "region": region,
    }


def _managed_prefix_list(given: Mapping[str, Any]) -> Properties:
    service, region = _service_of(given), given["region"]
    id_ = prefix_list(region, service)
    return {
        "addressFamily": "IPv4",
        "arn": f"arn:aws:ec2:{region}:aws:prefix-list/{id_}",
        "entries": [{"cidr": cidr, "description": ""} for cidr in S3_ADDRESSES],
        "id": id_,
        "maxEntries": 0,
        "name": f"com.amazonaws.{region}.{service}",
        "ownerId": "AWS",
        "region": region,
        "tags": {},
        "version": 0,
    }


def _add_on_version(given: Mapping[str, Any]) -> Properties:
    name = given["addonName"]
    version = default_version(name, given["kubernetesVersion"])
    return {"id": name, "region": given["region"], "version": version}


def _policy_document(given: Mapping[str, Any]) -> Properties:
    statements = []
    for one in listed(given.get("statements")):
        statement: dict[str, Any] = {"Effect": one.get("effect", "Allow")}
        if "sid" in one:
            statement["Sid"] = one["sid"]
        for key, name in (
            ("actions", "Action"),
            ("notActions", "NotAction"),
            ("resources", "Resource"),
            ("notResources", "NotResource"),
        ):
            if values := listed(one.get(key)):
                statement[name] = values[0] if len(values) == 1 else sorted(values, reverse=True)
        for key, name in (("principals", "Principal"), ("notPrincipals", "NotPrincipal")):
            if principals := listed(one.get(key)):
                statement[name] = _principals(principals)
        if conditions := listed(one.get("conditions")):
            tests: dict[str, dict[str, Any]] = {}
            for condition in conditions:
                values = condition["values"]
                tests.setdefault(condition["test"], {})[condition["variable"]] = (
                    values[0] if len(values) == 1 else values
                )
            statement["Condition"] = tests
        statements.append(statement)
    document: dict[str, Any] = {"Version": given.get("version", "2012-10-17")}
    if "policyId" in given:
        document["Id"] = given["policyId"]
    document["Statement"] = statements
    return {"id": "policy", "json": json.dumps(document, indent=2), "minifiedJson": json.dumps(document)}


def _principals(given: list[Mapping[str, Any]]) -> Any:
    if [one for one in given if one["type"] == "*"]:
        return "*"
    by_type: dict[str, list[str]] = {}
    for one in given:
        by_type.setdefault(one["type"], []).extend(one["identifiers"])
    return {type_: values[0] if len(values) == 1 else values for type_, values in by_type.items()}


def _parameter(given: Mapping[str, Any]) -> Properties:
    name, region = given["name"], given["region"]
    path = re.fullmatch(
        r"/aws/service/eks/optimized-ami/(1\.\d+)/amazon-linux-2023/(x86_64|arm64)/standard/recommended/"
        r"(image_id|release_version)",
        name,
    )
    if not path:
        raise refused("ParameterNotFound", f"the simulated AWS has no parameter {name}")
    value = (
        f"{path[1]}.1-20261101" if path[3] == "release_version" else f"ami-0{path[1].replace('.', '')}00000000000000"
    )
    return {
        "arn": f"arn:aws:ssm:{region}::parameter{name}",
        "id": name,
        "insecureValue": value,
        "name": name,
        "region": region,
        "type": "String",
        "value": value,
        "version": 1,
    }


FUNCTIONS: Mapping[str, Callable[[Mapping[str, Any]], Properties]] = {
    "aws:index/getAvailabilityZones:getAvailabilityZones": _availability_zones,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller_identity,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getRegion:getRegion": _region,
    "aws:ec2/getManagedPrefixList:getManagedPrefixList": _managed_prefix_list,
    "aws:ec2/getPrefixList:getPrefixList": _prefix_list,
    "aws:eks/getAddonVersion:getAddonVersion": _add_on_version,
    "aws:iam/getPolicyDocument:getPolicyDocument": _policy_document,
    "aws:lb/getHostedZoneId:getHostedZoneId": _hosted_zone_id,
    "aws:ssm/getParameter:getParameter": _parameter,
}
"""By token; each gets the arguments, with `region` and `account`."""
