"""The simulated AWS: what it takes, what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube.models.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    ServiceSpec,
    ServiceStatus,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Service
from pulumi.provider.experimental.provider import (
    CheckRequest,
    ConfigureRequest,
    CreateRequest,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    InvokeRequest,
    ReadRequest,
    UpdateRequest,
)
from pulumi.runtime.proto import provider_pb2
from pulumi.runtime.rpc import UNKNOWN

from lab import pki
from lab.control_plane import admin_kubeconfig
from lab.instance import Instance
from lab.plugins import aws, aws_cli, base, guard, sdk
from lab.plugins.amazon import balancers, ec2, tokens
from lab.plugins.amazon.functions import FUNCTIONS
from lab.plugins.base import Plain, PluginError, Unfinished, plain_map
from lab.plugins.store import Failure, Store
from tests.unit.test_plugins_gcp import known_path, wired

ACCOUNT = "123456789012"
ANYBODY = "0.0.0.0/0"
HOST = "k8s-edge-tls-0123456789-0123456789abcdef.elb.eu-central-1.amazonaws.com"
AGENT_TRUST = ("pods.eks.amazonaws.com", ["sts:AssumeRole", "sts:TagSession"])
MANAGED = "arn:aws:iam::aws:policy/"


def trust(service: str, actions: list[str] | None = None) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": actions or "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@dataclass
class Made:
    """A resource as the engine keeps it."""

    type: str
    name: str
    id: str
    inputs: dict[str, Plain]
    outputs: dict[str, Any]

    @property
    def arn(self) -> str:
        return str(self.outputs["arn"])


class Cloud:
    """The plugin as the engine uses it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.store = Store(instance, "aws")
        self.provider = aws.plugin()
        self.configure(region="eu-central-1")

    def configure(self, **settings: Plain) -> None:
        asyncio.run(self.provider.configure(ConfigureRequest({}, wired(settings), True, True)))

    def urn(self, type_: str, name: str) -> str:
        return f"urn:pulumi:test::test::meshgate:a:Parent${type_}::{name}"

    def check(self, type_: str, /, **inputs: Plain) -> list[str]:
        request = CheckRequest(self.urn(type_, "it"), {}, wired(inputs), b"seed")
        return [failure.reason for failure in asyncio.run(self.provider.check(request)).failures or []]

    def checked(self, type_: str, name: str, inputs: dict[str, Plain], old: dict[str, Plain]) -> dict[str, Plain]:
        request = CheckRequest(self.urn(type_, name), wired(old), wired(inputs), b"seed")
        response = asyncio.run(self.provider.check(request))
        assert not response.failures, [failure.reason for failure in response.failures]
        return plain_map(response.inputs or {})

    def create(self, type_: str, name_: str = "it", /, **inputs: Plain) -> Made:
        checked = self.checked(type_, name_, inputs, {})
        response = asyncio.run(self.provider.create(CreateRequest(self.urn(type_, name_), wired(checked), 0, False)))
        assert response.resource_id
        return Made(type_, name_, response.resource_id, checked, plain_map(response.properties))

    def preview(self, type_: str, /, **inputs: Plain) -> dict[str, Any]:
        response = asyncio.run(self.provider.create(CreateRequest(self.urn(type_, "it"), wired(inputs), 0, True)))
        return plain_map(response.properties)

    def diff(self, made: Made, /, **changes: Plain) -> DiffResponse:
        given = made.inputs | changes
        new = self.checked(made.type, made.name, given, made.inputs)
        request = DiffRequest(self.urn(made.type, made.name), made.id, wired(made.inputs), wired(new), [])
        return asyncio.run(self.provider.diff(request))

    def update(self, made: Made, /, preview: bool = False, **changes: Plain) -> dict[str, Any]:
        news = made.inputs | changes
        urn = self.urn(made.type, made.name)
        request = UpdateRequest(urn, made.id, wired(made.outputs), wired(news), 0, [], preview)
        outputs = plain_map(asyncio.run(self.provider.update(request)).properties)
        if not preview:
            made.inputs, made.outputs = news, outputs
        return outputs

    def exists(self, made: Made) -> bool:
        request = ReadRequest(self.urn(made.type, "it"), made.id, wired(made.outputs), wired(made.inputs))
        return asyncio.run(self.provider.read(request)).resource_id == made.id

    def delete(self, made: Made) -> None:
        request = DeleteRequest(self.urn(made.type, made.name), made.id, wired(made.outputs), 0)
        asyncio.run(self.provider.delete(request))

    def invoke(self, function: str, /, **arguments: Plain) -> dict[str, Any]:
        return plain_map(
            asyncio.run(self.provider.invoke(InvokeRequest(function, wired(arguments)))).return_value or {}
        )

    def records(self, type_: str) -> list[dict[str, Any]]:
        content = json.loads(self.store.file.read_text())
        return [record for record in content["records"].values() if record["type"] == type_]

    # --- what most tests begin with ---

    def vpc(self, cidr: str = "10.0.0.0/16") -> Made:
        return self.create(tokens.VPC, "vpc", cidrBlock=cidr, enableDnsHostnames=True)

    def subnet(self, vpc: Made, cidr: str, zone: str = "a", **more: Plain) -> Made:
        return self.create(
            tokens.SUBNET, cidr, vpcId=vpc.id, cidrBlock=cidr, availabilityZone=f"eu-central-1{zone}", **more
        )

    def group(self, vpc: Made, name: str) -> Made:
        return self.create(tokens.SECURITY_GROUP, name, vpcId=vpc.id, name=name)

    def rule(self, type_: str, group: Made, port: int = 443, **peer: Plain) -> Made:
        return self.create(
            type_, securityGroupId=group.id, ipProtocol="tcp", fromPort=float(port), toPort=float(port), **peer
        )

    def role(self, name: str, service: str, *policies: str, actions: list[str] | None = None) -> Made:
        role = self.create(tokens.ROLE, name, name=name, assumeRolePolicy=trust(service, actions))
        for policy in policies:
            self.create(tokens.ATTACHMENT, policy, role=role.id, policyArn=MANAGED + policy)
        return role


@dataclass
class Site:
    """A network with a cluster, its nodes' group and what it takes, in the order in which it was made."""

    cloud: Cloud
    made: dict[str, Made]

    def __getitem__(self, name: str) -> Made:
        return self.made[name]

    def destroy(self) -> None:
        for made in reversed(self.made.values()):
            self.cloud.delete(made)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    instance = Instance("unit")
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    backend = instance.directory / "state"
    backend.mkdir(parents=True)
    guard.mark(backend)
    monkeypatch.setenv("MESHGATE_LAB", "unit")
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend.as_uri())
    return instance


