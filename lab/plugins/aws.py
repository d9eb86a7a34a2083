"""The simulated AWS: what pulumi_aws does not say of the resource types that meshgate uses, and AWS's own rules.

Which changes replace a resource follows version 7.51 of the package (https://www.pulumi.com/registry/packages/aws/);
errors are worded like AWS's, and say besides who is meant. Types and rules are in amazon/, by service. A cluster is the
lab's own API server, reached with the lab's administrator by the stand-in for `aws eks get-token` (aws_cli.py).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from ipaddress import ip_network
from typing import Any

from pulumi.provider.experimental.provider import CheckRequest, CheckResponse
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.amazon import domains, ec2, eks, iam
from lab.plugins.amazon.functions import CALLER, FUNCTIONS
from lab.plugins.amazon.tokens import (
    ASSOCIATION,
    EGRESS_RULE,
    INGRESS_RULE,
    KEY,
    LAUNCH_TEMPLATE,
    LOG_GROUP,
    POLICY,
    ROLE,
    ROUTE,
    SECURITY_GROUP,
)
from lab.plugins.base import Plain, PluginError, Problem, checked, plain_map, serve
from lab.plugins.cloud import Cloud, Kind, Properties, digits, leaves
from lab.plugins.store import Record

EXAMPLE_ACCOUNT = "123456789012"
"""The account of a provider that does not say which it may work in."""

KINDS: Mapping[str, Kind] = {**ec2.KINDS, **iam.KINDS, **domains.KINDS, **eks.KINDS}

LENGTHS = {ROLE: ("name", 64), POLICY: ("name", 128), SECURITY_GROUP: ("name", 255), LAUNCH_TEMPLATE: ("name", 128)}
"""The most characters of a property."""

ONE_OF = {
    **dict.fromkeys((INGRESS_RULE, EGRESS_RULE), ("cidrIpv4", "cidrIpv6", "prefixListId", "referencedSecurityGroupId")),
    ROUTE: ("destinationCidrBlock", "destinationIpv6CidrBlock", "destinationPrefixListId"),
    ASSOCIATION: ("gatewayId", "subnetId"),
}
"""Of these properties a resource has exactly one."""

ARN_NAMED = {(LOG_GROUP, "kmsKeyId"), (LAUNCH_TEMPLATE, "blockDeviceMappings[].ebs.kmsKeyId")}
"""Properties that take an ARN although their name does not end in one."""


class Aws(Cloud):
    """The simulated AWS."""

    places = ("region",)
    autonamed = ("name", "nodeGroupName")
    errors: Mapping[str, str] = {
        "exists": "api error ResourceAlreadyExistsException: {type} '{id}' already exists",
        "missing": "api error ResourceNotFoundException: {type} '{id}' does not exist{other}",
        "in_use": "api error ResourceInUseException: {type} '{id}' is in use by '{other}'",
        "not_ready": "api error IncorrectState: {type} '{id}' is not in a state in which it can be used",
        "quota": "api error LimitExceededException: the account's quota of {type} does not allow '{id}'",
        "permission": f"api error AccessDenied: User: {CALLER} is not authorized to perform this action on {{type}} "
        "'{id}' because no identity-based policy allows it",
        "timeout": "waiting for {type} ({id}): timeout while waiting for state to become 'available' (last state: "
        "'pending', timeout: 10m0s)",
        "lost": "creating {type} ({id}): https response error StatusCode: 0, RequestID: , request send failed: "
        "connection reset by peer",
    }

    @property
    def account(self) -> str:
        """The account that the provider works in."""
        allowed = json.loads(str(self.settings.get("allowedAccountIds") or "[]"))
        return str(allowed[0]) if allowed else EXAMPLE_ACCOUNT

    async def check_config(self, request: CheckRequest) -> CheckResponse:
        response = await super().check_config(request)
        if not response.failures and not plain_map(request.new_inputs).get("region"):
            problem = ("region", "is missing: an AWS region must be given, there is no other place here it could be in")
            return CheckResponse(inputs=request.new_inputs, failures=checked(request, [problem]))
        return response

    def default_id(self, type_: str, values: Mapping[str, Any]) -> str:
        kind = type_.rsplit("/", 1)[-1].split(":")[0].lower()
        return str(values.get("name") or f"{kind}-0{digits(repr(sorted(values.items())), 16)}")

    def always_there(self, type_: str, text: str) -> bool:
        return type_ == POLICY and text in iam.MANAGED_POLICIES

    def refers(self, text: str) -> bool:
        return bool(re.fullmatch(r"[a-z]+-0[0-9a-f]{16}|arn:aws:.+", text))

    def invalid(self, type_: str, inputs: Properties) -> Iterator[Problem]:
        if type_ in LENGTHS:
            name, most = LENGTHS[type_]
            given = inputs.get(name)
            if isinstance(given, str) and given != UNKNOWN and len(given) > most:
                yield name, f"has {len(given)} characters; AWS takes {most}"
        if type_ in ONE_OF:
            choice = [name for name in ONE_OF[type_] if name in inputs]
            if len(choice) != 1:
                words = f"of {', '.join(ONE_OF[type_])} exactly one must be given, not {' and '.join(choice) or 'none'}"
                yield (choice or ONE_OF[type_])[0], f"does not fit: {words}"
        if type_ in (INGRESS_RULE, EGRESS_RULE):
            yield from _ports(inputs)
        for path, value in leaves(inputs):
            if "cidr" in re.sub(r"\[\d+\]$", "", path).rsplit(".", 1)[-1].lower() and isinstance(value, str) and value:
                yield from _cidr(path, value)
        yield from iam.invalid(type_, inputs)

    def plausible(self, type_: str, name: str, expected: Any, values: Mapping[str, Any]) -> Plain:
        if name == "tagsAll":
            defaults = json.loads(str(self.settings.get("defaultTags") or "{}")).get("tags") or {}
            return {**defaults, **(values.get("tags") or {})}
        if name.endswith("At"):
            return super().plausible(type_, "creationTime", expected, values)
        if name == "arn":
            module, kind = type_.split(":")[1].split("/")
            return f"arn:aws:{module}:{values.get('region', '')}:{values['account']}:{kind.lower()}/{values['id']}"
        if name.lower().endswith(("nameprefix", "ipv6cidrblock", "ownedip", "carrierip")):
            return ""
        return super().plausible(type_, name, expected, values)

    def function(self, name: str, arguments: Mapping[str, Plain]) -> Properties | None:
        if name not in FUNCTIONS:
            known = ", ".join(token.rsplit(":", 1)[1] for token in FUNCTIONS)
            raise PluginError(f"{name}: the simulated AWS has no such function; it has: {known}")
        given = {"region": self.settings.get("region"), "account": self.account, **arguments}
        return {**{key: arguments[key] for key in arguments if key != "statements"}, **FUNCTIONS[name](given)}

    def _values(self, type_: str, inputs: Mapping[str, Plain]) -> dict[str, Any]:
        return {"account": self.account, **super()._values(type_, inputs)}

    def _is(self, record: Record, where: str, type_: str, text: str, by: Record) -> bool:
        if type_ and type_ != record.type:
            return False
        by_arn = where.lower().endswith("arn") or (by.type, re.sub(r"\[\d+\]", "[]", where)) in ARN_NAMED
        named = {record.outputs.get("arn")} if by_arn else {record.id}
        if not type_ or type_ == KEY:
            named = {record.id, record.outputs.get("arn")} if not by_arn else named
        return text in named


def _ports(inputs: Properties) -> Iterator[Problem]:
    ports = [name for name in ("fromPort", "toPort") if name in inputs]
    if inputs["ipProtocol"] == "-1" and ports:
        yield ports[0], "must be left out for the protocol -1, which is all of them"
    if inputs["ipProtocol"] in ("tcp", "udp") and len(ports) < 2:
        yield "fromPort", f"and toPort are needed for the protocol {inputs['ipProtocol']}"


def _cidr(path: str, value: str) -> Iterator[Problem]:
    if value == UNKNOWN:
        return
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        yield path, f"is no CIDR block: {value}"
        return
    if str(network) != value:
        yield path, f"is {value}, which is no network; did you mean {network}?"


def plugin() -> Aws:
    """The stand-in, ready to be served."""
    return Aws("aws", metadata.version("pulumi_aws"), KINDS)


if __name__ == "__main__":
    serve(plugin(), sys.argv[1:])
