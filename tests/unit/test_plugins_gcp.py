"""The simulated Google Cloud: what it takes, what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import pytest
from pulumi import _types as pulumi_types
from pulumi.provider.experimental.property_value import PropertyValue
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
from pulumi.runtime.rpc import UNKNOWN

from lab import pki
from lab.control_plane import admin_kubeconfig
from lab.instance import Instance
from lab.plugins import exec_credential, gcp, gke_auth, guard, sdk
from lab.plugins.base import Plain, PluginError, Unfinished, plain_map, wire
from lab.plugins.store import Failure, Store

SERVICE = "gcp:projects/service:Service"
FIREWALL = "gcp:compute/firewall:Firewall"
NAT = "gcp:compute/routerNat:RouterNat"
PROJECT_MEMBER, ACCOUNT_MEMBER, BUCKET_MEMBER, REPOSITORY_MEMBER = gcp.MEMBERS
VPC = "projects/my-project/global/networks/vpc"
VPC_LINK = f"https://www.googleapis.com/compute/v1/{VPC}"
NODES_LINK = "https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west1/subnetworks/nodes"
NODES_EMAIL = "nodes@my-project.iam.gserviceaccount.com"


def wired(values: dict[str, Plain]) -> dict[str, PropertyValue]:
    return {name: wire(value) for name, value in values.items()}


@dataclass
class Made:
    """A resource as the engine keeps it."""

    type: str
    name: str
    id: str
    inputs: dict[str, Plain]
    outputs: dict[str, Any]


class Cloud:
    """The plugin as the engine uses it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.store = Store(instance, "gcp")
        self.provider = gcp.plugin()
        self.configure(project="my-project", region="europe-west1")

    def configure(self, **settings: Plain) -> None:
        asyncio.run(self.provider.configure(ConfigureRequest({}, wired(settings), True, True)))

    def urn(self, type_: str, name: str) -> str:
        return f"urn:pulumi:test::test::meshgate:a:Parent${type_}::{name}"

    def check(self, type_: str, name_: str = "it", /, **inputs: Plain) -> list[str]:
        request = CheckRequest(self.urn(type_, name_), {}, wired(inputs), b"seed")
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

    def diff(self, made: Made, /, **inputs: Plain) -> DiffResponse:
        new = self.checked(made.type, made.name, inputs, made.inputs)
        request = DiffRequest(self.urn(made.type, made.name), made.id, wired(made.inputs), wired(new), [])
        return asyncio.run(self.provider.diff(request))

    def update(self, made: Made, /, **changes: Plain) -> dict[str, Any]:
        merged = made.inputs | changes
        news: dict[str, Plain] = {name: value for name, value in merged.items() if value is not None}
        request = UpdateRequest(self.urn(made.type, made.name), made.id, wired(made.outputs), wired(news), 0, [], False)
        return plain_map(asyncio.run(self.provider.update(request)).properties)

    def read(self, made: Made) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
        return self.look_up(made.type, made.id, made.outputs, made.inputs)

    def look_up(
        self, type_: str, resource_id: str, state: dict[str, Plain], inputs: dict[str, Plain]
    ) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
        request = ReadRequest(self.urn(type_, "it"), resource_id, wired(state), wired(inputs))
        response = asyncio.run(self.provider.read(request))
        return response.resource_id, plain_map(response.properties), plain_map(response.inputs)

    def delete(self, made: Made) -> None:
        request = DeleteRequest(self.urn(made.type, made.name), made.id, wired(made.outputs), 0)
        asyncio.run(self.provider.delete(request))

    def invoke(self, function: str, /, **arguments: Plain) -> dict[str, Any]:
        return plain_map(
            asyncio.run(self.provider.invoke(InvokeRequest(function, wired(arguments)))).return_value or {}
        )

    def exists(self, made: Made) -> bool:
        return self.read(made)[0] == made.id

    # --- what most tests begin with ---

    def apis(self, *names: str) -> None:
        for name in names:
            self.create(SERVICE, name, service=f"{name}.googleapis.com")

    def network(self) -> Made:
        return self.create(gcp.NETWORK, "net", name="vpc", autoCreateSubnetworks=False)

    def subnetwork(self, name: str = "nodes", cidr: str = "10.0.0.0/24", **more: Plain) -> Made:
        pods: Plain = [{"rangeName": "pods", "ipCidrRange": "10.1.0.0/16"}]
        inputs: dict[str, Plain] = {"network": VPC_LINK, "ipCidrRange": cidr, "secondaryIpRanges": pods, **more}
        return self.create(gcp.SUBNETWORK, name, name=name, **inputs)

    def account(self) -> Made:
        return self.create(gcp.ACCOUNT, "account", accountId="nodes")

    def cluster(self, **more: Plain) -> Made:
        inputs: dict[str, Plain] = {"deletionProtection": False, "network": VPC_LINK, "subnetwork": NODES_LINK, **more}
        return self.create(gcp.CLUSTER, "cluster", name="cluster1", location="europe-west1-b", **inputs)


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
def bare(instance: Instance) -> Cloud:
    """The cloud with a project in which nothing was ever done."""
    return Cloud(instance)