@pytest.fixture
def cloud(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An account in which nothing was ever done; its clusters have no Services."""
    monkeypatch.setattr(balancers, "services", lambda instance: [])
    return Cloud(instance)


def network(cloud: Cloud) -> dict[str, Made]:
    """Public and private subnets in two zones, the private ones with NAT."""
    made = {"vpc": cloud.vpc()}
    vpc = made["vpc"]
    made["gateway"] = cloud.create(tokens.INTERNET_GATEWAY, vpcId=vpc.id)
    role: Plain = {"kubernetes.io/role/elb": "1"}
    for number, zone in enumerate("ab"):
        made[f"public-{zone}"] = cloud.subnet(vpc, f"10.0.{number}.0/24", zone, tags=role)
        made[f"private-{zone}"] = cloud.subnet(vpc, f"10.0.{64 + 32 * number}.0/19", zone)
    for kind in ("public", "private"):
        made[f"{kind}-table"] = cloud.create(tokens.ROUTE_TABLE, vpcId=vpc.id)
        for zone in "ab":
            made[f"{kind}-{zone}-association"] = cloud.create(
                tokens.ASSOCIATION, subnetId=made[f"{kind}-{zone}"].id, routeTableId=made[f"{kind}-table"].id
            )
    made["out"] = cloud.create(
        tokens.ROUTE,
        routeTableId=made["public-table"].id,
        destinationCidrBlock=ANYBODY,
        gatewayId=made["gateway"].id,
    )
    made["address"] = cloud.create(tokens.EIP, domain="vpc")
    made["nat"] = cloud.create(tokens.NAT_GATEWAY, allocationId=made["address"].id, subnetId=made["public-a"].id)
    made["nat-route"] = cloud.create(
        tokens.ROUTE,
        routeTableId=made["private-table"].id,
        destinationCidrBlock=ANYBODY,
        natGatewayId=made["nat"].id,
    )
    made["nodes-group"] = cloud.group(vpc, "nodes")
    made["control-group"] = cloud.group(vpc, "control")
    made["nodes-out"] = cloud.rule(tokens.EGRESS_RULE, made["nodes-group"], cidrIpv4=ANYBODY)
    made["nodes-to-control"] = cloud.rule(
        tokens.INGRESS_RULE, made["control-group"], referencedSecurityGroupId=made["nodes-group"].id
    )
    return made


def cluster_inputs(made: dict[str, Made]) -> dict[str, Plain]:
    return {
        "name": "cluster1",
        "version": "1.34",
        "roleArn": made["cluster-role"].arn,
        "bootstrapSelfManagedAddons": False,
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
        "vpcConfig": {
            "subnetIds": [made["private-a"].id, made["private-b"].id],
            "securityGroupIds": [made["control-group"].id],
            "endpointPrivateAccess": True,
        },
    }


def nodes_inputs(made: dict[str, Made]) -> dict[str, Plain]:
    return {
        "clusterName": "cluster1",
        "nodeGroupName": "application",
        "nodeRoleArn": made["nodes-role"].arn,
        "subnetIds": [made["private-a"].id, made["private-b"].id],
        "scalingConfig": {"minSize": 2.0, "desiredSize": 2.0, "maxSize": 4.0},
        "launchTemplate": {"id": made["template"].id, "version": "1"},
    }


@pytest.fixture
def before_cluster(cloud: Cloud) -> Site:
    """All that a cluster needs."""
    made = network(cloud)
    made["cluster-role"] = cloud.role("cluster", "eks.amazonaws.com", "AmazonEKSClusterPolicy")
    return Site(cloud, made)


@pytest.fixture
def before_nodes(before_cluster: Site) -> Site:
    """A cluster, and all that nodes need."""
    cloud, made = before_cluster.cloud, before_cluster.made
    made["cluster"] = cloud.create(tokens.CLUSTER, **cluster_inputs(made))
    for add_on in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent"):
        made[add_on] = cloud.create(tokens.ADDON, add_on, clusterName="cluster1", addonName=add_on)
    made["nodes-role"] = cloud.role(
        "nodes",
        "ec2.amazonaws.com",
        *("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"),
    )
    made["template"] = cloud.create(tokens.LAUNCH_TEMPLATE, vpcSecurityGroupIds=[made["nodes-group"].id])
    return before_cluster


@pytest.fixture
def site(before_nodes: Site) -> Site:
    """A cluster with nodes."""
    before_nodes.made["nodes"] = before_nodes.cloud.create(tokens.NODE_GROUP, **nodes_inputs(before_nodes.made))
    return before_nodes


# --- the table and the SDK ---


@pytest.mark.parametrize("type_", aws.KINDS)
def test_the_table_names_what_the_sdk_has(type_: str) -> None:
    kind, inputs, outputs = aws.KINDS[type_], dict(sdk.inputs(type_)), dict(sdk.outputs(type_))
    for path in (*kind.replaced_by, *kind.holds, *kind.names):
        assert path == "*" or known_path(inputs, path), path
    for path in (*kind.defaults, *kind.computed, *kind.renewed):
        assert known_path(outputs, path), path
    for target in (*kind.holds.values(), *kind.names.values()):
        assert target in aws.KINDS, target


def test_every_token_is_a_type_with_an_entry() -> None:
    named = {value for name, value in vars(tokens).items() if name.isupper()}
    assert named == set(aws.KINDS)


def test_the_version_is_the_installed_sdks() -> None:
    assert aws.plugin().version == metadata.version("pulumi_aws")


@pytest.mark.parametrize("type_", [*aws.KINDS, "aws:sqs/queue:Queue", "aws:ec2/networkAcl:NetworkAcl"])
def test_every_output_that_the_sdk_promises_is_there(cloud: Cloud, type_: str) -> None:
    samples: dict[str, Plain] = {
        "cidrBlock": "10.0.0.0/24",
        "clusterName": "c",
        "domainName": "example.com",
        "name": "a",
        "nodeGroupName": "n",
        "vpcConfig": {"subnetIds": []},
    }
    inputs: dict[str, Plain] = {}
    for name, expected in sdk.inputs(type_).items():
        if name in sdk.required(type_) or name in samples:
            inputs[name] = samples.get(name, "a" if expected is str else [] if "Sequence" in str(expected) else {})
    shown = cloud.provider._outputs(type_, inputs, "an-id")
    assert sdk.always(sdk.resource(type_)) <= {name for name, value in shown.items() if value is not None}
    assert UNKNOWN not in json.dumps(shown)
    assert shown.keys() <= sdk.outputs(type_).keys()


# --- what is taken ---


def test_inputs_are_checked_against_the_sdk(cloud: Cloud) -> None:
    assert cloud.check(tokens.SUBNET, cidrBlok="10.0.0.0/24", mapPublicIpOnLaunch="yes") == [
        "cidrBlok is not a property of Subnet; did you mean cidrBlock?",
        "vpcId is required by Subnet",
        "mapPublicIpOnLaunch must be true or false, not a string",
    ]
    with pytest.raises(PluginError, match="did you mean aws:ec2/subnet:Subnet"):
        cloud.check("aws:ec2/subnt:Subnt")


def test_what_the_plugin_finds_before_it_asks_aws(cloud: Cloud) -> None:
    rule: dict[str, Plain] = {"securityGroupId": "sg-1", "ipProtocol": "tcp", "fromPort": 443.0, "toPort": 443.0}
    assert cloud.check(tokens.INGRESS_RULE, **rule, cidrIpv4="10.0.0.0/16") == []
    assert cloud.check(tokens.INGRESS_RULE, **rule, cidrIpv4=UNKNOWN) == []
    assert cloud.check(tokens.INGRESS_RULE, **rule, cidrIpv4="10.0.0.1/16") == [
        "cidrIpv4 is 10.0.0.1/16, which is no network; did you mean 10.0.0.0/16?"
    ]
    assert cloud.check(tokens.INGRESS_RULE, **rule, cidrIpv4="10.0.0.0/16", prefixListId="pl-1") == [
        "cidrIpv4 does not fit: of cidrIpv4, cidrIpv6, prefixListId, referencedSecurityGroupId exactly one must be "
        "given, not cidrIpv4 and prefixListId"
    ]
    assert cloud.check(tokens.INGRESS_RULE, **{**rule, "ipProtocol": "-1"}, cidrIpv4="10.0.0.0/16") == [
        "fromPort must be left out for the protocol -1, which is all of them"
    ]
    assert cloud.check(tokens.ROLE, assumeRolePolicy=trust("ec2.amazonaws.com"), name="n" * 65) == [
        "name has 65 characters; AWS takes 64"
    ]


def test_policy_documents_are_read(cloud: Cloud) -> None:
    def problems(*statements: Plain, version: str = "2012-10-17") -> list[str]:
        document = json.dumps({"Version": version, "Statement": list(statements)})
        return cloud.check(tokens.POLICY, policy=document)

    fine: Plain = {"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"}
    assert problems(fine) == []
    assert problems(fine, version="") == ["policy has no Version; it is 2012-10-17"]
    assert problems({"Effect": "Allow", "Action": "ec2:DescribeVpcs"}) == ["policy has statement 0 without Resource"]
    assert problems({"Effect": "Allow", "Action": "DescribeVpcs", "Resource": "vpc-1"}) == [
        "policy has the action 'DescribeVpcs' in statement 0; actions are service:Action",
        "policy has the resource 'vpc-1' in statement 0; resources are * or ARNs",
    ]
    assert cloud.check(tokens.POLICY, policy="{") == ["policy contains an invalid JSON policy"]
    large: Plain = {"Effect": "Allow", "Action": [f"ec2:Describe{n:04}" for n in range(400)], "Resource": "*"}
    (problem,) = problems(large)
    assert problem.endswith("characters without white space; IAM takes 6144")


def test_a_provider_needs_a_region(cloud: Cloud) -> None:
    def problems(**settings: Plain) -> list[str]:
        request = CheckRequest("urn:pulumi:t::t::pulumi:providers:aws::p", {}, wired(settings), b"")
        return [failure.reason for failure in asyncio.run(cloud.provider.check_config(request)).failures or []]

    assert problems(region="eu-central-1", version="7.51.1") == []
    assert problems(regio="x") == ["regio is not a property of Provider; did you mean region?"]
    (problem,) = problems()
    assert problem.startswith("region is missing")


# --- outputs ---


def test_ids_and_arns_look_like_aws(cloud: Cloud) -> None:
    vpc = cloud.vpc()
    assert vpc.id.startswith("vpc-0")
    assert len(vpc.id) == len("vpc-") + 17
    assert vpc.arn == f"arn:aws:ec2:eu-central-1:{ACCOUNT}:vpc/{vpc.id}"
    subnet = cloud.subnet(vpc, "10.0.0.0/24", "b")
    assert subnet.outputs["availabilityZoneId"] == "euc1-az2"
    role = cloud.role("it", "ec2.amazonaws.com")
    assert (role.id, role.arn) == ("it", f"arn:aws:iam::{ACCOUNT}:role/it")
    key = cloud.create(tokens.KEY)
    assert key.arn == f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/{key.outputs['keyId']}"
    alias = cloud.create(tokens.ALIAS, name="alias/a", targetKeyId=key.outputs["keyId"])
    assert alias.outputs["targetKeyArn"] == key.arn


def test_the_account_is_the_one_that_is_allowed(cloud: Cloud) -> None:
    cloud.configure(region="eu-west-1", allowedAccountIds='["999999999999"]')
    assert cloud.vpc().arn.startswith("arn:aws:ec2:eu-west-1:999999999999:vpc/")
    assert cloud.invoke("aws:index/getCallerIdentity:getCallerIdentity")["accountId"] == "999999999999"


def test_tags_are_the_providers_too_and_follow_a_change(cloud: Cloud) -> None:
    cloud.configure(region="eu-central-1", defaultTags='{"tags": {"environment": "eks"}}')
    vpc = cloud.create(tokens.VPC, cidrBlock="10.0.0.0/16", tags={"Name": "a"})
    assert vpc.outputs["tagsAll"] == {"environment": "eks", "Name": "a"}
    assert cloud.update(vpc, tags={"Name": "b"})["tagsAll"] == {"environment": "eks", "Name": "b"}


def test_a_preview_knows_no_more_than_aws_has_said(cloud: Cloud) -> None:
    shown = cloud.preview(tokens.CLUSTER, name="c", roleArn=UNKNOWN, vpcConfig={"subnetIds": UNKNOWN})
    assert (shown["name"], shown["region"]) == ("c", "eu-central-1")
    assert shown["endpoint"] == UNKNOWN
    assert shown["certificateAuthority"] == {"data": UNKNOWN}
    assert shown["vpcConfig"]["clusterSecurityGroupId"] == UNKNOWN
    assert not cloud.store.file.exists()


def test_a_launch_templates_version_is_renewed_by_each_change(cloud: Cloud) -> None:
    template = cloud.create(tokens.LAUNCH_TEMPLATE, name="t", updateDefaultVersion=True)
    assert template.outputs["latestVersion"] == 1
    assert cloud.update(template, preview=True, description="x")["latestVersion"] == UNKNOWN
    outputs = cloud.update(template, description="x")
    assert (outputs["latestVersion"], outputs["defaultVersion"]) == (2, 2)


def test_a_cluster_is_the_labs_api_server(site: Site) -> None:
    outputs = site["cluster"].outputs
    ca = pki.cluster_authority(site.cloud.instance).certificate
    assert base64.b64decode(outputs["certificateAuthority"]["data"]) == ca.read_bytes()
    assert outputs["endpoint"] == "https://10.5.0.2:6443"
    assert outputs["arn"] == f"arn:aws:eks:eu-central-1:{ACCOUNT}:cluster/cluster1"
    issuer = outputs["identities"][0]["oidcs"][0]["issuer"]
    assert issuer.startswith("https://oidc.eks.eu-central-1.amazonaws.com/id/")
    assert outputs["vpcConfig"]["vpcId"] == site["vpc"].id
    groups = {record["id"]: record["inputs"]["name"] for record in site.cloud.records(tokens.SECURITY_GROUP)}
    assert groups[outputs["vpcConfig"]["clusterSecurityGroupId"]] == "eks-cluster-sg-cluster1"
    assert site["nodes"].outputs["resources"][0]["autoscalingGroups"][0]["name"].startswith("eks-application-")


# --- what a change does ---


def test_what_replaces_and_what_does_not(site: Site) -> None:
    cloud = site.cloud
    assert cloud.diff(site["vpc"], cidrBlock="10.1.0.0/16").replaces == ["cidrBlock"]
    assert cloud.diff(site["vpc"], tags={"a": "b"}).replaces == []
    assert cloud.diff(site["private-a"], availabilityZone="eu-central-1c").replaces == ["availabilityZone"]
    assert cloud.diff(site["cluster"], version="1.35").replaces == []
    assert cloud.diff(site["cluster"], bootstrapSelfManagedAddons=True).replaces == ["bootstrapSelfManagedAddons"]
    nodes: Plain = {"minSize": 2.0, "desiredSize": 2.0, "maxSize": 9.0}
    assert cloud.diff(site["nodes"], scalingConfig=nodes).replaces == []
    newer: Plain = {"id": site["template"].id, "version": "2"}
    assert cloud.diff(site["nodes"], launchTemplate=newer).replaces == []
    assert cloud.diff(site["nodes"], subnetIds=[site["private-a"].id]).replaces == ["subnetIds[1]"]
    assert cloud.diff(site["nodes"]).changes is False


def test_the_new_one_cannot_stand_beside_the_old_one_of_the_same_name(site: Site) -> None:
    changed = site.cloud.diff(site["nodes-group"], description="other")
    assert changed.replaces == ["description"]
    assert changed.delete_before_replace, "the name is the program's"
    template = site.cloud.diff(site["vpc"], cidrBlock="10.1.0.0/16")
    assert not template.delete_before_replace


# --- networks ---


def refused(cloud: Cloud, words: str, type_: str, /, **inputs: Plain) -> None:
    with pytest.raises(PluginError, match=words):
        cloud.create(type_, **inputs)


def test_subnets_are_disjoint_parts_of_the_vpc_in_known_zones(cloud: Cloud) -> None:
    vpc = cloud.vpc()
    cloud.subnet(vpc, "10.0.0.0/24")
    for cidr, zone, words in (
        ("10.0.0.128/25", "b", r"InvalidSubnet.Conflict: The CIDR '10.0.0.128/25' conflicts with another subnet"),
        ("10.1.0.0/24", "b", r"InvalidSubnet.Range: The CIDR '10.1.0.0/24' is invalid. The VPC has 10.0.0.0/16"),
        ("10.0.1.0/29", "b", "InvalidSubnet.Range"),
        ("10.0.1.0/24", "z", r"Value \(eu-central-1z\) for parameter availabilityZone is invalid"),
    ):
        with pytest.raises(PluginError, match=words):
            cloud.subnet(vpc, cidr, zone)
    with pytest.raises(PluginError, match=r"InvalidVpc.Range"):
        cloud.vpc("10.0.0.0/8")
    refused(cloud, r"InvalidVpcID.NotFound: The vpc ID 'vpc-1' does not exist", tokens.SUBNET, vpcId="vpc-1")
    # An ARN is no id.
    refused(cloud, "InvalidVpcID.NotFound", tokens.SUBNET, vpcId=vpc.arn)


def test_a_nat_gateway_needs_an_address_and_an_internet_gateway(cloud: Cloud) -> None:
    vpc = cloud.vpc()
    subnet, address = cloud.subnet(vpc, "10.0.0.0/24"), cloud.create(tokens.EIP)
    both: dict[str, Plain] = {"subnetId": subnet.id, "allocationId": address.id}
    refused(cloud, f"Gateway.NotAttached: Network {vpc.id} has no Internet gateway", tokens.NAT_GATEWAY, **both)
    gateway = cloud.create(tokens.INTERNET_GATEWAY, vpcId=vpc.id)
    refused(cloud, "already has an internet gateway attached", tokens.INTERNET_GATEWAY, vpcId=vpc.id)
    refused(cloud, "MissingParameter", tokens.NAT_GATEWAY, subnetId=subnet.id)
    nat = cloud.create(tokens.NAT_GATEWAY, **both)
    assert nat.outputs["publicIp"] == address.outputs["publicIp"]
    refused(cloud, r"Resource.AlreadyAssociated", tokens.NAT_GATEWAY, **both)
    with pytest.raises(PluginError, match=f"Network {vpc.id} has some mapped public address"):
        cloud.delete(gateway)
    with pytest.raises(PluginError, match=r"InvalidIPAddress\.InUse"):
        cloud.delete(address)
    cloud.delete(nat)
    cloud.delete(gateway)


def test_routes(cloud: Cloud) -> None:
    made = network(cloud)
    table, out = made["public-table"].id, made["out"].inputs
    refused(cloud, f"The route identified by 0.0.0.0/0 already exists in {table}", tokens.ROUTE, **out)
    refused(
        cloud,
        "Resource.AlreadyAssociated",
        tokens.ASSOCIATION,
        subnetId=made["private-a"].id,
        routeTableId=table,
    )
    other = cloud.vpc("10.9.0.0/16")
    foreign = cloud.subnet(other, "10.9.0.0/24")
    refused(cloud, "different networks", tokens.ASSOCIATION, subnetId=foreign.id, routeTableId=table)
    refused(
        cloud,
        "InvalidGatewayID.NotFound",
        tokens.ROUTE,
        routeTableId=table,
        destinationCidrBlock="10.9.0.0/16",
        gatewayId="igw-1",
    )
    with pytest.raises(PluginError, match="DependencyViolation: The routeTable"):
        cloud.delete(made["public-table"])


def test_security_groups(cloud: Cloud) -> None:
    vpc = cloud.vpc()
    one, two = cloud.group(vpc, "one"), cloud.group(vpc, "two")
    with pytest.raises(PluginError, match=f"The security group 'one' already exists for VPC '{vpc.id}'"):
        cloud.group(vpc, "one")
    rule = cloud.rule(tokens.INGRESS_RULE, one, referencedSecurityGroupId=two.id)
    with pytest.raises(PluginError, match=r'InvalidPermission\.Duplicate: the specified rule "peer: sg-0'):
        cloud.rule(tokens.INGRESS_RULE, one, referencedSecurityGroupId=two.id)
    cloud.rule(tokens.INGRESS_RULE, one, port=80, referencedSecurityGroupId=two.id)
    with pytest.raises(PluginError, match=f"DependencyViolation: resource {two.id} has a dependent object"):
        cloud.delete(two)
    assert cloud.exists(two)
    foreign = cloud.group(cloud.vpc("10.9.0.0/16"), "one")
    with pytest.raises(PluginError, match="different networks"):
        cloud.rule(tokens.INGRESS_RULE, one, referencedSecurityGroupId=foreign.id)
    for made in (rule,):
        cloud.delete(made)
    for port in range(1, ec2.RULES_PER_GROUP):
        cloud.rule(tokens.INGRESS_RULE, one, port=1000 + port, cidrIpv4=ANYBODY)
    with pytest.raises(PluginError, match="RulesPerSecurityGroupLimitExceeded"):
        cloud.rule(tokens.INGRESS_RULE, one, port=2000, cidrIpv4=ANYBODY)


def test_a_vpc_brings_its_own_and_takes_it_along(cloud: Cloud) -> None:
    vpc = cloud.vpc()
    default = cloud.create(tokens.DEFAULT_GROUP, vpcId=vpc.id)
    assert default.id == vpc.outputs["defaultSecurityGroupId"]
    cloud.rule(tokens.INGRESS_RULE, default, cidrIpv4=ANYBODY)
    subnet = cloud.subnet(vpc, "10.0.0.0/24")
    with pytest.raises(PluginError, match=f"DependencyViolation: The vpc '{vpc.id}' has dependencies .* '{subnet.id}'"):
        cloud.delete(vpc)
    cloud.delete(subnet)
    cloud.delete(vpc)
    # What is in use by now stays; nobody else's is touched.
    assert [record["id"] for record in cloud.records(tokens.SECURITY_GROUP)] == [default.id]
    assert cloud.records(tokens.ROUTE_TABLE) == []


def test_endpoints(cloud: Cloud) -> None:
    made = network(cloud)
    vpc, table = made["vpc"], made["private-table"].id
    s3 = "com.amazonaws.eu-central-1.s3"
    gateway = cloud.create(tokens.ENDPOINT, vpcId=vpc.id, serviceName=s3, routeTableIds=[table])
    listed = cloud.invoke("aws:ec2/getPrefixList:getPrefixList", name=s3)["prefixListId"]
    assert gateway.outputs["prefixListId"] == listed
    assert listed.startswith("pl-")
    refused(cloud, "RouteAlreadyExists", tokens.ENDPOINT, vpcId=vpc.id, serviceName=s3, routeTableIds=[table])
    inputs: dict[str, Plain] = {
        "vpcId": vpc.id,
        "serviceName": "com.amazonaws.eu-central-1.sts",
        "vpcEndpointType": "Interface",
        "privateDnsEnabled": True,
        "subnetIds": [made["private-a"].id, made["private-b"].id],
        "securityGroupIds": [made["nodes-group"].id],
    }
    twice: dict[str, Plain] = {**inputs, "subnetIds": [made["private-a"].id, made["public-a"].id]}
    refused(cloud, "DuplicateSubnetsInSameZone", tokens.ENDPOINT, **twice)
    cloud.create(tokens.ENDPOINT, **inputs)
    refused(cloud, "conflicting DNS domain for sts.eu-central-1.amazonaws.com", tokens.ENDPOINT, **inputs)
    refused(cloud, "InvalidServiceName", tokens.ENDPOINT, **{**inputs, "serviceName": "com.amazonaws.us-east-1.sts"})
    with pytest.raises(PluginError, match="has a dependent object"):
        cloud.delete(made["nodes-group"])
    plain = cloud.create(tokens.VPC, "plain", cidrBlock="10.9.0.0/16")
    without: dict[str, Plain] = {**inputs, "vpcId": plain.id, "subnetIds": [], "securityGroupIds": []}
    refused(cloud, "requires both enableDnsSupport and enableDnsHostnames", tokens.ENDPOINT, **without)


def test_flow_logs_need_a_group_and_a_role(cloud: Cloud) -> None:
    vpc, group = cloud.vpc(), cloud.create(tokens.LOG_GROUP, name="/flows")
    wrong = cloud.role("wrong", "ec2.amazonaws.com")
    right = cloud.role("right", "vpc-flow-logs.amazonaws.com")
    given: dict[str, Plain] = {"vpcId": vpc.id, "trafficType": "ALL"}
    refused(cloud, "does not exist", tokens.FLOW_LOG, **given, logDestination=group.arn + "x", iamRoleArn=right.arn)
    refused(
        cloud,
        "Unable to assume given IAM role",
        tokens.FLOW_LOG,
        **given,
        logDestination=group.arn,
        iamRoleArn=wrong.arn,
    )
    cloud.create(tokens.FLOW_LOG, **given, logDestination=group.arn, iamRoleArn=right.arn)


# --- names and certificates ---


def zone(cloud: Cloud, **more: Plain) -> Made:
    return cloud.create(tokens.ZONE, name="example.com", **more)


def record(
    cloud: Cloud, zone: Made, name: str, type_: str = "CNAME", value: str = "x.example.org", **more: Plain
) -> Made:
    inputs: dict[str, Plain] = {"zoneId": zone.id, "name": name, "type": type_, **more}
    if "aliases" not in more:
        inputs |= {"ttl": 300.0, "records": [value]}
    return cloud.create(tokens.RECORD, name, **inputs)


def test_records_are_in_their_zone_and_there_once(cloud: Cloud) -> None:
    domain = zone(cloud)
    assert record(cloud, domain, "www").outputs["fqdn"] == "www.example.com"
    for name, words in (
        ("www.example.org", r"RRSet with DNS name www.example.org. is not permitted in zone example.com"),
        ("www.example.com.", "but it already exists"),
        ("www", "but it already exists"),
        ("example.com", "is not permitted at apex"),
    ):
        with pytest.raises(PluginError, match=words):
            record(cloud, domain, name)
    with pytest.raises(PluginError, match="conflicting RRSet"):
        record(cloud, domain, "www.example.com", "A", "192.0.2.1")
    assert record(cloud, domain, "www.example.com", allowOverwrite=True).id == f"{domain.id}_www.example.com_CNAME"
    with pytest.raises(PluginError, match="HostedZoneNotEmpty"):
        cloud.delete(domain)


def test_an_alias_is_in_the_zone_of_the_balancers(cloud: Cloud) -> None:
    domain = zone(cloud)

    def alias(zone_id: str) -> list[Plain]:
        return [{"name": HOST, "zoneId": zone_id, "evaluateTargetHealth": True}]

    balancers_zone = cloud.invoke("aws:lb/getHostedZoneId:getHostedZoneId", loadBalancerType="network")["id"]
    assert balancers_zone == "Z3F0SRJ5LGBH90"
    record(cloud, domain, "a.example.com", "A", aliases=alias(balancers_zone))
    with pytest.raises(PluginError, match="does not lie within the target zone"):
        record(cloud, domain, "b.example.com", "A", aliases=alias("Z26RNL4JYFTOTI"))


def test_a_certificate_is_issued_by_its_records_in_a_public_zone(cloud: Cloud) -> None:
    certificate = cloud.create(
        tokens.CERTIFICATE,
        domainName="example.com",
        subjectAlternativeNames=["*.example.com", "other.example.com"],
        validationMethod="DNS",
    )
    assert certificate.outputs["status"] == "PENDING_VALIDATION"
    options = {option["domainName"]: option for option in certificate.outputs["domainValidationOptions"]}
    assert options.keys() == {"example.com", "*.example.com", "other.example.com"}
    assert options["example.com"]["resourceRecordName"] == options["*.example.com"]["resourceRecordName"]

    def prove(zone: Made, name: str) -> Made:
        option = options[name]
        return record(cloud, zone, option["resourceRecordName"], value=option["resourceRecordValue"])

    domain = zone(cloud)
    private = zone(cloud, vpcs=[{"vpcId": cloud.vpc().id}])
    prove(domain, "example.com")
    prove(private, "other.example.com")
    with pytest.raises(
        PluginError, match=r"PENDING_VALIDATION.*not in a public zone: _[0-9a-f]+.other.example.com CNAME"
    ):
        cloud.create(tokens.VALIDATION, certificateArn=certificate.arn)
    prove(domain, "other.example.com")
    cloud.create(tokens.VALIDATION, certificateArn=certificate.arn)
    assert cloud.records(tokens.CERTIFICATE)[0]["outputs"]["status"] == "ISSUED"


# --- roles, keys, logs ---


def test_what_a_role_has_keeps_it(cloud: Cloud) -> None:
    role = cloud.role("it", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
    refused(
        cloud,
        "EntityAlreadyExists: Role with name it already exists",
        tokens.ROLE,
        name="it",
        assumeRolePolicy=trust("ec2.amazonaws.com"),
    )
    with pytest.raises(PluginError, match="DeleteConflict: Cannot delete entity, must detach all policies first"):
        cloud.delete(role)
    refused(cloud, "NoSuchEntity: Policy", tokens.ATTACHMENT, role="it", policyArn=f"{MANAGED}AmazonEKSWorkerPolicy")
    refused(
        cloud, "NoSuchEntity: The role", tokens.ATTACHMENT, role=role.arn, policyArn=f"{MANAGED}AmazonEKSClusterPolicy"
    )


def test_a_log_group_takes_a_key_that_lets_it(cloud: Cloud) -> None:
    key = cloud.create(tokens.KEY)
    refused(cloud, "is not allowed to be used with LogGroup", tokens.LOG_GROUP, name="l", kmsKeyId=key.arn)
    refused(cloud, "NotFoundException", tokens.LOG_GROUP, name="l", kmsKeyId=key.id)
    statement = {"Effect": "Allow", "Principal": {"Service": "logs.eu-central-1.amazonaws.com"}, "Action": "kms:*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Resource": "*"}]})
    cloud.update(key, policy=policy)
    cloud.create(tokens.LOG_GROUP, name="l", kmsKeyId=key.arn)
    with pytest.raises(PluginError, match="is in use by 'l'"):
        cloud.delete(key)


# --- clusters ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "1.20"}, "unsupported Kubernetes version 1.20"),
        ({"roleArn": f"arn:aws:iam::{ACCOUNT}:role/none"}, "NoSuchEntity: The role with name"),
        ({"kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.0.128.0/20"}}, "service CIDR .* conflicts with"),
    ],
)
def test_what_a_cluster_may_not_be(before_cluster: Site, change: dict[str, Plain], words: str) -> None:
    refused(before_cluster.cloud, words, tokens.CLUSTER, **{**cluster_inputs(before_cluster.made), **change})


def test_a_cluster_needs_two_zones_and_a_role_with_its_policy(before_cluster: Site) -> None:
    cloud, made = before_cluster.cloud, before_cluster.made
    inputs = cluster_inputs(made)
    one_zone: Plain = {"subnetIds": [made["private-a"].id, made["public-a"].id], "endpointPrivateAccess": True}
    refused(cloud, "in at least two different AZs", tokens.CLUSTER, **{**inputs, "vpcConfig": one_zone})
    bare = cloud.role("bare", "eks.amazonaws.com")
    refused(cloud, "AmazonEKSClusterPolicy", tokens.CLUSTER, **{**inputs, "roleArn": bare.arn})
    wrong = cloud.role("wrong", "ec2.amazonaws.com", "AmazonEKSClusterPolicy")
    refused(cloud, "trusted entity is not correct", tokens.CLUSTER, **{**inputs, "roleArn": wrong.arn})
    cloud.create(tokens.CLUSTER, **inputs)


def test_a_cluster_is_upgraded_step_by_step_and_kept_by_its_protection(site: Site) -> None:
    cloud, cluster = site.cloud, site["cluster"]
    with pytest.raises(PluginError, match=r"Unsupported Kubernetes minor version update from 1.34 to 1.36"):
        cloud.update(cluster, version="1.36")
    cloud.update(cluster, version="1.35", deletionProtection=True)
    with pytest.raises(PluginError, match="ResourceInUseException: Cluster cluster1 has 'cluster1:vpc-cni' attached"):
        cloud.delete(cluster)
    lone = cloud.create(tokens.CLUSTER, **{**cluster_inputs(site.made), "name": "lone", "deletionProtection": True})
    with pytest.raises(PluginError, match="Cluster lone has deletion protection enabled"):
        cloud.delete(lone)


def test_all_goes_in_the_opposite_order_and_nothing_is_left(site: Site) -> None:
    cloud = site.cloud
    assert [record["id"] for record in cloud.records(tokens.ACCESS_ENTRY)] == [
        f"cluster1:arn:aws:iam::{ACCOUNT}:role/nodes"
    ]
    attachments = cloud.records(tokens.ATTACHMENT)
    with pytest.raises(PluginError, match=f"resource {site['nodes-group'].id} has a dependent object"):
        cloud.delete(site["nodes-group"])
    with pytest.raises(PluginError, match="launchTemplate"):
        cloud.delete(site["template"])
    for name in reversed(site.made):
        made = site[name]
        for attachment in attachments:
            if made.type == tokens.ROLE and attachment["inputs"]["role"] == made.id:
                cloud.delete(Made(tokens.ATTACHMENT, "a", attachment["id"], {}, {}))
        cloud.delete(made)
    assert json.loads(cloud.store.file.read_text())["records"] == {}


def test_the_control_planes_log_group_is_made_by_eks_where_nobody_did(before_cluster: Site) -> None:
    cloud, inputs = before_cluster.cloud, cluster_inputs(before_cluster.made)
    own = cloud.create(tokens.LOG_GROUP, name="/aws/eks/cluster1/cluster")
    cluster = cloud.create(tokens.CLUSTER, **inputs, enabledClusterLogTypes=["api"])
    assert len(cloud.records(tokens.LOG_GROUP)) == 1
    cloud.delete(own)
    assert len(cloud.records(tokens.LOG_GROUP)) == 1, "EKS still writes"
    cloud.delete(cluster)
    cloud.create(tokens.CLUSTER, **{**inputs, "name": "other"}, enabledClusterLogTypes=["api"])
    refused(cloud, "The specified log group already exists", tokens.LOG_GROUP, name="/aws/eks/other/cluster")


# --- nodes ---


def lost(site: Site, name: str) -> None:
    site.cloud.delete(site[name])


def without_policy(site: Site) -> None:
    (attachment,) = [
        one for one in site.cloud.records(tokens.ATTACHMENT) if one["inputs"]["policyArn"].endswith("PullOnly")
    ]
    site.cloud.delete(Made(tokens.ATTACHMENT, "a", attachment["id"], {}, {}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda site: lost(site, "nat-route"), "there is no way to ec2, ecr.api, ecr.dkr, s3, sts"),
        (lambda site: lost(site, "out"), "there is no way to ec2"),
        (lambda site: lost(site, "nodes-out"), "do not let nodes call the control plane"),
        (lambda site: lost(site, "nodes-to-control"), "do not let nodes in subnet-0.* in on 443"),
        (lambda site: lost(site, "vpc-cni"), "the cluster has no vpc-cni"),
        (without_policy, "the node role has no AmazonEC2ContainerRegistryPullOnly"),
    ],
)
def test_nodes_join_only_when_they_can(before_nodes: Site, change: Any, words: str) -> None:
    change(before_nodes)
    with pytest.raises(PluginError, match=f"NodeCreationFailure: Instances failed to join.*{words}"):
        before_nodes.cloud.create(tokens.NODE_GROUP, **nodes_inputs(before_nodes.made))


def test_closed_nodes_join_by_endpoints(before_nodes: Site) -> None:
    cloud, made = before_nodes.cloud, before_nodes.made
    lost(before_nodes, "nat-route")
    lost(before_nodes, "nodes-out")
    group = cloud.group(made["vpc"], "endpoints")
    cloud.rule(tokens.INGRESS_RULE, group, cidrIpv4="10.0.0.0/16")
    cloud.rule(tokens.EGRESS_RULE, made["nodes-group"], cidrIpv4="10.0.0.0/16")
    for service in ("ec2", "ecr.api", "ecr.dkr", "sts"):
        cloud.create(
            tokens.ENDPOINT,
            service,
            vpcId=made["vpc"].id,
            serviceName=f"com.amazonaws.eu-central-1.{service}",
            vpcEndpointType="Interface",
            privateDnsEnabled=True,
            subnetIds=[made["private-a"].id, made["private-b"].id],
            securityGroupIds=[group.id],
        )
    s3 = cloud.create(
        tokens.ENDPOINT,
        "s3",
        vpcId=made["vpc"].id,
        serviceName="com.amazonaws.eu-central-1.s3",
        routeTableIds=[made["private-table"].id],
    )
    with pytest.raises(PluginError, match="there is no way to s3: "):
        cloud.create(tokens.NODE_GROUP, **nodes_inputs(made))
    cloud.rule(tokens.EGRESS_RULE, made["nodes-group"], prefixListId=s3.outputs["prefixListId"])
    cloud.create(tokens.NODE_GROUP, **nodes_inputs(made))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodeRoleArn": f"arn:aws:iam::{ACCOUNT}:role/cluster"}, r"\[ec2.amazonaws.com\] were not found in the trust"),
        ({"clusterName": "other"}, "No cluster found for name: other"),
        ({"subnetIds": []}, "Subnets cannot be empty"),
        ({"subnetIds": ["subnet-1"]}, "InvalidSubnetID.NotFound"),
        ({"scalingConfig": {"minSize": 2.0, "desiredSize": 1.0, "maxSize": 4.0}}, "desired capacity"),
        ({"version": "1.35"}, "must not be newer than the cluster's 1.34"),
        ({"diskSize": 50.0}, "Disk size must be specified within the launch template"),
    ],
)
def test_what_a_node_group_may_not_be(before_nodes: Site, change: dict[str, Plain], words: str) -> None:
    refused(before_nodes.cloud, words, tokens.NODE_GROUP, **{**nodes_inputs(before_nodes.made), **change})


def test_a_node_groups_template_has_the_version(before_nodes: Site) -> None:
    inputs = nodes_inputs(before_nodes.made)
    template: Plain = {"id": before_nodes["template"].id, "version": "2"}
    refused(before_nodes.cloud, "has no version 2", tokens.NODE_GROUP, **{**inputs, "launchTemplate": template})


# --- add-ons, access, identities ---


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"addonName": "vpc-cnii"}, "Addon vpc-cnii specified is not supported"),
        ({"addonName": "coredns"}, "InsufficientNumberOfReplicas"),
        ({"addonName": "coredns", "addonVersion": "1.12"}, "Addon version specified is not supported"),
        ({"addonName": "kube-proxy"}, "Addon already exists with name: cluster1:kube-proxy"),
        ({"addonName": "coredns", "configurationValues": '{"replicas": 2}'}, "additional property replicas"),
    ],
)
def test_what_an_add_on_may_not_be(before_nodes: Site, inputs: dict[str, Plain], words: str) -> None:
    refused(before_nodes.cloud, words, tokens.ADDON, clusterName="cluster1", **inputs)


def test_kube_proxy_is_of_the_clusters_version(before_nodes: Site) -> None:
    with pytest.raises(PluginError, match="Addon version specified is not supported"):
        before_nodes.cloud.update(before_nodes["kube-proxy"], addonVersion="v1.33.0-eksbuild.1")
    before_nodes.cloud.update(before_nodes["kube-proxy"], addonVersion="v1.34.3-eksbuild.1")


def test_network_policies_are_switched_on_by_text(site: Site) -> None:
    with pytest.raises(PluginError, match="enableNetworkPolicy: is no string"):
        site.cloud.update(site["vpc-cni"], configurationValues='{"enableNetworkPolicy": true}')
    site.cloud.update(site["vpc-cni"], configurationValues='{"enableNetworkPolicy": "true"}')
    coredns = site.cloud.create(tokens.ADDON, clusterName="cluster1", addonName="coredns")
    assert coredns.outputs["addonVersion"] == "v1.12.4-eksbuild.1"


def test_pod_identities_need_the_agent_and_the_roles_trust(before_nodes: Site) -> None:
    cloud = before_nodes.cloud
    right = cloud.role("right", AGENT_TRUST[0], actions=AGENT_TRUST[1])
    wrong = cloud.role("wrong", AGENT_TRUST[0])
    given: dict[str, Plain] = {"clusterName": "cluster1", "namespace": "kube-system", "serviceAccount": "it"}
    refused(cloud, "sts:AssumeRole and sts:TagSession", tokens.POD_IDENTITY, **given, roleArn=wrong.arn)
    cloud.create(tokens.POD_IDENTITY, **given, roleArn=right.arn)
    refused(cloud, "Association already exists: kube-system/it", tokens.POD_IDENTITY, **given, roleArn=right.arn)
    cloud.delete(before_nodes["eks-pod-identity-agent"])
    other = {**given, "serviceAccount": "other"}
    refused(cloud, "no add-on eks-pod-identity-agent", tokens.POD_IDENTITY, **other, roleArn=right.arn)


ADMINISTRATOR = "arn:aws:iam::123456789012:role/administrator"
POLICY_ARN = "arn:aws:eks::aws:cluster-access-policy/AmazonEKS{}Policy"


def test_access(site: Site) -> None:
    cloud = site.cloud
    given: dict[str, Plain] = {"clusterName": "cluster1", "principalArn": ADMINISTRATOR}
    policy: dict[str, Plain] = {**given, "accessScope": {"type": "cluster"}}
    admin, strange = POLICY_ARN.format("ClusterAdmin"), POLICY_ARN.format("Root")
    refused(cloud, "principalArn could not be found", tokens.ACCESS_POLICY, **policy, policyArn=admin)
    refused(cloud, "invalid principal", tokens.ACCESS_ENTRY, **{**given, "principalArn": "administrator"})
    cloud.create(tokens.ACCESS_ENTRY, **given)
    refused(cloud, "already in use on this cluster", tokens.ACCESS_ENTRY, **given)
    refused(cloud, "policyArn parameter format is not valid", tokens.ACCESS_POLICY, **policy, policyArn=strange)
    scope: Plain = {"type": "namespace"}
    refused(cloud, "has namespaces", tokens.ACCESS_POLICY, **{**policy, "accessScope": scope}, policyArn=admin)
    assert "Unauthorized" in str(aws_cli.refused(cloud.instance, "cluster1", "eu-central-1"))
    cloud.create(tokens.ACCESS_POLICY, **policy, policyArn=admin)
    assert aws_cli.refused(cloud.instance, "cluster1", "eu-central-1") is None


# --- load balancers ---


def service(name: str = "tls", host: str | None = HOST, **annotations: str) -> Service:
    given = {f"{balancers.PREFIX}type": "external", f"{balancers.PREFIX}scheme": "internet-facing"}
    given |= {f"{balancers.PREFIX}{key.replace('_', '-')}": value for key, value in annotations.items()}
    points = [LoadBalancerIngress(hostname=host)] if host else []
    return Service(
        metadata=ObjectMeta(name=name, namespace="edge", annotations=given),
        spec=ServiceSpec(type="LoadBalancer"),
        status=ServiceStatus(loadBalancer=LoadBalancerStatus(ingress=points)),
    )


@pytest.fixture
def balanced(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    """The Services of the site's cluster."""
    services: list[Service] = [service()]
    monkeypatch.setattr(balancers, "services", lambda instance: services)
    return services


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("public-a", "DependencyViolation: The subnet 'subnet-0.*' has dependencies"),
        ("gateway", "has some mapped public address"),
    ],
)
def test_a_load_balancer_keeps_its_network(balanced: list[Service], site: Site, name: str, words: str) -> None:
    cloud = site.cloud
    for other in ("public-a-association", "public-b-association", "nat-route", "nat", "address"):
        cloud.delete(site[other])
    with pytest.raises(PluginError, match=rf"{words}.*The load balancer {HOST} of the Service edge/tls is still there"):
        cloud.delete(site[name])
    balanced.clear()
    cloud.delete(site[name])


