"""What exists in a lab's simulated cloud, and the failures that tests ordered: one JSON file per cloud.

The file outlives the plugin's processes and ends with the lab. It is read and written under a lock, because several
plugins (one per provider resource and run of Pulumi) share it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from lab import files
from lab.instance import Instance
from lab.plugins.errors import PluginError

FailureKind = Literal["quota", "permission", "timeout", "lost"]
FAILURES: tuple[str, ...] = get_args(FailureKind)


@dataclass
class Record:
    """One resource that exists."""

    type: str
    """Its type token, as `gcp:compute/network:Network`."""

    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    finished: bool = True
    """False after an order that timed out half-way: the next update or refresh finds it finished."""

    part_of: str = ""
    """The key of the resource that brought it along and takes it away again, as a VPC its default security group."""

    @property
    def key(self) -> str:
        """What no other resource has."""
        return f"{self.type} {self.id}"


@dataclass
class Failure:
    """An ordered failure: what fits it fails `times` times."""

    failure: FailureKind
    type: str = "*"
    """Type tokens, with `*` for anything, for example `gcp:container/*`."""

    name: str = "*"
    """The resource's name in the program, with `*` for anything."""

    operation: Literal["create", "update", "delete"] = "create"
    times: int = 1


@dataclass
class World:
    """All that exists in a simulated cloud."""

    records: dict[str, Record] = field(default_factory=dict)
    """By their keys."""

    switched_on: dict[str, list[str]] = field(default_factory=dict)
    """By project (or account): the services that are switched on."""

    failures: list[Failure] = field(default_factory=list)

    def of(self, type_: str) -> Iterator[Record]:
        """What exists of a type."""
        return (record for record in self.records.values() if record.type == type_)

    def ordered(self, operation: str, type_: str, name: str) -> str | None:
        """The failure that was ordered for this operation, if one was; it is used up."""
        for failure in self.failures:
            if failure.operation == operation and fnmatchcase(type_, failure.type) and fnmatchcase(name, failure.name):
                failure.times -= 1
                self.failures = [other for other in self.failures if other.times > 0]
                return failure.failure
        return None


def _text(world: World) -> str:
    """The world in JSON, one resource on a line: to be read and edited, and quickly written."""
    records = ",\n".join(f"{json.dumps(key)}: {json.dumps(vars(record))}" for key, record in world.records.items())
    failures = json.dumps([vars(failure) for failure in world.failures])
    return (
        f'{{"records": {{\n{records}\n}},\n"switched_on": {json.dumps(world.switched_on)},\n"failures": {failures}}}\n'
    )


class Store:
    """The file of one cloud in a lab."""

    def __init__(self, instance: Instance, cloud: str) -> None:
        self.file = instance.directory / "clouds" / f"{cloud}.json"

    @contextmanager
    def open(self) -> Iterator[World]:
        """The world, for nobody else meanwhile; what was changed in it is kept, also when the block raises."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.file.read_text() if self.file.exists() else ""
            world = self._read(before)
            try:
                yield world
            finally:
                if (after := _text(world)) != before:
                    files.write(self.file, after)

    def order(self, failures: Iterable[Failure]) -> None:
        """Orders failures, in place of those that were ordered before."""
        with self.open() as world:
            world.failures = list(failures)

    def _read(self, text: str) -> World:
        try:
            content = json.loads(text or "{}")
            world = World(
                records={key: Record(**record) for key, record in content.get("records", {}).items()},
                switched_on=content.get("switched_on", {}),
                failures=[Failure(**failure) for failure in content.get("failures", [])],
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise PluginError(f"{self.file} is not a simulated cloud any more: {error}") from None
        for failure in world.failures:
            if failure.failure not in FAILURES:
                raise PluginError(f"{self.file}: there is no failure {failure.failure!r}, only {', '.join(FAILURES)}")
        return world
