"""A simulated cloud: a stand-in for the plugin of a cloud's SDK, with every resource type of that SDK.

Types, required arguments and outputs come from the SDK (sdk.py); what exists is kept in the lab (store.py). A cloud
adds what no SDK says, for the types that matter (`Kind`): ids, what a change replaces, who refers to whom, defaults,
outputs that a program reads, and rules. Everything else gets plausible values by name and type.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast, get_args, get_origin

from pulumi import _types as pulumi_types
from pulumi.provider.experimental.provider import (
    CheckRequest,
    CheckResponse,
    ConfigureRequest,
    ConfigureResponse,
    CreateRequest,
    CreateResponse,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    InvokeRequest,
    InvokeResponse,
    PropertyDiff,
    ReadRequest,
    ReadResponse,
    UpdateRequest,
    UpdateResponse,
)
from pulumi.runtime.rpc import UNKNOWN

from lab.instance import Instance
from lab.plugins import sdk
from lab.plugins.base import (
    Plain,
    Plugin,
    PluginError,
    Problem,
    Unfinished,
    change,
    checked,
    contains_unknown,
    named,
    plain_map,
    token,
    wire,
    wired,
)
from lab.plugins.store import Record, Store, World

Properties = dict[str, Plain]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the SDK does not say of a resource type. Paths are as on the wire, `a.b[].c` for every element of a list."""

    id: str | Callable[[Mapping[str, Any]], str] = ""
    """The id, with `{property}` and `{random}`, or a function of those; no two resources of a type share one."""

    unique: str = ""
    """What else no two resources of the type share, with `{property}`; what is left out counts as empty."""

    replaced_by: tuple[str, ...] = ()
    """The properties whose change replaces the resource, beside the cloud's `places`; `*` for all."""

    holds: Mapping[str, str] = field(default_factory=dict)
    """Property -> type of what it names: that must exist, and cannot be deleted as long as this resource is there."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Property -> type of what it names: that must exist when this resource is made, no longer."""

    defaults: Mapping[str, Plain] = field(default_factory=dict)
    """Outputs that are known before the resource is made, where the inputs do not give them."""

    computed: Mapping[str, Plain | Callable[[Mapping[str, Any]], Plain]] = field(default_factory=dict)
    """Outputs that the cloud decides: a text with `{property}` and `{id}`, or a function of all those."""

    renewed: tuple[str, ...] = ()
    """Those of `computed` that every update changes; their functions see the value before."""

    errors: Mapping[str, str] = field(default_factory=dict)
    """The cloud's words for this type, where it has its own; with the properties besides (see `Cloud.errors`)."""

    rule: Callable[[World, Record, str], None] = lambda world, record, operation: None
    """Raises PluginError where the cloud refuses to create, update or delete."""

    shared: bool = False
    """Making it a second time is no error, it is the same thing then."""


_LABELS = ("effectiveLabels", "pulumiLabels", "tagsAll")
"""Outputs that repeat a resource's labels, with those of its provider."""


