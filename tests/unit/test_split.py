"""One stack or several: the same graph, and each stack loads only what it needs."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from settings import Layer
from tests.unit.conftest import CHECKOUT, on_site, part, stack_file
from tests.unit.fake_vault import TOKEN
from tests.unit.program import UPSTREAM, Program, Registered, run

SPLIT: Mapping[str, Mapping[str, tuple[Layer, ...]]] = {
    "dev": {
        "base": ("cluster", "gateway_pool", "authority"),
        "mesh": ("mesh",),
        "edge": ("ingress", "edge"),
        "out": ("egress",),
        "tenants": ("teams", "workload_identity"),
        "outside": ("external",),
        "books": ("bookinfo",),
        "labs": ("standalone_envoy", "sidecar", "rate_limit", "peer_authentication", "observability"),
    },
    "gke": {
        "network": ("network",),
        "cluster": ("cluster",),
        "pool": ("gateway_pool",),
        "mesh": ("authority", "mesh"),
        "egress": ("egress",),
        "teams": ("teams",),
        "identity": ("workload_identity",),
    },
    "eks": {
        "network": ("network",),
        "cluster": ("cluster",),
        "pool": ("gateway_pool",),
        "mesh": ("authority", "mesh"),
        "out": ("egress", "teams"),
        "edge": ("edge",),
        "outside": ("external",),
    },
}
"""By environment: the layers by the stack that holds them, in the order in which they are built."""


def holders(environment: str) -> dict[Layer, str]:
    """The stack that holds a layer."""
    return {layer: stack for stack, layers in SPLIT[environment].items() for layer in layers}


@dataclass(frozen=True)
class Split:
    """The same settings, run as one stack and as several."""

    environment: str
    config: dict[str, Any]
    whole: Program
    parts: dict[str, Program]


@pytest.fixture(scope="module", params=SPLIT)
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Split:
    environment = str(request.param)
    with on_site("dev", tmp_path_factory.mktemp("split")) as dev:
        config = dev if environment == "dev" else stack_file(environment)
        # protect as in production, so that it is compared too.
        config |= {"protect": True}
        whole = run(config)
        parts: dict[str, Program] = {}
        for stack, layers in SPLIT[environment].items():
            upstream = {name: program.outputs for name, program in parts.items()}
            secrets = {name for program in parts.values() for name in program.secret_outputs}
            own = part(config, layers, holders(environment))
            parts[stack] = run(own, stack=stack, references=upstream, secret_outputs=secrets)
    return Split(environment, config, whole, parts)


def graph(*programs: Program) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Everything but what each stack has for itself: its providers and its references."""
    resources = [
        resource
        for program in programs
        for resource in program.resources
        if not resource.type.startswith(("pulumi:providers:", "pulumi:pulumi:StackReference"))
    ]
    found = {
        (resource.type, resource.name): (
            resource.parent,
            resource.inputs,
            resource.secrets,
            resource.protect,
            resource.read,
            resource.provider,
            resource.ignored,
            resource.create_timeout,
        )
        for resource in resources
    }
    assert len(found) == len(resources), "two stacks make the same resource"
    return found


def test_one_stack_and_several_give_the_same_graph(split: Split) -> None:
    whole, parts = graph(split.whole), graph(*split.parts.values())
    assert parts.keys() == whole.keys()
    assert [name for name in whole if parts[name] != whole[name]] == []
    # It is the graph that is compared, not two empty ones.
    assert len(whole) > 60


def test_one_stack_and_several_hand_on_the_same(split: Split) -> None:
    parts = {name: value for program in split.parts.values() for name, value in program.outputs.items()}
    assert parts == split.whole.outputs
    assert {name for program in split.parts.values() for name in program.secret_outputs} == {"cluster_kubeconfig"}


