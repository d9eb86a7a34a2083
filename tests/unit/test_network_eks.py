"""The network on AWS: every value of what is made, and what its settings refuse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from ipaddress import IPv4Network
from typing import Any

import pulumi
import pytest
from pulumi_aws import ec2

import stacks
from components.network.eks_endpoints import services
from components.network.eks_rules import GROUPS, NODES, Rule, rules
from settings import Settings, SettingsError, load
from settings.network_eks import EksNetwork
from stacks import network
from stacks.upstream import Upstream
from tests.unit import program as mocks
from tests.unit import sdk
from tests.unit.conftest import CHECKOUT
from tests.unit.program import Program, run

ZONES = [
    {"name": "eu-central-1a", "public": "10.0.0.0/24", "private": "10.0.64.0/19"},
    {"name": "eu-central-1b", "public": "10.0.1.0/24", "private": "10.0.96.0/19"},
]
OTHER_SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:docker-hub-AbCdEf"
ADOPTED = "Z0123456789ADOPTED"
DOCKER_HUB = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ecr-pullthroughcache/docker-hub-AbCdEf"


def config(**settings: Any) -> dict[str, Any]:
    """The configuration of this layer alone; `settings` are its further keys."""
    return {
        "name": "prod",
        "layers": ["network"],
        "aws": {"region": "eu-central-1", "accountId": "123456789012"},
        "network": {"kind": "eks", "cidr": "10.0.0.0/16", "zones": ZONES, **settings},
    }


HARDENED = config(
    dns={
        "public": [{"domain": "example.com"}, {"domain": "example.org", "zoneId": ADOPTED}],
        "private": ["internal.example.com"],
    },
    controlPlaneClients=["192.168.7.0/24"],
    webhookPorts=[10251, 443],
)
DOCUMENT = config(
    nat={"gateways": "one"},
    applicationEgress="open",
    s3Buckets="any",
    flowLogs=None,
    endpoints=["acm-pca", "sts"],
    registries=[{"host": "docker.io", "credentialArn": DOCKER_HUB}],
)


@pytest.fixture(scope="module")
def hardened() -> Program:
    return run(HARDENED, stack="prod")


@pytest.fixture(scope="module")
def document() -> Program:
    return run(DOCUMENT, stack="eks")


def inputs(program: Program, type_: str) -> dict[str, dict[str, Any]]:
    """What a type's resources are made with, by their names without the layer's."""
    return {it.name.removeprefix("prod-network-"): it.inputs for it in program.of(type_)}


def settings_of(values: dict[str, Any]) -> EksNetwork:
    """The layer's settings."""
    section = load(values).network
    assert isinstance(section, EksNetwork)
    return section


# The VPC and its subnets


def test_vpc_resolves_names(hardened: Program) -> None:
    assert inputs(hardened, ":Vpc") == {
        "vpc": {
            "cidrBlock": "10.0.0.0/16",
            "enableDnsSupport": True,
            "enableDnsHostnames": True,
            "tags": {"Name": "prod-vpc"},
        }
    }
    assert inputs(hardened, ":InternetGateway") == {
        "internet": {"vpcId": "prod-network-vpc-id", "tags": {"Name": "prod-internet"}}
    }


def test_default_security_group_allows_nothing(hardened: Program) -> None:
    """The provider empties the group when it takes it over, and the lists are left out."""
    assert inputs(hardened, ":DefaultSecurityGroup") == {
        "default-group": {"vpcId": "prod-network-vpc-id", "tags": {"Name": "prod-unused"}}
    }


def test_subnets(hardened: Program) -> None:
    elb, internal = {"kubernetes.io/role/elb": "1"}, {"kubernetes.io/role/internal-elb": "1"}
    expected = {
        f"subnets-{sort}-{zone['name']}": {
            "vpcId": "prod-network-vpc-id",
            "availabilityZone": zone["name"],
            "cidrBlock": zone[sort],
            "mapPublicIpOnLaunch": False,
            "tags": {"Name": f"prod-{sort}-{zone['name']}", **role},
        }
        for zone in ZONES
        for sort, role in (("public", elb), ("private", internal))
    }
    assert len(expected) == 4
    assert inputs(hardened, ":Subnet") == expected


