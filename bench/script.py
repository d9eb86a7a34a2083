"""The helm and kubectl script that does, one step after another, what a stack's state says was done.

It is written from the state, so that it cannot drift from the program: the same charts with the same values, the same
objects, and after each step the wait for what Pulumi waits for too.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.state import plain

RELEASE = "kubernetes:helm.sh/v3:Release"
TIMEOUT = ("--timeout", "300s")


@dataclass(frozen=True)
class Apply:
    """Objects that need nothing but each other and the steps before."""

    objects: tuple[dict[str, Any], ...]

    @property
    def content(self) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "List", "items": list(self.objects)}

    def install(self, file: Path) -> list[list[str]]:
        deployments = [item["metadata"] for item in self.objects if item["kind"] == "Deployment"]
        rollouts = [
            ["kubectl", "rollout", "status", f"deployment/{it['name']}", "--namespace", it["namespace"], *TIMEOUT]
            for it in deployments
        ]
        return [["kubectl", "apply", "--server-side", "--filename", str(file)], *rollouts]

    def remove(self, file: Path) -> list[str]:
        return ["kubectl", "delete", "--ignore-not-found", "--filename", str(file)]


@dataclass(frozen=True)
class Install:
    """One Helm release."""

    inputs: dict[str, Any]

    @property
    def content(self) -> dict[str, Any]:
        values: dict[str, Any] = self.inputs.get("values") or {}
        return values

    @property
    def where(self) -> list[str]:
        return ["--namespace", self.inputs["namespace"]]

    def install(self, file: Path) -> list[list[str]]:
        command = ["helm", "install", self.inputs["name"], self.inputs["chart"], *self.where, "--values", str(file)]
        return [[*command, "--wait", *TIMEOUT]]

    def remove(self, file: Path) -> list[str]:
        return ["helm", "uninstall", self.inputs["name"], *self.where, "--wait"]


def steps(resources: Sequence[dict[str, Any]]) -> list[Apply | Install]:
    """The steps for what a stack's state holds, each after what it depends on; as many objects at once as can be.

    What is no object of Kubernetes (keys, certificates) is left out: its values are in the objects already.
    """
    waiting = {
        resource["urn"]: resource
        for resource in resources
        if resource["type"].startswith("kubernetes:") and not resource.get("external")
    }
    found: list[Apply | Install] = []
    while waiting:
        objects: list[dict[str, Any]] = []
        # One pass is enough: a state lists every resource after those it depends on.
        for urn, resource in list(waiting.items()):
            if resource["type"] != RELEASE and not _needs(resource, waiting):
                objects.append(plain(resource["inputs"]))
                del waiting[urn]
        if objects:
            found.append(Apply(tuple(objects)))
        else:
            urn = next(urn for urn, resource in waiting.items() if not _needs(resource, waiting))
            found.append(Install(plain(waiting.pop(urn)["inputs"])))
    return found


def write(todo: Sequence[Apply | Install], directory: Path) -> tuple[Path, Path]:
    """Write the files and two scripts into `directory`, which must be private: one that installs, one that removes."""
    install: list[list[str]] = []
    remove: list[list[str]] = []
    for number, step in enumerate(todo, start=1):
        file = directory / f"{number:02}.json"
        file.write_text(json.dumps(step.content, indent=2))
        install.extend(step.install(file))
        remove.insert(0, step.remove(file))
    return _script(directory / "install.sh", install), _script(directory / "remove.sh", remove)


def _needs(resource: dict[str, Any], waiting: Iterable[str]) -> bool:
    return not set(resource.get("dependencies", ())).isdisjoint(waiting)


def _script(file: Path, commands: Iterable[Sequence[str]]) -> Path:
    file.write_text("\n".join(["set -eu", *map(shlex.join, commands), ""]))
    return file