def test_every_provider_is_the_same(split: Split) -> None:
    """In each stack that has one."""
    found: dict[str, list[Registered]] = {}
    for program in (split.whole, *split.parts.values()):
        for provider in program.resources:
            if provider.type.startswith("pulumi:providers:"):
                found.setdefault(provider.name, []).append(provider)
    secrets = {
        "dev-kubernetes": {"kubeconfig"},
        "dev-vault": set(),
        "gke-kubernetes": {"kubeconfig"},
        "gke-gcp": set(),
        "eks-kubernetes": {"kubeconfig"},
        "eks-cluster-kubernetes": {"kubeconfig"},
        "eks-aws": set(),
    }
    assert set(found) == {name for name in secrets if name.startswith(split.environment)}
    for name, providers in found.items():
        # That within the EKS cluster is in the one stack and in the cluster's, Vault's in the authority's.
        assert len(providers) > 3 or (name in ("eks-cluster-kubernetes", "dev-vault") and len(providers) == 2)
        assert len({json.dumps(provider.inputs, sort_keys=True) for provider in providers}) == 1
        assert {frozenset(provider.secrets) for provider in providers} == {frozenset(secrets[name])}


TOPS = {
    "dev": {
        "base": {"dev-cluster", "dev-gateway-pool", "dev-authority", "dev-authority-vault"},
        "mesh": {"dev-mesh"},
        "edge": {"dev-ingress", "dev-edge"},
        "out": {"dev-egress-admission", "dev-egress-gateway"},
        "outside": {"dev-external"},
        "books": {"dev-bookinfo"},
        "labs": {
            "dev-standalone-envoy",
            "dev-sidecar",
            "dev-rate-limit",
            "dev-peer-authentication",
            "dev-observability",
        },
        "tenants": {
            *(f"dev-teams-team-{team}" for team in "xyz"),
            "dev-teams-credential-internet",
            "dev-teams-credential-internet-client",
            "dev-workload-identity",
        },
    },
    "gke": {
        "network": {"gke-network"},
        "cluster": {"gke-cluster"},
        "pool": {"gke-gateway-pool"},
        "mesh": {"gke-authority", "gke-mesh"},
        "egress": {"gke-egress-admission", "gke-egress-gateway"},
        "teams": {"gke-teams-team-x", "gke-teams-team-y"},
        "identity": {"gke-workload-identity"},
    },
    "eks": {
        "network": {"eks-network"},
        "cluster": {"eks-cluster"},
        "pool": {"eks-gateway-pool"},
        "mesh": {"eks-authority", "eks-mesh"},
        "out": {"eks-egress-admission", "eks-egress-gateway", "eks-teams-team-x"},
        "edge": {"eks-edge"},
        "outside": {"eks-external"},
    },
}


def test_each_stack_makes_its_own_layers(split: Split) -> None:
    tops = {
        stack: {resource.name for resource in program.resources if not resource.parent and resource.type[:5] == "meshg"}
        for stack, program in split.parts.items()
    }
    assert tops == TOPS[split.environment]


REFERENCES = {
    "dev": {
        "base": [],
        "mesh": ["base"],
        "edge": ["base", "mesh"],
        "out": ["base", "mesh"],
        "tenants": ["base", "mesh", "out"],
        "outside": ["base", "mesh"],
        "books": ["base", "mesh"],
        "labs": ["base", "mesh"],
    },
    "gke": {
        "network": [],
        "cluster": ["network"],
        "pool": ["cluster", "network"],
        "mesh": ["cluster"],
        "egress": ["cluster", "mesh", "pool"],
        "teams": ["cluster", "egress", "mesh"],
        "identity": ["cluster", "teams"],
    },
    "eks": {
        "network": [],
        "cluster": ["network"],
        "pool": ["cluster", "network"],
        "mesh": ["cluster"],
        "out": ["cluster", "mesh", "pool"],
        "edge": ["cluster", "mesh", "network"],
        "outside": ["cluster", "mesh"],
    },
}


