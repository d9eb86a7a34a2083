"""dev's own file with the real engine on a real API server: preview, up, up again, refresh, destroy, and split."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import pulumi as runner
from lab.instance import Instance
from tests.deployment import CHECKOUT, DESTROY, UP, Stack, graph, kubectl, split, stack_file, write_stack_file

pytestmark = pytest.mark.engine

ISTIO_KINDS = {
    "AuthorizationPolicy": "authorizationpolicies.security.istio.io",
    "DestinationRule": "destinationrules.networking.istio.io",
    "EnvoyFilter": "envoyfilters.networking.istio.io",
    "Gateway": "gateways.networking.istio.io",
    "PeerAuthentication": "peerauthentications.security.istio.io",
    "ServiceEntry": "serviceentries.networking.istio.io",
    "Sidecar": "sidecars.networking.istio.io",
    "Telemetry": "telemetries.telemetry.istio.io",
    "VirtualService": "virtualservices.networking.istio.io",
}
GATEWAYS = 18
"""Their Services are read at each run, for their addresses."""


@pytest.fixture(scope="module")
def dev(control_plane: Instance) -> Stack:
    return Stack(control_plane, "dev", CHECKOUT / "Pulumi.dev.yaml")


@pytest.fixture(scope="module")
def requested(dev: Stack) -> Iterator[dict[str, int]]:
    """The first `pulumi up`, after which the mesh CA's request is signed."""
    yield dev.changes(*UP)
    dev.pulumi(*DESTROY, check=False)


@pytest.fixture(scope="module")
def previewed(dev: Stack, requested: dict[str, int]) -> dict[str, int]:
    """The preview of the mesh and all that needs it: no CRD is there yet, no address known."""
    assert dev.sign()
    return dev.changes("preview")


@pytest.fixture(scope="module")
def deployed(dev: Stack, previewed: dict[str, int]) -> int:
    """How many resources there are after the second `pulumi up`."""
    changes = dev.changes(*UP)
    assert changes == previewed
    return sum(changes.values())


def test_preview_shows_what_up_then_makes(requested: dict[str, int], previewed: dict[str, int], deployed: int) -> None:
    assert set(requested) == {"create"}
    assert previewed == {"create": deployed - requested["create"], "same": requested["create"]}


def test_second_up_changes_nothing(dev: Stack, deployed: int) -> None:
    assert dev.changes(*UP, "--expect-no-changes") == {"same": deployed, "read": GATEWAYS}


def test_refresh_finds_no_drift(dev: Stack, deployed: int) -> None:
    # What is only read has no inputs of the program's; the provider gives it some, which the engine calls an update.
    read = {"update": GATEWAYS}
    assert dev.changes("refresh", "--yes", "--skip-preview") == {"same": deployed} | read


@pytest.mark.usefixtures("deployed")
def test_custom_resources_are_valid(dev: Stack, control_plane: Instance, tmp_path: Path) -> None:
    """The API server took them (Istio's CRDs have schemas); istioctl knows what a schema cannot say."""
    resources = json.loads(kubectl(control_plane, "get", ",".join(ISTIO_KINDS.values()), "-A", "-o", "json"))["items"]
    made = Counter(
        resource["type"].rsplit(":", 1)[1] for resource in dev.resources() if ".istio.io/" in resource["type"]
    )
    assert made.keys() == ISTIO_KINDS.keys()
    assert Counter(item["kind"] for item in resources) == made
    assert _validated(control_plane, tmp_path, resources) == []
    gateway = next(item for item in resources if item["kind"] == "Gateway")
    gateway["spec"]["servers"][0]["port"]["number"] = 70000
    (problem,) = _validated(control_plane, tmp_path, resources)
    assert "port number 70000 must be in the range 1..65535" in problem


def _validated(instance: Instance, directory: Path, resources: list[dict[str, Any]]) -> list[str]:
    """What `istioctl validate` says against these resources."""
    file = directory / "resources.yaml"
    file.write_text("---\n".join(json.dumps(item) + "\n" for item in resources))
    validate = runner.command(instance, ["istioctl", "validate", "-f", str(file)], Path("/"))
    done = subprocess.run(validate, env=runner.environment(instance), capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stderr]


@pytest.mark.usefixtures("deployed")
def test_what_a_killed_up_made_can_be_taken_over(
    dev: Stack, deployed: int, control_plane: Instance, tmp_path: Path
) -> None:
    """A `pulumi up` after one that was killed applies what is there again, under another field manager's name.

    The API server refuses that where a list or structure that is compared as a whole got defaults.
    """
    made = (resource["inputs"] for resource in dev.resources() if "inputs" in resource and not resource.get("external"))
    # A Secret's values are encrypted in the state.
    objects = [it for it in made if {"kind", "metadata"} <= it.keys() and it["kind"] != "Secret"]
    assert len(objects) > 60
    file = tmp_path / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    kubectl(control_plane, "apply", "--server-side", "--field-manager=another", "--dry-run=server", "-f", str(file))