def test_public_subnets_lead_to_the_internet_gateway(hardened: Program) -> None:
    routes, tables = inputs(hardened, ":Route"), inputs(hardened, ":RouteTable")
    assert tables["subnets-public-routes"] == {"vpcId": "prod-network-vpc-id", "tags": {"Name": "prod-public"}}
    assert routes["subnets-public-internet"] == {
        "routeTableId": "prod-network-subnets-public-routes-id",
        "destinationCidrBlock": "0.0.0.0/0",
        "gatewayId": "prod-network-internet-id",
    }
    associations = inputs(hardened, ":RouteTableAssociation")
    for zone in ("eu-central-1a", "eu-central-1b"):
        assert associations[f"subnets-public-{zone}-association"] == {
            "subnetId": f"prod-network-subnets-public-{zone}-id",
            "routeTableId": "prod-network-subnets-public-routes-id",
        }
        assert associations[f"subnets-private-{zone}-association"] == {
            "subnetId": f"prod-network-subnets-private-{zone}-id",
            "routeTableId": f"prod-network-subnets-private-{zone}-routes-id",
        }
    assert len(associations) == 4
    assert tables.keys() == {
        "subnets-public-routes",
        "subnets-private-eu-central-1a-routes",
        "subnets-private-eu-central-1b-routes",
    }


@pytest.mark.parametrize(
    ("choice", "gateways"),
    [
        ("per-zone", {"eu-central-1a": "eu-central-1a", "eu-central-1b": "eu-central-1b"}),
        ("one", {"eu-central-1a": "eu-central-1a", "eu-central-1b": "eu-central-1a"}),
    ],
)
def test_private_subnets_lead_to_nat(choice: str, gateways: dict[str, str]) -> None:
    program = run(config(nat={"gateways": choice}))
    routes = inputs(program, ":Route")
    for zone, gateway in gateways.items():
        assert routes[f"subnets-private-{zone}-nat"] == {
            "routeTableId": f"prod-network-subnets-private-{zone}-routes-id",
            "destinationCidrBlock": "0.0.0.0/0",
            "natGatewayId": f"prod-network-subnets-nat-{gateway}-id",
        }
    assert len(routes) == 3
    made = {f"subnets-nat-{zone}" for zone in gateways.values()}
    assert inputs(program, ":NatGateway") == {
        name: {
            "subnetId": f"prod-network-{name.replace('nat', 'public')}-id",
            "allocationId": f"prod-network-{name}-address-id",
            "connectivityType": "public",
            "tags": {"Name": f"prod-{name.removeprefix('subnets-')}"},
        }
        for name in made
    }
    assert inputs(program, ":Eip") == {
        f"{name}-address": {"domain": "vpc", "tags": {"Name": f"prod-{name.removeprefix('subnets-')}"}} for name in made
    }


# Security groups


def test_groups_have_no_rules_of_their_own(hardened: Program) -> None:
    groups = inputs(hardened, ":SecurityGroup")
    assert groups.keys() == {
        "groups-application",
        "groups-gateway",
        "groups-control-plane",
        "groups-endpoints",
    }
    for name, group in groups.items():
        assert group.keys() == {"vpcId", "description", "tags"}, "inline rules would delete those of the controller"
        assert group["vpcId"] == "prod-network-vpc-id"
        assert group["tags"] == {"Name": f"prod-{name.removeprefix('groups-')}"}


def allowed(rule: Rule) -> tuple[str, str, str, int | None]:
    """A rule without words."""
    return rule.group, rule.direction, str(rule.peer), rule.port


def both_ways(source: str, destination: str, port: int | None) -> set[tuple[str, str, str, int | None]]:
    """What a connection between two groups takes."""
    return {(source, "egress", destination, port), (destination, "ingress", source, port)}


