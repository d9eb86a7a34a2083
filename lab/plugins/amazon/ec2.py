"""VPC and EC2: networks, their security groups, and launch templates.

Stricter than the cloud, so that a wrong order shows: a security group is in use by the rules that are its own, by
launch templates and by flow logs' VPC; a subnet by its route table association.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any

from lab.plugins.amazon import balancers
from lab.plugins.amazon.common import arn, derived, find, listed, refused, trusts
from lab.plugins.amazon.tokens import (
    ASSOCIATION,
    DEFAULT_GROUP,
    EGRESS_RULE,
    EIP,
    ENDPOINT,
    FLOW_LOG,
    INGRESS_RULE,
    INTERNET_GATEWAY,
    KEY,
    LAUNCH_TEMPLATE,
    LOAD_BALANCER,
    LOG_GROUP,
    NAT_GATEWAY,
    NETWORK_INTERFACE,
    ROLE,
    ROUTE,
    ROUTE_TABLE,
    SECURITY_GROUP,
    SUBNET,
    VPC,
)
from lab.plugins.base import Plain
from lab.plugins.cloud import Kind, digits
from lab.plugins.store import Record, World

EVERYWHERE = "0.0.0.0/0"
RULES_PER_GROUP = 60
GATEWAY_SERVICES = ("s3", "dynamodb")
INTERFACE_SERVICES = (
    *("acm-pca", "autoscaling", "ec2", "ec2messages", "ecr.api", "ecr.dkr", "eks", "eks-auth", "elasticloadbalancing"),
    *("kms", "logs", "monitoring", "s3", "secretsmanager", "sns", "sqs", "ssm", "ssmmessages", "sts", "xray"),
)
ZONES = {"us-east-1": "abcdef", "us-west-2": "abcd", "ap-northeast-1": "acd", "ap-northeast-2": "abcd"}
"""The letters of a region's zones, where they are not a, b and c."""
S3_ADDRESSES = ("52.219.0.0/16", "3.5.0.0/16")


def zones(region: str) -> list[str]:
    """The names of a region's availability zones."""
    return [f"{region}{letter}" for letter in ZONES.get(region, "abc")]


def zone_id(zone: str) -> str:
    """The id of an availability zone, as euc1-az1 of eu-central-1a."""
    region, letter = zone[:-1], zone[-1]
    parts = region.split("-")
    short = {"central": "c", "north": "n", "south": "s", "east": "e", "west": "w"}
    words = "".join(short.get(word, word[0]) for word in parts[1:-1])
    return f"{parts[0]}{words}{parts[-1]}-az{ord(letter) - ord('a') + 1}"


def prefix_list(region: str, service: str) -> str:
    """The id of AWS's prefix list of a service's addresses."""
    return derived("pl", region, service)[:11]


# --- rules ---


def _vpc(world: World, record: Record, operation: str) -> None:
    if operation == "create":
        cidr = _range(record.inputs.get("cidrBlock"))
        if cidr and not 16 <= cidr.prefixlen <= 28:
            raise refused("InvalidVpc.Range", f"The CIDR '{cidr}' is invalid.")
        # What every VPC is born with, and takes along.
        group = {"vpcId": record.id, "name": "default", "description": "default VPC security group"}
        table = {"vpcId": record.id}
        for type_, id_, inputs in (
            (SECURITY_GROUP, record.outputs["defaultSecurityGroupId"], group),
            (ROUTE_TABLE, record.outputs["mainRouteTableId"], table),
        ):
            part = Record(type_, id_, inputs, dict(inputs), part_of=record.key)
            world.records[part.key] = part