@pytest.fixture
def cloud(bare: Cloud) -> Cloud:
    """The cloud with the APIs on, a VPC, a subnetwork, and the nodes' account."""
    bare.apis("compute", "container", "dns", "iam", "artifactregistry", "gkehub")
    bare.network()
    bare.subnetwork()
    bare.account()
    return bare


# --- the table and the SDK ---


def known_path(types: dict[str, Any], path: str) -> bool:
    name, _, rest = path.partition(".")
    expected = types.get(name.removesuffix("[]"))
    if expected is None:
        return False
    if name.endswith("[]"):
        expected = get_args(expected)[0]
    for option in (expected, *get_args(expected)):
        if rest and isinstance(option, type):
            if pulumi_types.is_input_type(option):
                return known_path(dict(pulumi_types.input_type_types(option)), rest)
            if pulumi_types.is_output_type(option):
                return known_path(dict(pulumi_types.output_type_types(option)), rest)
    return not rest


@pytest.mark.parametrize("type_", gcp.KINDS)
def test_the_table_names_what_the_sdk_has(type_: str) -> None:
    kind, inputs, outputs = gcp.KINDS[type_], dict(sdk.inputs(type_)), dict(sdk.outputs(type_))
    for path in (*kind.replaced_by, *kind.holds, *kind.names):
        assert path == "*" or known_path(inputs, path), path
    for path in (*kind.defaults, *kind.computed):
        assert known_path(outputs, path), path
    for target in (*kind.holds.values(), *kind.names.values()):
        assert target in gcp.KINDS, target


def test_the_version_is_the_installed_sdks() -> None:
    assert gcp.plugin().version == metadata.version("pulumi_gcp")


# --- what is taken ---


def test_inputs_are_checked_against_the_sdk(bare: Cloud) -> None:
    assert bare.check(gcp.SUBNETWORK, ipCidrRange=1.0, regio="x") == [
        "regio is not a property of Subnetwork; did you mean region?",
        "network is required by Subnetwork",
        "ipCidrRange must be a string, not a number",
    ]
    assert bare.check(gcp.SUBNETWORK, network=UNKNOWN, ipCidrRange="10.0.0.0/24") == []
    with pytest.raises(PluginError, match="did you mean gcp:compute/network:Network"):
        bare.check("gcp:compute/netwrk:Netwrk")


def test_a_secrets_failure_does_not_show_it(bare: Cloud) -> None:
    inputs = {"network": PropertyValue(5.0, is_secret=True)}
    request = CheckRequest(bare.urn(gcp.SUBNETWORK, "it"), {}, inputs, b"")
    (failure,) = asyncio.run(bare.provider.check(request)).failures or []
    assert (failure.property, failure.reason) == ("", "network must be a string, not a number")


def test_a_place_comes_from_the_provider_or_is_missed(bare: Cloud) -> None:
    bare.configure(project="my-project")
    assert bare.check(gcp.ROUTER, network=VPC) == ["region is required: set it here or on the provider of gcp"]
    bare.configure()
    assert bare.check(gcp.NETWORK) == ["project is required: set it here or on the provider of gcp"]
    assert bare.check(gcp.NETWORK, project="other-project") == []


def test_the_providers_own_inputs_are_checked(bare: Cloud) -> None:
    inputs = wired({"project": "my-project", "version": "10.2.0", "zoone": "a"})
    response = asyncio.run(
        bare.provider.check_config(CheckRequest("urn:pulumi:t::t::pulumi:providers:gcp::p", {}, inputs, b""))
    )
    assert [failure.reason for failure in response.failures or []] == [
        "zoone is not a property of Provider; did you mean zone?"
    ]


def test_a_name_is_made_up_and_stays(bare: Cloud) -> None:
    bare.apis("compute")
    made = bare.create(gcp.NETWORK, "net")
    name = str(made.inputs["name"])
    assert name.startswith("net-")
    assert len(name) == len("net-") + 7
    assert made.id == f"projects/my-project/global/networks/{name}"
    assert bare.diff(made).changes is False


# --- outputs ---


def test_a_preview_knows_no_more_than_the_cloud_has_said(bare: Cloud) -> None:
    shown = bare.preview(
        gcp.CLUSTER, name="c", location="europe-west1", privateClusterConfig={"enablePrivateNodes": True}
    )
    assert (shown["name"], shown["project"], shown["deletionProtection"]) == ("c", "my-project", True)
    assert shown["endpoint"] == UNKNOWN
    assert shown["masterAuth"]["clusterCaCertificate"] == UNKNOWN
    assert shown["privateClusterConfig"] == {
        "enablePrivateNodes": True,
        "privateEndpoint": UNKNOWN,
        "publicEndpoint": UNKNOWN,
    }
    assert not bare.store.file.exists() or "clusters/c" not in bare.store.file.read_text()


