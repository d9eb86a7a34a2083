"""What is left in a cluster of what a stack had made there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab import pulumi as runner
from lab.instance import Instance

PREFIX = "kubernetes:"
RELEASE = "kubernetes:helm.sh/v3:Release"


def left(instance: Instance, resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """The objects of these resources of a state that the cluster still has; of Helm's releases, those that Helm has."""
    given = list(resources)
    objects = [_object(resource) for resource in given if _is_object(resource)]
    assert objects, "there is nothing to look for"
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    found = _run(instance, "kubectl", "get", "-f", "-", "--ignore-not-found", "-o", "name", text=listed).split()
    releases = {release["name"] for release in json.loads(_run(instance, "helm", "list", "-A", "--all", "-o", "json"))}
    gone = {resource["outputs"]["name"] for resource in given if resource["type"] == RELEASE}
    return sorted([*found, *(f"release {name}" for name in releases & gone)])


def _is_object(resource: Mapping[str, Any]) -> bool:
    kind = resource["type"]
    return kind.startswith(PREFIX) and kind != RELEASE and not resource.get("external")


def _object(resource: Mapping[str, Any]) -> dict[str, Any]:
    outputs = resource["outputs"]
    metadata = {key: outputs["metadata"][key] for key in ("name", "namespace") if outputs["metadata"].get(key)}
    return {"apiVersion": outputs["apiVersion"], "kind": outputs["kind"], "metadata": metadata}


def _run(instance: Instance, *program: str, text: str = "") -> str:
    command = runner.command(instance, program, Path("/"))
    done = subprocess.run(command, env=runner.environment(instance), input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(program)}: {done.stderr}"
    return done.stdout
