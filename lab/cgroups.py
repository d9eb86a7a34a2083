"""The cgroups of the lab's nodes, in every hierarchy that the machine has (cgroup v1, v2 or both)."""

import time
from pathlib import Path

from lab.errors import LabError

ROOT = Path("/sys/fs/cgroup")


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The mounted hierarchies: the directory itself with cgroup v2, its directories with v1 (`unified` is both's)."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def create(path: str, root: Path = ROOT) -> None:
    """Make a cgroup, such as `meshgate/dev/app-1`, with all controllers of its parents. Idempotent."""
    for hierarchy in hierarchies(root):
        cgroup = hierarchy
        for part in Path(path).parts:
            available = cgroup / "cgroup.controllers"  # exists in v2 alone, where each level hands controllers down
            if available.exists():
                wanted = " ".join(f"+{name}" for name in available.read_text().split())
                (cgroup / "cgroup.subtree_control").write_text(wanted)
            cgroup = cgroup / part
            cgroup.mkdir(exist_ok=True)


def delete(path: str, root: Path = ROOT, timeout: float = 10) -> None:
    """Remove a cgroup and all below it; its parents too when they are empty. No process may be left in it."""
    end = time.monotonic() + timeout
    for hierarchy in hierarchies(root):
        top = hierarchy / path
        while top.exists():
            try:
                _remove(top)
            except OSError as error:  # the kernel takes a moment to forget ended processes
                if time.monotonic() > end:
                    raise LabError(f"cannot remove the cgroup {top}: {error.strerror}") from error
                time.sleep(0.1)
        for parent in list(top.parents)[: len(Path(path).parts) - 1]:
            try:
                parent.rmdir()
            except OSError:
                break  # another lab's, or never made


def _remove(cgroup: Path) -> None:
    for child in cgroup.iterdir():
        if child.is_dir():
            _remove(child)
    cgroup.rmdir()
