"""What every part of the cache has in common: a key made from all that goes into it, and a directory of that name."""

import hashlib
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.cache import cache_dir
from tools.errors import NotBuilt
from tools.workshop import Workshop


@dataclass(frozen=True)
class Part(ABC):
    """Something that is built once. `shelf` is its place in the cache, with one directory for each key."""

    name: str

    @property
    def shelf(self) -> str:
        return f"programs/{self.name}"

    @property
    def needs(self) -> tuple["Part", ...]:
        """Parts that are built before this one."""
        return ()

    @abstractmethod
    def inputs(self) -> Iterable[bytes]:
        """Everything that decides what the part becomes, except the parts it needs."""

    @abstractmethod
    def make(self, result: Path, workshop: Workshop) -> None:
        """Fill the empty directory `result`. Raises ToolsError."""

    @property
    def key(self) -> str:
        """16 hexadecimal digits that change with anything that goes in."""
        digest = hashlib.sha256(platform.machine().encode())
        for item in [*self.inputs(), *(part.key.encode() for part in self.needs)]:
            digest.update(hashlib.sha256(item).digest())
        return digest.hexdigest()[:16]

    @property
    def directory(self) -> Path:
        return cache_dir() / self.shelf / self.key

    @property
    def built(self) -> bool:
        return self.directory.is_dir()

    def require(self) -> Path:
        """The part's directory. Raises NotBuilt."""
        if not self.built:
            raise NotBuilt(self.name, self.directory)
        return self.directory


def files_below(directory: Path) -> Iterable[bytes]:
    """Name and content of each file below a directory, in a stable order, for `Part.inputs`."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(directory)).encode()
            yield path.read_bytes()