def expected_rules() -> set[tuple[str, str, str, int | None]]:
    """What every environment allows."""
    expected: set[tuple[str, str, str, int | None]] = {("endpoints", "ingress", "10.0.0.0/16", 443)}
    for node in NODES:
        expected |= both_ways(node, "application", None) | both_ways(node, "gateway", None)
        expected |= both_ways(node, "control_plane", 443)
        for port in (443, 9443, 10250, 15017):
            expected |= both_ways("control_plane", node, port)
        expected |= {(node, "egress", "endpoints", 443), (node, "egress", "s3", 443)}
    return expected | {("gateway", "egress", "0.0.0.0/0", port) for port in (80, 443)}


def test_closed_application_nodes_leave_through_endpoints_alone() -> None:
    made = rules(settings_of(config()))
    assert {allowed(rule) for rule in made} == expected_rules()
    assert len(made) == len(expected_rules())
    outside = {rule.peer for rule in made if rule.group == "application" and rule.direction == "egress"}
    assert outside == {"application", "gateway", "control_plane", "endpoints", "s3"}


def test_open_application_nodes_reach_the_web() -> None:
    made = rules(settings_of(config(applicationEgress="open")))
    assert {allowed(rule) for rule in made} - expected_rules() == {
        ("application", "egress", "0.0.0.0/0", 80),
        ("application", "egress", "0.0.0.0/0", 443),
    }


def test_further_webhooks_and_clients_of_the_control_plane() -> None:
    made = rules(settings_of(HARDENED))
    assert {allowed(rule) for rule in made} - expected_rules() == {
        *both_ways("control_plane", "application", 10251),
        *both_ways("control_plane", "gateway", 10251),
        ("control_plane", "ingress", "192.168.7.0/24", 443),
    }


def test_nothing_comes_in_from_the_internet() -> None:
    """The load balancer controller opens what its targets need."""
    for values in (HARDENED, DOCUMENT):
        for rule in rules(settings_of(values)):
            if rule.direction == "ingress" and isinstance(rule.peer, IPv4Network):
                assert rule.group in ("control_plane", "endpoints")
                assert rule.peer.is_private


def test_rules_are_the_data(hardened: Program, document: Program) -> None:
    for program, values in ((hardened, HARDENED), (document, DOCUMENT)):
        expected = {}
        data = rules(settings_of(values))
        for rule in data:
            if isinstance(rule.peer, IPv4Network):
                peer = {"cidrIpv4": str(rule.peer)}
            elif rule.peer == "s3":
                peer = {"prefixListId": "<prefix list>"}
            else:
                peer = {"referencedSecurityGroupId": f"prod-network-groups-{rule.peer.replace('_', '-')}-id"}
            expected[f"groups-{rule.name}", rule.direction] = {
                "securityGroupId": f"prod-network-groups-{rule.group.replace('_', '-')}-id",
                "description": rule.description,
                "ipProtocol": "tcp" if rule.port else "-1",
                **({"fromPort": rule.port, "toPort": rule.port} if rule.port else {}),
                **peer,
            }
        found = {
            **{(name, "ingress"): it for name, it in inputs(program, ":SecurityGroupIngressRule").items()},
            **{(name, "egress"): it for name, it in inputs(program, ":SecurityGroupEgressRule").items()},
        }
        assert found == expected
        assert len(expected) == len(data)


def test_two_rules_in_full(document: Program) -> None:
    assert inputs(document, ":SecurityGroupEgressRule")["groups-gateway-egress-0.0.0.0-0-443"] == {
        "securityGroupId": "prod-network-groups-gateway-id",
        "description": "The internet",
        "ipProtocol": "tcp",
        "fromPort": 443,
        "toPort": 443,
        "cidrIpv4": "0.0.0.0/0",
    }
    assert inputs(document, ":SecurityGroupIngressRule")["groups-application-ingress-control-plane-15017"] == {
        "securityGroupId": "prod-network-groups-application-id",
        "description": "The API server reaches kubelets and webhooks",
        "ipProtocol": "tcp",
        "fromPort": 15017,
        "toPort": 15017,
        "referencedSecurityGroupId": "prod-network-groups-control-plane-id",
    }