def test_a_load_balancer_is_where_its_service_says(balanced: list[Service], site: Site) -> None:
    cloud = site.cloud
    cloud.delete(site["public-b-association"])
    cloud.delete(site["private-b-association"])
    balanced[:] = [service(subnets=site["public-a"].id)]
    cloud.delete(site["public-b"])
    balanced[:] = [service(host=None), service(name="plain", type="nlb")]
    with cloud.store.open() as world:
        assert balancers.living(world) == []
    balanced[:] = [service(scheme="internal")]
    with cloud.store.open() as world:
        (internal,) = balancers.living(world)
        assert not internal.public
        assert balancers.places(world, internal) == [], "no subnet has the tag for internal ones"


def test_a_load_balancer_keeps_its_certificate_and_security_groups(balanced: list[Service], site: Site) -> None:
    cloud = site.cloud
    certificate = cloud.create(tokens.CERTIFICATE, domainName="example.com", validationMethod="DNS")
    group = cloud.group(site["vpc"], "balancer")
    balanced[:] = [service(ssl_cert=certificate.arn, security_groups=f"{group.id}, sg-1")]
    for made, words in ((certificate, "is in use. The load balancer"), (group, "has a dependent object. The load")):
        with pytest.raises(PluginError, match=words):
            cloud.delete(made)
    balanced.clear()
    cloud.delete(certificate)
    cloud.delete(group)


