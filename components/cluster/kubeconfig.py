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
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise KubeconfigError(f"{file} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise KubeconfigError(f"{file} is not YAML") from None
    if not isinstance(config, dict) or not config.get("contexts"):
        raise KubeconfigError(f"{file} has no contexts; is it a kubeconfig?")
    name = context or config.get("current-context")
    if not name:
        raise KubeconfigError(f"{file} has no current-context; name one with the key context")
    chosen = _entry(file, config, "context", name)
    cluster = _entry(file, config, "cluster", chosen.get("cluster"))
    user = _entry(file, config, "user", chosen.get("user"))
    for entry, key in (
        (cluster, "certificate-authority"),
        (user, "client-certificate"),
        (user, "client-key"),
    ):
        if key in entry:
            entry[f"{key}-data"] = base64.b64encode(_read(file, entry.pop(key))).decode()
    if "tokenFile" in user:
        user["token"] = _read(file, user.pop("tokenFile")).decode().strip()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": chosen["cluster"], "cluster": cluster}],
            "users": [{"name": chosen["user"], "user": user}],
            "contexts": [{"name": name, "context": chosen}],
            "current-context": name,
        }
    )


def _entry(file: Path, config: dict[str, Any], kind: str, name: object) -> dict[str, Any]:
    """What the file says of one context, cluster or user."""
    entries = [entry for entry in config.get(f"{kind}s") or [] if isinstance(entry, dict)]
    for entry in entries:
        if entry.get("name") == name:
            if not isinstance(entry.get(kind), dict):
                raise KubeconfigError(f"{file} says nothing of '{name}' under {kind}s; it needs a key {kind}")
            return dict(entry[kind])
    known = ", ".join(sorted(str(entry.get("name")) for entry in entries)) or "none"
    raise KubeconfigError(f"{file} has no '{name}' under {kind}s (there are: {known})")


def _read(kubeconfig: Path, path: str) -> bytes:
    file = kubeconfig.parent / path
    try:
        return file.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{kubeconfig} names {file}, which cannot be read ({error.strerror})") from None
