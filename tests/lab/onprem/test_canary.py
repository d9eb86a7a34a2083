"""H6 [change]: a canary upgrade, step by step as docs/scenarios/mesh.md tells it, under steady requests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import pulumi as runner
from lab.instance import Instance
from tests.deployment import UP, kubectl
from tests.lab.onprem.environment import AUTHORITY, GATEWAY, Onprem, wait_for
from tests.lab.onprem.proxies import running, served
from tests.lab.steady import SteadyRequests, webapp

pytestmark = pytest.mark.lab

MESH = "meshgate:mesh"
APPLICATION, GATEWAYS, EGRESS = "istioinaction", "istio-ingress", "istio-egress"
TAG = "istio-revision-tag-stable"


def test_canary_upgrade_without_a_failed_request(onprem: Onprem, tmp_path: Path) -> None:
    _upgrade(onprem, "asm-183-3", APPLICATION, tmp_path)


@pytest.mark.soak
def test_upgrades_in_a_row(onprem: Onprem, tmp_path: Path) -> None:
    for number, first in enumerate((GATEWAYS, APPLICATION) * 2):
        _upgrade(onprem, f"asm-184-{number}", first, tmp_path)


def _upgrade(onprem: Onprem, new: str, first: str, directory: Path) -> None:
    """Replace the environment's revision by `new`; the namespace `first` is moved before the others."""
    lab, mesh = onprem.lab, onprem.config[MESH]
    old = mesh["revision"]
    _settle(lab, {APPLICATION: old, GATEWAYS: old, EGRESS: old})

    with _watching(lab, directory) as seen, SteadyRequests(webapp(onprem.stack, GATEWAY, directory)) as requests:
        # The second revision: nothing follows it yet.
        mesh["canary"] = {"revision": new}
        onprem.config[AUTHORITY]["vault"]["serviceAccounts"] = [f"istiod-{old}", f"istiod-{new}"]
        assert not _replaced(onprem)
        assert _control_planes(lab) == {old, new}
        assert _injected_by(lab, APPLICATION) == _injected_by(lab, GATEWAYS) == old

        # One namespace: its next pods are the new one's, and work with those of the old one.
        mesh["canary"]["namespaces"] = [first]
        assert not _replaced(onprem)
        moved = {APPLICATION: old, GATEWAYS: old, EGRESS: old, first: new}
        assert {namespace: _injected_by(lab, namespace) for namespace in (APPLICATION, GATEWAYS)} == {
            namespace: moved[namespace] for namespace in (APPLICATION, GATEWAYS)
        }
        if first == APPLICATION:
            _restart(lab, APPLICATION)
        _settle(lab, moved)

        # The rest: the tag moves, and the gateways with it.
        mesh |= {"revision": new, "canary": {"revision": old}}
        assert not _replaced(onprem)
        assert _injected_by(lab, APPLICATION) == _injected_by(lab, GATEWAYS) == new
        if first != APPLICATION:
            _restart(lab, APPLICATION)
        _settle(lab, {APPLICATION: new, GATEWAYS: new, EGRESS: new})

        # The old one goes; every proxy has its configuration from the new one.
        del mesh["canary"]
        onprem.config[AUTHORITY]["vault"]["serviceAccounts"] = [f"istiod-{new}"]
        onprem.up()
        assert _control_planes(lab) == {new}
        assert _injected_by(lab, APPLICATION) == new
        wait_for("every proxy is connected to the new istiod", lambda: served(lab, new).keys() == running(lab))

    assert requests.failures == []
    assert requests.count > 50
    # Every state in which the tag's webhooks ever were: there is none between the two.
    assert seen == [f"istiod-{old}", f"istiod-{new}"]


def _replaced(onprem: Onprem) -> set[str]:
    """`pulumi up`: what it did beyond making and changing things in place."""
    return onprem.stack.changes(*UP).keys() - {"same", "create", "update", "read"}


def _control_planes(lab: Instance) -> set[str]:
    """Revisions with an istiod."""
    listed = kubectl(lab, "get", "deployments", "-n", "istio-system", "-l", "app=istiod", "-o", "json")
    return {one["metadata"]["labels"]["istio.io/rev"] for one in json.loads(listed)["items"]}


def _pods(lab: Instance) -> Iterator[dict[str, Any]]:
    """Those of namespaces in the mesh that are not about to go."""
    for pod in json.loads(kubectl(lab, "get", "pods", "-A", "-o", "json"))["items"]:
        if (
            pod["metadata"]["namespace"] in (APPLICATION, GATEWAYS, EGRESS)
            and "deletionTimestamp" not in pod["metadata"]
        ):
            yield pod["metadata"]


def _revisions(lab: Instance) -> dict[str, set[str]]:
    """Which revisions have injected a namespace's pods; `none` for a pod without a sidecar."""
    found: dict[str, set[str]] = {}
    for pod in _pods(lab):
        found.setdefault(pod["namespace"], set()).add(pod.get("annotations", {}).get("istio.io/rev", "none"))
    return found


def _settle(lab: Instance, revisions: dict[str, str]) -> None:
    """Wait until these revisions have injected all pods: Helm is content before a Deployment's old pods are gone."""
    expected = {namespace: {revision} for namespace, revision in revisions.items()}
    wait_for(f"pods are of {revisions}", lambda: _revisions(lab) == expected)


def _injected_by(lab: Instance, namespace: str) -> str:
    """The revision that would inject a pod made there now: the API server asks, and makes none."""
    made = kubectl(lab, "run", "asked", "-n", namespace, "--image=asked", "--dry-run=server", "-o", "json")
    return str(json.loads(made)["metadata"]["annotations"].get("istio.io/rev", "none"))


def _restart(lab: Instance, namespace: str) -> None:
    kubectl(lab, "rollout", "restart", "deployment", "-n", namespace)
    for deployment in kubectl(lab, "get", "deployments", "-n", namespace, "-o", "name").split():
        kubectl(lab, "rollout", "status", deployment, "-n", namespace, "--timeout=120s")


@contextmanager
def _watching(lab: Instance, directory: Path) -> Iterator[list[str]]:
    """The Services that the tag's webhooks ask while the body runs, in the order of the tag's versions.

    A version that injects nothing is in the list, too: as `deleted`, or `not trusted`.
    """
    log = directory / "tag.jsonl"
    watch = ["kubectl", "get", "mutatingwebhookconfiguration", TAG, "--watch", "--output-watch-events", "-o", "json"]
    seen: list[str] = []
    with log.open("w") as file:
        process = subprocess.Popen(
            runner.command(lab, watch, Path("/")), env=runner.environment(lab), stdout=file, start_new_session=True
        )
        try:
            wait_for("the watch has begun", lambda: log.stat().st_size > 0)
            yield seen
        finally:
            # What runs it in the lab would not hand a signal on.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    decoder, text = json.JSONDecoder(), log.read_text()
    while text := text.lstrip():
        event, end = decoder.raw_decode(text)
        text = text[end:]
        if (state := _state(event)) not in seen[-1:]:
            seen.append(state)


def _state(event: dict[str, Any]) -> str:
    if event["type"] == "DELETED":
        return "deleted"
    asked = [hook["clientConfig"] for hook in event["object"]["webhooks"]]
    if not all(one.get("caBundle") for one in asked):
        return "not trusted"
    return " ".join(sorted({one["service"]["name"] for one in asked}))