@pytest.mark.parametrize("type_", [*gcp.KINDS, "gcp:compute/route:Route", "gcp:pubsub/topic:Topic"])
def test_every_output_that_the_sdk_promises_is_there(bare: Cloud, type_: str) -> None:
    inputs = {
        name: sample(name, expected) for name, expected in sdk.inputs(type_).items() if name in sdk.required(type_)
    }
    for name in ("name", "location", "ipCidrRange", "accountId", "membershipId"):
        if name in sdk.inputs(type_):
            inputs.setdefault(name, sample(name, str))
    shown = bare.provider._outputs(type_, inputs, "an/id")
    assert sdk.always(sdk.resource(type_)) <= {name for name, value in shown.items() if value is not None}
    assert UNKNOWN not in json.dumps(shown)
    assert shown.keys() <= sdk.outputs(type_).keys()


def sample(name: str, expected: Any) -> Plain:
    if expected is str:
        return {"ipCidrRange": "10.0.0.0/24"}.get(name, "a")
    return [] if "Sequence" in str(expected) else {}


def test_outputs_that_the_program_reads(cloud: Cloud) -> None:
    (network,) = [record for record in records(cloud, gcp.NETWORK)]
    assert network["outputs"]["selfLink"] == VPC_LINK
    (subnetwork,) = records(cloud, gcp.SUBNETWORK)
    assert subnetwork["outputs"]["selfLink"] == NODES_LINK
    assert subnetwork["outputs"]["gatewayAddress"] == "10.0.0.1"
    (account,) = records(cloud, gcp.ACCOUNT)
    assert account["id"] == f"projects/my-project/serviceAccounts/{NODES_EMAIL}"
    assert (account["outputs"]["email"], account["outputs"]["member"]) == (NODES_EMAIL, f"serviceAccount:{NODES_EMAIL}")
    repository = cloud.create(
        gcp.REPOSITORY, location="europe-west1", repositoryId="r", format="DOCKER", labels={"a": "b"}
    )
    assert repository.outputs["registryUri"] == "europe-west1-docker.pkg.dev/my-project/r"
    assert repository.outputs["effectiveLabels"] == {"a": "b"}


def records(cloud: Cloud, type_: str) -> list[dict[str, Any]]:
    content = json.loads(cloud.store.file.read_text())
    return [record for record in content["records"].values() if record["type"] == type_]


def test_a_cluster_is_the_labs_api_server(cloud: Cloud) -> None:
    outputs = cloud.cluster().outputs
    ca = pki.cluster_authority(cloud.instance).certificate
    assert base64.b64decode(outputs["masterAuth"]["clusterCaCertificate"]) == ca.read_bytes()
    assert outputs["endpoint"] == "10.5.0.2:6443"
    assert outputs["controlPlaneEndpointsConfig"]["dnsEndpointConfig"]["endpoint"] == "10.5.0.2:6443"


def test_secrets_stay_secret(bare: Cloud) -> None:
    bare.apis("compute")
    inputs = {"name": wire("vpc"), "description": wire("hidden", secret=True)}
    made = asyncio.run(bare.provider.create(CreateRequest(bare.urn(gcp.NETWORK, "net"), inputs, 0, False)))
    assert made.properties["description"].is_secret
    assert not made.properties["name"].is_secret
    read = asyncio.run(bare.provider.read(ReadRequest(bare.urn(gcp.NETWORK, "net"), VPC, made.properties, inputs)))
    assert read.properties["description"].is_secret


def test_what_the_cloud_adds_to_a_secret_is_secret(bare: Cloud) -> None:
    given = PropertyValue({"enablePrivateNodes": PropertyValue(True)}, is_secret=True)
    inputs = wired({"name": "c", "location": "l"}) | {"privateClusterConfig": given}
    made = asyncio.run(bare.provider.create(CreateRequest(bare.urn(gcp.CLUSTER, "c"), inputs, 0, True)))
    assert plain_map(made.properties)["privateClusterConfig"]["privateEndpoint"] == UNKNOWN  # type: ignore[call-overload, index]
    assert made.properties["privateClusterConfig"].is_secret


# --- changes ---


@pytest.mark.parametrize(
    ("type_", "before", "after", "replaces"),
    [
        (gcp.NETWORK, {"name": "a", "mtu": 1400.0}, {"name": "a", "mtu": 1500.0}, []),
        (gcp.NETWORK, {"name": "a"}, {"name": "b"}, ["name"]),
        (gcp.NETWORK, {"name": "a"}, {"name": "a", "project": "other"}, ["project"]),
        (gcp.NETWORK, {"name": "a"}, {"name": "a", "autoCreateSubnetworks": False}, ["autoCreateSubnetworks"]),
        (FIREWALL, {"name": "a", "network": "n"}, {"name": "a", "network": UNKNOWN}, ["network"]),
        (FIREWALL, {"name": "a", "network": "n"}, {"name": "a", "network": "n", "priority": 1.0}, []),
        (
            gcp.NODE_POOL,
            {"name": "a", "cluster": "c", "location": "l", "nodeConfig": {"machineType": "x", "serviceAccount": "s"}},
            {"name": "a", "cluster": "c", "location": "l", "nodeConfig": {"machineType": "y", "serviceAccount": "s"}},
            [],
        ),
        (
            gcp.NODE_POOL,
            {"name": "a", "cluster": "c", "location": "l", "nodeConfig": {"serviceAccount": "s"}},
            {"name": "a", "cluster": "c", "location": "l"},
            ["nodeConfig.serviceAccount"],
        ),
        (
            gcp.CLUSTER,
            {"name": "a", "location": "l", "ipAllocationPolicy": {"clusterSecondaryRangeName": "p"}},
            {"name": "a", "location": "l", "ipAllocationPolicy": {"clusterSecondaryRangeName": "q"}},
            ["ipAllocationPolicy.clusterSecondaryRangeName"],
        ),
        (
            PROJECT_MEMBER,
            {"project": "p", "role": "r", "member": "a"},
            {"project": "p", "role": "r", "member": "b"},
            ["member"],
        ),
        ("gcp:pubsub/topic:Topic", {"name": "a"}, {"name": "a", "labels": {"x": "y"}}, []),
        ("gcp:pubsub/topic:Topic", {"name": "a"}, {"name": "b"}, ["name"]),
    ],
)
def test_what_a_change_replaces(
    bare: Cloud, type_: str, before: dict[str, Plain], after: dict[str, Plain], replaces: list[str]
) -> None:
    found = bare.diff(Made(type_, "it", "id", before, {}), **after)
    assert found.changes is True
    assert found.replaces == replaces
    assert bare.diff(Made(type_, "it", "id", before, {}), **before).changes is False