def test_a_cluster_that_goes_first_leaves_its_load_balancers_behind(balanced: list[Service], site: Site) -> None:
    cloud = site.cloud
    certificate = cloud.create(tokens.CERTIFICATE, domainName="example.com", validationMethod="DNS")
    balanced[:] = [service(ssl_cert=certificate.arn)]
    for name in ("nodes", "eks-pod-identity-agent", "kube-proxy", "vpc-cni", "cluster"):
        cloud.delete(site[name])
    balanced.clear()
    (left,) = cloud.records(tokens.LOAD_BALANCER)
    assert sorted(left["inputs"]["subnets"]) == sorted([site["public-a"].id, site["public-b"].id])
    cloud.delete(site["public-a-association"])
    cloud.delete(site["nat-route"])
    cloud.delete(site["nat"])
    with pytest.raises(PluginError, match=r"DependencyViolation: The subnet .* 'arn:aws:elasticloadbalancing:"):
        cloud.delete(site["public-a"])
    with pytest.raises(PluginError, match="ResourceInUseException: Certificate"):
        cloud.delete(certificate)


def test_an_api_server_that_is_away_is_said_to_be(
    site: Site, monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    monkeypatch.undo()
    admin_kubeconfig(instance)

    class Away:
        def __init__(self, _: object) -> None: ...

        def list(self, *_: object, **__: object) -> None:
            raise httpx2.ConnectError("refused")

    monkeypatch.setattr(balancers, "Client", Away)
    with pytest.raises(PluginError, match="which is the simulated cluster's, does not answer: refused"):
        balancers.services(instance)


# --- failures ---


@pytest.mark.parametrize(
    ("type_", "failure", "words"),
    [
        (tokens.VPC, "quota", "VpcLimitExceeded: The maximum number of VPCs has been reached"),
        (tokens.VPC, "permission", "UnauthorizedOperation: You are not authorized to perform this operation"),
        (tokens.VPC, "lost", "connection reset by peer"),
    ],
)
def test_failures_are_worded_like_aws(cloud: Cloud, type_: str, failure: Any, words: str) -> None:
    cloud.store.order([Failure(failure, type_)])
    refused(cloud, words, type_, cidrBlock="10.0.0.0/16")
    assert len(cloud.records(type_)) == (1 if failure == "lost" else 0)
    cloud.create(type_, cidrBlock="10.0.0.0/16")


def test_a_cluster_that_takes_too_long_is_finished_later(before_cluster: Site) -> None:
    cloud, made = before_cluster.cloud, before_cluster.made
    cloud.store.order([Failure("timeout", tokens.CLUSTER)])
    inputs = cluster_inputs(made)
    with pytest.raises(Unfinished, match=r"waiting for EKS Cluster \(cluster1\).*last state: 'CREATING'"):
        cloud.create(tokens.CLUSTER, **inputs)
    refused(cloud, "Cluster cluster1 is not ACTIVE", tokens.ADDON, clusterName="cluster1", addonName="vpc-cni")
    (left,) = cloud.records(tokens.CLUSTER)
    cloud.update(Made(tokens.CLUSTER, "it", "cluster1", inputs, left["outputs"]))
    cloud.create(tokens.ADDON, clusterName="cluster1", addonName="vpc-cni")


# --- functions ---


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("aws:index/getAvailabilityZones:getAvailabilityZones", {"state": "available"}),
        ("aws:index/getCallerIdentity:getCallerIdentity", {}),
        ("aws:index/getPartition:getPartition", {}),
        ("aws:index/getRegion:getRegion", {}),
        ("aws:ec2/getManagedPrefixList:getManagedPrefixList", {"name": "com.amazonaws.eu-central-1.s3"}),
        ("aws:ec2/getPrefixList:getPrefixList", {"name": "com.amazonaws.eu-central-1.s3"}),
        ("aws:eks/getAddonVersion:getAddonVersion", {"addonName": "vpc-cni", "kubernetesVersion": "1.34"}),
        ("aws:iam/getPolicyDocument:getPolicyDocument", {"statements": []}),
        ("aws:lb/getHostedZoneId:getHostedZoneId", {"loadBalancerType": "network"}),
        (
            "aws:ssm/getParameter:getParameter",
            {
                "name": "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/standard/recommended/"
                "release_version"
            },
        ),
    ],
)
def test_functions_answer_what_the_sdk_expects(cloud: Cloud, function: str, arguments: dict[str, Plain]) -> None:
    answer = cloud.invoke(function, **arguments)
    package = __import__("pulumi_aws")
    path = function.split(":")[1].split("/")
    module = package if path[0] == "index" else getattr(package, path[0])
    name = path[1][:1].upper() + path[1][1:]
    result = getattr(__import__(module.__name__, fromlist=[f"{name}Result"]), f"{name}Result", None) or getattr(
        getattr(module, "".join(f"_{c.lower()}" if c.isupper() else c for c in path[1])), f"{name}Result"
    )
    required = sdk.always(result)
    assert required <= answer.keys() | {"id"}, function


