"""The egress gateway's nodes in EKS (row G1): every value, the order, the contract."""

from __future__ import annotations

from typing import Any

import pytest

from components.cluster.eks_nodes import ZoneError
from settings import load
from tests.unit import sdk
from tests.unit.eks_layers import CONFIG, UPSTREAM, config, made, said, statements
from tests.unit.program import Program, run

NODES = "eks-gateway-pool-group-nodes"
CLUSTER_NODES = "eks-cluster-application-nodes"


@pytest.fixture(scope="module")
def program() -> Program:
    """The layer as it is by default."""
    return made("gateway_pool")


@pytest.fixture(scope="module")
def both() -> Program:
    """Cluster and pool in one stack."""
    configuration = {**CONFIG, "layers": ["cluster", "gateway_pool"], "upstream": {"network": "base"}}
    return run(configuration, stack="eks", references={"base": UPSTREAM})


def test_every_value_of_the_nodes(program: Program) -> None:
    nodes = program.one(NODES)
    assert nodes.inputs == {
        "clusterName": "cluster9",
        "nodeGroupName": "gateway",
        "nodeRoleArn": "<arn eks-gateway-pool-group-role>",
        "subnetIds": ["subnet-private-a", "subnet-private-b"],
        "version": "1.34",
        "amiType": "AL2023_x86_64_STANDARD",
        "instanceTypes": ["m6i.large"],
        "capacityType": "ON_DEMAND",
        "launchTemplate": {"id": "eks-gateway-pool-group-template-id", "version": "3"},
        "scalingConfig": {"minSize": 2, "maxSize": 4, "desiredSize": 2},
        "updateConfig": {"maxUnavailable": 1},
        "nodeRepairConfig": {"enabled": True},
        "taints": [{"key": "dedicated", "value": "gateway", "effect": "NO_SCHEDULE"}],
    }
    assert nodes.ignored == ("scalingConfig.desiredSize",)


def test_what_tells_them_from_application_nodes(both: Program) -> None:
    """The taint, the security group that has a way out, and a role of their own; nothing else."""
    pool, application = both.one(NODES).inputs, both.one(CLUSTER_NODES).inputs
    assert {key for key in pool if pool[key] != application.get(key)} == {
        "nodeGroupName",
        "nodeRoleArn",
        "launchTemplate",
        "taints",
    }
    template = both.one("eks-gateway-pool-group-template").inputs
    other = both.one("eks-cluster-application-template").inputs
    assert {key for key in template if template[key] != other[key]} == {
        "description",
        "vpcSecurityGroupIds",
        "tagSpecifications",
    }
    assert (template["vpcSecurityGroupIds"], other["vpcSecurityGroupIds"]) == (["sg-gw"], ["sg-app"])
    assert {one["tags"]["Name"] for one in template["tagSpecifications"]} == {"eks-gateway"}
    roles = both.one("eks-gateway-pool-group-role"), both.one("eks-cluster-application-role")
    assert statements(roles[0], "assumeRolePolicy") == statements(roles[1], "assumeRolePolicy")


def test_policies_of_the_role(program: Program) -> None:
    attached = {
        one.inputs["policyArn"]: one.inputs["role"]
        for one in program.of("iam/rolePolicyAttachment:RolePolicyAttachment")
    }
    assert attached == {
        "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy": "eks-gateway-pool-group-role-name",
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly": "eks-gateway-pool-group-role-name",
    }


def test_order(both: Program) -> None:
    """The pool comes after what its nodes need to get ready, and not after the application nodes."""
    before = both.one(NODES).dependencies
    assert {
        "eks-cluster-add-on-vpc-cni",
        "eks-cluster-add-on-kube-proxy",
        "eks-cluster-add-on-eks-pod-identity-agent",
        "eks-gateway-pool-group-role-AmazonEKSWorkerNodePolicy",
        "eks-gateway-pool-group-role-AmazonEC2ContainerRegistryPullOnly",
    } <= before
    assert CLUSTER_NODES not in before


def test_contract(program: Program) -> None:
    assert program.outputs == {
        "gateway_pool_contract": 1,
        "gateway_pool_labels": {"eks.amazonaws.com/nodegroup": "gateway"},
        "gateway_pool_taint": {"key": "dedicated", "value": "gateway", "effect": "NoSchedule"},
    }


def test_further_settings() -> None:
    program = made(
        "gateway_pool",
        name="out",
        version="1.33",
        instanceTypes=["c7gn.large"],
        architecture="arm64",
        nodes={"min": 1, "max": 6},
        zones=["eu-central-1b", "eu-central-1a"],
        taint={"key": "pool", "value": "out", "effect": "NoExecute"},
    )
    nodes = program.one(NODES).inputs
    assert (nodes["nodeGroupName"], nodes["version"], nodes["amiType"]) == ("out", "1.33", "AL2023_ARM_64_STANDARD")
    assert nodes["subnetIds"] == ["subnet-private-b", "subnet-private-a"]
    assert nodes["scalingConfig"] == {"minSize": 1, "maxSize": 6, "desiredSize": 1}
    assert nodes["taints"] == [{"key": "pool", "value": "out", "effect": "NO_EXECUTE"}]
    assert program.outputs["gateway_pool_labels"] == {"eks.amazonaws.com/nodegroup": "out"}
    assert program.outputs["gateway_pool_taint"] == {"key": "pool", "value": "out", "effect": "NoExecute"}


def test_inputs_are_what_the_sdk_asks_for(program: Program) -> None:
    wrong = [
        problem
        for resource in program.resources
        if not resource.read and not resource.type.startswith("meshgate:")
        for problem in sdk.problems(resource.type, resource.inputs)
    ]
    assert wrong == []
    assert {resource.provider for resource in program.resources if resource.type.startswith("aws:")} == {"eks-aws"}


def test_zone_without_subnet_in_another_stack() -> None:
    with pytest.raises(ZoneError) as error:
        made("gateway_pool", zones=["eu-central-1a", "eu-central-1c"])
    assert str(error.value) == (
        "node group 'gateway' is to be in the zone 'eu-central-1c', where the network has no subnet "
        "(it has: eu-central-1a, eu-central-1b); take it out of `zones`, or add it to the network's"
    )


# Settings


def test_defaults_load() -> None:
    load(config("gateway_pool"))


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        (
            {"taint": {"key": "pool", "effect": "PreferNoSchedule"}},
            "taint.effect",
            "is PreferNoSchedule, which keeps nobody off the gateway's nodes; use NoSchedule or NoExecute",
        ),
        ({"nodes": {"min": 3, "max": 2}}, "nodes.min", "is 3, more than max (2)"),
        (
            {"name": "a b"},
            "name",
            "is 'a b'; it must be at most 63 letters, digits, '-' and '_', no '-' or '_' first",
        ),
        ({"disk": 8}, "disk", "is 8; it must be greater than or equal to 20"),
        ({"instanceTypes": []}, "instanceTypes", "is empty; it needs at least one entry"),
        (
            {"zones": ["a"]},
            "zones[0]",
            "is 'a'; it must be an availability zone, for example eu-central-1a",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], key: str, message: str) -> None:
    assert said(config("gateway_pool", **settings)) == {f"gateway_pool.{key}": message}


def test_version_is_needed() -> None:
    configuration = config("gateway_pool")
    del configuration["gateway_pool"]["version"]
    assert said(configuration) == {"gateway_pool.version": "is missing"}
