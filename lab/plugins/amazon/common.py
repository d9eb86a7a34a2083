"""What the services of the simulated AWS share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lab.plugins.base import PluginError
from lab.plugins.store import Record, World

OWN = "arn:aws:{service}:{{region}}:{{account}}:{path}"


def refused(code: str, message: str) -> PluginError:
    """An error as AWS words it: its code, and what is wrong."""
    return PluginError(f"api error {code}: {message}")


def arn(service: str, path: str) -> str:
    """The template of the ARN of a resource in a region."""
    return OWN.format(service=service, path=path)


def derived(prefix: str, *seeds: str) -> str:
    """An id that follows from others, as `sg-0` and 16 hexadecimal digits."""
    return f"{prefix}-0{hashlib.sha256(' '.join(seeds).encode()).hexdigest()[:16]}"


def find(world: World, type_: str, text: str) -> Record:
    """What a reference means (id or ARN) that is known to exist."""
    return next(record for record in world.of(type_) if text in (record.id, record.outputs.get("arn")))


def tags(record: Record) -> Mapping[str, str]:
    """A resource's tags, its provider's too."""
    return record.outputs.get("tagsAll") or record.inputs.get("tags") or {}


def listed(value: Any) -> list[Any]:
    """A value that may stand alone, as a list; nothing as an empty one."""
    return [] if value is None else value if isinstance(value, list) else [value]


def statements(document: Any) -> Iterator[Mapping[str, Any]]:
    """The statements of a policy document in JSON; none where it is not one."""
    try:
        content = json.loads(document)
        yield from (one for one in listed(content["Statement"]) if isinstance(one, dict))
    except (TypeError, ValueError, KeyError):
        return


def trusts(role: Record, service: str, actions: Iterable[str] = ("sts:AssumeRole",)) -> bool:
    """Whether a role's trust policy lets a service do all of these actions."""
    missing = set(actions)
    for statement in statements(role.inputs["assumeRolePolicy"]):
        principal = statement.get("Principal")
        services = listed(principal.get("Service")) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow" and service in services:
            missing -= set(listed(statement.get("Action")))
    return not missing
