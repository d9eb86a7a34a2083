"""eks's own file with the real engine, on a simulated AWS whose cluster is a real API server.

Its life, once, with as much of what is above the cluster as its load balancers need: failures on the way up, an
update, something deleted behind its back, destroy in the order that AWS demands; and over several stacks.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from lab import pulumi as runner
from lab import sim
from lab.instance import Instance
from lab.plugins.amazon import tokens
from lab.plugins.store import Failure, Store
from settings import Layer
from tests.deployment import DESTROY, UP, Stack, graph, kubectl, split, stack_file, write_stack_file

pytestmark = pytest.mark.engine

RELEASE = "kubernetes:helm.sh/v3:Release"
LAYERS = ("network", "cluster", "gateway_pool", "authority", "mesh", "edge")
GATEWAY = "split"
"""The one with a certificate and records in AWS."""


def config() -> dict[str, Any]:
    """The environment's configuration, without the layers and gateways that add only time here."""
    whole = stack_file("eks")
    layers = {key: value for key, value in whole.items() if key.removeprefix("meshgate:") not in get_args(Layer)}
    layers |= {f"meshgate:{layer}": whole[f"meshgate:{layer}"] for layer in LAYERS}
    edge = {key: whole["meshgate:edge"][key] for key in ("kind", "demo", "balancerCertificates")}
    edge["gateways"] = {GATEWAY: whole["meshgate:edge"]["gateways"][GATEWAY]}
    return layers | {"meshgate:layers": list(LAYERS), "meshgate:edge": edge}


