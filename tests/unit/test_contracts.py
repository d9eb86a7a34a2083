"""What one layer hands the next, within a stack's outputs and out of them again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

import pulumi
import pytest

from stacks.contracts import (
    Authority,
    Cluster,
    Contract,
    ContractError,
    Egress,
    GatewayPool,
    Ingress,
    Mesh,
    Teams,
    WorkloadIdentity,
)
from tests.unit.program import Program, run

CONTRACTS: list[type[Contract]] = [
    Cluster,
    GatewayPool,
    Authority,
    Mesh,
    Egress,
    Teams,
    WorkloadIdentity,
    Ingress,
]

GATEWAYS = {"simple": {"address": "203.0.113.100", "http_port": 80, "https_port": 443}}


class Reference:
    """As much of a StackReference as a contract reads."""

    def __init__(self, outputs: Mapping[str, Any], secret: tuple[str, ...] = ()) -> None:
        self.outputs, self.secret = outputs, secret

    def get_output(self, name: str) -> pulumi.Output[Any]:
        value = self.outputs.get(name)
        return pulumi.Output.secret(value) if name in self.secret else pulumi.Output.from_input(value)


def from_stack(contract: type[Contract], outputs: Mapping[str, Any], secret: tuple[str, ...] = ()) -> Contract:
    return contract.from_stack(cast(pulumi.StackReference, Reference(outputs, secret)), "prod")


def outputs_of(program: Program, contract: type[Contract]) -> dict[str, Any]:
    prefix = f"{contract.LAYER}_"
    return {name: value for name, value in program.outputs.items() if name.startswith(prefix)}


@pytest.mark.parametrize("contract", CONTRACTS)
def test_stack_outputs_are_the_fields_and_the_version(dev_program: Program, contract: type[Contract]) -> None:
    names = {f"{contract.LAYER}_{field.name}" for field in fields(contract)}
    assert set(outputs_of(dev_program, contract)) == names | {f"{contract.LAYER}_contract"}
    assert dev_program.outputs[f"{contract.LAYER}_contract"] == contract.VERSION


@pytest.mark.parametrize("contract", CONTRACTS)
def test_plain_values_of_what_is_exported(dev_program: Program, contract: type[Contract]) -> None:
    """What `pulumi stack output --json` gives; numbers stay whole."""
    values = contract.values(dev_program.outputs, "dev")
    assert values == {field.name: dev_program.outputs[f"{contract.LAYER}_{field.name}"] for field in fields(contract)}
    if contract is Ingress:
        assert values["gateways"]["mutual"] == {"address": "203.0.113.3", "http_port": 80, "https_port": 443}
        assert type(values["gateways"]["mutual"]["http_port"]) is int


@pulumi.runtime.test  # type: ignore[untyped-decorator]
def test_round_trip_keeps_values_and_secrets() -> pulumi.Output[Any]:
    outputs = {
        "cluster_contract": 1,
        "cluster_identifier": "prod",
        "cluster_kubeconfig": "kind: Config",
        "cluster_pod_cidr": "10.1.0.0/16",
        "cluster_service_cidr": "10.2.0.0/20",
        "cluster_name": "cluster1",
        "cluster_location": "",
    }
    contract = from_stack(Cluster, outputs, secret=("cluster_kubeconfig",))
    read = {field.name: getattr(contract, field.name) for field in fields(contract)}

    def check(values: dict[str, Any]) -> None:
        plain, secrets = values["plain"], values["secrets"]
        assert {f"cluster_{name}": value for name, value in plain.items()} | {"cluster_contract": 1} == outputs
        assert [name for name, secret in secrets.items() if secret] == ["kubeconfig"]
        assert secrets.keys() == plain.keys()

    secrets = {name: output.is_secret() for name, output in read.items()}
    return pulumi.Output.all(plain=pulumi.Output.all(**read), secrets=secrets).apply(check)


@pulumi.runtime.test  # type: ignore[untyped-decorator]
def test_round_trip_of_mappings() -> pulumi.Output[Any]:
    """Numbers that went through JSON elsewhere are whole numbers again."""
    outputs = {
        "ingress_contract": 1,
        "ingress_gateways": GATEWAYS,
        "ingress_root_certificates": {"webapp": "<root>"},
        "ingress_balancers": {},
    }
    contract = cast(Ingress, from_stack(Ingress, outputs))

    def check(values: list[Any]) -> None:
        assert values == [GATEWAYS, {"webapp": "<root>"}]

    return pulumi.Output.all(contract.gateways, contract.root_certificates).apply(check)


MESH = {
    "mesh_contract": 1,
    "mesh_namespace": "istio-system",
    "mesh_revision_tag": "stable",
    "mesh_revision": "1-31-1",
    "mesh_moved": {},
    "mesh_trust_domain": "a.b",
    "mesh_control_plane_cidrs": [],
}
INGRESS = {
    "ingress_contract": 1,
    "ingress_gateways": GATEWAYS,
    "ingress_root_certificates": {},
    "ingress_balancers": {},
}
REPAIR = "so run `pulumi up` on 'prod' with this program's version"


@pytest.mark.parametrize(
    ("contract", "outputs", "change", "message"),
    [
        (
            Mesh,
            MESH,
            {"mesh_revision_tag": None},
            "stack 'prod' has no output 'mesh_revision_tag': its layers should include 'mesh'; "
            "add it there and run `pulumi up` on it, or name another stack under meshgate:upstream",
        ),
        (
            Mesh,
            MESH,
            {"mesh_contract": None},
            "stack 'prod' has no output 'mesh_contract': its layers should include 'mesh'; "
            "add it there and run `pulumi up` on it, or name another stack under meshgate:upstream",
        ),
        (
            Mesh,
            MESH,
            {"mesh_contract": 2},
            "stack 'prod' exports version 2 of the contract of layer 'mesh', this program reads 1: "
            "run `pulumi up` on 'prod' with this program's version",
        ),
        (
            Mesh,
            MESH,
            {"mesh_trust_domain": 5},
            "stack 'prod', output 'mesh_trust_domain': input should be a valid string; "
            f"layer 'mesh' exports it, {REPAIR}",
        ),
        (
            Mesh,
            {},
            {"withheld": ["mesh", "ingress"], "authority_contract": 2},
            "stack 'prod' withholds the layer 'mesh' until its mesh CA has a signed chain: sign its request, put the "
            "chain into its configuration and run `pulumi up` on 'prod'",
        ),
        (
            Ingress,
            INGRESS,
            {"ingress_gateways": {"simple": {**GATEWAYS["simple"], "https_port": "443"}}},
            "stack 'prod', output 'ingress_gateways'['simple']['https_port']: input should be a valid integer; "
            f"layer 'ingress' exports it, {REPAIR}",
        ),
        (
            Ingress,
            INGRESS,
            {"ingress_gateways": {"simple": {"address": "203.0.113.100", "http_port": 80}}},
            "stack 'prod', output 'ingress_gateways'['simple']['https_port']: field required; "
            f"layer 'ingress' exports it, {REPAIR}",
        ),
        (
            Ingress,
            INGRESS,
            {"ingress_root_certificates": ["<root>"]},
            "stack 'prod', output 'ingress_root_certificates': input should be a valid dictionary; "
            f"layer 'ingress' exports it, {REPAIR}",
        ),
    ],
)
def test_what_cannot_be_read(
    contract: type[Contract], outputs: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    """The error names the stack, the output and the layer, for a program with an engine and without one."""
    wrong = {name: value for name, value in {**outputs, **change}.items() if value is not None}
    with pytest.raises(ContractError) as error:
        contract.values(wrong, "prod")
    assert str(error.value) == message

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def read() -> pulumi.Output[Any]:
        read = from_stack(contract, wrong)
        return pulumi.Output.all(*(getattr(read, field.name) for field in fields(contract)))

    with pytest.raises(ContractError, match=re.escape(message)):
        read()


def test_error_ends_the_program_without_a_traceback() -> None:
    """The language host prints a RunError's text alone."""
    assert issubclass(ContractError, pulumi.RunError)


