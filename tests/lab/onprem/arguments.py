"""The command lines of all processes, also of those that end soon."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

PAUSE = 0.01
"""Seconds between two looks at /proc."""

LOOKS = 5
"""A new process is looked at so often: it first has the arguments of the one that started it."""


class Arguments:
    """Collects the arguments of every process while the body runs."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def text(self) -> bytes:
        """All command lines so far, one a line."""
        return b"\n".join(line.replace(b"\0", b" ") for line in sorted(self._seen.copy()))

    def _run(self) -> None:
        looks: dict[str, int] = {}
        while not self._stopping.wait(PAUSE):
            processes = {entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()}
            looks = {process: looks.get(process, 0) for process in processes}
            for process in processes:
                if looks[process] < LOOKS:
                    looks[process] += 1
                    self._look(process)

    def _look(self, process: str) -> None:
        with suppress(OSError):  # it has ended
            self._seen.add(Path("/proc", process, "cmdline").read_bytes())

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
