"""A flat stack that holds what a stack of the program holds: its state, and its resources for a flat program.

Flat means what somebody would write who does without components, settings, contracts and preflight: each resource by
its SDK class, one after another, with the values as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bench.state import name

PROJECT = "flat"
STACK = "flat"
ROOT = "pulumi:pulumi:Stack"
_PLAIN = re.compile("true|false|[0-9]+")
CUSTOM_RESOURCE = ("pulumi_kubernetes.apiextensions", "CustomResource")


def state(deployment: dict[str, Any]) -> dict[str, Any]:
    """The deployment as the flat program's stack has it, for `pulumi stack import`; encrypted with the same salt."""
    resources = [_moved(resource) for resource in deployment["resources"] if _is_kept(resource)]
    return {"version": 3, "deployment": deployment | {"resources": resources}}


def resources(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """What bench/flat_program.py makes, in order: class, arguments and options of each resource."""
    return list(_resources(deployment))


def _resources(deployment: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in deployment["resources"]:
        if not resource["custom"] or _is_default_provider(resource):
            continue
        module, type_name = _sdk_class(resource["type"])
        provider = resource.get("provider", "").rpartition("::")[0]
        yield {
            "urn": _urn(resource["urn"]),
            "name": name(resource["urn"]),
            "module": module,
            "class": type_name,
            "arguments": _arguments(resource),
            "id": resource["id"] if resource.get("external") else None,
            "provider": _urn(provider) if provider and not name(provider).startswith("default") else None,
            "depends_on": [_urn(urn) for urn in resource.get("dependencies", [])],
        }


def _arguments(resource: dict[str, Any]) -> dict[str, Any]:
    inputs = {key: value for key, value in (resource.get("inputs") or {}).items() if not key.startswith("_")}
    if resource["type"].startswith("pulumi:providers:"):
        # A provider's inputs are written down as text; its version is an option.
        del inputs["version"]
        inputs = {key: json.loads(value) if _PLAIN.fullmatch(str(value)) else value for key, value in inputs.items()}
    return {_snake(key): value for key, value in inputs.items()}


def _is_kept(resource: dict[str, Any]) -> bool:
    return bool(resource["custom"]) or resource["type"] == ROOT


def _is_default_provider(resource: dict[str, Any]) -> bool:
    return resource["type"].startswith("pulumi:providers:") and name(resource["urn"]).startswith("default")


def _moved(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without its place in a tree of components."""
    moved = {key: value for key, value in resource.items() if key not in ("sourcePosition", "stackTrace")}
    moved["urn"] = _urn(resource["urn"])
    if resource["type"] == ROOT:
        moved.pop("outputs", None)
    if "parent" in resource:
        moved["parent"] = _urn(f"::::{ROOT}::")
    if "provider" in resource:
        urn, _, identity = resource["provider"].rpartition("::")
        moved["provider"] = f"{_urn(urn)}::{identity}"
    if "dependencies" in resource:
        moved["dependencies"] = [_urn(urn) for urn in resource["dependencies"]]
    if "propertyDependencies" in resource:
        moved["propertyDependencies"] = {
            key: [_urn(urn) for urn in urns or ()] for key, urns in resource["propertyDependencies"].items()
        }
    return moved


def _urn(urn: str) -> str:
    """The same resource's URN in the flat stack."""
    *_, types, logical = urn.split("::")
    token = types.rpartition("$")[2]
    logical = f"{PROJECT}-{STACK}" if token == ROOT else logical
    return f"urn:pulumi:{STACK}::{PROJECT}::{token}::{logical}"


def _sdk_class(token: str) -> tuple[str, str]:
    """Module and class of the Python SDK: ("pulumi_kubernetes.core.v1", "Namespace") for a Namespace's token."""
    package, module, type_name = token.split(":")
    if package == "pulumi":
        return f"pulumi_{type_name}", "Provider"
    if package != "kubernetes":
        submodule = module.split("/")[0]
        return f"pulumi_{package}" + ("" if submodule == "index" else f".{submodule}"), type_name
    group, version = module.split("/")
    if "." in group and not group.endswith(".k8s.io") and group != "helm.sh":
        return CUSTOM_RESOURCE
    return f"pulumi_kubernetes.{group.split('.')[0]}.{version}", type_name


def _snake(key: str) -> str:
    """The Python SDK's name of an argument: disableCRDHooks becomes disable_crd_hooks."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", key)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()