def test_every_function_is_tried() -> None:
    marks = test_functions_answer_what_the_sdk_expects.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for mark in marks for case in mark.args[1]} == set(FUNCTIONS)


def test_a_policy_document(cloud: Cloud) -> None:
    answer = cloud.invoke(
        "aws:iam/getPolicyDocument:getPolicyDocument",
        statements=[
            {
                "actions": ["sts:AssumeRole"],
                "principals": [{"type": "Service", "identifiers": ["eks.amazonaws.com"]}],
                "conditions": [{"test": "StringEquals", "variable": "aws:SourceAccount", "values": [ACCOUNT]}],
            }
        ],
    )
    assert json.loads(answer["json"]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Service": "eks.amazonaws.com"},
                "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
            }
        ],
    }


def test_other_functions_are_refused(cloud: Cloud) -> None:
    cloud.vpc()
    with pytest.raises(PluginError, match="aws:ec2/getVpc:getVpc: the simulated AWS has no such function; it has: get"):
        cloud.invoke("aws:ec2/getVpc:getVpc")


# --- over the wire ---


@pytest.mark.parametrize("there", [True, False])
def test_what_is_not_there_has_no_properties(cloud: Cloud, there: bool) -> None:
    made = cloud.vpc()
    request = provider_pb2.ReadRequest(
        id=made.id if there else "vpc-1", urn=cloud.urn(tokens.VPC, "it"), properties={"cidrBlock": "10.0.0.0/16"}
    )
    servicer = base._Servicer([], "1.0.0", cloud.provider, engine_address="")
    answer = asyncio.run(servicer.Read(request, None))
    # The engine takes properties, even empty ones, for those of a resource that exists.
    assert (answer.id, answer.HasField("properties")) == ((made.id, True) if there else ("", False))


