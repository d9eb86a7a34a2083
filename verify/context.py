"""What a probe may use while it asks."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from settings import Layer, Settings
from verify.counters import Firewall
from verify.envoy import Proxies
from verify.kube import Kube
from verify.pods import Pods
from verify.shell import Shell


@dataclass(frozen=True, kw_only=True)
class Context:
    """The environment under question, and the means to question it. Shared by all probes' threads."""

    settings: Settings
    contracts: dict[Layer, dict[str, Any]]
    """Each layer's contract as plain values, of this stack or another."""

    clients: tuple[Shell, ...]
    """Places outside the cluster, at least one."""

    kube: Kube
    pods: Pods
    directory: Path
    """For files; only this user can read it, and it is removed at the end."""

    stop: threading.Event
    """Set when the run is given up: whoever waits stops waiting."""

    firewall: Firewall
    """The nodes' firewall, as far as its counters can be read."""

    _proxies: dict[tuple[str, frozenset[tuple[str, str]]], Proxies] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def gateway(self, namespace: str, labels: Mapping[str, str]) -> Proxies:
        """The proxies of the gateway whose pods have these labels: one object, as their counters have one lock."""
        with self._lock:
            proxies = Proxies(self.kube, self.stop, namespace, dict(labels))
            return self._proxies.setdefault((namespace, frozenset(labels.items())), proxies)

    def file(self, content: str | bytes) -> Path:
        """A new file that only this user can read; certificates and keys reach curl by it, not by its command line."""
        path = self.directory / secrets.token_hex(8)
        with open(path, "xb", opener=_private) as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path


def user_agent(row: str) -> str:
    """One that no other request has, so that its line in a log is found."""
    return f"meshgate-verify/{row}-{secrets.token_hex(6)}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
