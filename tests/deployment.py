"""Stacks of the real engine, as the engine's and the lab's tests use them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from lab import authority, cluster, sim
from lab import pulumi as runner
from lab.instance import Instance
from settings import Layer, requires

CHECKOUT = Path(__file__).parents[1]
UP = ("up", "--yes", "--skip-preview")
DESTROY = ("destroy", "--yes", "--skip-preview")


STATE_AT_THE_END = {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
"""Pulumi writes a stack's state once, when a command ends, instead of all of it after each step. Only a run that is
killed needs more, and the tests that kill have commands of their own."""


@contextmanager
def running(name: str, *, bare: bool) -> Iterator[Instance]:
    """A lab of this name, new at the beginning and gone at the end; `bare` is only a control plane."""

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    instance = Instance(name)
    cluster.down(instance, say)
    cluster.up(instance, bare, say)
    try:
        yield instance
    finally:
        cluster.down(instance, say)


@dataclass(frozen=True)
class Stack:
    """A stack on a lab or on a bare control plane."""

    instance: Instance
    name: str
    config_file: Path

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`pulumi <arguments>` on this stack, its output captured; fails the test when it fails and `check` is set."""
        directory = runner.workspace(self.instance, self.name, self.config_file)
        environment = runner.environment(self.instance) | STATE_AT_THE_END
        if not runner.state_file(self.instance, self.name).exists():
            init = runner.command(self.instance, ["pulumi", "stack", "init", "--no-select", self.name], directory)
            subprocess.run(init, env=environment, check=True, capture_output=True)
        command = runner.command(self.instance, ["pulumi", *arguments, "--stack", self.name], directory)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"pulumi {' '.join(arguments)} on {self.name}:\n{done.stdout}\n{done.stderr}")
        return done

    def deploy(self) -> None:
        """`pulumi up`; when the mesh CA waits, the HSM signs its request, and `pulumi up` again."""
        self.pulumi(*UP)
        if self.sign():
            self.pulumi(*UP)

    def sign(self) -> bool:
        """Have the HSM sign what waits for it: whether there was something."""
        return authority.sign(self.instance, self.name, self.config_file)

    def changes(self, *arguments: str) -> dict[str, int]:
        """What such a command did: the engine's numbers of resources by operation."""
        log = self.instance.directory / f"{self.name}-events.json"
        log.unlink(missing_ok=True)
        self.pulumi(*arguments, "--event-log", str(log))
        return sim.summary(log.read_text())

    def resources(self) -> list[dict[str, Any]]:
        """The resources in the state, secrets encrypted."""
        return list(json.loads(self.export())["deployment"].get("resources") or [])

    def export(self, *, show_secrets: bool = False) -> str:
        """`pulumi stack export`."""
        return self.pulumi("stack", "export", *(["--show-secrets"] if show_secrets else [])).stdout

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in clear."""
        outputs: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json", "--show-secrets").stdout)
        return outputs


def kubectl(instance: Instance, *arguments: str) -> str:
    """`kubectl <arguments>` in the lab: what it printed."""
    command = runner.command(instance, ["kubectl", *arguments], Path("/"))
    done = subprocess.run(command, env=runner.environment(instance), capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def stack_file(name: str) -> dict[str, Any]:
    """The configuration in Pulumi.<name>.yaml."""
    config: dict[str, Any] = yaml.safe_load((CHECKOUT / f"Pulumi.{name}.yaml").read_text())["config"]
    return config


def write_stack_file(directory: Path, name: str, config: Mapping[str, Any]) -> Path:
    """A stack's configuration file for the runner."""
    file = directory / f"Pulumi.{name}.yaml"
    file.write_text(yaml.safe_dump({"config": dict(config)}, sort_keys=False))
    return file


SPLIT: Mapping[str, Mapping[str, tuple[Layer, ...]]] = {
    "dev": {
        "dev-base": ("cluster", "gateway_pool", "authority"),
        "dev-mesh": ("mesh",),
        "dev-egress": ("egress", "teams", "workload_identity"),
        "dev-ingress": ("ingress",),
        "dev-edge": ("edge", "external"),
        "dev-bookinfo": ("bookinfo",),
        "dev-labs": ("standalone_envoy", "sidecar", "rate_limit", "peer_authentication", "observability"),
    },
    "gke": {
        "gke-network": ("network",),
        "gke-cluster": ("cluster",),
        "gke-pool": ("gateway_pool",),
        "gke-mesh": ("authority", "mesh"),
        "gke-egress": ("egress", "teams", "workload_identity"),
    },
    # What is in AWS; above it all is as elsewhere.
    "eks": {
        "eks-network": ("network",),
        "eks-cluster": ("cluster", "gateway_pool"),
    },
}
"""How the tests split an environment over stacks, bottom first."""


def split(environment: str) -> dict[str, dict[str, Any]]:
    """The configurations of several stacks that together hold what the one stack of an environment holds in these
    layers."""
    config, parts = stack_file(environment), SPLIT[environment]
    holders = {layer: stack for stack, layers in parts.items() for layer in layers}
    shared = {key: value for key, value in config.items() if key.removeprefix("meshgate:") not in get_args(Layer)}
    result = {}
    for stack, layers in parts.items():
        sections = {layer: config[f"meshgate:{layer}"] for layer in layers}
        needed = {need for layer in layers for need in requires(layer, sections[layer]) or ()}
        result[stack] = shared | {
            "meshgate:layers": list(layers),
            "meshgate:upstream": {
                layer: f"organization/meshgate/{holders[layer]}" for layer in sorted(needed - set(layers))
            },
            **{f"meshgate:{layer}": section for layer, section in sections.items()},
        }
    return result


def graph(resources: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[str, Any]]:
    """(type, name) -> (the parent's name, the inputs), without what only says where a layer comes from."""
    result = {}
    for resource in resources:
        kind = resource["type"]
        if kind in ("pulumi:pulumi:Stack", "pulumi:pulumi:StackReference") or kind.startswith("pulumi:providers:"):
            continue
        parent = resource.get("parent", "")
        parent_name = "" if "pulumi:pulumi:Stack::" in parent else parent.rsplit("::", 1)[-1]
        # What is only read gets inputs at a refresh, from the provider.
        inputs = {} if resource.get("external") else resource.get("inputs", {})
        result[kind, resource["urn"].rsplit("::", 1)[-1]] = (parent_name, _comparable(inputs))
    return result


MADE_ANEW = (
    *("privateKeyPem", "caPrivateKeyPem", "caCertPem", "certRequestPem", "stringData", "data", "kubeconfig"),
    # A key's fingerprint.
    "meshgate.dev/password",
)
"""Inputs that hold keys and certificates: they differ from one deployment to the next."""


SERVICE_ADDRESS = re.compile(r"10\.2\.(?!0\.)\d+\.\d+")
"""What the API server gives a Service, another one at each deployment; the lab's own are 10.2.0.1 and 10.2.0.10."""


def _comparable(inputs: Any) -> Any:
    if isinstance(inputs, str):
        return SERVICE_ADDRESS.sub("<address of a Service>", inputs)
    if isinstance(inputs, dict) and "ciphertext" in inputs:
        return "secret"  # each stack has a key of its own
    if isinstance(inputs, dict):
        return {
            key: sorted(value)
            if key == "data" and isinstance(value, dict)
            else "made anew"
            if key in MADE_ANEW
            else _comparable(value)
            for key, value in inputs.items()
        }
    return [_comparable(item) for item in inputs] if isinstance(inputs, list) else inputs
