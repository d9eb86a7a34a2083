"""Rules of the design that hold for every resource of every layer."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.unit import sdk
from tests.unit.program import Program

CHECKOUT = Path(__file__).parents[2]


COMMON = {
    "meshgate:mesh:Istio",
    "meshgate:egress:TeamAdmission",
    "meshgate:egress:EgressGateway",
    "meshgate:teams:Team",
}
SELF_SIGNED = {"meshgate:authority:SelfSignedMeshCa", "meshgate:authority:PrivateCa"}
HSM = {
    "meshgate:authority:HsmMeshCa",
    "meshgate:authority:HsmCredential",
    "meshgate:authority:TokenReviewer",
    # Of the gateways' certificates.
    "meshgate:authority:PrivateCa",
}
ONPREM = {
    "meshgate:cluster:OnpremCluster",
    "meshgate:gateway_pool:OnpremGatewayPool",
    "meshgate:ingress:Ingress",
    "meshgate:ingress:Coolstore",
    "meshgate:ingress:Credential",
    "meshgate:ingress:IngressGateway",
}
EDGE = {
    "meshgate:edge:Edge",
    "meshgate:edge:EdgeDemo",
    "meshgate:edge:NlbGateway",
    "meshgate:ingress:Credential",
    "meshgate:external:External",
    "meshgate:external:Squid",
}
LABS = {
    "meshgate:bookinfo:Bookinfo",
    "meshgate:mesh:HttpGateway",
    "meshgate:observability:Jaeger",
    "meshgate:observability:Observability",
    "meshgate:observability:Prometheus",
    "meshgate:peer_authentication:PeerAuthentication",
    "meshgate:rate_limit:RateLimit",
    "meshgate:rate_limit:Redis",
    "meshgate:rate_limit:Service",
    "meshgate:sidecar:Sidecar",
    "meshgate:sidecar:WebServer",
    "meshgate:standalone_envoy:StandaloneEnvoy",
}
COMPONENTS = {
    "dev": COMMON
    | HSM
    | ONPREM
    | EDGE
    | LABS
    | {"meshgate:teams:Credential", "meshgate:workload_identity:ExistingWorkloadIdentity"},
    "onprem": COMMON | HSM | ONPREM,
    "gke": COMMON
    | SELF_SIGNED
    | {
        "meshgate:network:GkeNetwork",
        "meshgate:network:ProjectApis",
        "meshgate:network:CloudNat",
        "meshgate:network:NodeAccounts",
        "meshgate:network:VpcFirewall",
        "meshgate:network:GooglePrivateDns",
        "meshgate:network:ImageMirrors",
        "meshgate:cluster:GkeCluster",
        "meshgate:gateway_pool:GkeGatewayPool",
        "meshgate:workload_identity:GkeWorkloadIdentity",
    },
    "eks": COMMON
    | SELF_SIGNED
    | EDGE
    | {
        "meshgate:network:EksNetwork",
        "meshgate:network:EksSubnets",
        "meshgate:network:EksSecurityGroups",
        "meshgate:network:EksEndpoints",
        "meshgate:network:EksFlowLogs",
        "meshgate:network:HostedZones",
        "meshgate:network:EcrMirrors",
        "meshgate:cluster:EksCluster",
        "meshgate:cluster:EksNodeGroup",
        "meshgate:cluster:LoadBalancerController",
        "meshgate:gateway_pool:EksGatewayPool",
        "meshgate:edge:AcmCertificates",
        "meshgate:edge:BalancerRecords",
    },
}
"""Every component that an environment has. gke's mesh is istiod; the managed one is in test_mesh_managed."""


PRIVATE_KEYS = ("<key ", "PRIVATE KEY")
"""Those that the program makes, and those that it reads from files."""


@pytest.fixture(params=COMPONENTS)
def environment(request: pytest.FixtureRequest) -> str:
    """Each environment in turn."""
    return str(request.param)


@pytest.fixture
def program(environment: str, request: pytest.FixtureRequest) -> Program:
    """What the environment registers."""
    program = request.getfixturevalue(f"{environment}_program")
    assert isinstance(program, Program)
    return program


def test_inputs_are_what_the_sdk_asks_for(program: Program) -> None:
    wrong = [
        problem
        for resource in program.resources
        if not resource.read and not resource.type.startswith("meshgate:")
        for problem in sdk.problems(resource.type, resource.inputs)
    ]
    assert wrong == []


def test_components_register_their_outputs(program: Program, environment: str) -> None:
    components = [resource for resource in program.resources if resource.type.startswith("meshgate:")]
    assert {component.type for component in components} == COMPONENTS[environment]
    assert [component.name for component in components if component.outputs is None] == []


def test_resources_have_a_parent(program: Program) -> None:
    """At the top are components and providers alone."""
    at_the_top = [resource for resource in program.resources if not resource.parent]
    assert [one.name for one in at_the_top if not one.type.startswith(("meshgate:", "pulumi:providers:"))] == []


def test_resources_use_the_one_provider(program: Program, environment: str) -> None:
    providers = {
        cloud: {resource.provider for resource in program.resources if resource.type.startswith(f"{cloud}:")}
        for cloud in ("kubernetes", "vault", "gcp", "aws")
    }
    # What makes an EKS cluster one that can be used comes before its contract, and so before the one provider.
    within = {"eks-cluster-kubernetes"} if environment == "eks" else set()
    assert providers["kubernetes"] == {f"{environment}-kubernetes"} | within
    assert {resource.name for resource in program.resources if resource.provider in within} == (
        {"eks-cluster-load-balancers-release"} if within else set()
    )
    assert providers["vault"] == ({f"{environment}-vault"} if environment in ("dev", "onprem") else set())
    assert providers["gcp"] == ({"gke-gcp"} if environment == "gke" else set())
    assert providers["aws"] == ({"eks-aws"} if environment == "eks" else set())


def test_names_carry_the_prefix(program: Program, environment: str) -> None:
    assert [one.name for one in program.resources if not one.name.startswith(f"{environment}-")] == []


def test_no_private_key_leaves_in_clear(program: Program) -> None:
    for resource in program.resources:
        for path, value in _leaves(resource.inputs):
            if any(mark in value for mark in PRIVATE_KEYS):
                covered = any(path == secret or path.startswith(f"{secret}.") for secret in resource.secrets)
                assert covered, f"{resource.name}: {path}"


def test_no_private_key_in_a_contract(program: Program) -> None:
    exported = {name: str(value) for name, value in program.outputs.items()}
    assert [name for name, value in exported.items() if any(mark in value for mark in PRIVATE_KEYS)] == []
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