class Cloud(Plugin):
    """Answers the engine for all of a cloud's SDK."""

    compares_inputs = True

    places: tuple[str, ...] = ()
    """The inputs that say where a resource is; left out, they are the provider's."""

    autonamed: tuple[str, ...] = ("name",)
    """Optional inputs that get a name made up from the resource's, where the program gives none."""

    errors: Mapping[str, str] = {}
    """The cloud's words for `exists`, `missing`, `in_use`, `not_ready`, `quota`, `permission`, `timeout` and `lost`,
    with `{type}`, `{id}` and `{other}`."""

    def __init__(self, package: str, version: str, kinds: Mapping[str, Kind]) -> None:
        super().__init__(package, version)
        self.kinds = kinds
        self.settings: Properties = {}
        """The provider's own inputs."""

    # --- what a cloud may add ---

    def same_name(self, text: str) -> str:
        """One form for the forms in which the cloud lets a resource be named."""
        return text

    def default_id(self, type_: str, values: Mapping[str, Any]) -> str:
        """The id of a resource whose type has no entry in `kinds`."""
        raise NotImplementedError

    def invalid(self, type_: str, inputs: Properties) -> Iterable[Problem]:
        """What the real plugin finds wrong with inputs before it asks the cloud. Values may be `UNKNOWN`."""
        return ()

    def always_there(self, type_: str, text: str) -> bool:
        """Whether a reference means what the cloud itself provides, which is no resource of anybody."""
        return False

    def refers(self, text: str) -> bool:
        """Whether a text, in a resource whose type has no entry in `kinds`, looks like a reference."""
        return "/" in text

    def switched_on(self, world: World, record: Record) -> None:
        """Raises PluginError when the cloud's service for this resource is off."""

    def function(self, name: str, arguments: Mapping[str, Plain]) -> Properties | None:
        """What one of the cloud's functions answers; None for those that only look a resource up."""
        return None

    def plausible(self, type_: str, name: str, expected: Any, values: Mapping[str, Any]) -> Plain:
        """A value that an output of this name and type could have; `values` are what is known, the id too."""
        if isinstance(origin := get_origin(expected), type):
            if issubclass(origin, Mapping):
                return dict(values.get("labels") or values.get("tags") or {}) if name in _LABELS else {}
            return []
        if expected is bool:
            return False
        key, id_ = name.lower(), str(values["id"])
        if expected in (int, float):
            return float(digits(id_, 9)) if key.endswith(("id", "number", "generation")) else 0.0
        if key.endswith(("time", "timestamp", "timecreated", "updated")):
            return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if key.endswith(("number", "uniqueid", "numericid", "generation")):
            return digits(id_)
        if key == "name":
            return id_.rsplit("/", 1)[-1]
        if key in ("state", "status"):
            return "ACTIVE"
        if key.endswith("address"):
            return f"192.0.2.{int(digits(id_, 3)) % 254 + 1}"
        if key.endswith(("url", "uri", "link", "endpoint")):
            return f"https://simulated.invalid/{id_}"
        return f"{name}-{digits(id_ + name, 8)}"

    # --- the engine's questions ---

    async def check_config(self, request: CheckRequest) -> CheckResponse:
        found = sdk.problems(f"pulumi:providers:{self.package}", plain_map(request.new_inputs))
        # Every provider may carry the version of its plugin.
        problems = [(path, reason) for path, reason in found if path not in ("version", "pluginDownloadURL")]
        return CheckResponse(inputs=request.new_inputs, failures=checked(request, problems))

    async def configure(self, request: ConfigureRequest) -> ConfigureResponse:
        self.settings = {**request.variables, **plain_map(request.args)}
        return await super().configure(request)

    async def check(self, request: CheckRequest) -> CheckResponse:
        type_ = token(request.type)
        given = named(request, self._known(type_).keys() - sdk.required(type_), self.autonamed)
        inputs = plain_map(given)
        return CheckResponse(inputs=given, failures=checked(request, self._problems(type_, inputs)))

    async def diff(self, request: DiffRequest) -> DiffResponse:
        kind = self.kind(token(request.type))
        old, new = plain_map(request.old_state), plain_map(request.new_inputs)
        changes: dict[str, PropertyDiff] = {}
        replaces: list[str] = []
        for path, before, after in _changes(old, new):
            if replace := _covered(re.sub(r"\[\d+\]", "[]", path), (*self.places, *self.autonamed, *kind.replaced_by)):
                replaces.append(path)
            changes[path] = PropertyDiff(change(before, after, replace=replace), input_diff=True)
        type_ = token(request.type)
        same = bool(replaces) and not contains_unknown(new) and self._same(type_, request.resource_id, old, new)
        return DiffResponse(
            changes=bool(changes),
            replaces=replaces,
            diffs=list(dict.fromkeys(re.split(r"[.\[]", path)[0] for path in changes)),
            detailed_diff=changes,
            # The new one cannot be made beside the old one when both have the same name.
            delete_before_replace=same,
        )

    async def create(self, request: CreateRequest) -> CreateResponse:
        self.guard()
        type_, inputs = token(request.type), plain_map(request.properties)
        if request.preview:
            return CreateResponse(properties=wired(request.properties, self._outputs(type_, inputs, None)))
        with self._store().open() as world:
            resource_id = self._id(type_, inputs)
            record = Record(type_, resource_id, inputs, self._outputs(type_, inputs, resource_id))
            self.switched_on(world, record)
            failure = world.ordered("create", type_, request.name)
            if failure in ("quota", "permission"):
                raise self._error(failure, record)
            if not self.kind(type_).shared and self._taken(world, record):
                raise self._error("exists", record)
            self._find_all(world, record)
            self.kind(type_).rule(world, record, "create")
            record.finished = failure is None
            world.records[record.key] = record
        properties = wired(request.properties, record.outputs)
        if failure == "lost":
            raise self._error("lost", record)
        if failure:
            raise Unfinished(str(self._error("timeout", record)), resource_id, properties)
        return CreateResponse(resource_id=resource_id, properties=properties)

    async def update(self, request: UpdateRequest) -> UpdateResponse:
        self.guard()
        type_, inputs = token(request.type), plain_map(request.news)
        outputs = self._outputs(type_, inputs, request.resource_id, plain_map(request.olds))
        if request.preview:
            for path in self.kind(type_).renewed:
                outputs[path] = UNKNOWN
            return UpdateResponse(properties=wired(request.news, outputs))
        record = Record(type_, request.resource_id, inputs, outputs)
        with self._store().open() as world:
            failure = world.ordered("update", type_, request.name)
            if failure in ("quota", "permission"):
                raise self._error(failure, record)
            if record.key not in world.records:
                raise self._error("missing", record)
            self._find_all(world, record)
            self.kind(type_).rule(world, record, "update")
            record.finished = failure is None
            world.records[record.key] = record
        properties = wired(request.news, record.outputs)
        if failure:
            raise Unfinished(str(self._error("timeout", record)), record.id, properties)
        return UpdateResponse(properties=properties)

    async def read(self, request: ReadRequest) -> ReadResponse:
        self.guard()
        type_ = token(request.type)
        with self._store().open() as world:
            record = self._look_up(world, type_, request.resource_id, {})
            if record is None:
                return ReadResponse("", properties={}, inputs={})
            record.finished = True
        known = plain_map(request.inputs)
        # An import knows no inputs yet; a refresh looks at those that the program gave.
        names = known.keys() if known else record.inputs.keys()
        inputs = wired(request.inputs, {name: record.inputs.get(name) for name in names})
        return ReadResponse(record.id, properties=wired(request.properties, record.outputs), inputs=inputs)

    async def delete(self, request: DeleteRequest) -> None:
        self.guard()
        type_ = token(request.type)
        with self._store().open() as world:
            record = world.records.get(Record(type_, request.resource_id, {}, {}).key)
            if record is None:
                return  # somebody else was faster
            failure = world.ordered("delete", type_, request.name)
            if failure in ("quota", "permission"):
                raise self._error(failure, record)
            for other in self._holders(world, record):
                if other.part_of != record.key:
                    raise self._error("in_use", record, other.id)
            self.kind(type_).rule(world, record, "delete")
            if failure != "timeout":
                self._remove(world, record)
        if failure:
            raise self._error("timeout", record)

    async def invoke(self, request: InvokeRequest) -> InvokeResponse:
        self.guard()
        arguments = plain_map(request.args)
        if (answer := self.function(request.tok, arguments)) is not None:
            return InvokeResponse({name: wire(value) for name, value in answer.items()})
        # gcp:compute/getNetwork:getNetwork looks for a gcp:compute/network:Network with these properties.
        match = re.fullmatch(r"(\w+:[\w/]+/)get(\w)(\w*):get\w+", request.tok)
        if not match:
            raise PluginError(f"{request.tok}: the lab's {self.package} stand-in has no such function")
        type_ = f"{match[1]}{match[2].lower()}{match[3]}:{match[2]}{match[3]}"
        wanted = self._places() | arguments
        with self._store().open() as world:
            for record in world.of(type_):
                if all(record.outputs.get(key, value) == value for key, value in wanted.items()):
                    return InvokeResponse(
                        {name: wire(value) for name, value in (record.outputs | {"id": record.id}).items()}
                    )
        raise self._error("missing", Record(type_, str(arguments.get("name", "")), {}, {}))

    # --- ids and references ---

    def kind(self, type_: str) -> Kind:
        """What is known of a type beside the SDK."""
        return self.kinds.get(type_, Kind())

    def _store(self) -> Store:
        return Store(Instance(os.environ["MESHGATE_LAB"]), self.package)

    def _known(self, type_: str) -> Mapping[str, Any]:
        try:
            return sdk.inputs(type_)
        except sdk.UnknownType as error:
            raise PluginError(str(error)) from None

    def _problems(self, type_: str, inputs: Properties) -> list[Problem]:
        problems = list(sdk.problems(type_, inputs))
        values, template = self._values(type_, inputs), self.kind(type_).id
        for name in self.places:
            if isinstance(template, str) and f"{{{name}}}" in template and name not in values:
                problems.append((name, f"is required: set it here or on the provider of {self.package}"))
        return problems or list(self.invalid(type_, inputs))

    def _places(self) -> Properties:
        return {name: self.settings[name] for name in self.places if name in self.settings}

    def _taken(self, world: World, record: Record) -> bool:
        """Whether another resource has what no two may share."""
        unique = self._unique(record.type, record.inputs)
        return record.key in world.records or any(
            unique and self._unique(other.type, other.inputs) == unique for other in world.of(record.type)
        )

    def _unique(self, type_: str, inputs: Properties) -> str:
        return self.kind(type_).unique.format_map(_Blank(self._values(type_, inputs)))

    def _same(self, type_: str, resource_id: str, old: Properties, new: Properties) -> bool:
        """Whether a resource's successor would be taken for itself."""
        unique = self._unique(type_, new)
        return self._id(type_, new) == resource_id or bool(unique and unique == self._unique(type_, old))

    def _holders(self, world: World, record: Record) -> Iterator[Record]:
        """What keeps a resource in use."""
        for other in world.records.values():
            if other is not record and any(self._is(record, *named) for named in self._named(other, held=True)):
                yield other

    def _remove(self, world: World, record: Record) -> None:
        """Takes a resource away, with what it brought along; what of that is in use by now stays, as nobody's."""
        world.records.pop(record.key, None)
        for part in [other for other in world.records.values() if other.part_of == record.key]:
            part.part_of = ""
            if not any(self._holders(world, part)):
                self._remove(world, part)

    def _values(self, type_: str, inputs: Mapping[str, Plain]) -> dict[str, Any]:
        """The inputs, with the provider's places and the defaults where they give none."""
        defaults = {name: value for name, value in self.kind(type_).defaults.items() if "." not in name}
        places = {name: value for name, value in self._places().items() if name in self._known(type_)}
        return defaults | places | dict(inputs)

    def _id(self, type_: str, inputs: Mapping[str, Plain]) -> str:
        kind, values = self.kind(type_), self._values(type_, inputs)
        if not kind.id:
            return self.default_id(type_, values)
        # Whatever way another resource is named by, in an id it is its name.
        ends = {name: str(values[name]).rsplit("/", 1)[-1] for name in (*kind.holds, *kind.names) if name in values}
        given = values | ends | {"random": secrets.token_hex(8)}
        return kind.id(given) if callable(kind.id) else kind.id.format_map(given)

    def _named(self, record: Record, *, held: bool) -> Iterator[tuple[str, str, str, Record]]:
        """What a record refers to: (property, type, text, the record itself); only what it keeps in use, if `held`."""
        kind = self.kind(record.type)
        for path, type_ in (kind.holds if held else {**kind.holds, **kind.names}).items():
            for where, value in values_at(record.inputs, path):
                if isinstance(value, str) and value:
                    yield where, type_, value, record
        if record.type not in self.kinds:
            for where, value in leaves(record.inputs):
                if isinstance(value, str) and self.refers(value):
                    yield where, "", value, record

    def _is(self, record: Record, where: str, type_: str, text: str, by: Record) -> bool:
        """Whether `by` means this record when it says `text`."""
        if type_ and type_ != record.type:
            return False
        text = self.same_name(text)
        outputs = record.outputs
        if text in {
            record.id,
            *(self.same_name(outputs[key]) for key in ("selfLink", "arn", "email") if key in outputs),
        }:
            return True
        if not type_ or "/" in text or text not in (record.id.rsplit("/", 1)[-1], outputs.get("name")):
            return False
        # A name alone means the one in the same place, unless it says beside it (as membershipLocation) where that is.
        beside = {place: by.inputs.get(f"{where}{place.capitalize()}") for place in self.places}
        mine = self._values(by.type, by.inputs) | {place: value for place, value in beside.items() if value}
        return all(mine[place] == outputs[place] for place in self.places if place in mine and place in outputs)

    def _look_up(self, world: World, type_: str, text: str, inputs: Properties) -> Record | None:
        by = Record(type_, "", inputs, {})
        return next((record for record in world.of(type_) if self._is(record, "", type_, text, by)), None)

    def _find_all(self, world: World, record: Record) -> None:
        """Raises PluginError unless everything exists that a record refers to."""
        for where, type_, text, by in self._named(record, held=False):
            if not type_ or self.always_there(type_, text):
                continue
            found = next((other for other in world.of(type_) if self._is(other, where, type_, text, by)), None)
            if found is None:
                raise self._error("missing", Record(type_, text, {}, {}), f" ({where} of {record.id})")
            if not found.finished:
                raise self._error("not_ready", found)

    def _error(self, code: str, record: Record, other: str = "") -> PluginError:
        words = self.kind(record.type).errors.get(code) or self.errors[code]
        known = {"type": record.type.rsplit(":", 1)[1], "id": record.id, "other": other}
        return PluginError(words.format_map(_Blank(record.inputs | known)))

    # --- outputs ---

    def _outputs(
        self, type_: str, inputs: Properties, resource_id: str | None, old: Properties | None = None
    ) -> Properties:
        """A resource's outputs; what only the cloud can know is `UNKNOWN` as long as there is no id."""
        kind, unknown = self.kind(type_), contains_unknown(inputs)
        values = {**kind.defaults, **self._values(type_, inputs), "id": resource_id or UNKNOWN}
        cls, outputs = sdk.resource(type_), cast(Properties, {})

        def made(path: str, expected: Any) -> Plain:
            name = path.rsplit(".", 1)[-1]
            if path in kind.defaults:
                return kind.defaults[path]
            if name in self.places and name in values and "." not in path:
                return cast(Plain, values[name])
            if resource_id is None:
                return UNKNOWN
            if (decided := kind.computed.get(path)) is not None:
                given = values | outputs
                if callable(decided):
                    return decided(given | {path: (old or {}).get(path)} if path in kind.renewed else given)
                return decided.format_map(given) if isinstance(decided, str) else decided
            return self.plausible(type_, name, expected, values)

        def filled(path: str, expected: Any, given: Plain, before: Plain) -> Plain:
            if given == UNKNOWN:
                return given
            if isinstance(expected, type) and pulumi_types.is_output_type(expected):
                present, earlier = _mapping(given), _mapping(before)
                types, must = pulumi_types.output_type_types(expected), sdk.always(expected)
                return object_(types, must, present, earlier, f"{path}.")
            if isinstance(given, list) and (item := get_args(expected)):
                return [filled(f"{path}[]", item[0], element, None) for element in given]
            if given is not None:
                return given
            return made(path, expected) if before is None or (follows(path) and not unknown) else before

        def follows(path: str) -> bool:
            """Whether an output changes with the inputs."""
            decided = kind.computed.get(path)
            return path in _LABELS or callable(decided) or (isinstance(decided, str) and "{" in decided)

        def object_(
            types: Mapping[str, Any], must: Any, given: Properties, before: Properties, prefix: str
        ) -> Properties:
            result: Properties = dict(given)
            for name, expected in types.items():
                path = f"{prefix}{name}"
                decided = any(
                    known == path or known.startswith(f"{path}.") for known in (*kind.defaults, *kind.computed)
                )
                if name in given or name in must or decided:
                    result[name] = filled(path, expected, given.get(name), before.get(name))
                    if not prefix:
                        outputs[name] = result[name]
            return result

        return object_(sdk.outputs(type_), sdk.always(cls), inputs, old or {}, "")