# --- the AWS CLI ---


def test_the_cli_gives_a_credential_for_the_cluster(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    admin_kubeconfig(site.cloud.instance)
    command = ["eks", "get-token", "--cluster-name", "cluster1", "--region", "eu-central-1", "--output", "json"]
    assert aws_cli.main(command) == 1, "nobody administers it"
    assert "no access entry of the cluster cluster1 administers it" in capsys.readouterr().err
    given: dict[str, Plain] = {"clusterName": "cluster1", "principalArn": ADMINISTRATOR}
    site.cloud.create(tokens.ACCESS_ENTRY, **given)
    site.cloud.create(
        tokens.ACCESS_POLICY, **given, policyArn=POLICY_ARN.format("ClusterAdmin"), accessScope={"type": "cluster"}
    )
    assert aws_cli.main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["apiVersion"]) == ("ExecCredential", "client.authentication.k8s.io/v1beta1")
    assert shown["status"]["clientCertificateData"].startswith("-----BEGIN CERTIFICATE-----")
    for cluster, region, words in (
        ("other", "eu-central-1", "has no cluster other"),
        ("cluster1", "eu-west-1", "is in eu-central-1, not in eu-west-1"),
    ):
        assert aws_cli.main(["--region", region, "eks", "get-token", "--cluster-name", cluster]) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["s3", "ls"],
        ["eks", "describe-cluster"],
        ["eks", "get-token"],
        ["eks", "get-token", "--cluster-name", "c", "-x"],
    ],
)
@pytest.mark.usefixtures("instance")
def test_the_cli_does_nothing_else(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        aws_cli.main(command)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("site")
def test_the_cli_as_a_program(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    admin_kubeconfig(instance)
    program = Path(aws.__file__).parent / "bin" / "aws"
    command = [str(program), "eks", "get-token", "--cluster-name", "cluster1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("aws (stand-in of meshgate's lab): Unauthorized"), done.stderr
    monkeypatch.delenv("PULUMI_BACKEND_URL")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "refuses to work: PULUMI_BACKEND_URL is not set" in done.stderr
