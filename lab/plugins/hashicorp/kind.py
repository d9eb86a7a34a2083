"""What a resource type is to the stand-in plugin: its path in Vault, and how its properties and Vault's fields relate.

Most of what Vault has is written to a path, read from it and deleted from it, with fields that are called like the
properties: `Written`. Paths and fields follow the provider on which the package is built
(https://registry.terraform.io/providers/hashicorp/vault/latest/docs), and so do ids, defaults and what replaces.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, get_origin

from pulumi.runtime.rpc import UNKNOWN

from lab.plugins import sdk
from lab.plugins.base import Plain, PluginError, Problem
from lab.plugins.hashicorp.client import Vault

Inputs = Mapping[str, Any]
Properties = dict[str, Any]

ENTERPRISE = ("namespace", "identityTokenKey", "allowedManagedKeys", "managedKeyId", "managedKeyName")
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}


class Kind(ABC):
    """A resource type. Inputs reach it checked against the SDK, and known."""

    type: ClassVar[str]
    """The type token."""
    replaced_by: tuple[str, ...] = ()
    """The inputs whose change replaces the resource; `*` for all but those that are `taken_over`."""
    taken_over: tuple[str, ...] = ()
    """Inputs that only say how the resource is treated, not what it is."""
    defaults: Mapping[str, Any] = {}
    """What inputs are that are left out."""
    computed: tuple[str, ...] = ()
    """Inputs that Vault decides where they are left out."""
    secret: tuple[str, ...] = ()
    """Properties that are secret whatever the program says."""
    write_only: tuple[str, ...] = ()
    """Inputs that are neither kept in the outputs nor compared; a version beside them says that they changed."""
    unordered: tuple[str, ...] = ()
    """Lists whose order means nothing."""
    durations: tuple[str, ...] = ()
    """Properties that are durations, in seconds or as 1h30m."""
    json: tuple[str, ...] = ()
    """Properties that are JSON in text."""
    unsupported: tuple[str, ...] = ENTERPRISE

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        """What is wrong with inputs that fit the SDK: (property, reason). Values may be `UNKNOWN`."""
        for name in self.unsupported:
            if name in inputs:
                yield name, "needs Vault Enterprise; leave it out"
        for name in {*self.json, *self.write_only} & inputs.keys():
            if name.startswith("dataJson") and not name.endswith("Version") and not _is_object(inputs[name]):
                yield name, "is not a JSON object, as json.dumps makes it of a mapping"
        for name in self.durations:
            value = inputs.get(name)
            if value not in (None, UNKNOWN) and seconds(value) is None:
                yield name, "is no duration; it is seconds, or for example 1h30m"

    @abstractmethod
    def id(self, inputs: Inputs) -> str | None:
        """The id that follows from the inputs; None where Vault chooses it."""

    @abstractmethod
    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        """Makes the resource: its id, and the outputs that nobody can read afterwards."""

    @abstractmethod
    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        """The resource's properties as they are in Vault; None when it is gone.

        `known` is what is known of it already, empty for an import: of that comes what Vault does not tell.
        """

    @abstractmethod
    def update(self, vault: Vault, resource_id: str, inputs: Inputs, state: Inputs) -> None:
        """Changes the resource from `state` to `inputs`."""

    @abstractmethod
    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        """Takes the resource away; one that is gone already is none to complain about."""

    def replaces(self, name: str) -> bool:
        """Whether a change of this input replaces the resource."""
        return name in self.replaced_by or (self.replaced_by == ("*",) and name not in self.taken_over)

    def differs(self, name: str, before: Any, after: Any) -> bool:
        """Whether an input (`after`, None if left out) is another than the state's."""
        if after is None and name in self.computed:
            return False
        given = self.defaults.get(name) if after is None else after
        return bool(self.compared(name, before) != self.compared(name, given))

    def compared(self, name: str, value: Any) -> Any:
        """A value in the form in which two of them are the same. Nothing, and what counts as nothing, is None."""
        if name in self.durations and value != UNKNOWN:
            return seconds(value) or None
        if name in self.json and value != UNKNOWN:
            return json.loads(str(value)) if value else None
        if name in self.unordered and isinstance(value, list):
            return sorted(map(str, value)) or None
        return value or None