def test_a_change_is_shown_where_it_is(bare: Cloud) -> None:
    before: dict[str, Plain] = {"name": "a", "cluster": "c", "location": "l", "autoscaling": {"maxNodeCount": 3.0}}
    after: dict[str, Plain] = before | {
        "autoscaling": {"maxNodeCount": 4.0, "minNodeCount": 1.0},
        "nodeLocations": ["b"],
    }
    found = bare.diff(Made(gcp.NODE_POOL, "it", "id", before, {}), **after)
    shown = {path: change.kind.name for path, change in found.detailed_diff.items()}
    assert shown == {"autoscaling.maxNodeCount": "UPDATE", "autoscaling.minNodeCount": "ADD", "nodeLocations[0]": "ADD"}
    assert found.diffs == ["autoscaling", "nodeLocations"]


def test_the_old_one_goes_first_when_the_name_is_the_same(cloud: Cloud) -> None:
    made = cloud.create(FIREWALL, name="a", network=VPC, direction="EGRESS")
    assert cloud.diff(made, name="a", network=VPC, direction="INGRESS").delete_before_replace is True
    assert cloud.diff(made, name="b", network=VPC, direction="EGRESS").delete_before_replace is False


def test_update_in_place(cloud: Cloud) -> None:
    made = cloud.create(FIREWALL, name="a", network=VPC, direction="EGRESS", priority=5.0)
    first = made.outputs["creationTimestamp"]
    assert cloud.update(made, priority=7.0, direction=None)["priority"] == 7.0
    _, outputs, inputs = cloud.read(made)
    assert (outputs["priority"], outputs["creationTimestamp"], inputs["priority"]) == (7.0, first, 7.0)


# --- what exists ---


def test_it_survives_the_plugin_and_ends_with_the_lab(cloud: Cloud) -> None:
    assert Cloud(cloud.instance).look_up(gcp.NETWORK, VPC, {}, {})[0] == VPC
    assert cloud.store.file.is_relative_to(cloud.instance.directory)
    assert cloud.store.file.stat().st_mode & 0o077 == 0
    cloud.store.file.unlink()
    assert cloud.look_up(gcp.NETWORK, VPC, {}, {})[0] == ""


def test_a_name_is_taken_once(cloud: Cloud) -> None:
    with pytest.raises(PluginError, match=rf"Error 409: The resource '{VPC}' already exists, alreadyExists"):
        cloud.network()
    cloud.subnetwork(cidr="10.9.0.0/24", region="europe-west2", secondaryIpRanges=[])  # the same name elsewhere


def test_what_is_shared_can_be_made_twice(cloud: Cloud) -> None:
    for _ in range(2):
        cloud.create(PROJECT_MEMBER, project="my-project", role="roles/viewer", member="user:a@example.com")
        cloud.apis("compute")


def test_what_somebody_else_deleted_or_changed_is_seen(cloud: Cloud) -> None:
    made = cloud.create(FIREWALL, name="a", network=VPC, direction="EGRESS", priority=5.0)
    with cloud.store.open() as world:
        record = next(world.of(FIREWALL))
        record.inputs["priority"] = record.outputs["priority"] = 9.0
    _, outputs, inputs = cloud.read(made)
    assert (outputs["priority"], inputs["priority"]) == (9.0, 9.0)
    with cloud.store.open() as world:
        del world.records[record.key]
    assert cloud.read(made) == ("", {}, {})
    with pytest.raises(PluginError, match="Error 404"):
        cloud.update(made, priority=1.0)
    cloud.delete(made)  # gone already: no error


@pytest.mark.parametrize("text", [VPC, VPC_LINK, "vpc"])
def test_import_by_any_of_its_names(cloud: Cloud, text: str) -> None:
    found, outputs, inputs = cloud.look_up(gcp.NETWORK, text, {}, {})
    assert found == VPC
    assert outputs["selfLink"] == VPC_LINK
    assert inputs == {"name": "vpc", "autoCreateSubnetworks": False}


