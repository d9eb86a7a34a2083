"""A flat Pulumi program: makes the resources that `resources.json` lists. bench/noop_overhead.py copies it there."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pulumi

from bench.state import is_secret


def value(given: Any) -> Any:
    """The argument, with what is secret in the state as a secret again."""
    if is_secret(given):
        return pulumi.Output.secret(value(json.loads(given["plaintext"])))
    if isinstance(given, dict):
        return {key: value(item) for key, item in given.items()}
    return [value(item) for item in given] if isinstance(given, list) else given


made: dict[str, Any] = {}
for resource in json.loads(Path(__file__).with_name("resources.json").read_text()):
    options = pulumi.ResourceOptions(
        provider=made.get(resource["provider"]), depends_on=[made[urn] for urn in resource["depends_on"]]
    )
    resource_class = getattr(import_module(resource["module"]), resource["class"])
    if resource["id"]:
        made[resource["urn"]] = resource_class.get(resource["name"], resource["id"], opts=options)
    else:
        made[resource["urn"]] = resource_class(resource["name"], opts=options, **value(resource["arguments"]))