def _subnet(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        if balancer := balancers.in_subnet(world, record.id):
            raise refused(
                "DependencyViolation", f"The subnet '{record.id}' has dependencies and cannot be deleted. {balancer}"
            )
        return
    vpc, mine = find(world, VPC, record.inputs["vpcId"]), _range(record.inputs.get("cidrBlock"))
    zone, known = record.inputs.get("availabilityZone"), zones(record.outputs["region"])
    if zone is not None and zone not in known:
        raise refused(
            "InvalidParameterValue",
            f"Value ({zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the "
            f"following availability zones: {', '.join(known)}.",
        )
    if mine is None:
        raise refused("MissingParameter", "Either 'cidrBlock' or 'ipv6CidrBlock' should be provided.")
    whole = _range(vpc.inputs.get("cidrBlock"))
    if not 16 <= mine.prefixlen <= 28 or (whole and not mine.subnet_of(whole)):
        raise refused("InvalidSubnet.Range", f"The CIDR '{mine}' is invalid. The VPC has {whole}")
    for other in world.of(SUBNET):
        if other.id != record.id and other.inputs["vpcId"] == vpc.id:
            taken = _range(other.inputs.get("cidrBlock"))
            if taken and taken.overlaps(mine):
                raise refused("InvalidSubnet.Conflict", f"The CIDR '{mine}' conflicts with another subnet ({other.id})")


def _range(text: Any) -> IPv4Network | None:
    return IPv4Network(text) if text else None


def attached(world: World, vpc: str) -> Record | None:
    """The internet gateway of a VPC."""
    return next((one for one in world.of(INTERNET_GATEWAY) if one.inputs.get("vpcId") == vpc), None)


def _internet_gateway(world: World, record: Record, operation: str) -> None:
    vpc = record.inputs.get("vpcId")
    if operation != "delete" or vpc is None:
        return
    public = [
        nat.id
        for nat in world.of(NAT_GATEWAY)
        if nat.inputs.get("allocationId") and find(world, SUBNET, nat.inputs["subnetId"]).inputs["vpcId"] == vpc
    ]
    if mapped := balancers.in_vpc(world, vpc) or ", ".join(public):
        raise refused(
            "DependencyViolation",
            f"Network {vpc} has some mapped public address(es). Please unmap those public address(es) before detaching "
            f"the gateway. {mapped}",
        )


def _nat_gateway(world: World, record: Record, operation: str) -> None:
    if operation == "delete" or "subnetId" not in record.inputs:
        return
    subnet = find(world, SUBNET, record.inputs["subnetId"])
    if record.inputs.get("connectivityType", "public") == "public":
        if not attached(world, subnet.inputs["vpcId"]):
            raise refused("Gateway.NotAttached", f"Network {subnet.inputs['vpcId']} has no Internet gateway attached")
        address = record.inputs.get("allocationId")
        if not address:
            raise refused("MissingParameter", "The request must contain the parameter AllocationId")
        for other in world.of(NAT_GATEWAY):
            if other.id != record.id and other.inputs.get("allocationId") == address:
                raise refused(
                    "Resource.AlreadyAssociated", f"Elastic IP address [{address}] is already associated ({other.id})"
                )
        record.outputs["publicIp"] = find(world, EIP, address).outputs["publicIp"]
    network = IPv4Network(subnet.inputs["cidrBlock"])
    record.outputs["vpcId"] = subnet.inputs["vpcId"]
    record.outputs["privateIp"] = str(network[4 + int(digits(record.id, 2)) % (network.num_addresses - 5)])


def _association(world: World, record: Record, operation: str) -> None:
    if operation == "delete" or "subnetId" not in record.inputs:
        return
    table = find(world, ROUTE_TABLE, record.inputs["routeTableId"])
    subnet = find(world, SUBNET, record.inputs["subnetId"])
    if table.inputs["vpcId"] != subnet.inputs["vpcId"]:
        raise refused(
            "InvalidParameterValue",
            f"Route table {table.id} and network gateway/subnet {subnet.id} belong to different networks",
        )


def _route(world: World, record: Record, operation: str) -> None:
    if operation != "delete":
        vpc = find(world, ROUTE_TABLE, record.inputs["routeTableId"]).inputs["vpcId"]
        _gateway_exists(world, vpc, record.inputs.get("gatewayId"))


def _route_table(world: World, record: Record, operation: str) -> None:
    if operation != "delete":
        for route in listed(record.inputs.get("routes")):
            _gateway_exists(world, record.inputs["vpcId"], route.get("gatewayId"))


def _gateway_exists(world: World, vpc: str, gateway: str | None) -> None:
    if gateway in (None, "local"):
        return
    found = next((one for one in world.of(INTERNET_GATEWAY) if one.id == gateway), None)
    if found is None:
        raise refused("InvalidGatewayID.NotFound", f"The gateway ID '{gateway}' does not exist")
    if found.inputs.get("vpcId") != vpc:
        raise refused(
            "InvalidParameterValue", f"the route table and network gateway {gateway} belong to different networks"
        )


def _security_group(world: World, record: Record, operation: str) -> None:
    if operation == "delete" and (balancer := balancers.with_group(world, record.id)):
        raise refused("DependencyViolation", f"resource {record.id} has a dependent object. {balancer}")


def _group_rule(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs, group = record.inputs, find(world, SECURITY_GROUP, record.inputs["securityGroupId"])
    referenced = inputs.get("referencedSecurityGroupId")
    if referenced and find(world, SECURITY_GROUP, referenced).inputs["vpcId"] != group.inputs["vpcId"]:
        raise refused("InvalidGroup.NotFound", "You have specified two resources that belong to different networks.")
    siblings = [one for one in world.of(record.type) if one.inputs["securityGroupId"] == group.id]
    if operation == "create" and len(siblings) >= RULES_PER_GROUP:
        raise refused(
            "RulesPerSecurityGroupLimitExceeded",
            f"The maximum number of rules per security group has been reached ({group.id}: {RULES_PER_GROUP})",
        )


def _endpoint(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs, region = record.inputs, record.outputs["region"]
    kind, vpc = inputs.get("vpcEndpointType", "Gateway"), find(world, VPC, inputs["vpcId"])
    service = str(inputs.get("serviceName", "")).removeprefix(f"com.amazonaws.{region}.")
    if service not in (GATEWAY_SERVICES if kind == "Gateway" else INTERFACE_SERVICES):
        raise refused(
            "InvalidServiceName",
            f"The Vpc Endpoint Service '{inputs.get('serviceName')}' does not exist, or not as {kind}",
        )
    record.outputs["prefixListId"] = prefix_list(region, service) if kind == "Gateway" else ""
    same = [
        one
        for one in world.of(ENDPOINT)
        if one.id != record.id
        and (one.inputs["vpcId"], one.inputs.get("serviceName")) == (vpc.id, inputs.get("serviceName"))
    ]
    if kind == "Gateway":
        for table in listed(inputs.get("routeTableIds")):
            if find(world, ROUTE_TABLE, table).inputs["vpcId"] != vpc.id:
                raise refused("InvalidParameter", f"Route table {table} does not belong to {vpc.id}")
            if any(table in listed(one.inputs.get("routeTableIds")) for one in same):
                raise refused(
                    "RouteAlreadyExists",
                    f"route table {table} already has a route with destination-prefix-list-id "
                    f"{record.outputs['prefixListId']}",
                )
        return
    if inputs.get("privateDnsEnabled"):
        if not (vpc.inputs.get("enableDnsHostnames") and vpc.inputs.get("enableDnsSupport", True)):
            raise refused(
                "InvalidParameter",
                "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true "
                f"for {vpc.id}",
            )
        if any(one.inputs.get("privateDnsEnabled") for one in same):
            raise refused(
                "InvalidParameter",
                "private-dns-enabled cannot be set because there is already a conflicting DNS domain for "
                f"{service}.{region}.amazonaws.com in the VPC {vpc.id}",
            )
    used: dict[str, str] = {}
    for subnet in (find(world, SUBNET, one) for one in listed(inputs.get("subnetIds"))):
        if subnet.inputs["vpcId"] != vpc.id:
            raise refused("InvalidSubnetID.NotFound", f"The subnet ID '{subnet.id}' does not exist in {vpc.id}")
        zone = subnet.outputs["availabilityZone"]
        if zone in used:
            raise refused(
                "DuplicateSubnetsInSameZone",
                f"Found another VPC endpoint subnet in the availability zone of {subnet.id}. {used[zone]}",
            )
        used[zone] = subnet.id
    if not used:
        raise refused("InvalidParameter", f"the interface endpoint {service} needs subnets")


def _flow_log(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs = record.inputs
    if inputs.get("logDestinationType", "cloud-watch-logs") == "cloud-watch-logs":
        target = str(inputs.get("logDestination", "")).removesuffix(":*")
        if not any(group.outputs["arn"] == target for group in world.of(LOG_GROUP)):
            raise refused("InvalidParameter", f"LogDestination: {target} does not exist")
        role = find(world, ROLE, inputs["iamRoleArn"]) if inputs.get("iamRoleArn") else None
        if role is None or not trusts(role, "vpc-flow-logs.amazonaws.com"):
            raise refused(
                "InvalidParameter", "Unable to assume given IAM role: it does not trust vpc-flow-logs.amazonaws.com"
            )


def _launch_template(world: World, record: Record, operation: str) -> None:
    if operation != "delete" and record.inputs.get("updateDefaultVersion"):
        record.outputs["defaultVersion"] = record.outputs["latestVersion"]


# --- what security groups and routes let through ---


@dataclass(frozen=True)
class Peer:
    """The other end of a connection: by its security groups, or by its addresses."""

    groups: Collection[str] = ()
    ranges: Collection[str] = ()
    prefix_lists: Collection[str] = ()


def allowed(world: World, groups: Collection[str], direction: str, port: int, peer: Peer) -> bool:
    """Whether security groups let a TCP connection in (`ingress`) or out (`egress`)."""
    return any(
        protocol in ("-1", "all") or (protocol in ("tcp", "6") and first <= port <= last)
        for group in groups
        for protocol, first, last, other in _rules(world, group, direction)
        if _covers(other, peer)
    )


def _covers(rule: Peer, peer: Peer) -> bool:
    if set(rule.groups) & set(peer.groups) or set(rule.prefix_lists) & set(peer.prefix_lists):
        return True
    return bool(peer.ranges) and all(
        any(ip_network(one).subnet_of(ip_network(whole)) for whole in rule.ranges)  # type: ignore[arg-type]
        for one in peer.ranges
    )


def _rules(world: World, group: str, direction: str) -> Iterator[tuple[str, int, int, Peer]]:
    """A group's rules: protocol, first port, last port, and with whom."""
    record = find(world, SECURITY_GROUP, group)
    if record.part_of:
        # AWS's own groups: all from each other, and all out.
        yield "-1", 0, 0, Peer(groups=[group], ranges=[EVERYWHERE] if direction == "egress" else [])
    for given in listed(record.inputs.get(direction)):
        groups = [*listed(given.get("securityGroups")), *([group] if given.get("self") else [])]
        peer = Peer(groups, listed(given.get("cidrBlocks")), listed(given.get("prefixListIds")))
        yield str(given["protocol"]), int(given["fromPort"]), int(given["toPort"]), peer
    for rule in world.of(INGRESS_RULE if direction == "ingress" else EGRESS_RULE):
        given = rule.inputs
        if given["securityGroupId"] == group:
            peer = Peer(*(listed(given.get(key)) for key in ("referencedSecurityGroupId", "cidrIpv4", "prefixListId")))
            yield str(given["ipProtocol"]), int(given.get("fromPort", 0)), int(given.get("toPort", 65535)), peer


def unreached(world: World, subnet: Record, groups: Collection[str], services: Collection[str]) -> list[str]:
    """The services of AWS that a machine in a subnet with these security groups cannot call."""
    vpc, region = subnet.inputs["vpcId"], subnet.outputs["region"]
    table = _table(world, subnet)
    out = _way_out(world, subnet) and allowed(world, groups, "egress", 443, Peer(ranges=[EVERYWHERE]))

    def by_endpoint(service: str) -> bool:
        for endpoint in world.of(ENDPOINT):
            given = endpoint.inputs
            if (given["vpcId"], given.get("serviceName")) != (vpc, f"com.amazonaws.{region}.{service}"):
                continue
            if given.get("vpcEndpointType", "Gateway") == "Gateway":
                peer = Peer(ranges=S3_ADDRESSES, prefix_lists=[prefix_list(region, service)])
                if table in listed(given.get("routeTableIds")) and allowed(world, groups, "egress", 443, peer):
                    return True
            elif given.get("privateDnsEnabled"):
                own = listed(given.get("securityGroupIds")) or [find(world, VPC, vpc).outputs["defaultSecurityGroupId"]]
                places = [find(world, SUBNET, one).inputs["cidrBlock"] for one in listed(given.get("subnetIds"))]
                here = Peer(groups, [subnet.inputs["cidrBlock"]])
                if allowed(world, groups, "egress", 443, Peer(own, places)) and allowed(
                    world, own, "ingress", 443, here
                ):
                    return True
        return False

    return [service for service in services if not out and not by_endpoint(service)]


def _table(world: World, subnet: Record) -> str:
    """The id of the route table that counts for a subnet."""
    for association in world.of(ASSOCIATION):
        if association.inputs.get("subnetId") == subnet.id:
            return str(association.inputs["routeTableId"])
    return str(find(world, VPC, subnet.inputs["vpcId"]).outputs["mainRouteTableId"])


def _default_route(world: World, subnet: Record) -> Mapping[str, Any]:
    table = find(world, ROUTE_TABLE, _table(world, subnet))
    own = [route.inputs for route in world.of(ROUTE) if route.inputs["routeTableId"] == table.id]
    inline = [{**route, "destinationCidrBlock": route.get("cidrBlock")} for route in listed(table.inputs.get("routes"))]
    return next((route for route in (*own, *inline) if route.get("destinationCidrBlock") == EVERYWHERE), {})


def _way_out(world: World, subnet: Record) -> bool:
    """Whether a machine of a subnet reaches the internet: by NAT in a public subnet or an address of its own."""
    route = _default_route(world, subnet)
    if nat := route.get("natGatewayId"):
        public = find(world, SUBNET, find(world, NAT_GATEWAY, nat).inputs["subnetId"])
        return bool(_default_route(world, public).get("gatewayId"))
    return bool(route.get("gatewayId") and subnet.inputs.get("mapPublicIpOnLaunch"))


# --- the types ---


def _words(noun: str, code: str, **more: str) -> Mapping[str, str]:
    return {
        "missing": f"api error {code}.NotFound: The {noun} ID '{{id}}' does not exist{{other}}",
        "in_use": f"api error DependencyViolation: The {noun} '{{id}}' has dependencies and cannot be deleted. "
        "'{other}' needs it",
        "permission": "api error UnauthorizedOperation: You are not authorized to perform this operation. "
        f"({noun} {{id}})",
        **more,
    }


def _public_address(values: Mapping[str, Any]) -> Plain:
    return str(IPv4Address("52.28.0.0") + int(digits(values["id"], 5)) % 65536)


RULE = Kind(
    id="sgr-0{random}",
    unique="{securityGroupId}|{ipProtocol}|{fromPort}|{toPort}|{cidrIpv4}{cidrIpv6}{prefixListId}"
    "{referencedSecurityGroupId}",
    replaced_by=("securityGroupId",),
    holds={"securityGroupId": SECURITY_GROUP, "referencedSecurityGroupId": SECURITY_GROUP},
    computed={"securityGroupRuleId": "{id}", "arn": arn("ec2", "security-group-rule/{id}")},
    rule=_group_rule,
    errors={
        "exists": 'api error InvalidPermission.Duplicate: the specified rule "peer: {cidrIpv4}{cidrIpv6}{prefixListId}'
        '{referencedSecurityGroupId}, {ipProtocol}, from port: {fromPort}, to port: {toPort}, ALLOW" already exists'
    },
)

KINDS: Mapping[str, Kind] = {
    VPC: Kind(
        id="vpc-0{random}",
        replaced_by=("cidrBlock", "ipv4IpamPoolId", "ipv4NetmaskLength"),
        defaults={"enableDnsSupport": True, "instanceTenancy": "default"},
        computed={
            "arn": arn("ec2", "vpc/{id}"),
            "ownerId": "{account}",
            "enableDnsHostnames": False,
            "defaultSecurityGroupId": lambda values: derived("sg", values["id"], "default"),
            "mainRouteTableId": lambda values: derived("rtb", values["id"], "main"),
            "defaultRouteTableId": lambda values: derived("rtb", values["id"], "main"),
            "defaultNetworkAclId": lambda values: derived("acl", values["id"], "default"),
            "dhcpOptionsId": lambda values: derived("dopt", values["region"]),
            "ipv6AssociationId": "",
            "ipv6CidrBlock": "",
            "ipv6CidrBlockNetworkBorderGroup": "",
        },
        rule=_vpc,
        errors=_words(
            "vpc", "InvalidVpcID", quota="api error VpcLimitExceeded: The maximum number of VPCs has been reached."
        ),
    ),
    SUBNET: Kind(
        id="subnet-0{random}",
        replaced_by=("vpcId", "availabilityZone", "availabilityZoneId", "cidrBlock", "ipv6Native", "outpostArn"),
        holds={"vpcId": VPC},
        defaults={"mapPublicIpOnLaunch": False},
        computed={
            "arn": arn("ec2", "subnet/{id}"),
            "ownerId": "{account}",
            "availabilityZone": "{region}a",
            "availabilityZoneId": lambda values: zone_id(values["availabilityZone"]),
            "privateDnsHostnameTypeOnLaunch": "ip-name",
            "ipv6CidrBlock": "",
            "ipv6CidrBlockAssociationId": "",
        },
        rule=_subnet,
        errors=_words("subnet", "InvalidSubnetID"),
    ),
    INTERNET_GATEWAY: Kind(
        id="igw-0{random}",
        unique="{vpcId}",
        holds={"vpcId": VPC},
        computed={"arn": arn("ec2", "internet-gateway/{id}"), "ownerId": "{account}"},
        rule=_internet_gateway,
        errors=_words(
            "internetGateway",
            "InvalidInternetGatewayID",
            exists="api error InvalidParameterValue: Network {vpcId} already has an internet gateway attached",
        ),
    ),
    EIP: Kind(
        id="eipalloc-0{random}",
        replaced_by=("address", "domain", "networkBorderGroup", "publicIpv4Pool", "ipamPoolId"),
        defaults={"domain": "vpc"},
        computed={
            "allocationId": "{id}",
            "arn": arn("ec2", "elastic-ip/{id}"),
            "publicIp": _public_address,
            "associationId": "",
        },
        errors=_words(
            "allocation",
            "InvalidAllocationID",
            quota="api error AddressLimitExceeded: The maximum number of addresses has been reached.",
            in_use="api error InvalidIPAddress.InUse: The address {id} is in use by '{other}'",
        ),
    ),
    NAT_GATEWAY: Kind(
        id="nat-0{random}",
        replaced_by=("allocationId", "connectivityType", "privateIp", "subnetId", "vpcId", "availabilityMode"),
        holds={"allocationId": EIP, "subnetId": SUBNET},
        defaults={"connectivityType": "public"},
        computed={
            "associationId": lambda values: derived("eipassoc", values["id"]),
            "networkInterfaceId": lambda values: derived("eni", values["id"]),
            "routeTableId": "",
            "availabilityMode": "zonal",
            "autoProvisionZones": "",
            "autoScalingIps": "",
            "regionalNatGatewayAutoMode": "",
        },
        rule=_nat_gateway,
        errors=_words(
            "natGateway",
            "NatGatewayNotFound",
            missing="api error NatGatewayNotFound: The Nat Gateway {id} was not found{other}",
            quota="api error NatGatewayLimitExceeded: The maximum number of NAT Gateways has been reached.",
        ),
    ),
    ROUTE_TABLE: Kind(
        id="rtb-0{random}",
        replaced_by=("vpcId",),
        holds={"vpcId": VPC},
        names={"routes[].natGatewayId": NAT_GATEWAY, "routes[].vpcEndpointId": ENDPOINT},
        computed={"arn": arn("ec2", "route-table/{id}"), "ownerId": "{account}"},
        rule=_route_table,
        errors=_words("routeTable", "InvalidRouteTableID"),
    ),
    ROUTE: Kind(
        id="r-{routeTableId}{random}",
        unique="{routeTableId}|{destinationCidrBlock}{destinationIpv6CidrBlock}{destinationPrefixListId}",
        replaced_by=(
            "routeTableId",
            "destinationCidrBlock",
            "destinationIpv6CidrBlock",
            "destinationPrefixListId",
        ),
        holds={"routeTableId": ROUTE_TABLE},
        names={"natGatewayId": NAT_GATEWAY, "vpcEndpointId": ENDPOINT},
        computed={"origin": "CreateRoute", "state": "active", "instanceId": "", "instanceOwnerId": ""},
        rule=_route,
        errors={
            "exists": "api error RouteAlreadyExists: The route identified by {destinationCidrBlock}"
            "{destinationIpv6CidrBlock}{destinationPrefixListId} already exists in {routeTableId}."
        },
    ),
    ASSOCIATION: Kind(
        id="rtbassoc-0{random}",
        unique="{subnetId}{gatewayId}",
        replaced_by=("subnetId", "gatewayId"),
        holds={"routeTableId": ROUTE_TABLE, "subnetId": SUBNET, "gatewayId": INTERNET_GATEWAY},
        rule=_association,
        errors={
            "exists": "api error Resource.AlreadyAssociated: the specified association for route table {routeTableId} "
            "conflicts with an existing association ({subnetId}{gatewayId})"
        },
    ),
    SECURITY_GROUP: Kind(
        id="sg-0{random}",
        unique="{vpcId}/{name}",
        replaced_by=("description", "namePrefix", "vpcId"),
        holds={
            "vpcId": VPC,
            "ingress[].securityGroups[]": SECURITY_GROUP,
            "egress[].securityGroups[]": SECURITY_GROUP,
        },
        defaults={"description": "Managed by Pulumi"},
        computed={"arn": arn("ec2", "security-group/{id}"), "ownerId": "{account}"},
        rule=_security_group,
        errors=_words(
            "security group",
            "InvalidGroup",
            missing="api error InvalidGroup.NotFound: The security group '{id}' does not exist{other}",
            exists="api error InvalidGroup.Duplicate: The security group '{name}' already exists for VPC '{vpcId}'",
            in_use="api error DependencyViolation: resource {id} has a dependent object ({other})",
            quota="api error SecurityGroupLimitExceeded: The maximum number of security groups for VPC '{vpcId}' has "
            "been reached.",
        ),
    ),
    INGRESS_RULE: RULE,
    EGRESS_RULE: RULE,
    DEFAULT_GROUP: Kind(
        id=lambda values: derived("sg", values["vpcId"], "default"),
        replaced_by=("vpcId",),
        names={"vpcId": VPC},
        computed={
            "arn": arn("ec2", "security-group/{id}"),
            "ownerId": "{account}",
            "name": "default",
            "namePrefix": "",
            "description": "default VPC security group",
        },
    ),
    ENDPOINT: Kind(
        id="vpce-0{random}",
        replaced_by=("serviceName", "serviceNetworkArn", "serviceRegion", "vpcEndpointType", "vpcId"),
        holds={
            "vpcId": VPC,
            "routeTableIds[]": ROUTE_TABLE,
            "subnetIds[]": SUBNET,
            "securityGroupIds[]": SECURITY_GROUP,
        },
        defaults={"vpcEndpointType": "Gateway"},
        computed={
            "arn": arn("ec2", "vpc-endpoint/{id}"),
            "ownerId": "{account}",
            "state": "available",
            "ipAddressType": "ipv4",
            "policy": '{{"Statement":[{{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}}]}}',
        },
        rule=_endpoint,
        errors=_words("vpcEndpoint", "InvalidVpcEndpointId"),
    ),
    FLOW_LOG: Kind(
        id="fl-0{random}",
        replaced_by=(
            *("deliverCrossAccountRole", "destinationOptions", "eniId", "iamRoleArn", "logDestination"),
            *("logDestinationType", "logFormat", "maxAggregationInterval", "subnetId", "trafficType", "vpcId"),
        ),
        holds={"vpcId": VPC, "subnetId": SUBNET, "iamRoleArn": ROLE},
        defaults={"logDestinationType": "cloud-watch-logs", "maxAggregationInterval": 600.0},
        computed={"arn": arn("ec2", "vpc-flow-log/{id}")},
        rule=_flow_log,
        errors=_words("flowLog", "InvalidFlowLogId"),
    ),
    LAUNCH_TEMPLATE: Kind(
        id="lt-0{random}",
        unique="{name}",
        replaced_by=("namePrefix",),
        holds={
            "vpcSecurityGroupIds[]": SECURITY_GROUP,
            "networkInterfaces[].securityGroups[]": SECURITY_GROUP,
            "networkInterfaces[].subnetId": SUBNET,
            "blockDeviceMappings[].ebs.kmsKeyId": KEY,
        },
        computed={
            "arn": arn("ec2", "launch-template/{id}"),
            "latestVersion": lambda values: float(values["latestVersion"] or 0) + 1,
            "defaultVersion": 1.0,
        },
        renewed=("latestVersion",),
        rule=_launch_template,
        errors=_words(
            "launchTemplate",
            "InvalidLaunchTemplateId",
            missing="api error InvalidLaunchTemplateId.NotFound: The specified launch template, with template ID {id}, "
            "does not exist{other}",
            exists="api error InvalidLaunchTemplateName.AlreadyExistsException: Launch template name {name} already in "
            "use.",
        ),
    ),
    NETWORK_INTERFACE: Kind(
        id="eni-0{random}",
        replaced_by=("subnetId", "interfaceType"),
        holds={"subnetId": SUBNET, "securityGroups[]": SECURITY_GROUP},
        computed={"arn": arn("ec2", "network-interface/{id}"), "ownerId": "{account}"},
        errors=_words("networkInterface", "InvalidNetworkInterfaceID"),
    ),
    LOAD_BALANCER: Kind(
        id="arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/{random}",
        unique="{name}",
        replaced_by=("internal", "loadBalancerType", "namePrefix"),
        holds={"subnets[]": SUBNET, "subnetMappings[].subnetId": SUBNET, "securityGroups[]": SECURITY_GROUP},
        computed={"arn": "{id}", "dnsName": "{name}.elb.{region}.amazonaws.com"},
    ),
}