def test_descriptions_are_what_aws_takes(hardened: Program) -> None:
    described = [it for it in hardened.resources if "SecurityGroup" in it.type and "description" in it.inputs]
    assert len(described) > 40
    for it in described:
        assert re.fullmatch(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}", it.inputs["description"]), it.name


# Endpoints


def test_s3_through_the_private_route_tables(hardened: Program, document: Program) -> None:
    for program in (hardened, document):
        made = inputs(program, ":VpcEndpoint")["s3"]
        assert {key: value for key, value in made.items() if key != "policy"} == {
            "vpcId": "prod-network-vpc-id",
            "vpcEndpointType": "Gateway",
            "serviceName": "com.amazonaws.eu-central-1.s3",
            "routeTableIds": [f"prod-network-subnets-private-eu-central-1{zone}-routes-id" for zone in "ab"],
            "tags": {"Name": "prod-s3"},
        }


def test_buckets_that_nodes_reach(hardened: Program, document: Program) -> None:
    """Without a policy of one's own the endpoint would keep the one that it had."""
    own, all_of_them = (
        json.loads(inputs(program, ":VpcEndpoint")["s3"]["policy"])["Statement"] for program in (hardened, document)
    )
    assert all_of_them == [
        {"Sid": "AnyBucket", "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
    ]
    assert own == [
        {
            "Sid": "OwnBuckets",
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:ResourceAccount": "123456789012"}},
        },
        {
            "Sid": "ImageLayers",
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*",
        },
    ]


def test_interface_endpoints(hardened: Program, document: Program) -> None:
    needed = ("ec2", "ecr.api", "ecr.dkr", "sts")
    closed = ("eks", "eks-auth", "elasticloadbalancing", "logs")
    for program, expected in ((hardened, (*needed, *closed)), (document, (*needed, "acm-pca"))):
        assert {
            name: it for name, it in inputs(program, ":VpcEndpoint").items() if it["vpcEndpointType"] != "Gateway"
        } == {
            f"endpoints-{service.replace('.', '-')}": {
                "vpcId": "prod-network-vpc-id",
                "vpcEndpointType": "Interface",
                "serviceName": f"com.amazonaws.eu-central-1.{service}",
                "subnetIds": [f"prod-network-subnets-private-eu-central-1{zone}-id" for zone in "ab"],
                "securityGroupIds": ["prod-network-groups-endpoints-id"],
                "privateDnsEnabled": True,
                "tags": {"Name": f"prod-{service.replace('.', '-')}"},
            }
            for service in expected
        }
    assert services(settings_of(DOCUMENT)) == (*needed, "acm-pca")


# Zones, logs, images


def test_hosted_zones(hardened: Program) -> None:
    made = {"forceDestroy": False, "comment": "Managed by Pulumi"}
    zones = {it.name.removeprefix("prod-network-zones-"): it for it in hardened.of(":Zone")}
    assert {name: (it.inputs, it.protect, it.read) for name, it in zones.items()} == {
        "public-example-com": ({**made, "name": "example.com"}, True, False),
        "public-example-org": ({"id": ADOPTED}, False, True),
        "private-internal-example-com": (
            {**made, "name": "internal.example.com", "vpcs": [{"vpcId": "prod-network-vpc-id"}]},
            True,
            False,
        ),
    }


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (
            {"name": "example.net."},
            f"network.dns.public[1].zoneId: {ADOPTED} is the hosted zone of 'example.net', not of 'example.org'",
        ),
        (
            {"name": "example.org", "vpcs": [{"vpcId": "vpc-1"}]},
            f"network.dns.public[1].zoneId: {ADOPTED} is a private hosted zone; name a public one",
        ),
    ],
)
def test_a_wrong_zone_is_not_adopted(monkeypatch: pytest.MonkeyPatch, read: dict[str, Any], message: str) -> None:
    real = mocks._Mocks.new_resource

    def new_resource(self: Any, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        id_, outputs = real(self, args)
        return id_, outputs | read if args.resource_id == ADOPTED else outputs

    monkeypatch.setattr(mocks._Mocks, "new_resource", new_resource)
    with pytest.raises(pulumi.RunError) as raised:
        run(HARDENED)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("traffic", "kind", "days"), [("all", "ALL", 90), ("accepted", "ACCEPT", 7), ("rejected", "REJECT", 365)]
)
def test_flow_logs(traffic: str, kind: str, days: int) -> None:
    program = run(config(flowLogs={"traffic": traffic, "retentionDays": days}))
    assert inputs(program, ":LogGroup") == {
        "flow-logs-group": {"name": "/meshgate/prod/flow-logs", "retentionInDays": days}
    }
    assert inputs(program, ":FlowLog") == {
        "flow-logs-log": {
            "vpcId": "prod-network-vpc-id",
            "trafficType": kind,
            "logDestinationType": "cloud-watch-logs",
            "logDestination": "<arn prod-network-flow-logs-group>",
            "iamRoleArn": "<arn prod-network-flow-logs-role>",
            "maxAggregationInterval": 600,
            "tags": {"Name": "prod-flow-logs"},
        }
    }
    (role,), (policy,) = program.of(":Role"), program.of(":RolePolicy")
    assert json.loads(role.inputs["assumeRolePolicy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
        }
    ]
    assert policy.inputs["role"] == "prod-network-flow-logs-role-name"
    assert json.loads(policy.inputs["policy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": [
                "logs:CreateLogStream",
                "logs:DescribeLogGroups",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ],
            "Resource": "<arn prod-network-flow-logs-group>:*",
        }
    ]
    assert policy.name in program.one("prod-network-flow-logs-log").dependencies


