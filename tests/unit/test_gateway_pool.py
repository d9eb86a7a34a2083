"""The egress gateway's nodes (row G1): a pool in GKE, or nodes that exist."""

from __future__ import annotations

from typing import Any

import pytest

from settings import SettingsError, load
from tests.unit.conftest import part
from tests.unit.program import UPSTREAM, Program, run


def test_every_value_of_the_pool(gke_program: Program) -> None:
    pool = gke_program.one("gke-gateway-pool-nodes")
    application = gke_program.one("gke-cluster-application").inputs
    assert pool.inputs == {
        **application,
        "name": "gateway",
        "nodeConfig": {
            **application["nodeConfig"],
            "serviceAccount": "sa-gateway-nodes@my-project.iam.gserviceaccount.com",
            "taints": [{"key": "dedicated", "value": "gateway", "effect": "NO_SCHEDULE"}],
        },
    }
    assert pool.inputs["nodeConfig"]["machineType"] == "e2-standard-4"
    assert pool.ignored == ("initialNodeCount",)


def test_contract(gke_program: Program) -> None:
    handed = {name: value for name, value in gke_program.outputs.items() if name.startswith("gateway_pool_")}
    assert handed == {
        "gateway_pool_contract": 1,
        "gateway_pool_labels": {"cloud.google.com/gke-nodepool": "gateway"},
        "gateway_pool_taint": {"key": "dedicated", "value": "gateway", "effect": "NoSchedule"},
    }


def test_order(gke_program: Program) -> None:
    """The pool comes after the cluster and the firewall, the gateway's pods after the pool."""
    pool = gke_program.one("gke-gateway-pool-nodes").dependencies
    assert "gke-cluster-cluster" in pool
    firewall = {resource.name for resource in gke_program.of("compute/firewall:Firewall")}
    assert len(firewall) > 8
    assert firewall <= pool
    releases = [release for release in gke_program.of(":Release") if release.name.startswith("gke-egress")]
    assert [release.name for release in releases if "gke-gateway-pool-nodes" not in release.dependencies] == []
    assert releases


def test_a_subnet_of_its_own(gke: dict[str, Any]) -> None:
    config = part(gke, ["gateway_pool"], "base")
    config["gateway_pool"] = {"kind": "gke", "nodes": {"min": 2, "max": 6}, "name": "edge"}
    program = run(config, references={"base": UPSTREAM})
    pool = program.one("gke-gateway-pool-nodes").inputs
    assert pool["networkConfig"] == {
        "enablePrivateNodes": True,
        "subnetwork": "projects/base/regions/europe-west1/subnetworks/gateway",
        "podRange": "gateway-pods",
    }
    assert (pool["cluster"], pool["location"]) == ("cluster9", "europe-west1")
    assert pool["nodeConfig"]["serviceAccount"] == "gw-nodes@base.iam.gserviceaccount.com"
    assert pool["nodeConfig"]["taints"] == [{"key": "dedicated", "value": "gateway", "effect": "NO_SCHEDULE"}]
    assert (pool["initialNodeCount"], pool["autoscaling"]) == (2, {"minNodeCount": 2, "maxNodeCount": 6})
    assert program.outputs["gateway_pool_labels"] == {"cloud.google.com/gke-nodepool": "edge"}


@pytest.mark.parametrize(("effect", "called"), [("NoSchedule", "NO_SCHEDULE"), ("NoExecute", "NO_EXECUTE")])
def test_effects_as_gke_calls_them(gke: dict[str, Any], effect: str, called: str) -> None:
    config = part(gke, ["gateway_pool"], "base")
    config["gateway_pool"]["taint"] = {"key": "pool", "value": "edge", "effect": effect}
    program = run(config, references={"base": UPSTREAM})
    pool = program.one("gke-gateway-pool-nodes").inputs
    assert pool["nodeConfig"]["taints"] == [{"key": "pool", "value": "edge", "effect": called}]
    assert program.outputs["gateway_pool_taint"] == {"key": "pool", "value": "edge", "effect": effect}


def test_nodes_that_exist(dev_program: Program) -> None:
    handed = {name: value for name, value in dev_program.outputs.items() if name.startswith("gateway_pool_")}
    assert handed == {
        "gateway_pool_contract": 1,
        "gateway_pool_labels": {"cloud.google.com/gke-nodepool": "gateway"},
        "gateway_pool_taint": {"key": "dedicated", "value": "gateway", "effect": "NoSchedule"},
    }
    assert [one.name for one in dev_program.resources if one.parent == "dev-gateway-pool"] == []


# Settings


def said(config: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by key."""
    with pytest.raises(SettingsError) as error:
        load(config)
    return {problem.key: problem.message for problem in error.value.problems}


def test_existing_nodes_are_those_that_the_preflight_looks_at(dev_config: dict[str, Any]) -> None:
    dev_config["gateway_pool"]["labels"] = {"pool": "gateway"}
    assert said(dev_config) == {
        "gateway_pool.labels": "are pool=gateway, those of no pool under cluster.nodePools (there: application: "
        "cloud.google.com/gke-nodepool=application; open: cloud.google.com/gke-nodepool=open; gateway: "
        "cloud.google.com/gke-nodepool=gateway)"
    }
    dev_config["gateway_pool"]["labels"] = {"cloud.google.com/gke-nodepool": "application"}
    assert said(dev_config) == {
        "gateway_pool.taint": "is dedicated=gateway:NoSchedule, which cluster.nodePools does not have for "
        "'application'; its nodes need it, for nothing else to run there"
    }


@pytest.mark.parametrize("kind", ["gke", "onprem"])
def test_taint_that_keeps_nobody_off(gke: dict[str, Any], kind: str) -> None:
    config = part(gke, ["gateway_pool"], "base")
    labels = {"labels": {"pool": "edge"}} if kind == "onprem" else {}
    config["gateway_pool"] = {"kind": kind, **labels, "taint": {"key": "pool", "effect": "PreferNoSchedule"}}
    config["upstream"] = {layer: "base" for layer in ("network", "cluster") if kind == "gke" or layer == "cluster"}
    assert said(config) == {
        "gateway_pool.taint.effect": "is PreferNoSchedule, which keeps nobody off the gateway's nodes; "
        "use NoSchedule or NoExecute"
    }


def test_kind_fits_the_cluster(gke: dict[str, Any], dev_config: dict[str, Any]) -> None:
    gke["gateway_pool"], dev_config["gateway_pool"] = dev_config["gateway_pool"], {"kind": "gke"}
    assert said(gke)["gateway_pool.kind"] == "is onprem, but the cluster is of the kind gke; use gke"
    assert said(dev_config)["gateway_pool.kind"] == "is gke, but the cluster is of the kind onprem; use onprem"