def test_functions(cloud: Cloud) -> None:
    assert cloud.invoke("gcp:compute/getNetwork:getNetwork", name="vpc")["selfLink"] == VPC_LINK
    assert cloud.invoke("gcp:organizations/getProject:getProject")["projectId"] == "my-project"
    with pytest.raises(PluginError, match="Error 404"):
        cloud.invoke("gcp:compute/getNetwork:getNetwork", name="other")
    with pytest.raises(PluginError, match="has no such function"):
        cloud.invoke("gcp:compute/listAll:listAll")


def test_several_at_once(cloud: Cloud) -> None:
    """Plugins of several stacks work on one file."""

    def work(number: int) -> None:
        Cloud(cloud.instance).create(FIREWALL, name=f"rule-{number}", network=VPC)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record["outputs"]["name"] for record in records(cloud, FIREWALL)} == {
        f"rule-{number}" for number in range(8)
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a simulated cloud any more"),
        ('{"records": {"a": {"nonsense": 1}}}', "is not a simulated cloud any more: .*nonsense"),
        ('{"failures": [{"failure": "qouta"}]}', "there is no failure 'qouta', only quota, permission, timeout, lost"),
    ],
)
def test_a_file_that_somebody_broke(cloud: Cloud, content: str, words: str) -> None:
    cloud.store.file.write_text(content)
    with pytest.raises(PluginError, match=f"gcp.json.*{words}"):
        cloud.create(gcp.NETWORK, name="more")
    assert cloud.store.file.read_text() == content, "nothing of it is lost"


# --- references ---


@pytest.mark.parametrize("network", [VPC, VPC_LINK, "vpc"])
def test_what_is_in_use_cannot_be_deleted(bare: Cloud, network: str) -> None:
    bare.apis("compute")
    vpc = bare.network()
    rule = bare.create(FIREWALL, name="rule", network=network)
    message = f"The Network resource '{VPC}' is already being used by '{rule.id}', resourceInUseByAnotherResource"
    with pytest.raises(PluginError, match=f"Error 400: {message}"):
        bare.delete(vpc)
    assert bare.exists(vpc)
    bare.delete(rule)
    bare.delete(vpc)
    assert not bare.exists(vpc)


def test_each_holds_what_it_stands_on(cloud: Cloud) -> None:
    router = cloud.create(gcp.ROUTER, name="router", network=VPC)
    nat = cloud.create(
        NAT,
        name="nat",
        router="router",
        sourceSubnetworkIpRangesToNat="LIST_OF_SUBNETWORKS",
        subnetworks=[{"name": NODES_LINK, "sourceIpRangesToNats": ["ALL_IP_RANGES"]}],
    )
    cluster = cloud.cluster()
    pool = cloud.create(gcp.NODE_POOL, name="pool", cluster="cluster1", location="europe-west1-b")
    feature = cloud.create(gcp.FEATURE, name="multicluster", location="global")
    membership = cloud.create(
        gcp.MEMBERSHIP,
        membershipId="m",
        location="europe-west1",
        endpoint={"gkeCluster": {"resourceLink": f"//container.googleapis.com/{cluster.id}"}},
    )
    joined = cloud.create(
        "gcp:gkehub/featureMembership:FeatureMembership",
        feature="multicluster",
        location="global",
        membership="m",
        membershipLocation="europe-west1",
    )
    zone = cloud.create(
        gcp.ZONE,
        name="zone",
        dnsName="example.com.",
        visibility="private",
        privateVisibilityConfig={"networks": [{"networkUrl": VPC_LINK}]},
    )
    vpc = Made(gcp.NETWORK, "net", VPC, {}, {})
    subnetwork = Made(gcp.SUBNETWORK, "nodes", NODES_LINK.partition("/v1/")[2], {}, {})
    for held, by in ((router, nat), (cluster, pool), (feature, joined), (membership, joined)):
        with pytest.raises(PluginError, match=f"already being used by '{by.id}'"):
            cloud.delete(held)
    for one in (pool, nat):
        cloud.delete(one)
    with pytest.raises(PluginError, match=f"already being used by '{cluster.id}'"):
        cloud.delete(subnetwork)
    for one in (joined, feature, membership, cluster, router, subnetwork):
        cloud.delete(one)
    with pytest.raises(PluginError, match=f"already being used by '{zone.id}'"):
        cloud.delete(vpc)
    cloud.delete(zone)
    cloud.delete(vpc)


def test_a_name_means_the_one_in_the_same_place(cloud: Cloud) -> None:
    here = cloud.create(gcp.ROUTER, name="router", network=VPC)
    nat: dict[str, Plain] = {"name": "nat", "router": "router", "sourceSubnetworkIpRangesToNat": "ALL"}
    with pytest.raises(PluginError, match="Error 404: The Router resource 'router'"):
        cloud.create(NAT, region="europe-west2", **nat)
    there = cloud.create(gcp.ROUTER, name="router", network=VPC, region="europe-west2")
    cloud.create(NAT, region="europe-west2", **nat)
    cloud.delete(here)
    with pytest.raises(PluginError, match="already being used"):
        cloud.delete(there)