def test_no_private_key_in_the_exported_state(dev: Stack) -> None:
    exported = dev.export()
    keys = set(re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END", dev.export(show_secrets=True), re.DOTALL))
    assert len(keys) >= 9, "the state should hold the keys of two CAs each with an intermediate, and of the leaves"
    bodies = {re.sub(r"-----[A-Z ]+-----|-----END|\\n|\s", "", key) for key in keys}
    assert "PRIVATE KEY" not in exported
    decoded = "".join(_decoded(exported))
    assert "PRIVATE KEY" not in decoded
    for body in bodies:
        assert body[8:72] not in re.sub(r"\\n|\s", "", exported + decoded)


def _decoded(text: str) -> Iterator[str]:
    """What base64 within the text says, also when it was encoded twice."""
    for match in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text):
        try:
            plain = base64.b64decode(match + "=" * (-len(match) % 4)).decode("latin-1")
        except ValueError:
            continue
        yield plain
        yield from _decoded(plain)


@pytest.fixture(scope="module")
def dev_graph(dev: Stack, deployed: int) -> dict[tuple[str, str], tuple[str, Any]]:
    return graph(dev.resources())


def test_destroy_leaves_nothing(
    dev: Stack, control_plane: Instance, dev_graph: dict[tuple[str, str], tuple[str, Any]], deployed: int
) -> None:
    namespaces = {
        resource["outputs"]["metadata"]["name"]
        for resource in dev.resources()
        if resource["type"] == "kubernetes:core/v1:Namespace"
    }
    assert namespaces >= {"istio-system", "istio-egress", "istio-ingress", "team-x"}
    assert dev.changes(*DESTROY) == {"delete": deployed, "discard": GATEWAYS}
    assert dev.resources() == []
    assert namespaces.isdisjoint(
        kubectl(control_plane, "get", "namespaces", "-o", "name").replace("namespace/", "").split()
    )
    webhooks = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings"
    assert "istio" not in kubectl(control_plane, "get", webhooks, "-o", "name")
    # Helm keeps the CRDs, as Istio's chart asks: to delete them would delete every team's resources.
    assert kubectl(control_plane, "get", ",".join(ISTIO_KINDS.values()), "-A", "-o", "name") == ""


@pytest.fixture(scope="module")
def stacks(control_plane: Instance, tmp_path_factory: pytest.TempPathFactory) -> list[Stack]:
    directory = tmp_path_factory.mktemp("split")
    configs = split("dev")
    # They are left standing: the control plane goes at the end of the tests.
    return [Stack(control_plane, name, write_stack_file(directory, name, configs[name])) for name in configs]


def test_a_missing_upstream_is_named(stacks: list[Stack]) -> None:
    done = stacks[1].pulumi("preview", check=False)
    assert done.returncode != 0
    assert "dev-base" in done.stdout + done.stderr


def test_several_stacks_give_the_same_graph(
    stacks: list[Stack], dev_graph: dict[tuple[str, str], tuple[str, Any]]
) -> None:
    together: dict[tuple[str, str], tuple[str, Any]] = {}
    for stack in stacks:
        stack.deploy()
        together |= graph(stack.resources())
    assert together == dev_graph


def test_configuration_errors_come_all_at_once(control_plane: Instance, tmp_path: Path) -> None:
    config = stack_file("dev")
    config["meshgate:mesh"]["revisionTags"] = []
    config["meshgate:mesh"]["revison"] = "typo"
    config["meshgate:cluster"]["cidrs"]["pods"] = "10.0.0.0/16"
    config["meshgate:nonsense"] = 1
    stack = Stack(control_plane, "broken", write_stack_file(tmp_path, "broken", config))
    done = stack.pulumi(*UP, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for key in ("mesh.revisionTags", "mesh.revison", "cluster.cidrs.nodes", "nonsense"):
        assert f"meshgate:{key}: " in said, said
    assert "Traceback" not in said
    assert [resource["type"] for resource in stack.resources()] in ([], ["pulumi:pulumi:Stack"])


def test_a_cluster_that_differs_is_refused(control_plane: Instance, tmp_path: Path) -> None:
    config = stack_file("dev")
    config["meshgate:cluster"]["nodePools"][0]["count"] = 3
    config["meshgate:cluster"]["minimumVersion"] = "1.99"
    stack = Stack(control_plane, "differs", write_stack_file(tmp_path, "differs", config))
    done = stack.pulumi("preview", check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "meshgate:cluster.minimumVersion: the server is Kubernetes 1.34, older than 1.99" in said
    assert "meshgate:cluster.nodePools[0]: pool 'application' should have 3 nodes" in said
    assert "Traceback" not in said
