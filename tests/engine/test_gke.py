"""gke's own file with the real engine, on a simulated Google Cloud whose cluster is a real API server.

Its whole life, once: failures on the way up, an update, something deleted behind its back, destroy in the right order;
and over several stacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import pulumi as runner
from lab import sim
from lab.instance import Instance
from lab.plugins import gcp
from lab.plugins.store import Failure, Store
from tests.deployment import CHECKOUT, DESTROY, UP, Stack, graph, kubectl, split, stack_file, write_stack_file

pytestmark = pytest.mark.engine

FIREWALL = "gcp:compute/firewall:Firewall"
SERVICE = "gcp:projects/service:Service"
RELEASE = "kubernetes:helm.sh/v3:Release"


@pytest.fixture(scope="module")
def cloud(control_plane: Instance) -> Store:
    """What exists in the simulated cloud."""
    return Store(control_plane, "gcp")


@pytest.fixture(scope="module")
def gke(control_plane: Instance) -> Iterator[Stack]:
    stack = Stack(control_plane, "gke", CHECKOUT / "Pulumi.gke.yaml")
    yield stack
    stack.pulumi(*DESTROY, check=False)


def failed(stack: Stack) -> str:
    """What an `up` that must fail says."""
    done = stack.pulumi(*UP, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def previewed(gke: Stack) -> dict[str, int]:
    return gke.changes("preview")


@pytest.fixture(scope="module")
def deployed(gke: Stack, cloud: Store, previewed: dict[str, int]) -> dict[str, int]:
    """Up, in several runs: the cloud refuses this and that, then the cluster takes too long."""
    # Each needs the one before, so that no run gets further.
    cloud.order([Failure("quota", gcp.NETWORK), Failure("permission", gcp.ROUTER), Failure("timeout", gcp.CLUSTER)])
    assert "Error 403: Quota exceeded while creating Network 'projects/my-project/" in failed(gke)
    assert "Error 403: Required permission is missing for Router 'projects/my-project/" in failed(gke)
    assert not any(resource["type"] in (gcp.ROUTER, gcp.CLUSTER) for resource in gke.resources())
    assert "Error waiting for Cluster" in failed(gke)
    (cluster,) = [resource for resource in gke.resources() if resource["type"] == gcp.CLUSTER]
    assert "timeout while waiting" in str(cluster["initErrors"])
    with cloud.open() as world:
        assert [record.finished for record in world.of(gcp.CLUSTER)] == [False]

    changes = gke.changes(*UP)
    assert changes["update"] == 1, "the cluster that was left unfinished"
    return changes


@pytest.fixture(scope="module")
def gke_graph(gke: Stack, deployed: dict[str, int]) -> dict[tuple[str, str], tuple[str, Any]]:
    return graph(gke.resources())


@pytest.mark.usefixtures("gke_graph")
def test_up_finishes_what_failed_before(
    gke: Stack, cloud: Store, previewed: dict[str, int], deployed: dict[str, int]
) -> None:
    assert set(previewed) == {"create"}
    assert set(deployed) == {"create", "same", "update"}
    assert sum(deployed.values()) == previewed["create"]
    assert not any("initErrors" in resource for resource in gke.resources())
    with cloud.open() as world:
        assert [(record.id, record.finished) for record in world.of(gcp.CLUSTER)] == [
            ("projects/my-project/locations/europe-west1-b/clusters/cluster1", True)
        ]


def test_the_cluster_is_reached_through_its_own_kubeconfig(
    gke: Stack, control_plane: Instance, deployed: dict[str, int]
) -> None:
    config = yaml.safe_load(gke.outputs()["cluster_kubeconfig"])
    assert config["users"][0]["user"].keys() == {"exec"}, "no credential in the state"
    assert config["clusters"][0]["cluster"]["server"] == "https://10.5.0.2:6443"
    pods = json.loads(kubectl(control_plane, "get", "pods", "-n", "istio-egress", "-o", "json"))["items"]
    assert pods
    assert {pod["spec"]["nodeName"] for pod in pods} == {"gateway"}


def test_second_up_changes_nothing(gke: Stack, deployed: dict[str, int]) -> None:
    assert gke.changes(*UP, "--expect-no-changes") == {"same": sum(deployed.values())}


@pytest.mark.usefixtures("deployed")
def test_an_update_and_a_rule_that_somebody_deleted(gke: Stack, cloud: Store, tmp_path: Path) -> None:
    changed = runner.overlaid(stack_file("gke"), yaml.safe_load(sim.CHANGES.read_text())["update"])
    with cloud.open() as world:
        rule = next(record for record in world.of(FIREWALL) if record.id.endswith("/global-deny-egress-all"))
        del world.records[rule.key]
    after = Stack(gke.instance, "gke", write_stack_file(tmp_path, "gke", changed))
    changes = after.changes(*UP, "--refresh")
    assert {operation: number for operation, number in changes.items() if operation != "same"} == {
        "create": 1,
        "update": 3,
    }
    with cloud.open() as world:
        assert world.records[rule.key].inputs["denies"] == [{"protocol": "all"}]
        assert {pool.outputs["autoscaling"]["maxNodeCount"] for pool in world.of(gcp.NODE_POOL)} == {9.0}


@pytest.mark.usefixtures("deployed")
def test_destroy_goes_from_the_top(gke: Stack, cloud: Store, control_plane: Instance) -> None:
    log = control_plane.directory / "destroy-events.json"
    gke.pulumi(*DESTROY, "--event-log", str(log))
    deleted = deletions(log.read_text())
    assert gke.resources() == []
    # Each of the first before all of the second.
    for upper, lower in (
        (RELEASE, gcp.NODE_POOL),
        (gcp.NODE_POOL, gcp.CLUSTER),
        (gcp.CLUSTER, gcp.SUBNETWORK),
        # As long as there is a node, it is kept in, has names, and a way to its images.
        (gcp.NODE_POOL, FIREWALL),
        (gcp.NODE_POOL, gcp.RECORD_SET),
        (gcp.NODE_POOL, gcp.REPOSITORY),
        (gcp.RECORD_SET, gcp.ZONE),
        (gcp.SUBNETWORK, gcp.NETWORK),
        (gcp.ROUTER, gcp.NETWORK),
        (FIREWALL, gcp.NETWORK),
        (gcp.NETWORK, SERVICE),
    ):
        last = max(index for index, type_ in enumerate(deleted) if type_ == upper)
        assert last < deleted.index(lower), f"{upper} is deleted before {lower}"
    with cloud.open() as world:
        assert world.records == {}
        assert "compute.googleapis.com" in world.switched_on["my-project"], "others in the project may use it"
    assert "istio-egress" not in kubectl(control_plane, "get", "namespaces", "-o", "name")


def deletions(events: str) -> list[str]:
    """The types of the resources that were deleted, in that order, from the engine's event log."""
    outputs = [
        json.loads(line)["resOutputsEvent"]["metadata"] for line in events.splitlines() if "resOutputsEvent" in line
    ]
    return [output["type"] for output in outputs if output["op"] == "delete"]


# The engine's part is shown by dev and eks, each environment's graph by the unit tests.
@pytest.mark.soak
def test_several_stacks_give_the_same_graph(
    gke: Stack, control_plane: Instance, gke_graph: dict[tuple[str, str], tuple[str, Any]], tmp_path: Path
) -> None:
    # By itself, as in soak, no test before it has done so: both would make the same.
    gke.pulumi(*DESTROY)
    configs = split("gke")
    stacks = [Stack(control_plane, name, write_stack_file(tmp_path, name, configs[name])) for name in configs]
    together: dict[tuple[str, str], tuple[str, Any]] = {}
    try:
        for stack in stacks:
            stack.pulumi(*UP)
            together |= graph(stack.resources())
        assert together == gke_graph
    finally:
        for stack in reversed(stacks):
            stack.pulumi(*DESTROY)
