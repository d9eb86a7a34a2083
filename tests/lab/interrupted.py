"""A command that is interrupted on its way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from tests.deployment import CHECKOUT


def interrupted(
    command: Sequence[str], seconds: float, number: int, environment: Mapping[str, str] | None = None
) -> int:
    """Start a command as a shell would, send a signal to its whole process group after a while: its exit code."""
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        start_new_session=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
        return process.wait(120)
