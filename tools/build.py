"""Builds what is missing of the cache, one part after the other."""

import shutil
from collections.abc import Sequence

from tools.cache import cache_dir, locked, staged
from tools.charts import CHARTS_PART
from tools.envoy import ENVOY
from tools.errors import ToolsError
from tools.families import FAMILIES
from tools.images import REGISTRY
from tools.part import Part
from tools.progress import Progress
from tools.rootfs import ROOTFS, SERVERS
from tools.workshop import Workshop

PROGRAMS: tuple[Part, ...] = (ENVOY, *FAMILIES)
PARTS: tuple[Part, ...] = (*PROGRAMS, CHARTS_PART, ROOTFS, SERVERS, REGISTRY)


def select(names: Sequence[str]) -> list[Part]:
    """The named parts (all without names) and what they need, in building order. Raises ToolsError."""
    by_name = {part.name: part for part in PARTS}
    if unknown := [name for name in names if name not in by_name]:
        raise ToolsError(f"no such part: {', '.join(unknown)}; there are {', '.join(by_name)}")
    chosen: list[Part] = []

    def choose(part: Part) -> None:
        for need in part.needs:
            choose(need)
        if part not in chosen:
            chosen.append(part)

    for name in names or by_name:
        choose(by_name[name])
    return chosen


def build(parts: Sequence[Part], progress: Progress) -> None:
    """Build the parts that are missing. Raises ToolsError; what is finished by then stays."""
    if all(part.built for part in parts):
        progress.say("nothing to build: all is in the cache")
        return
    with locked(progress.say):
        missing = [part for part in parts if not part.built]  # another build may have made some while we waited
        for number, part in enumerate(missing, 1):
            build_one(part, f"[{number}/{len(missing)}] {part.name}", progress)


def build_one(part: Part, title: str, progress: Progress) -> None:
    log = cache_dir() / "log" / f"{part.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    try:
        with progress.step(title) as step, staged(part.directory) as (result, scratch):
            part.make(result, Workshop(scratch, log, step.tick))
    except ToolsError as error:
        raise ToolsError(f"{part.name} could not be built: {error}") from error


def prune(progress: Progress) -> None:
    """Remove from the cache what no present go.mod or source asks for: the directories of old keys."""
    with locked(progress.say):
        for shelf, keep in shelves().items():
            directory = cache_dir() / shelf
            for old in sorted(directory.iterdir()) if directory.is_dir() else []:
                if old.name != keep:
                    progress.say(f"removing {old}")
                    shutil.rmtree(old)


def shelves() -> dict[str, str]:
    """Each shelf of the cache with the key that is in use."""
    return {part.shelf: part.key for part in PARTS}