def test_a_stack_is_referenced_once(split: Split) -> None:
    references = {
        stack: sorted(resource.inputs["id"] for resource in program.of(":StackReference"))
        for stack, program in split.parts.items()
    }
    assert references == REFERENCES[split.environment]
    assert split.whole.of(":StackReference") == []


CHANGES: Mapping[str, tuple[str, tuple[str, ...], Any, str]] = {
    "dev": ("edge", ("ingress", "gateways", "simple", "resources", "cpu"), "30m", "dev-ingress-simple-release"),
    "gke": ("pool", ("gateway_pool", "machineType"), "e2-standard-8", "gke-gateway-pool-nodes"),
    "eks": ("pool", ("gateway_pool", "disk"), 100, "eks-gateway-pool-group-template"),
}


def test_a_changed_value_would_be_seen(split: Split) -> None:
    """The comparison can fail: another size of one gateway, or of its nodes, is another graph."""
    stack, (*path, last), value, changed = CHANGES[split.environment]
    config = copy.deepcopy(part(split.config, SPLIT[split.environment][stack], holders(split.environment)))
    at: Any = config
    for key in path:
        at = at[key]
    at[last] = value
    upstream = {name: program.outputs for name, program in split.parts.items()}
    other = run(config, stack=stack, references=upstream, secret_outputs={"cluster_kubeconfig"})
    whole, parts = graph(split.whole), graph(*(split.parts | {stack: other}).values())
    assert [name for _, name in whole if parts[_, name] != whole[_, name]] == [changed]


# What a stack loads

LOADED = {
    "dev": {"pulumi_kubernetes", "pulumi_tls", "pulumi_vault", "hvac", "lightkube"},
    "dev cluster": {"pulumi_kubernetes", "lightkube"},
    "dev mesh": {"pulumi_kubernetes"},
    "dev tenants": {"pulumi_kubernetes"},
    "gke cluster": {"pulumi_kubernetes", "pulumi_gcp"},
    "gke mesh": {"pulumi_kubernetes", "pulumi_tls"},
    "gke identity": {"pulumi_kubernetes", "pulumi_gcp"},
    "eks cluster": {"pulumi_kubernetes", "pulumi_aws"},
    "eks outside": {"pulumi_kubernetes"},
}
"""Those of each stack; each takes seconds, so not every stack is here."""

SDKS = ("pulumi_kubernetes", "pulumi_tls", "pulumi_vault", "pulumi_gcp", "pulumi_aws", "hvac", "lightkube")

SCRIPT = f"""
import json, sys
from tests.unit.program import run
config, references = json.load(sys.stdin)
run(config, references=references)
print(json.dumps([name for name in {SDKS!r} if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The SDKs in memory after a run of each stack in a process of its own."""
    with on_site("dev", tmp_path_factory.mktemp("loaded")) as dev:
        configs = {"dev": dev, "gke": stack_file("gke"), "eks": stack_file("eks")}
        stacks = {"dev": dev, "dev cluster": part(dev, ["cluster"], "base")}
        for stack in LOADED:
            environment, _, name = stack.partition(" ")
            if stack not in stacks:
                stacks[stack] = part(configs[environment], SPLIT[environment][name], "base")
        processes = {stack: _started() for stack in stacks}
        return {stack: _sdks(process, [stacks[stack], {"base": UPSTREAM}]) for stack, process in processes.items()}


def _started() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=CHECKOUT,
        env={"PYTHONPATH": str(CHECKOUT), "VAULT_TOKEN": TOKEN},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _sdks(process: subprocess.Popen[str], given: list[Any]) -> set[str]:
    output, _ = process.communicate(json.dumps(given), timeout=300)
    assert process.returncode == 0
    return set(json.loads(output))


@pytest.mark.parametrize("stack", LOADED)
def test_a_stack_loads_only_what_it_needs(loaded: dict[str, set[str]], stack: str) -> None:
    assert loaded[stack] == LOADED[stack]
