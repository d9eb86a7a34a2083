"""Where commands run: on this machine, in a client's place, or in a pod."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from verify.errors import VerifyError


@dataclass(frozen=True)
class Completed:
    """How a command ended and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str


class Shell(Protocol):
    """A place where a command can be run."""

    @property
    def name(self) -> str:
        """What people call it."""

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        """Run a command for at most `timeout` seconds; `stdin` is what it may read.

        Raises VerifyError when it cannot be run or does not end.
        """


@dataclass(frozen=True)
class Local:
    """This machine, or what the prefix leads to (`nsenter --net=...`); files are this machine's."""

    name: str
    prefix: tuple[str, ...] = ()

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        """Run a command, as `Shell.run` says."""
        try:
            done = subprocess.run(
                [*self.prefix, *command],
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
            )
        except OSError as error:
            raise VerifyError(f"client '{self.name}': cannot run {error.filename}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise VerifyError(f"client '{self.name}': {command[0]} did not end within {timeout:g} seconds") from None
        return Completed(done.returncode, done.stdout, done.stderr)
