"""One stack or several: the same graph, and each stack loads only what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from settings import Layer
from tests.unit.conftest import CHECKOUT, fake_cluster, on_cluster
from tests.unit.program import UPSTREAM, Program, run

SPLIT: Mapping[str, tuple[str, ...]] = {
    "base": ("cluster", "authority"),
    "mesh": ("mesh",),
    "edge": ("ingress",),
}
"""The layers by the stack that holds them."""

NEEDS = {"base": (), "mesh": ("cluster", "authority"), "edge": ("cluster", "mesh")}
HOLDERS = {layer: stack for stack, layers in SPLIT.items() for layer in layers}


def part(config: Mapping[str, Any], stack: str) -> dict[str, Any]:
    """The configuration of one stack of several: the same values, fewer layers."""
    other = {key: value for key, value in config.items() if key not in get_args(Layer)}
    return {
        **other,
        "layers": list(SPLIT[stack]),
        **{layer: config[layer] for layer in SPLIT[stack]},
        "upstream": {layer: HOLDERS[layer] for layer in NEEDS[stack]},
    }


@dataclass(frozen=True)
class Split:
    """The same settings, run as one stack and as several."""

    whole: Program
    parts: dict[str, Program]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    with fake_cluster() as cluster:
        # protect as in production, so that it is compared too.
        config = on_cluster(cluster, tmp_path_factory.mktemp("split")) | {"protect": True}
        whole = run(config)
        parts: dict[str, Program] = {}
        for stack in SPLIT:
            upstream = {name: program.outputs for name, program in parts.items()}
            secrets = {name for program in parts.values() for name in program.secret_outputs}
            parts[stack] = run(part(config, stack), stack=stack, references=upstream, secret_outputs=secrets)
    return Split(whole, parts)


def graph(*programs: Program) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Everything but what each stack has for itself: its provider and its references."""
    resources = [
        resource
        for program in programs
        for resource in program.resources
        if resource.type not in ("pulumi:providers:kubernetes", "pulumi:pulumi:StackReference")
    ]
    found = {
        (resource.type, resource.name): (
            resource.parent,
            resource.inputs,
            resource.secrets,
            resource.protect,
            resource.read,
            resource.provider,
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
    providers = [program.one("dev-kubernetes") for program in (split.whole, *split.parts.values())]
    assert len({json.dumps(provider.inputs, sort_keys=True) for provider in providers}) == 1
    assert {frozenset(provider.secrets) for provider in providers} == {frozenset({"kubeconfig"})}


def test_each_stack_makes_its_own_layers(split: Split) -> None:
    tops = {
        stack: {resource.name for resource in program.resources if not resource.parent and resource.type[:5] == "meshg"}
        for stack, program in split.parts.items()
    }
    assert tops == {
        "base": {"dev-cluster", "dev-authority"},
        "mesh": {"dev-mesh"},
        "edge": {"dev-ingress"},
    }


def test_a_stack_is_referenced_once(split: Split) -> None:
    references = {
        stack: sorted(resource.inputs["id"] for resource in program.of(":StackReference"))
        for stack, program in split.parts.items()
    }
    assert references == {"base": [], "mesh": ["base"], "edge": ["base", "mesh"]}
    assert split.whole.of(":StackReference") == []


def test_a_changed_value_would_be_seen(split: Split, dev_config: dict[str, Any]) -> None:
    """The comparison can fail: another size of one gateway is another graph."""
    changed = part(dev_config | {"protect": True}, "edge")
    changed["ingress"]["gateways"]["simple"]["resources"]["cpu"] = "30m"
    upstream = {name: program.outputs for name, program in split.parts.items()}
    edge = run(changed, stack="edge", references=upstream, secret_outputs={"cluster_kubeconfig"})
    whole, other = graph(split.whole), graph(split.parts["base"], split.parts["mesh"], edge)
    assert [name for _, name in whole if other[_, name] != whole[_, name]] == ["dev-ingress-simple-release"]


# What a stack loads

SDKS = ("pulumi_kubernetes", "pulumi_tls", "pulumi_gcp", "pulumi_aws", "lightkube")

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
    directory = tmp_path_factory.mktemp("loaded")
    for name in ("pulumi_gcp", "pulumi_aws"):
        # They need not be installed; an import of them must succeed, to be seen.
        (directory / f"{name}.py").touch()
    with fake_cluster() as cluster:
        config = on_cluster(cluster, directory)
        stacks = {stack: part(config, stack) for stack in SPLIT} | {"whole": config}
        stacks["cluster"] = {"name": "dev", "layers": ["cluster"], "cluster": config["cluster"]}
        processes = {stack: _started(directory) for stack in stacks}
        return {
            stack: _sdks(process, [stacks[stack], {"base": UPSTREAM, "mesh": UPSTREAM}])
            for stack, process in processes.items()
        }


def _started(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=CHECKOUT,
        env={"PYTHONPATH": f"{CHECKOUT}:{directory}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _sdks(process: subprocess.Popen[str], given: list[Any]) -> set[str]:
    output, _ = process.communicate(json.dumps(given), timeout=60)
    assert process.returncode == 0
    return set(json.loads(output))


@pytest.mark.parametrize(
    ("stack", "sdks"),
    [
        ("cluster", {"pulumi_kubernetes", "lightkube"}),
        ("base", {"pulumi_kubernetes", "pulumi_tls", "lightkube"}),
        ("mesh", {"pulumi_kubernetes"}),
        ("edge", {"pulumi_kubernetes", "pulumi_tls"}),
        ("whole", {"pulumi_kubernetes", "pulumi_tls", "lightkube"}),
    ],
)
def test_a_stack_loads_only_what_it_needs(loaded: dict[str, set[str]], stack: str, sdks: set[str]) -> None:
    assert loaded[stack] == sdks
