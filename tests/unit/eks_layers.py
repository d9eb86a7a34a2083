"""The layers `cluster` and `gateway_pool` of the kind eks, each alone, on a network of another stack."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from settings import SettingsError, load
from tests.unit.program import Program, Registered, run

OPERATORS = "arn:aws:iam::123456789012:role/operators"

CONFIG: dict[str, Any] = {
    "name": "eks",
    "protect": False,
    "aws": {"region": "eu-central-1"},
    "cluster": {"kind": "eks", "version": "1.34", "access": [{"principal": OPERATORS}]},
    "gateway_pool": {"kind": "eks", "version": "1.34"},
}

UPSTREAM: dict[str, Any] = {
    "network_contract": 1,
    "network_network": "vpc-1",
    "network_subnets": {
        "public/eu-central-1a": "subnet-public-a",
        "public/eu-central-1b": "subnet-public-b",
        # Not in the order of their names.
        "private/eu-central-1b": "subnet-private-b",
        "private/eu-central-1a": "subnet-private-a",
    },
    "network_ranges": {},
    "network_cidrs": {"vpc": "10.0.0.0/16"},
    "network_node_accounts": {},
    "network_security_groups": {"application": "sg-app", "gateway": "sg-gw", "control_plane": "sg-cp"},
    "network_dns_zones": {},
    "network_image_prefixes": {"public.ecr.aws": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/eks/ecr-public"},
    "cluster_contract": 1,
    "cluster_identifier": "arn:aws:eks:eu-central-1:123456789012:cluster/cluster9",
    "cluster_kubeconfig": "kind: Config",
    "cluster_pod_cidr": "10.0.0.0/16",
    "cluster_service_cidr": "172.20.0.0/16",
    "cluster_name": "cluster9",
    "cluster_location": "eu-central-1",
}


def config(layer: str, **settings: Any) -> dict[str, Any]:
    """The configuration of a stack with this layer alone."""
    base = copy.deepcopy(CONFIG)
    needed = ("network", "cluster") if layer == "gateway_pool" else ("network",)
    return {
        **{key: base[key] for key in ("name", "protect", "aws")},
        "layers": [layer],
        "upstream": dict.fromkeys(needed, "base"),
        layer: {**base[layer], **settings},
    }


def made(layer: str, *, upstream: dict[str, Any] | None = None, **settings: Any) -> Program:
    """What the layer registers with these settings."""
    return run(config(layer, **settings), stack="eks", references={"base": {**UPSTREAM, **(upstream or {})}})


def said(configuration: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by key."""
    with pytest.raises(SettingsError) as error:
        load(configuration)
    return {problem.key: problem.message for problem in error.value.problems}


def statements(resource: Registered, key: str) -> list[dict[str, Any]]:
    """The statements of a policy document among the inputs."""
    document = json.loads(resource.inputs[key])
    assert document["Version"] == "2012-10-17"
    found = document["Statement"]
    assert isinstance(found, list)
    return found