@pytest.fixture(scope="module")
def cloud(control_plane: Instance) -> Iterator[Store]:
    """What exists in the simulated cloud."""
    store = Store(control_plane, "aws")
    yield store
    # With a simulated cluster, Services would wait for its load balancer controller.
    store.file.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def eks(control_plane: Instance, cloud: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(control_plane, "eks", write_stack_file(tmp_path_factory.mktemp("eks"), "eks", config()))
    yield stack
    stack.pulumi(*DESTROY, check=False)


def failed(stack: Stack, *arguments: str) -> str:
    """What a command that must fail says."""
    done = stack.pulumi(*arguments, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def deployed(eks: Stack, cloud: Store) -> dict[str, int]:
    """Up, in several runs: the account's quota is used up, then the cluster takes too long."""
    cloud.order([Failure("quota", tokens.VPC), Failure("timeout", tokens.CLUSTER)])
    assert "VpcLimitExceeded: The maximum number of VPCs has been reached" in failed(eks, *UP)
    assert not any(resource["type"] in (tokens.VPC, tokens.CLUSTER) for resource in eks.resources())
    assert "waiting for EKS Cluster (cluster1): timeout while waiting" in failed(eks, *UP)
    (cluster,) = [resource for resource in eks.resources() if resource["type"] == tokens.CLUSTER]
    assert "last state: 'CREATING'" in str(cluster["initErrors"])
    changes = eks.changes(*UP)
    assert changes["update"] == 1, "the cluster that was left unfinished"
    return changes


@pytest.fixture(scope="module")
def eks_graph(eks: Stack, cloud: Store, deployed: dict[str, int]) -> dict[tuple[str, str], Any]:
    return named(graph(eks.resources()), cloud)


def named(found: dict[tuple[str, str], tuple[str, Any]], cloud: Store) -> dict[tuple[str, str], Any]:
    """A graph with types in place of the ids that AWS chose, and without the ends that Pulumi gives to names."""
    with cloud.open() as world:
        chosen = {record.outputs.get("arn", record.id): record.type for record in world.records.values()}
        chosen |= {record.id: record.type for record in world.records.values() if record.id != "cluster1"}
    text = json.dumps([[*key, value] for key, value in sorted(found.items())])
    for id_ in sorted(chosen, key=len, reverse=True):
        text = text.replace(id_, f"<{chosen[id_]}>")
    text = re.sub(r'-[0-9a-f]{7}(?=")', "-...", text)
    return {(type_, name): value for type_, name, value in json.loads(text)}


@pytest.mark.usefixtures("eks_graph")
def test_the_cluster_is_there_and_its_services_have_load_balancers(
    eks: Stack, cloud: Store, control_plane: Instance
) -> None:
    assert not any("initErrors" in resource for resource in eks.resources())
    config = yaml.safe_load(eks.outputs()["cluster_kubeconfig"])
    assert config["users"][0]["user"]["exec"]["command"] == "aws", "no credential in the state"
    services = json.loads(kubectl(control_plane, "get", "services", "-n", "istio-edge", "-o", "json"))["items"]
    hosts = {one["metadata"]["name"]: one["status"]["loadBalancer"]["ingress"][0]["hostname"] for one in services}
    assert hosts.keys() == {GATEWAY}
    with cloud.open() as world:
        aliases = [record.inputs["aliases"] for record in world.of(tokens.RECORD) if "aliases" in record.inputs]
        assert {alias["name"] for (alias,) in aliases} == {hosts[GATEWAY]}
        assert [one.outputs["status"] for one in world.of(tokens.CERTIFICATE)] == ["ISSUED"]


def test_an_update_and_a_rule_that_somebody_deleted(
    eks: Stack, cloud: Store, deployed: dict[str, int], tmp_path: Path
) -> None:
    changed = runner.overlaid(config(), yaml.safe_load(sim.CHANGES.read_text())["update"])
    with cloud.open() as world:
        rule = next(world.of(tokens.INGRESS_RULE))
        del world.records[rule.key]
    after = Stack(eks.instance, "eks", write_stack_file(tmp_path, "eks", changed))
    changes = after.changes(*UP, "--refresh")
    # Both node groups and istiod; nothing else changes in a second run.
    everything = sum(number for operation, number in deployed.items() if operation != "read")
    assert {**changes, "read": 0} == {"create": 1, "update": 3, "same": everything - 4, "read": 0}
    with cloud.open() as world:
        assert rule.inputs in [one.inputs for one in world.of(tokens.INGRESS_RULE)]
        assert {group.outputs["scalingConfig"]["maxSize"] for group in world.of(tokens.NODE_GROUP)} == {9.0}


DELETE = """
import asyncio, sys
from pulumi.provider.experimental.provider import ConfigureRequest, DeleteRequest
from lab.plugins import aws
plugin = aws.plugin()
asyncio.run(plugin.delete(DeleteRequest(f"urn:pulumi:t::t::{sys.argv[1]}::it", sys.argv[2], {}, 0)))
"""


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (tokens.INTERNET_GATEWAY, "DependencyViolation: Network vpc-0"),
        (tokens.CERTIFICATE, "ResourceInUseException: Certificate arn:aws:acm:eu-central-1"),
    ],
)
def test_load_balancers_keep_what_they_use(cloud: Store, control_plane: Instance, type_: str, words: str) -> None:
    with cloud.open() as world:
        (record,) = world.of(type_)
    command = runner.command(control_plane, ["python", "-c", DELETE, type_, record.id], Path("/"))
    done = subprocess.run(command, env=runner.environment(control_plane), capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr
    assert "The load balancer k8s-istioedg-" in done.stderr
    with cloud.open() as world:
        assert record.key in world.records


@pytest.mark.usefixtures("deployed")
def test_destroy_goes_from_the_top(eks: Stack, cloud: Store, control_plane: Instance) -> None:
    log = control_plane.directory / "destroy-events.json"
    eks.pulumi(*DESTROY, "--event-log", str(log))
    deleted = deletions(log.read_text())
    assert eks.resources() == []
    edge, controller = (RELEASE, "eks-edge-"), (RELEASE, "eks-cluster-load-balancers-")
    # Each of the first before all of the second.
    for upper, lower in (
        (edge, controller),
        (edge, (tokens.CERTIFICATE, "")),
        (edge, (tokens.INTERNET_GATEWAY, "")),
        (controller, (tokens.POD_IDENTITY, "")),
        (controller, (tokens.NODE_GROUP, "")),
        (controller, (tokens.SUBNET, "")),
        ((tokens.NODE_GROUP, ""), (tokens.CLUSTER, "")),
        # As long as there is a node, it is kept in, and has a way to what it calls.
        ((tokens.NODE_GROUP, ""), (tokens.EGRESS_RULE, "")),
        ((tokens.NODE_GROUP, ""), (tokens.NAT_GATEWAY, "")),
        ((tokens.NODE_GROUP, ""), (tokens.ENDPOINT, "")),
        ((tokens.CLUSTER, ""), (tokens.SECURITY_GROUP, "")),
        ((tokens.CLUSTER, ""), (tokens.LOG_GROUP, "eks-cluster")),
        ((tokens.NAT_GATEWAY, ""), (tokens.INTERNET_GATEWAY, "")),
        ((tokens.SUBNET, ""), (tokens.VPC, "")),
    ):
        first = [index for index, one in enumerate(deleted) if fits(one, upper)]
        then = [index for index, one in enumerate(deleted) if fits(one, lower)]
        assert max(first) < min(then), f"{upper} is deleted before {lower}"
    with cloud.open() as world:
        assert world.records == {}
    assert "istio-edge" not in kubectl(control_plane, "get", "namespaces", "-o", "name")


def fits(resource: tuple[str, str], pattern: tuple[str, str]) -> bool:
    return resource[0] == pattern[0] and resource[1].startswith(pattern[1])


def deletions(events: str) -> list[tuple[str, str]]:
    """Type and name of the resources that were deleted, in that order, from the engine's event log."""
    outputs = [
        json.loads(line)["resOutputsEvent"]["metadata"] for line in events.splitlines() if "resOutputsEvent" in line
    ]
    return [(output["type"], output["urn"].rsplit("::", 1)[-1]) for output in outputs if output["op"] == "delete"]


def test_several_stacks_give_the_same_graph_and_go_from_the_top_too(
    control_plane: Instance, cloud: Store, eks_graph: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    configs = split("eks")
    stacks = [Stack(control_plane, name, write_stack_file(tmp_path, name, configs[name])) for name in configs]
    together: dict[tuple[str, str], tuple[str, Any]] = {}
    try:
        for stack in stacks:
            stack.pulumi(*UP)
            together |= graph(stack.resources())
        above = ("eks-authority", "eks-mesh", "eks-edge")
        assert named(together, cloud) == {
            key: value for key, value in eks_graph.items() if not key[1].startswith(above)
        }
        # The lower stack alone: AWS keeps what the cluster uses, and the stack can be finished afterwards.
        assert "DependencyViolation" in failed(stacks[0], *DESTROY)
    finally:
        for stack in reversed(stacks):
            stack.pulumi(*DESTROY)
    with cloud.open() as world:
        assert world.records == {}
