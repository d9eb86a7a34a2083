"""What a stack makes while its mesh CA waits for a signed chain."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import stacks
from settings import load
from stacks.contracts import ContractError
from tests.unit.program import UPSTREAM, Program, run


def waiting(dev: dict[str, Any]) -> dict[str, Any]:
    """dev without the signed chain."""
    config = copy.deepcopy(dev)
    for generation in config["authority"]["generations"]:
        generation.pop("chain", None)
    return config


@pytest.fixture
def program(dev: dict[str, Any]) -> Program:
    return run(waiting(dev))


def test_mesh_and_what_needs_it_are_not_made(program: Program) -> None:
    tops = {it.name for it in program.resources if not it.parent and it.type.startswith("meshgate:")}
    # What needs no mesh is made.
    assert tops == {
        "dev-cluster",
        "dev-gateway-pool",
        "dev-standalone-envoy",
        "dev-authority",
        "dev-authority-vault",
    }
    assert not program.of(":Release")


def test_outputs_say_what_is_withheld_and_what_is_to_be_signed(program: Program) -> None:
    assert program.outputs["withheld"] == [
        "mesh",
        "egress",
        "teams",
        "workload_identity",
        "ingress",
        "edge",
        "external",
        "sidecar",
        "bookinfo",
        "rate_limit",
        "peer_authentication",
        "observability",
    ]
    assert program.outputs["authority_status"] == "waiting for the signed chain"
    (generation,) = program.outputs["authority_generations"].values()
    assert generation["status"] == "waiting"
    assert generation["request"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert program.outputs["authority_root_certificate"] == ""


def test_operator_is_told_what_to_do(dev: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", said.append)
    run(waiting(dev))
    (line,) = said
    assert "sign the request in the output authority_generations (`python -m authority sign`)" in line
    assert "until then these layers are not made: mesh, egress, teams" in line


def test_nothing_is_withheld_once_there_is_a_chain(dev: dict[str, Any], dev_program: Program) -> None:
    assert stacks.withheld(load(dev)) == ()
    assert dev_program.outputs["authority_status"] == "signed"
    assert "withheld" not in dev_program.outputs


def test_renewal_withholds_nothing(dev: dict[str, Any]) -> None:
    dev["authority"]["generations"].append({"name": "next"})
    assert stacks.withheld(load(dev)) == ()


def test_mesh_of_another_stack_says_that_its_authority_waits(dev: dict[str, Any]) -> None:
    config = {
        "name": "dev",
        "layers": ["mesh"],
        "mesh": dev["mesh"],
        "upstream": {"cluster": "base", "authority": "base"},
    }
    outputs = {**UPSTREAM, "authority_status": "waiting for the signed chain", "authority_root_certificate": ""}
    with pytest.raises(ContractError, match="the mesh CA of stack 'base' is waiting for the signed chain: sign its"):
        run(config, references={"base": outputs})