class _Blank(dict[str, Any]):
    """Values of which a text may name some that are not there."""

    def __missing__(self, key: str) -> str:
        return ""


def values_at(data: Plain, path: str, prefix: str = "") -> Iterator[tuple[str, Plain]]:
    """The values at a path such as `a.b[].c`, each with where it stands."""
    name, _, rest = path.partition(".")
    key = name.removesuffix("[]")
    value = data.get(key) if isinstance(data, dict) else None
    where = f"{prefix}{key}"
    found = [(where, value)]
    if name.endswith("[]"):
        found = [(f"{where}[{index}]", item) for index, item in enumerate(value if isinstance(value, list) else [])]
    for place, item in found:
        if rest:
            yield from values_at(item, rest, f"{place}.")
        elif item is not None:
            yield place, item


def leaves(value: Plain, path: str = "") -> Iterator[tuple[str, Plain]]:
    """The values at the ends of nested data, each with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _changes(old: Plain, new: Plain, path: str = "") -> Iterator[tuple[str, bool, bool]]:
    """The smallest parts that differ: (path, whether it was there, whether it is there)."""
    if old == new:
        return
    if isinstance(old or {}, dict) and isinstance(new or {}, dict) and (old or new):
        before, after = _mapping(old), _mapping(new)
        for key in dict.fromkeys([*before, *after]):
            yield from _changes(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old or [], list) and isinstance(new or [], list) and (old or new):
        earlier, later = old if isinstance(old, list) else [], new if isinstance(new, list) else []
        for index in range(max(len(earlier), len(later))):
            before_it, after_it = (items[index] if index < len(items) else None for items in (earlier, later))
            yield from _changes(before_it, after_it, f"{path}[{index}]")
    else:
        yield path, old is not None, new is not None


def _covered(path: str, patterns: tuple[str, ...]) -> bool:
    return any(
        pattern == "*" or path == pattern or path.startswith((f"{pattern}.", f"{pattern}[")) for pattern in patterns
    )


def _mapping(value: Plain) -> Properties:
    return value if isinstance(value, dict) else {}


def digits(text: str, length: int = 19) -> str:
    """A number that a text always gets, as the clouds give numbers to things."""
    return str(int(hashlib.sha256(text.encode()).hexdigest(), 16))[:length]
