"""Errors of the toolchain, written for the person who runs it."""

from pathlib import Path


class ToolsError(Exception):
    """What went wrong, where, and what would be right; printed as it is."""


class NotBuilt(ToolsError):
    """Something of the cache is asked for that was not built yet."""

    def __init__(self, what: str, where: Path) -> None:
        super().__init__(f"{what} is not built yet (looked in {where}): run `make tools`")


class CommandFailed(ToolsError):
    """A command ended with another exit status than 0.

    The message names the command, its last lines of output, and the file with all of them.
    """

    def __init__(self, command: str, status: int, log: Path, tail: list[str]) -> None:
        lines = "\n".join(f"    {line}" for line in tail) or "    (no output)"
        super().__init__(f"`{command}` failed with exit status {status}; its last lines:\n{lines}\n  all of it: {log}")
