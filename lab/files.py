"""Writing files so that an interrupt leaves either the old one or the new one."""

import os
import tempfile
from pathlib import Path


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """Replace `path` in one step; readable for its owner only unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(temporary).chmod(mode)
    Path(temporary).replace(path)
    return path
