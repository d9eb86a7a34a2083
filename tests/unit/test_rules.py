"""Rules of the design that hold for every resource of every layer."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.unit import sdk
from tests.unit.program import Program

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def program(dev_program: Program) -> Program:
    return dev_program


def test_inputs_are_what_the_sdk_asks_for(program: Program) -> None:
    wrong = [
        problem
        for resource in program.resources
        if not resource.read and not resource.type.startswith("meshgate:")
        for problem in sdk.problems(resource.type, resource.inputs)
    ]
    assert wrong == []


def test_components_register_their_outputs(program: Program) -> None:
    components = [resource for resource in program.resources if resource.type.startswith("meshgate:")]
    assert {component.type for component in components} == {
        "meshgate:cluster:OnpremCluster",
        "meshgate:authority:SelfSignedMeshCa",
        "meshgate:authority:PrivateCa",
        "meshgate:mesh:Istio",
        "meshgate:ingress:Ingress",
        "meshgate:ingress:Coolstore",
        "meshgate:ingress:Credential",
        "meshgate:ingress:IngressGateway",
    }
    assert [component.name for component in components if component.outputs is None] == []


def test_resources_have_a_parent(program: Program) -> None:
    at_the_top = {resource.name for resource in program.resources if not resource.parent}
    assert at_the_top == {"dev-cluster", "dev-kubernetes", "dev-authority", "dev-mesh", "dev-ingress"}


def test_kubernetes_resources_use_the_one_provider(program: Program) -> None:
    providers = {resource.provider for resource in program.resources if resource.type.startswith("kubernetes:")}
    assert providers == {"dev-kubernetes"}


def test_names_carry_the_prefix(program: Program) -> None:
    assert [resource.name for resource in program.resources if not resource.name.startswith("dev-")] == []


def test_no_private_key_leaves_in_clear(program: Program) -> None:
    for resource in program.resources:
        for path, value in _leaves(resource.inputs):
            if "<key " in value:
                covered = any(path == secret or path.startswith(f"{secret}.") for secret in resource.secrets)
                assert covered, f"{resource.name}: {path}"


def test_no_private_key_in_a_contract(program: Program) -> None:
    exported = {name: str(value) for name, value in program.outputs.items()}
    assert [name for name, value in exported.items() if "<key " in value] == []
    assert program.secret_outputs == {"cluster_kubeconfig"}


@pytest.mark.parametrize("path", sorted((CHECKOUT / "components").rglob("*.py")), ids=lambda path: path.stem)
def test_source_keeps_the_rules(path: Path) -> None:
    """register_outputs ends every component; nothing is made within an apply; callers' opts are not merged."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(_named(base) == "ComponentResource" for base in node.bases):
            (init,) = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
            assert [argument.arg for argument in init.args.args] == ["self", "name", "args", "opts"]
            last = init.body[-1]
            assert isinstance(last, ast.Expr), f"{node.name} does not end with register_outputs"
            assert isinstance(last.value, ast.Call), f"{node.name} does not end with register_outputs"
            assert _named(last.value.func) == "register_outputs", f"{node.name} does not end with register_outputs"
        if isinstance(node, ast.Call) and _named(node.func) == "apply":
            made = [_named(call.func) for call in ast.walk(node.args[0]) if isinstance(call, ast.Call)]
            assert [name for name in made if name[:1].isupper()] == [], f"{path.name}:{node.lineno} makes in an apply"
        if isinstance(node, ast.Call) and _named(node.func) == "merge":
            pytest.fail(f"{path.name}:{node.lineno} merges options")


def _named(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{path}.{key}" if path else key)]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, f"{path}[{index}]")]
    return [(path, str(value))]
