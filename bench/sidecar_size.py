"""What a team's sidecar has to know among more and more other teams: the size of its Envoy's configuration.

The teams are put into the cluster by kubectl, with the objects that `pulumi preview` says it would create: `pulumi up`
writes its whole state at every step. Afterwards the lab is taken away, which is quicker than 500 namespaces.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench import state, tenants
from bench.result import Result, ratio_of_medians
from bench.stacks import BenchError, Say, deployed, run
from components.teams.rules import outer_server_name
from lab import cluster
from lab.instance import Instance
from lab.node import SANDBOX_IMAGE

NOT_KNOWN = ("04da6b54-80e4-46f7-96ec-b56ff0331ba9", "[secret]")
"""What a preview shows instead of a value that comes later, or that is secret."""

GATEWAY = ("istio-egress", "istio=egressgateway", "istio-proxy")
ISTIOD = ("istio-system", "app=istiod", "discovery")
"""Namespace, label and container."""

DEPLOYMENT = ("deployment/istio-egressgateway", "--namespace", GATEWAY[0])
NO_LIMITS = [{"op": "remove", "path": "/spec/template/spec/containers/0/resources/limits"}]
"""The chart's limit, 1 GiB, is less than so many hosts take."""

CONFIG_DUMP = ("pilot-agent", "request", "GET", "config_dump")
TIMEOUT = 600
"""Seconds until a proxy knows a team."""

PAUSE = 5

PROBE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "pause", "image": SANDBOX_IMAGE}]},
}


def measure(instance: Instance, rounds: int, say: Say) -> Result:
    """Add teams to the cluster that has dev; for each number of them, look at the first one's new sidecars."""
    say("pulumi up of dev")
    deployed(instance, "dev")
    with tenants.stack(instance) as empty:
        tenants.configure(empty, tenants.COUNTS[-1])
        say(f"pulumi preview of {tenants.COUNTS[-1]} teams")
        teams = objects(json.loads(empty.pulumi("preview", "--json").output))

    runs: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    few, *_, more, many = tenants.COUNTS
    before = 0
    with TemporaryDirectory(dir=instance.directory) as name:
        lab = _Lab(instance, Path(name))
        lab.unlimited_gateway()
        for count in tenants.COUNTS:
            say(f"kubectl apply of {count - before} teams")
            lab.apply([item for team in teams[before:count] for item in team])
            # When the last team's sidecar knows its hosts, istiod goes by all that was applied.
            lab.new_sidecar(count - 1)
            runs[f"sidecar, {count} teams"] = [kilobytes(lab.new_sidecar(0)) for _ in range(rounds)]
            memory[f"MB of istiod, {count} teams"] = lab.istiod_memory()
            if count != many:  # with so many it has no time to answer
                runs[f"gateway, {count} teams"] = [kilobytes(lab.gateway_that_knows(count - 1))]
            say(", ".join(f"{what} {it[-1]:.1f} kB" for what, it in runs.items() if what.endswith(f" {count} teams")))
            before = count
    cluster.down(instance, say)
    hosts = (more - few) * tenants.HOSTS
    grown = median(runs[f"gateway, {more} teams"]) - median(runs[f"gateway, {few} teams"])
    return Result(
        name="sidecar_size",
        value=ratio_of_medians(runs, f"sidecar, {many} teams", f"sidecar, {few} teams"),
        unit="x",
        limit=1.02,
        aim=None,
        runs=runs,
        runs_unit="kB",
        sizes={"bytes of the gateway's for each host": round(1000 * grown / hosts), **memory},
    )