class Written(Kind):
    """A type whose resources are written to a path."""

    path: ClassVar[str]
    """The id, with `{property}`; the properties are part of no body, and replace the resource."""
    api: str = "{id}"
    """Where that is in Vault's API."""
    fields: Mapping[str, str] = {}
    """Property -> Vault's field, where that is not the same in snake case."""
    deletable: bool = True

    @property
    def _in_path(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)

    def replaces(self, name: str) -> bool:
        return name in self._in_path or super().replaces(name)

    def compared(self, name: str, value: Any) -> Any:
        return str(value).strip("/") if name in self._in_path and value else super().compared(name, value)

    def id(self, inputs: Inputs) -> str | None:
        values = {name: str(inputs.get(name, self.defaults.get(name, ""))).strip("/") for name in self._in_path}
        return self.path.format_map(values)

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        resource_id = str(self.id(inputs))
        vault.write(self.api.format(id=resource_id), self.body({**self.defaults, **inputs}))
        return resource_id, {}

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(self.path))
        match = re.fullmatch(pattern, resource_id)
        if match is None:
            raise PluginError(f"{resource_id!r} is no id of {self.type}; it is like {self.path}")
        found = vault.read(self.api.format(id=resource_id))
        return None if found is None else self.told(found, known) | match.groupdict()

    def update(self, vault: Vault, resource_id: str, inputs: Inputs, state: Inputs) -> None:
        left_out = {
            name: zero(self.type, name)
            for name in self._own()
            if name not in inputs and name not in self.computed and state.get(name)
        }
        defaults = {name: value for name, value in self.defaults.items() if name not in self.computed}
        vault.write(self.api.format(id=resource_id), self.body({**left_out, **defaults, **inputs}))

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        if self.deletable:
            vault.delete(self.api.format(id=resource_id))

    def body(self, values: Inputs) -> dict[str, Any]:
        """What is written to Vault."""
        return {self._field(name): whole(value) for name, value in values.items() if name in self._own()}

    def told(self, found: Inputs, known: Inputs) -> Properties:
        """The properties, of what Vault answers; what it does not tell is as it is known."""
        result: Properties = {}
        for name in self._own():
            value = found.get(self._field(name), known.get(name, self.defaults.get(name)))
            if value is not None and name not in self.write_only:
                result[name] = plain(value)
        return result

    def _own(self) -> list[str]:
        """The inputs that are fields."""
        return [name for name in sdk.inputs(self.type) if name not in (*self._in_path, *self.unsupported)]

    def _field(self, name: str) -> str:
        return self.fields.get(name) or snake(name)


def snake(name: str) -> str:
    """maxLeaseTtl -> max_lease_ttl."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def seconds(value: Any) -> int | None:
    """A duration in seconds; None for what is none."""
    if isinstance(value, (int, float)):
        return int(value)
    parts = re.findall(r"(\d+)([dhms]?)", str(value or "0"))
    if "".join(number + unit for number, unit in parts) != str(value or "0"):
        return None
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def whole(value: Any) -> Any:
    """A number of the wire as Vault takes it: there is none in its API that is not whole."""
    return int(value) if isinstance(value, float) else value


def plain(value: Any) -> Plain:
    """What Vault answers, as plain data: numbers are floats, as on the wire."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return None if value is None else value if isinstance(value, (bool, float)) else str(value)


def zero(type_: str, name: str) -> Plain:
    """What an input is that is nothing."""
    expected = sdk.outputs(type_)[name]
    if isinstance(origin := get_origin(expected), type):
        return {} if issubclass(origin, Mapping) else []
    zeros: Mapping[Any, Plain] = {str: "", bool: False, int: 0.0, float: 0.0}
    return zeros[expected]


def texts(data: Mapping[str, Any]) -> dict[str, Plain]:
    """Values as texts; those that are none, as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in data.items()}


def _is_object(text: Any) -> bool:
    if text == UNKNOWN:
        return True
    try:
        return isinstance(json.loads(str(text)), dict)
    except ValueError:
        return False