def test_flow_logs_are_on_unless_the_settings_say_otherwise(hardened: Program, document: Program) -> None:
    assert [it.inputs["trafficType"] for it in hardened.of(":FlowLog")] == ["ALL"]
    for type_ in (":FlowLog", ":LogGroup", ":Role", ":RolePolicy"):
        assert not document.of(type_), type_


def test_image_mirrors(hardened: Program, document: Program) -> None:
    assert inputs(hardened, ":PullThroughCacheRule") == {
        "images-ecr-public": {"ecrRepositoryPrefix": "prod/ecr-public", "upstreamRegistryUrl": "public.ecr.aws"},
        "images-k8s": {"ecrRepositoryPrefix": "prod/k8s", "upstreamRegistryUrl": "registry.k8s.io"},
        "images-quay": {"ecrRepositoryPrefix": "prod/quay", "upstreamRegistryUrl": "quay.io"},
    }
    assert inputs(document, ":PullThroughCacheRule") == {
        "images-docker-hub": {
            "ecrRepositoryPrefix": "prod/docker-hub",
            "upstreamRegistryUrl": "registry-1.docker.io",
            "credentialArn": DOCKER_HUB,
        }
    }


def test_prefixes_of_the_longest_name_are_short_enough() -> None:
    arn = {"credentialArn": DOCKER_HUB}
    registries = [
        {"host": host, **(arn if host in ("docker.io", "ghcr.io") else {})}
        for host in ("public.ecr.aws", "registry.k8s.io", "quay.io", "docker.io", "ghcr.io")
    ]
    longest = "a" * 19
    program = run(config(registries=registries) | {"name": longest})
    prefixes = [it.inputs["ecrRepositoryPrefix"] for it in program.of(":PullThroughCacheRule")]
    assert len(prefixes) == 5
    assert [prefix for prefix in prefixes if len(prefix) > 30 or not prefix.startswith(f"{longest}/")] == []


# Protection, contract, order


def test_protected_are_the_vpc_and_the_zones_made_here(hardened: Program) -> None:
    assert sorted(it.name.removeprefix("prod-network-") for it in hardened.resources if it.protect) == [
        "vpc",
        "zones-private-internal-example-com",
        "zones-public-example-com",
    ]


def test_unprotected_when_the_settings_say_so() -> None:
    assert [it.name for it in run(HARDENED | {"protect": False}).resources if it.protect] == []


