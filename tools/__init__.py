"""Pins, builds and finds the programs, charts and images of the lab. `python -m tools --help` for the commands."""

from pathlib import Path

from tools.build import PROGRAMS
from tools.cache import cache_dir
from tools.charts import CHARTS_PART
from tools.errors import NotBuilt, ToolsError
from tools.images import REGISTRY

__all__ = [
    "NotBuilt",
    "ToolsError",
    "cache_dir",
    "charts_dir",
    "program",
    "programs_path",
    "registry_dir",
]


def programs_path() -> list[Path]:
    """The directories of all built programs, for PATH. Raises NotBuilt when one is missing."""
    return [part.require() for part in PROGRAMS]


def program(name: str) -> Path:
    """The path of one program, such as `kubectl`. Raises NotBuilt."""
    for part in PROGRAMS:
        if (path := part.directory / name).is_file():
            return path
    raise NotBuilt(name, cache_dir() / "programs")


def charts_dir() -> Path:
    """The directory that holds Istio's charts `base`, `istiod` and `gateway`. Raises NotBuilt."""
    return CHARTS_PART.require()


def registry_dir() -> Path:
    """The storage of a docker-registry that has all images. Raises NotBuilt."""
    return REGISTRY.require()