def test_program_that_reads_a_stack_without_the_layer(dev_config: dict[str, Any]) -> None:
    config = {"name": "dev", "layers": ["mesh"], "mesh": dev_config["mesh"], "upstream": {}}
    config["upstream"] = dict.fromkeys(("cluster", "authority"), "base")
    with pytest.raises(ContractError, match=r"stack 'base' has no output '(cluster|authority)_contract'"):
        run(config, references={"base": {}})


def test_secret_kubeconfig_stays_secret_in_the_next_stack(dev_program: Program, dev_config: dict[str, Any]) -> None:
    config = {
        "name": "dev",
        "layers": ["mesh"],
        "mesh": dev_config["mesh"],
        "upstream": {"cluster": "base", "authority": "base"},
    }
    program = run(config, references={"base": dev_program.outputs}, secret_outputs=dev_program.secret_outputs)
    assert program.one("dev-kubernetes").secrets == {"kubeconfig"}
    assert program.secret_outputs == set()


@pytest.mark.parametrize("contract", CONTRACTS)
def test_no_private_key(dev_program: Program, contract: type[Contract]) -> None:
    names = {field.name for field in fields(contract)}
    assert not any("key" in name or "private" in name for name in names)
    # The mocks' private keys say what they are.
    assert "<key " not in str(outputs_of(dev_program, contract))


def test_mocked_keys_would_be_seen(dev_program: Program) -> None:
    assert "<key dev-authority-2026-key>" in str(dev_program.one("dev-authority-cacerts").inputs)