class _Lab:
    """What is asked of the cluster; `directory` is for files."""

    def __init__(self, instance: Instance, directory: Path) -> None:
        self._instance = instance
        self._directory = directory

    def apply(self, items: list[dict[str, Any]]) -> None:
        file = self._directory / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        self._kubectl("apply", "--server-side", "--filename", str(file))

    def unlimited_gateway(self) -> None:
        self._kubectl("patch", *DEPLOYMENT, "--type", "json", "--patch", json.dumps(NO_LIMITS))
        self._kubectl("rollout", "status", *DEPLOYMENT, "--timeout=120s")

    def new_sidecar(self, number: int) -> str:
        """The configuration of a sidecar that has just started in the namespace of the team of this number."""
        namespace = tenants.name(number)
        pod = ("pod/probe", "--namespace", namespace)
        self.apply([PROBE | {"metadata": {"name": "probe", "namespace": namespace}}])
        self._kubectl("wait", *pod, "--for=condition=Ready", f"--timeout={TIMEOUT}s")
        text = self._known(number, ("exec", *pod, "--container", "istio-proxy", "--", *CONFIG_DUMP))
        self._kubectl("delete", *pod)
        return text

    def gateway_that_knows(self, number: int) -> str:
        """The gateway's configuration, as soon as the team of this number is in it."""
        return self._known(number, self._in_pod(GATEWAY, *CONFIG_DUMP))

    def istiod_memory(self) -> int:
        """Megabytes."""
        metrics = self._kubectl(*self._in_pod(ISTIOD, "pilot-discovery", "request", "GET", "/metrics"))
        resident = re.search(r"^process_resident_memory_bytes (\S+)$", metrics, re.MULTILINE)
        if resident is None:
            raise BenchError("istiod's metrics lack process_resident_memory_bytes")
        return round(float(resident[1]) / 1e6)

    def _known(self, number: int, ask: Sequence[str]) -> str:
        """The configuration that kubectl gets, as soon as it has all hosts of the team of this number."""
        end = time.monotonic() + TIMEOUT
        while True:
            text = configuration(json.loads(self._kubectl(*ask)))
            if not (missing := list(unknown(text, tenants.team(number)))):
                return text
            if time.monotonic() > end:
                raise BenchError(f"after {TIMEOUT} s a proxy does not know {', '.join(missing)}")
            time.sleep(PAUSE)

    def _in_pod(self, where: tuple[str, str, str], *command: str) -> list[str]:
        namespace, label, container = where
        pod = self._kubectl("get", "pod", "--namespace", namespace, "--selector", label, "--output", "name").split()[0]
        return ["exec", pod, "--namespace", namespace, "--container", container, "--", *command]

    def _kubectl(self, *arguments: str) -> str:
        return run(self._instance, ["kubectl", *arguments], self._directory).output


def objects(preview: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Kubernetes' objects that a preview would create, by team, as `pulumi preview --json` has them."""
    teams: dict[str, list[dict[str, Any]]] = {}
    for step in preview["steps"]:
        made = step.get("newState", {})
        if made.get("type", "").startswith("kubernetes:"):
            teams.setdefault(state.name(made["parent"]), []).append(made["inputs"])
    if any(sign in json.dumps(teams) for sign in NOT_KNOWN):
        raise BenchError("`pulumi preview` does not know all of the teams' objects")
    return [teams[name] for name in sorted(teams)]


def configuration(dump: dict[str, Any]) -> str:
    """What istiod decides on, out of Envoy's config_dump: clusters, listeners and routes, without times and versions.

    Envoy's own start-up configuration, endpoints and certificates are not in it.
    """
    parts = {part["@type"].rpartition(".")[2]: part for part in dump["configs"]}
    clusters, listeners, routes = (parts[f"{name}ConfigDump"] for name in ("Clusters", "Listeners", "Routes"))
    found = {
        "clusters": [
            entry["cluster"]
            for key in ("dynamic_active_clusters", "dynamic_warming_clusters")
            for entry in clusters.get(key, [])
        ],
        "listeners": [
            (entry.get("active_state") or entry["warming_state"])["listener"]
            for entry in listeners.get("dynamic_listeners", [])
        ],
        "routes": [entry["route_config"] for entry in routes.get("dynamic_route_configs", [])],
    }
    return json.dumps(found, separators=(",", ":"), sort_keys=True)


def unknown(text: str, team: dict[str, Any]) -> Iterator[str]:
    """The team's hosts for which a configuration lacks the cluster, or the route or server name that leads to it."""
    for host in (entry["host"] for entry in team["hosts"]):
        led_to = any(f'"{name}"' in text for name in (host, outer_server_name(host, team["name"])))
        if not (led_to and f'||{host}"' in text):
            yield host


def kilobytes(text: str) -> float:
    return len(text.encode()) / 1000
