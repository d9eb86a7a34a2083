"""H6 [change]: a canary upgrade, step by step as docs/scenarios/mesh.md tells it, under steady requests."""

from __future__ import annotations

import json
import re
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
from tests.lab.steady import SteadyRequests, webapp

pytestmark = pytest.mark.lab

OLD, NEW = "asm-183-2", "asm-183-3"
MESH = "meshgate:mesh"
FIRST, GATEWAYS, EGRESS = "istioinaction", "istio-ingress", "istio-egress"
TAG = "istio-revision-tag-stable"


def test_canary_upgrade_without_a_failed_request(onprem: Onprem, tmp_path: Path) -> None:
    lab, mesh = onprem.lab, onprem.config[MESH]
    assert _revisions(lab) == {FIRST: {OLD}, GATEWAYS: {OLD}, EGRESS: {OLD}}

    with _watching(lab, tmp_path) as seen, SteadyRequests(webapp(onprem.stack, GATEWAY, tmp_path)) as requests:
        # The second revision: nothing follows it yet.
        mesh["canary"] = {"revision": NEW}
        onprem.config[AUTHORITY]["vault"]["serviceAccounts"] = [f"istiod-{OLD}", f"istiod-{NEW}"]
        assert not _replaced(onprem)
        assert _control_planes(lab) == {OLD, NEW}
        assert _injected_by(lab, FIRST) == _injected_by(lab, GATEWAYS) == OLD

        # One namespace: its next pods are the new one's, and work with those of the old one.
        mesh["canary"]["namespaces"] = [FIRST]
        assert not _replaced(onprem)
        assert (_injected_by(lab, FIRST), _injected_by(lab, GATEWAYS)) == (NEW, OLD)
        _restart(lab, FIRST)
        assert _revisions(lab) == {FIRST: {NEW}, GATEWAYS: {OLD}, EGRESS: {OLD}}

        # The rest: the tag moves, and the gateways with it.
        mesh |= {"revision": NEW, "canary": {"revision": OLD}}
        assert not _replaced(onprem)
        assert _injected_by(lab, FIRST) == _injected_by(lab, GATEWAYS) == NEW
        assert _revisions(lab) == {FIRST: {NEW}, GATEWAYS: {NEW}, EGRESS: {NEW}}

        # The old one goes; every proxy has its configuration from the new one.
        del mesh["canary"]
        onprem.config[AUTHORITY]["vault"]["serviceAccounts"] = [f"istiod-{NEW}"]
        onprem.up()
        assert _control_planes(lab) == {NEW}
        assert _injected_by(lab, FIRST) == NEW
        wait_for("every proxy is connected to the new istiod", lambda: _connected(lab) == _proxies(lab))

    assert requests.failures == []
    assert requests.count > 50
    # Every state in which the tag's webhooks ever were: there is none between the two.
    assert seen == [f"istiod-{OLD}", f"istiod-{NEW}"]


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
        if pod["metadata"]["namespace"] in (FIRST, GATEWAYS, EGRESS) and "deletionTimestamp" not in pod["metadata"]:
            yield pod["metadata"]


def _revisions(lab: Instance) -> dict[str, set[str]]:
    """Which revisions have injected a namespace's pods; `none` for a pod without a sidecar."""
    found: dict[str, set[str]] = {}
    for pod in _pods(lab):
        found.setdefault(pod["namespace"], set()).add(pod.get("annotations", {}).get("istio.io/rev", "none"))
    return found


def _injected_by(lab: Instance, namespace: str) -> str:
    """The revision that would inject a pod made there now: the API server asks, and makes none."""
    made = kubectl(lab, "run", "asked", "-n", namespace, "--image=asked", "--dry-run=server", "-o", "json")
    return str(json.loads(made)["metadata"]["annotations"].get("istio.io/rev", "none"))


def _restart(lab: Instance, namespace: str) -> None:
    kubectl(lab, "rollout", "restart", "deployment", "-n", namespace)
    for deployment in kubectl(lab, "get", "deployments", "-n", namespace, "-o", "name").split():
        kubectl(lab, "rollout", "status", deployment, "-n", namespace, "--timeout=120s")


def _proxies(lab: Instance) -> set[str]:
    """<pod>.<namespace> of every pod in the mesh."""
    return {f"{pod['name']}.{pod['namespace']}" for pod in _pods(lab)}


def _connected(lab: Instance) -> set[str]:
    """Those that an istiod of the new revision serves."""
    command = runner.command(lab, ["istioctl", "proxy-status"], Path("/"))
    done = subprocess.run(command, env=runner.environment(lab), capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if re.search(rf"\bistiod-{NEW}-", line)]
    return {line.split()[0] for line in lines}


@contextmanager
def _watching(lab: Instance, directory: Path) -> Iterator[list[str]]:
    """The Services that the tag's webhooks ask while the body runs, in the order of the tag's versions.

    A version that injects nothing is in the list, too: as `deleted`, or `not trusted`.
    """
    log = directory / "tag.jsonl"
    watch = ["kubectl", "get", "mutatingwebhookconfiguration", TAG, "--watch", "--output-watch-events", "-o", "json"]
    seen: list[str] = []
    with log.open("w") as file:
        process = subprocess.Popen(runner.command(lab, watch, Path("/")), env=runner.environment(lab), stdout=file)
        try:
            wait_for("the watch has begun", lambda: log.stat().st_size > 0)
            yield seen
        finally:
            process.terminate()
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