def test_contract(hardened: Program) -> None:
    assert hardened.outputs == {
        "network_contract": 1,
        "network_network": "prod-network-vpc-id",
        "network_subnets": {
            f"{sort}/eu-central-1{zone}": f"prod-network-subnets-{sort}-eu-central-1{zone}-id"
            for sort in ("public", "private")
            for zone in "ab"
        },
        "network_ranges": {},
        "network_cidrs": {
            "vpc": "10.0.0.0/16",
            "public/eu-central-1a": "10.0.0.0/24",
            "private/eu-central-1a": "10.0.64.0/19",
            "public/eu-central-1b": "10.0.1.0/24",
            "private/eu-central-1b": "10.0.96.0/19",
        },
        "network_node_accounts": {},
        "network_security_groups": {
            "application": "prod-network-groups-application-id",
            "gateway": "prod-network-groups-gateway-id",
            "control_plane": "prod-network-groups-control-plane-id",
        },
        "network_dns_zones": {"example.com": "prod-network-zones-public-example-com-id", "example.org": ADOPTED},
        "network_image_prefixes": {
            "public.ecr.aws": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/prod/ecr-public",
            "registry.k8s.io": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/prod/k8s",
            "quay.io": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/prod/quay",
        },
    }


def test_contract_without_zones_and_mirrors() -> None:
    outputs = run(config(registries=[])).outputs
    assert outputs["network_dns_zones"] == {}
    assert outputs["network_image_prefixes"] == {}


@pytest.fixture(scope="module")
def used() -> Program:
    """The hardened network, and a user of each value that it hands on."""

    def build(settings: Settings) -> None:
        contract = network.build(settings, Upstream(settings))
        for name, value in (
            ("vpc", contract.network),
            ("public", contract.subnets.apply(lambda subnets: subnets["public/eu-central-1b"])),
            ("group", contract.security_groups.apply(lambda groups: groups["control_plane"])),
            ("image", contract.image_prefixes.apply(lambda prefixes: prefixes["quay.io"])),
        ):
            ec2.NetworkInterface(f"user-of-{name}", subnet_id=value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacks, "build", build)
        return run(HARDENED)


def named(program: Program, *types: str) -> set[str]:
    """The names of all resources of these types."""
    found = {it.name for type_ in types for it in program.of(type_)}
    assert len(found) >= len(types)
    return found


def test_nodes_wait_until_routes_endpoints_and_rules_work(used: Program) -> None:
    """So they go before those do, too."""
    routes = named(used, ":Route", ":RouteTableAssociation")
    groups = named(used, ":SecurityGroupIngressRule", ":SecurityGroupEgressRule")
    endpoints = named(used, ":VpcEndpoint")
    assert used.one("user-of-vpc").dependencies >= routes | groups | endpoints
    assert used.one("user-of-public").dependencies >= routes | endpoints
    assert used.one("user-of-group").dependencies >= groups
    assert used.one("user-of-image").dependencies >= {"prod-network-images-quay"}


def test_nat_comes_when_its_subnet_leads_out(hardened: Program) -> None:
    for zone in ("eu-central-1a", "eu-central-1b"):
        assert hardened.one(f"prod-network-subnets-nat-{zone}").dependencies >= {
            f"prod-network-subnets-public-{zone}-association",
            "prod-network-subnets-public-internet",
        }


def test_endpoints_come_when_one_may_reach_them(hardened: Program) -> None:
    for name in inputs(hardened, ":VpcEndpoint"):
        if name != "s3":
            assert "prod-network-groups-endpoints-ingress-10.0.0.0-16-443" in (
                hardened.one(f"prod-network-{name}").dependencies
            )


def test_inputs_are_what_the_sdk_asks_for(hardened: Program, document: Program) -> None:
    made = [it for program in (hardened, document) for it in program.resources if it.type.startswith("aws:")]
    assert len(made) > 140
    assert [problem for it in made if not it.read for problem in sdk.problems(it.type, it.inputs)] == []


