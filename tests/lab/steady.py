"""Requests that go on while something is changed: none may fail."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from lab.machine import enter
from tests.deployment import Stack

PAUSE = 0.05
"""Seconds between two requests."""

LIMIT = 20000
"""So many, and no more, should nobody end them."""


class SteadyRequests:
    """New connections to a gateway of the layer ingress, one after another, while the body runs."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` makes a request, and exits with another code than 0 when it fails."""
        self.stopping = threading.Event()
        self.failures: list[str] = []
        self.count = 0
        self._command = command
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.stopping.is_set() and self.count < LIMIT:
            done = subprocess.run(self._command, capture_output=True, text=True)
            self.count += 1
            if done.returncode != 0:
                self.failures.append(f"request {self.count}: exit {done.returncode}: {done.stderr}")
            self.stopping.wait(PAUSE)

    def __enter__(self) -> SteadyRequests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join()


def webapp(stack: Stack, gateway: str, directory: Path, *arguments: str) -> list[str]:
    """A request from the internet through a gateway to webapp, which asks catalog, as a command.

    The root that the client trusts is kept in `directory`; `arguments` are more of curl's.
    """
    outputs = stack.outputs()
    root = directory / "root.pem"
    root.write_text(outputs["ingress_root_certificates"]["webapp"])
    address = outputs["ingress_gateways"][gateway]["address"]
    return [
        *enter(stack.instance, "client-a"),
        *("curl", "--silent", "--show-error", "--max-time", "5", "--cacert", str(root)),
        *("--resolve", f"webapp.istioinaction.io:443:{address}"),
        *("--output", "/dev/null", "--fail", *arguments),
        "https://webapp.istioinaction.io/api/catalog",
    ]