def test_an_account_goes_though_others_name_it(cloud: Cloud) -> None:
    """As in the cloud: bindings and rules are left with the name of an account that is no more."""
    account = Made(gcp.ACCOUNT, "account", f"projects/my-project/serviceAccounts/{NODES_EMAIL}", {}, {})
    cloud.create(ACCOUNT_MEMBER, serviceAccountId=account.id, role="roles/x", member="user:a@example.com")
    cloud.create(FIREWALL, name="rule", network=VPC, targetServiceAccounts=[NODES_EMAIL])
    cloud.delete(account)


@pytest.mark.parametrize(
    ("type_", "inputs"),
    [
        (gcp.SUBNETWORK, {"network": "other", "ipCidrRange": "10.7.0.0/24"}),
        (gcp.SUBNETWORK, {"network": "projects/other-project/global/networks/vpc", "ipCidrRange": "10.7.0.0/24"}),
        (NAT, {"router": "none", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES"}),
        (gcp.NODE_POOL, {"cluster": "none", "location": "europe-west1-b"}),
        (gcp.RECORD_SET, {"managedZone": "none", "name": "a.", "type": "A"}),
        (gcp.BUCKET_OBJECT, {"bucket": "none", "content": "a"}),
        (ACCOUNT_MEMBER, {"serviceAccountId": "projects/-/serviceAccounts/a@b", "role": "r", "member": "user:a"}),
        (REPOSITORY_MEMBER, {"repository": "none", "location": "europe-west1", "role": "r", "member": "user:a"}),
    ],
)
def test_a_reference_to_nothing(cloud: Cloud, type_: str, inputs: dict[str, Plain]) -> None:
    with pytest.raises(PluginError, match=r"Error 404: The \w+ resource '.*' \(.* of .*\) was not found, notFound"):
        cloud.create(type_, **inputs)


def test_a_type_outside_the_table(cloud: Cloud) -> None:
    route = cloud.create("gcp:compute/route:Route", name="route", network=VPC_LINK, destRange="0.0.0.0/0")
    assert route.id == "projects/my-project/global/routes/route"
    cloud.delete(Made(gcp.SUBNETWORK, "nodes", NODES_LINK.partition("/v1/")[2], {}, {}))
    with pytest.raises(PluginError, match=f"already being used by '{route.id}'"):
        cloud.delete(Made(gcp.NETWORK, "net", VPC, {}, {}))


# --- the cloud's rules ---


@pytest.mark.parametrize(
    ("type_", "inputs", "api"),
    [
        (gcp.NETWORK, {"name": "a"}, "compute"),
        (gcp.ACCOUNT, {"accountId": "account"}, "iam"),
        (gcp.ZONE, {"name": "a", "dnsName": "a."}, "dns"),
        (gcp.CLUSTER, {"name": "a", "location": "l"}, "container"),
        (gcp.REPOSITORY, {"repositoryId": "a", "location": "l", "format": "DOCKER"}, "artifactregistry"),
        (gcp.FEATURE, {"name": "servicemesh", "location": "global"}, "gkehub"),
    ],
)
def test_an_api_that_is_off(bare: Cloud, type_: str, inputs: dict[str, Plain], api: str) -> None:
    with pytest.raises(PluginError, match=f"Error 403: {api}.googleapis.com has not been used .*, SERVICE_DISABLED"):
        bare.create(type_, **inputs)
    bare.apis(api, "mesh")
    bare.create(type_, **inputs)


def test_the_mesh_feature_needs_its_api(cloud: Cloud) -> None:
    with pytest.raises(PluginError, match=r"mesh\.googleapis\.com .* SERVICE_DISABLED"):
        cloud.create(gcp.FEATURE, name="servicemesh", location="global")


@pytest.mark.parametrize(("disable", "off"), [(True, True), (False, False), (None, False)])
def test_an_api_stays_on_unless_told_otherwise(bare: Cloud, disable: bool | None, off: bool) -> None:
    service = bare.create(SERVICE, service="compute.googleapis.com", disableOnDestroy=disable)
    bare.delete(service)
    if off:
        with pytest.raises(PluginError, match="SERVICE_DISABLED"):
            bare.network()
    else:
        bare.network()


@pytest.mark.parametrize("cidr", ["10.0.0.128/25", "10.1.7.0/24"])
def test_ranges_of_a_network_do_not_overlap(cloud: Cloud, cidr: str) -> None:
    with pytest.raises(PluginError, match=f"IP range {cidr} conflicts with"):
        cloud.subnetwork("more", cidr, secondaryIpRanges=[])
    cloud.create(gcp.NETWORK, "other", name="other")
    cloud.subnetwork("more", cidr, secondaryIpRanges=[], network="other")


def test_a_protected_cluster(cloud: Cloud) -> None:
    cluster = cloud.cluster(deletionProtection=None)
    with pytest.raises(PluginError, match="deletion_protection is set to true"):
        cloud.delete(cluster)
    cluster.outputs = cloud.update(cluster, deletionProtection=False)
    cloud.delete(cluster)


def test_a_policy_of_deletion(cloud: Cloud) -> None:
    kept = cloud.create(FIREWALL, name="kept", network=VPC, deletionPolicy="PREVENT")
    with pytest.raises(PluginError, match="deletionPolicy is PREVENT"):
        cloud.delete(kept)
    left = cloud.create(FIREWALL, name="left", network=VPC, deletionPolicy="ABANDON")
    cloud.delete(left)
    assert cloud.exists(left)


def test_secondary_ranges_exist(cloud: Cloud) -> None:
    with pytest.raises(PluginError, match="secondary range 'services' does not exist in subnetwork"):
        cloud.cluster(
            ipAllocationPolicy={"clusterSecondaryRangeName": "pods", "servicesSecondaryRangeName": "services"}
        )


def test_a_pool_is_in_a_subnetwork_of_the_cluster(cloud: Cloud) -> None:
    gateway = cloud.subnetwork("gateway", "10.8.0.0/28", secondaryIpRanges=[])
    cloud.cluster()
    pool: dict[str, Plain] = {"cluster": "cluster1", "location": "europe-west1-b"}
    with pytest.raises(PluginError, match="is not one of the cluster's"):
        cloud.create(gcp.NODE_POOL, name="a", networkConfig={"subnetwork": gateway.id}, **pool)
    with pytest.raises(PluginError, match="secondary range 'none' does not exist"):
        cloud.create(gcp.NODE_POOL, name="a", networkConfig={"subnetwork": NODES_LINK, "podRange": "none"}, **pool)
    cloud.create(gcp.NODE_POOL, name="a", networkConfig={"subnetwork": NODES_LINK, "podRange": "pods"}, **pool)


@pytest.mark.parametrize(
    ("type_", "inputs"),
    [
        (PROJECT_MEMBER, {"project": "my-project", "role": "r", "member": "serviceAccount:{}"}),
        (FIREWALL, {"name": "a", "network": VPC, "targetServiceAccounts": ["{}"]}),
        (gcp.CLUSTER, {"name": "a", "location": "l", "nodeConfig": {"serviceAccount": "{}"}}),
    ],
)
def test_accounts_exist(cloud: Cloud, type_: str, inputs: dict[str, Plain]) -> None:
    def naming(email: str) -> dict[str, Plain]:
        named: dict[str, Plain] = json.loads(json.dumps(inputs).replace("{}", email))
        return named

    none = "none@my-project.iam.gserviceaccount.com"
    with pytest.raises(PluginError, match=f"Error 404: Service account {none} does not exist"):
        cloud.create(type_, **naming(none))
    cloud.create(type_, **naming(NODES_EMAIL))


@pytest.mark.parametrize(
    "member",
    [
        "serviceAccount:my-project.svc.id.goog[team-x/test]",
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/a/sa/b",
    ],
)
def test_workloads_have_identities_only_with_a_cluster(cloud: Cloud, member: str) -> None:
    binding: dict[str, Plain] = {"role": "roles/iam.workloadIdentityUser", "member": member}
    binding["serviceAccountId"] = f"projects/my-project/serviceAccounts/{NODES_EMAIL}"
    with pytest.raises(PluginError, match=r"Identity Pool does not exist \(my-project.svc.id.goog\)"):
        cloud.create(ACCOUNT_MEMBER, **binding)
    with pytest.raises(PluginError, match="is not that of the project"):
        cloud.cluster(workloadIdentityConfig={"workloadPool": "other.svc.id.goog"})
    cloud.cluster(workloadIdentityConfig={"workloadPool": "my-project.svc.id.goog"})
    cloud.create(ACCOUNT_MEMBER, **binding)


def test_record_sets(cloud: Cloud) -> None:
    zone = cloud.create(gcp.ZONE, name="zone", dnsName="gcr.io.")
    with pytest.raises(PluginError, match="is not in the zone"):
        cloud.create(gcp.RECORD_SET, managedZone="zone", name="notgcr.io.", type="A", rrdatas=["192.0.2.1"])
    apex = cloud.create(gcp.RECORD_SET, managedZone="zone", name="gcr.io.", type="A", rrdatas=["192.0.2.1"])
    wildcard = cloud.create(gcp.RECORD_SET, managedZone="zone", name="*.gcr.io.", type="CNAME", rrdatas=["gcr.io."])
    with pytest.raises(PluginError, match="cannot stand beside"):
        cloud.create(gcp.RECORD_SET, managedZone="zone", name="*.gcr.io.", type="A", rrdatas=["192.0.2.1"])
    with pytest.raises(PluginError, match="containerNotEmpty"):
        cloud.delete(zone)
    cloud.delete(apex)
    cloud.delete(wildcard)
    cloud.delete(zone)


@pytest.mark.parametrize("force", [False, True])
def test_a_bucket_with_objects(bare: Cloud, force: bool) -> None:
    bucket = bare.create(gcp.BUCKET, name="bucket", location="EU", forceDestroy=force)
    hello = bare.create(gcp.BUCKET_OBJECT, bucket="bucket", name="hello", content="Hello, World!\n")
    assert base64.b64decode(hello.outputs["md5hash"]).hex() == "bea8252ff4e80f41719ea13cdf007273"
    bare.create(BUCKET_MEMBER, bucket="bucket", role="roles/storage.objectViewer", member="user:a@example.com")
    if force:
        bare.delete(bucket)
        assert not bare.exists(hello)
    else:
        with pytest.raises(PluginError, match="Error 409: The bucket you tried to delete is not empty"):
            bare.delete(bucket)


# --- ordered failures ---


@pytest.mark.parametrize(("failure", "words"), [("quota", "quotaExceeded"), ("permission", "Required permission")])
def test_a_refusal_leaves_nothing_and_comes_once(cloud: Cloud, failure: Any, words: str) -> None:
    cloud.store.order([Failure(failure, type="gcp:compute/*", name="rule")])
    cloud.create(FIREWALL, "other", name="other", network=VPC)
    with pytest.raises(PluginError, match=f"Error 403: .*{words}|{words}"):
        cloud.create(FIREWALL, "rule", name="rule", network=VPC)
    cloud.create(FIREWALL, "rule", name="rule", network=VPC)


def test_a_timeout_leaves_the_resource_unfinished(cloud: Cloud) -> None:
    cloud.store.order([Failure("timeout", type=gcp.CLUSTER)])
    with pytest.raises(Unfinished, match="timeout while waiting for state") as raised:
        cloud.cluster()
    cluster = Made(gcp.CLUSTER, "cluster", raised.value.resource_id, {}, plain_map(raised.value.properties))
    assert cluster.id == "projects/my-project/locations/europe-west1-b/clusters/cluster1"
    assert cluster.outputs["endpoint"] == "10.5.0.2:6443"
    pool: dict[str, Plain] = {"name": "pool", "cluster": "cluster1", "location": "europe-west1-b"}
    with pytest.raises(PluginError, match=r"is not ready, resourceNotReady"):
        cloud.create(gcp.NODE_POOL, **pool)
    (record,) = records(cloud, gcp.CLUSTER)
    cluster.inputs = record["inputs"]
    cloud.update(cluster)  # what the engine asks for in the next run
    cloud.create(gcp.NODE_POOL, **pool)


def test_a_lost_answer_leaves_what_nobody_knows_of(cloud: Cloud) -> None:
    cloud.store.order([Failure("lost")])
    with pytest.raises(PluginError, match="the connection was lost"):
        cloud.create(FIREWALL, name="rule", network=VPC)
    with pytest.raises(PluginError, match="Error 409"):
        cloud.create(FIREWALL, name="rule", network=VPC)
    assert cloud.look_up(FIREWALL, "rule", {}, {})[0] == "projects/my-project/global/firewalls/rule"


def test_updates_and_deletions_fail_too(cloud: Cloud) -> None:
    rule = cloud.create(FIREWALL, name="rule", network=VPC)
    cloud.store.order([Failure("permission", operation="update"), Failure("timeout", operation="delete", times=2)])
    with pytest.raises(PluginError, match="forbidden"):
        cloud.update(rule, priority=5.0)
    assert cloud.update(rule, priority=5.0)["priority"] == 5.0
    for _ in range(2):
        with pytest.raises(PluginError, match="timeout"):
            cloud.delete(rule)
    cloud.delete(rule)
    assert not cloud.exists(rule)


# --- the guard ---


def test_nothing_happens_outside_the_lab(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = cloud.create(FIREWALL, name="rule", network=VPC)
    before = cloud.store.file.read_text()
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://production")
    for work in (
        lambda: cloud.configure(project="my-project"),
        lambda: cloud.create(FIREWALL, name="more", network=VPC),
        lambda: cloud.update(rule, priority=5.0),
        lambda: cloud.read(rule),
        lambda: cloud.delete(rule),
        lambda: cloud.invoke("gcp:compute/getNetwork:getNetwork", name="vpc"),
    ):
        with pytest.raises(PluginError, match="is a stand-in for meshgate's lab and refuses to work"):
            work()
    assert cloud.store.file.read_text() == before


def test_the_clusters_credentials_are_the_labs(instance: Instance) -> None:
    admin_kubeconfig(instance)
    version = "client.authentication.k8s.io/v1"
    given = exec_credential.credential(instance, version)
    assert (given["apiVersion"], given["kind"]) == (version, "ExecCredential")
    status: Any = given["status"]
    assert status["clientCertificateData"].startswith("-----BEGIN CERTIFICATE-----")
    assert status["clientKeyData"].startswith("-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize(
    ("info", "version"), [("", "v1beta1"), ('{"apiVersion": "client.authentication.k8s.io/v1"}', "v1")]
)
def test_the_credentials_program(instance: Instance, info: str, version: str) -> None:
    admin_kubeconfig(instance)
    program = Path(gke_auth.__file__).parent / "bin" / "gke-gcloud-auth-plugin"
    environment = os.environ | {"KUBERNETES_EXEC_INFO": info}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["apiVersion"] == f"client.authentication.k8s.io/{version}"
    del environment["PULUMI_BACKEND_URL"]
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "refuses to work: PULUMI_BACKEND_URL is not set" in done.stderr
