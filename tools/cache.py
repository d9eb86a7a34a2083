"""The cache outside the checkout that holds everything built, and the lock that keeps two builds apart."""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path


def cache_dir() -> Path:
    """The cache: `$MESHGATE_CACHE`, or `meshgate` in the user's cache directory (`$XDG_CACHE_HOME`, `~/.cache`)."""
    if own := os.environ.get("MESHGATE_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "meshgate"


@contextmanager
def locked(say: Callable[[str], None], poll: float = 0.5) -> Iterator[None]:
    """Hold the cache's lock; while another process has it, say which one, and again every 30 seconds.

    The kernel drops the lock when its holder ends, however it ends: there is no stale lock to remove.
    """
    path = cache_dir() / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        next_word = 0.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= next_word:
                    file.seek(0)
                    say(f"waiting for another build in {path.parent}: {file.read().strip() or 'just starting'}")
                    next_word = time.monotonic() + 30
                time.sleep(poll)
        file.truncate(0)
        file.write(f"pid {os.getpid()} since {datetime.now():%Y-%m-%d %H:%M:%S} ({' '.join(sys.argv[:4])})\n")
        file.flush()
        yield


@contextmanager
def staged(target: Path) -> Iterator[tuple[Path, Path]]:
    """Give an empty directory to fill and one for scratch; the filled one becomes `target` in one step.

    When the body raises, or the process is killed, `target` does not come to exist. What a killed process left
    is removed by the next one. Call it with the lock held.
    """
    staging = cache_dir() / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    directory = Path(tempfile.mkdtemp(dir=staging))
    result, scratch = directory / "result", directory / "scratch"
    result.mkdir()
    scratch.mkdir()
    try:
        yield result, scratch
        target.parent.mkdir(parents=True, exist_ok=True)
        result.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a directory's files with default permissions: Go's module cache is read-only, a copy must not be."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
