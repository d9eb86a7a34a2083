"""Keeps the stand-in plugins away from every stack but the lab's own.

The runner marks the directory of the lab's state backend; a stand-in works only for a backend that carries that mark
and lies in the directory of the lab instance that it was started for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lab import files
from lab.instance import Instance

MARKER = ".meshgate-lab"


def mark(backend: Path) -> None:
    """Marks an existing directory as a lab's state backend."""
    # The path is in the mark, so that a copy of the directory elsewhere is not taken for the lab's.
    files.write(backend / MARKER, f"{backend.resolve()}\n")


def refusal(environment: Mapping[str, str]) -> str | None:
    """Why a stand-in must not work in this environment, or None when it is the lab's."""
    name, url = environment.get("MESHGATE_LAB"), environment.get("PULUMI_BACKEND_URL")
    if not name:
        return "MESHGATE_LAB is not set, so this is not the lab's runner"
    if not url:
        return "PULUMI_BACKEND_URL is not set, so the stack may be anywhere"
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc:
        return f"the state backend {url} is not a directory of the lab"
    backend = Path(unquote(parts.path)).resolve()
    instance = Instance(name).directory.resolve()
    if not backend.is_relative_to(instance):
        return f"the state backend {url} is not in the lab's directory {instance}"
    try:
        marked = (backend / MARKER).read_text().strip()
    except OSError:
        return f"the state backend {url} does not carry the lab's mark ({MARKER})"
    if marked != str(backend):
        return f"the state backend {url} carries the mark of another one: {marked}"
    return None
