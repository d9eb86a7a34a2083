"""Kubeconfig files of the operator, made fit to be handed on."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the text says why and what would be right."""


def self_contained(path: str, context: str | None) -> str:
    """The kubeconfig with one context only and with the files that it names put into it.

    `path` may start with `~`; `context` is the file's current context when None. The result is YAML and holds
    credentials. Raises KubeconfigError.
    """
    file = Path(path).expanduser()
    try:
        config = yaml.safe_load(file.read_text())
    except OSError as error:
        raise KubeconfigError(f"{file} cannot be read ({error.strerror})") from None
    except yaml.YAMLError:
        raise KubeconfigError(f"{file} is not YAML") from None
    if not isinstance(config, dict) or not config.get("contexts"):
        raise KubeconfigError(f"{file} has no contexts; is it a kubeconfig?")
    name = context or config.get("current-context")
    if not name:
        raise KubeconfigError(f"{file} has no current-context; name one with the key context")
    chosen = _entry(file, config, "contexts", name)["context"]
    cluster = _entry(file, config, "clusters", chosen["cluster"])
    user = _entry(file, config, "users", chosen["user"])
    for entry, keys in (
        (cluster["cluster"], ("certificate-authority",)),
        (user["user"], ("client-certificate", "client-key")),
    ):
        for key in keys:
            if key in entry:
                entry[f"{key}-data"] = _embedded(file, entry.pop(key))
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [user],
            "contexts": [{"name": name, "context": chosen}],
            "current-context": name,
        }
    )


def _entry(file: Path, config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    entries = config.get(kind) or []
    for entry in entries:
        if entry["name"] == name:
            return dict(entry)
    known = ", ".join(sorted(entry["name"] for entry in entries)) or "none"
    raise KubeconfigError(f"{file} has no '{name}' under {kind} (there are: {known})")


def _embedded(kubeconfig: Path, path: str) -> str:
    file = kubeconfig.parent / path
    try:
        return base64.b64encode(file.read_bytes()).decode()
    except OSError as error:
        raise KubeconfigError(f"{kubeconfig} names {file}, which cannot be read ({error.strerror})") from None