def test_the_rules_of_every_resource(hardened: Program) -> None:
    assert [it.name for it in hardened.resources if not it.name.startswith("prod-")] == []
    assert {it.provider for it in hardened.resources if it.type.startswith("aws:")} == {"prod-aws"}
    assert [it.name for it in hardened.resources if not it.parent and it.type.startswith("aws:")] == []
    components = [it for it in hardened.resources if it.type.startswith("meshgate:")]
    assert {it.type.rpartition(":")[2] for it in components} == {
        "EksNetwork",
        "EksSubnets",
        "EksSecurityGroups",
        "EksEndpoints",
        "HostedZones",
        "EksFlowLogs",
        "EcrMirrors",
    }
    assert [it.name for it in components if it.outputs is None] == []


def test_names_are_unique(hardened: Program) -> None:
    """For people: the engine wants it of one type's only."""
    made = [it.name for it in hardened.resources]
    assert len(made) == len(set(made))


def test_groups_are_those_of_the_rules() -> None:
    made = rules(settings_of(HARDENED))
    assert {rule.group for rule in made} == set(GROUPS)
    assert len({(rule.name, rule.direction) for rule in made}) == len(made)


@pytest.mark.parametrize(
    ("section", "loaded", "unloaded"),
    [("eks", "pulumi_aws", "pulumi_gcp"), ("gke", "pulumi_gcp", "pulumi_aws")],
)
def test_a_kind_loads_its_own_sdk_alone(section: str, loaded: str, unloaded: str) -> None:
    values = (
        config()
        if section == "eks"
        else {
            "name": "prod",
            "layers": ["network"],
            "gcp": {"project": "my-project", "region": "europe-west1"},
            "network": {"kind": "gke"},
        }
    )
    code = (
        "import json, sys; from tests.unit.program import run; run(json.loads(sys.argv[1]))\n"
        f"assert {loaded!r} in sys.modules and {unloaded!r} not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(values)], check=True, cwd=CHECKOUT)


# What the settings refuse


def refused(**settings: Any) -> dict[str, str]:
    """What is said of them, by key."""
    with pytest.raises(SettingsError) as error:
        load(config(**settings))
    return {problem.key: problem.message for problem in error.value.problems}


def zone(name: str = "eu-central-1b", public: str = "10.0.1.0/24", private: str = "10.0.96.0/19") -> dict[str, str]:
    """The second zone, with something wrong."""
    return {"name": name, "public": public, "private": private}


def twice(value: str) -> str:
    """What is said of a value that is there twice."""
    return f"'{value}' is there 2 times; name each once"


PRIVATE = "which is not private; take it from 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10"


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (
            {"zones": ZONES[:1]},
            {"network.zones": "has 1; EKS needs subnets in two zones at least"},
        ),
        ({"zones": [ZONES[0], zone("eu-central-1a")]}, {"network.zones": twice("eu-central-1a")}),
        (
            {"zones": [ZONES[0], zone("frankfurt")]},
            {
                "network.zones[1].name": "is 'frankfurt'; it must be an availability zone of the region, for example "
                "eu-central-1a"
            },
        ),
        (
            {"zones": [ZONES[0], zone(public="10.1.1.0/24")]},
            {"network.zones[1].public": "is 10.1.1.0/24, outside the VPC's cidr (10.0.0.0/16)"},
        ),
        (
            {"zones": [ZONES[0], zone(public="10.0.64.0/24")]},
            {
                "network.zones[0].private": "10.0.64.0/19 overlaps zones[1].public (10.0.64.0/24); "
                "the subnets must be disjoint"
            },
        ),
        (
            {"zones": [ZONES[0], zone(public="10.0.1.0/29")]},
            {"network.zones[1].public": "is 10.0.1.0/29; AWS takes a /16 to a /28"},
        ),
        (
            {"cidr": "10.0.0.0/15"},
            {"network.cidr": "is 10.0.0.0/15; AWS takes a /16 to a /28"},
        ),
        (
            {
                "cidr": "9.0.0.0/16",
                "zones": [
                    zone("eu-central-1a", "9.0.0.0/24", "9.0.1.0/24"),
                    zone(public="9.0.2.0/24", private="9.0.3.0/24"),
                ],
            },
            {"network.cidr": f"is 9.0.0.0/16, {PRIVATE}"},
        ),
        (
            {
                "cidr": "172.17.0.0/16",
                "zones": [
                    zone("eu-central-1a", "172.17.0.0/24", "172.17.1.0/24"),
                    zone(public="172.17.2.0/24", private="172.17.3.0/24"),
                ],
            },
            {"network.cidr": "172.17.0.0/16 overlaps 172.17.0.0/16, which Docker uses on AWS's machines"},
        ),
        (
            {"controlPlaneClients": ["203.0.113.0/24"]},
            {"network.controlPlaneClients[0]": f"is 203.0.113.0/24, {PRIVATE}"},
        ),
        (
            {"controlPlaneClients": ["10.9.0.0/16", "10.9.0.0/16"]},
            {"network.controlPlaneClients": twice("10.9.0.0/16")},
        ),
        ({"webhookPorts": [8443, 8443]}, {"network.webhookPorts": twice("8443")}),
        ({"endpoints": ["kms", "kms"]}, {"network.endpoints": twice("kms")}),
        (
            {"endpoints": ["https://kms"]},
            {"network.endpoints[0]": "is 'https://kms'; it must be a service of AWS, for example secretsmanager"},
        ),
        (
            {"dns": {"public": [{"domain": "example.com", "zoneId": "example"}]}},
            {"network.dns.public[0].zoneId": "is 'example'; it must be a hosted zone's id, for example Z0123456789ABC"},
        ),
        (
            {"dns": {"public": [{"domain": "example.com"}, {"domain": "example.com", "zoneId": ADOPTED}]}},
            {"network.dns.public": twice("example.com")},
        ),
        ({"dns": {"private": ["a.test", "a.test"]}}, {"network.dns.private": twice("a.test")}),
        (
            {"registries": [{"host": "docker.io"}]},
            {
                "network.registries[0].credentialArn": "is missing; ECR fetches from docker.io only with an account "
                "there: put its user name and access token in Secrets Manager"
            },
        ),
        (
            {"registries": [{"host": "quay.io", "credentialArn": DOCKER_HUB}]},
            {"network.registries[0].credentialArn": "is given, but quay.io takes none; take it out"},
        ),
        (
            {"registries": [{"host": "docker.io", "credentialArn": OTHER_SECRET}]},
            {
                "network.registries[0].credentialArn": f"is '{OTHER_SECRET}'; it must "
                "be the ARN of a secret in Secrets Manager whose name begins with ecr-pullthroughcache/"
            },
        ),
    ],
)
def test_bad_settings(settings: dict[str, Any], problems: dict[str, str]) -> None:
    assert refused(**settings) == problems


