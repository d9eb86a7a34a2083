"""Reads what `pulumi stack export --show-secrets` prints."""

from __future__ import annotations

import json
from typing import Any

SECRET = "4dabf18193072939515e22adb298388d"
"""The key that marks an object which stands for a secret value."""


def is_secret(value: Any) -> bool:
    """Whether this stands for a secret, whose value is JSON under `plaintext`."""
    return isinstance(value, dict) and SECRET in value


def plain(value: Any) -> Any:
    """The value with every secret in it in clear."""
    if is_secret(value):
        return plain(json.loads(value["plaintext"]))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def name(urn: str) -> str:
    """The resource's logical name."""
    return urn.rsplit("::", 1)[1]
