"""Errors that the person who runs the lab can act on."""

from pathlib import Path


class LabError(Exception):
    """What is wrong, where, and what would be right; printed as it is."""


class NotStarted(LabError):
    """A part of the lab did not come up; the message carries its last log lines and where the log is."""

    def __init__(self, part: str, reason: str, log: Path, lines: int = 15) -> None:
        tail = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
        shown = "\n".join(f"    {line}" for line in tail) or "    (empty)"
        super().__init__(f"{part} {reason}. The last lines of its log:\n{shown}\n  The whole log: {log}")