def test_subnet_larger_than_the_vpc() -> None:
    problems = refused(cidr="10.0.64.0/20", zones=[zone("eu-central-1a", "10.0.64.0/24", "10.0.65.0/24"), zone()])
    assert problems == {
        "network.zones[1].public": "is 10.0.1.0/24, outside the VPC's cidr (10.0.64.0/20)",
        "network.zones[1].private": "is 10.0.96.0/19, outside the VPC's cidr (10.0.64.0/20)",
    }
    problems = refused(
        cidr="10.0.96.0/20",
        zones=[zone("eu-central-1a", "10.0.96.0/24", "10.0.97.0/24"), zone(public="10.0.98.0/24")],
    )
    assert problems["network.zones[1].private"] == "is 10.0.96.0/19, outside the VPC's cidr (10.0.96.0/20)"


def test_all_problems_at_once() -> None:
    problems = refused(
        cidr="10.0.0.0/8",
        zones=[zone("eu-central-1a", "10.0.0.0/30", "11.0.0.0/24"), zone("eu-central-1a", "10.0.0.0/24")],
        dns={"private": ["a.test", "a.test"]},
        registries=[{"host": "ghcr.io"}],
    )
    assert problems.keys() == {
        "network.cidr",
        "network.zones",
        "network.zones[0].public",
        "network.zones[0].private",
        "network.dns.private",
        "network.registries[0].credentialArn",
    }
