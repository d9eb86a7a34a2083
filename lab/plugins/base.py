"""What all stand-in plugins share: guard, schema check, diff, and errors that a person can read.

`Plugin` is any stand-in, on Pulumi's Python provider SDK. `StandIn` is one that is a table of resource types: a type
names its properties (`Property`) and says how its outputs come about (`Resource`), and everything that the engine asks
for is answered from that. A simulated cloud (cloud.py) takes its types from the SDK instead, and the stand-in for
Vault's (vault.py) asks a real Vault.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import grpc  # type: ignore[import-untyped]
import pulumi
from google.protobuf import json_format  # type: ignore[import-untyped]
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import (
    CheckFailure,
    CheckRequest,
    CheckResponse,
    ConfigureRequest,
    ConfigureResponse,
    CreateRequest,
    CreateResponse,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    GetSchemaRequest,
    GetSchemaResponse,
    InvokeRequest,
    InvokeResponse,
    PropertyDiff,
    PropertyDiffKind,
    Provider,
    ReadRequest,
    ReadResponse,
    UpdateRequest,
    UpdateResponse,
)
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.errors import PluginError as PluginError
from lab.plugins.guard import refusal

Plain = None | bool | float | str | list["Plain"] | dict[str, "Plain"]
"""A property's value without secret marks. A value that is not known yet (in a preview) is the string `UNKNOWN`."""

Problem = tuple[str, str]
"""The path of a property, and what is wrong with it: words that continue the path to a sentence."""

Kind = Literal["string", "integer", "number", "boolean", "list", "object"]

_NAMES: dict[Kind, str] = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "object": "an object",
}


class Unfinished(PluginError):
    """An order that failed half-way: the resource exists and stays in the state; the next `up` goes on with it."""

    def __init__(self, message: str, resource_id: str, properties: dict[str, PropertyValue]) -> None:
        super().__init__(message)
        self.resource_id = resource_id
        self.properties = properties


@dataclass(frozen=True, kw_only=True)
class Property:
    """One property of a resource type, named as on the wire (camelCase)."""

    kind: Kind
    item: Property | None = None
    """Of a list: what its elements are."""
    fields: Mapping[str, Property] = field(default_factory=dict)
    """Of an object: its properties."""
    required: bool = False
    secret: bool = False
    """The value is always secret in the state, whatever the program says."""
    values: tuple[str, ...] = ()
    """Of a string: the values that are allowed; any, if empty."""
    minimum: int | None = None
    default: Plain = None
    """What the outputs show when an input is left out; of a computed output, what is known already in a preview."""
    in_place: bool = False
    """A change is taken over without replacing the resource."""
    write_only: bool = False
    """The value is neither kept in the outputs nor compared."""


class Resource(ABC):
    """A resource type. Inputs reach it checked against `inputs`, and known."""

    def __init__(self, *, inputs: Mapping[str, Property], computed: Mapping[str, Property]) -> None:
        """
        :param inputs: what a program gives; the outputs show it too.
        :param computed: the further outputs.
        """
        self.inputs = inputs
        self.computed = computed

    def problems(self, inputs: Mapping[str, Plain]) -> Iterator[Problem]:
        """What is wrong with inputs that are right by themselves: (property, reason). Values may be `UNKNOWN`."""
        yield from ()

    @abstractmethod
    def create(self, inputs: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]]:
        """Makes the resource: its id and computed outputs."""

    def refresh(self, state: Mapping[str, Plain]) -> dict[str, Plain]:
        """The computed outputs that differ by now from the state."""
        return {}

    def renewals(self, state: Mapping[str, Plain], inputs: Mapping[str, Plain]) -> list[str]:
        """The computed outputs that force a replacement although no input changed."""
        return []


def plain(value: PropertyValue) -> Plain:
    """A value from the wire as plain data."""
    content = value.value
    if content is None or isinstance(content, (bool, float, str)):
        return content
    if isinstance(content, Mapping):
        return {key: plain(item) for key, item in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(item) for item in content]
    if isinstance(content, (pulumi.Asset, pulumi.Archive)):
        # As on the wire: a mapping that says what it is.
        return cast(Plain, json_format.MessageToDict(value.marshal()))
    raise PluginError(f"a {value.type.value.lower()} value is not supported by the lab's stand-in plugins")


def wire(value: Plain, *, secret: bool = False) -> PropertyValue:
    """Plain data for the wire."""
    if isinstance(value, Mapping):
        return PropertyValue({key: wire(item) for key, item in value.items()}, is_secret=secret)
    if isinstance(value, list):
        return PropertyValue([wire(item) for item in value], is_secret=secret)
    if isinstance(value, int) and not isinstance(value, bool):
        value = float(value)  # the wire knows one type of number, and the SDK takes no int for it
    return PropertyValue(value, is_secret=secret)


def plain_map(properties: Mapping[str, PropertyValue]) -> dict[str, Plain]:
    """Properties as plain data. A null counts as left out."""
    return {key: item for key, value in properties.items() if (item := plain(value)) is not None}


def contains_unknown(value: Plain) -> bool:
    """Whether a value, or a part of it, is not known yet."""
    if isinstance(value, dict):
        return any(contains_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(contains_unknown(item) for item in value)
    return value == UNKNOWN


def violations(properties: Mapping[str, Property], values: Mapping[str, Plain], path: str = "") -> Iterator[Problem]:
    """Where values do not fit their properties."""
    for name in values:
        if name not in properties:
            known = ", ".join(sorted(properties))
            yield f"{path}{name}", f"is not a property here; there are: {known}"
    for name, prop in properties.items():
        if name in values:
            yield from _misfit(prop, values[name], f"{path}{name}")
        elif prop.required:
            yield f"{path}{name}", f"is required: {_NAMES[prop.kind]}"


def _misfit(prop: Property, value: Plain, path: str) -> Iterator[Problem]:
    if value == UNKNOWN:
        return
    fits = {
        "string": isinstance(value, str),
        "integer": isinstance(value, float) and value.is_integer(),
        "number": isinstance(value, float),
        "boolean": isinstance(value, bool),
        "list": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    if not fits[prop.kind]:
        # The value itself stays out of the message: it may be a secret.
        yield path, f"must be {_NAMES[prop.kind]}, not {_described(value)}"
    elif isinstance(value, list) and prop.item:
        for index, item in enumerate(value):
            yield from _misfit(prop.item, item, f"{path}[{index}]")
    elif isinstance(value, dict) and prop.fields:
        present = {name: item for name, item in value.items() if item is not None}
        yield from violations(prop.fields, present, f"{path}.")
    elif prop.values and value not in prop.values:
        yield path, f"is {value!r}, but must be one of: {', '.join(prop.values)}"
    elif prop.minimum is not None and isinstance(value, float) and value < prop.minimum:
        yield path, f"is {value:g}, but must be at least {prop.minimum}"


def _described(value: Plain) -> str:
    if value is None:
        return "null"
    kind: Kind = (
        "boolean" if isinstance(value, bool) else
        "number" if isinstance(value, float) else
        "string" if isinstance(value, str) else
        "list" if isinstance(value, list) else
        "object"
    )  # fmt: skip
    return _NAMES[kind]


class Plugin(Provider):
    """What every stand-in plugin does."""

    compares_inputs = False
    """Whether `diff` gets the old inputs, not the old outputs, as the old state."""

    def __init__(self, package: str, version: str) -> None:
        """
        :param package: the name of the Pulumi package, as in `pulumi-resource-<package>`.
        :param version: the package version whose behaviour is stood in for.
        """
        self.package = package
        self.version = version

    def guard(self) -> None:
        """Raises PluginError unless this is the lab."""
        if reason := refusal(os.environ):
            raise PluginError(
                f"pulumi-resource-{self.package} here is a stand-in for meshgate's lab and refuses to work: {reason}. "
                f"Use `python -m lab pulumi` for the lab; anywhere else, take the lab's plugin directory off PATH."
            )

    async def get_schema(self, request: GetSchemaRequest) -> GetSchemaResponse:
        return GetSchemaResponse(schema=f'{{"name": "{self.package}", "version": "{self.version}"}}')

    async def configure(self, request: ConfigureRequest) -> ConfigureResponse:
        self.guard()
        # Output values stay off: the SDK reads only those that carry dependencies, and the engine sends others too.
        return ConfigureResponse(accept_secrets=True, supports_preview=True, accept_resources=True)


def token(urn_type: str) -> str:
    """The type token in a URN's type, which has the types of all parents before it."""
    return urn_type.rsplit("$", 1)[-1]


def checked(request: CheckRequest, problems: Iterable[Problem], secret: Collection[str] = ()) -> list[CheckFailure]:
    """What is wrong with a resource's inputs, for the engine. `secret` are inputs that are secret unmarked too."""
    hidden = {name for name, value in request.new_inputs.items() if value.contains_secret()} | set(secret)
    # The engine prints the value of the property that a failure names, a secret's too.
    return [
        CheckFailure("" if re.split(r"[.\[]", path)[0] in hidden else path, f"{path} {reason}")
        for path, reason in problems
    ]


def named(request: CheckRequest, known: Collection[str], names: Iterable[str]) -> dict[str, PropertyValue]:
    """The inputs that are given; those of `names` that are not, and are among the `known` ones, get a name made up from
    the resource's, and keep it."""
    given = {name: value for name, value in request.new_inputs.items() if value.value is not None}
    for name in names:
        if name in known and name not in given:
            old = request.old_inputs.get(name)
            given[name] = old or wire(f"{request.name}-{_hex(request.random_seed)}")
    return given


def _hex(seed: bytes) -> str:
    return (hashlib.sha256(seed).hexdigest() if seed else secrets.token_hex(4))[:7]


def wired(known: Mapping[str, PropertyValue], values: Mapping[str, Plain]) -> dict[str, PropertyValue]:
    """Plain values for the wire; a value that is as it was known stays secret as it was."""
    before = plain_map(known)
    return {
        name: known[name]
        if name in before and before[name] == value
        else wire(value, secret=name in known and known[name].contains_secret())
        for name, value in values.items()
        if value is not None
    }


class StandIn(Plugin):
    """A stand-in plugin that answers the engine for a table of resource types."""

    def __init__(self, package: str, version: str, resources: Mapping[str, Resource]) -> None:
        """:param resources: the resource types by type token, as `tls:index/privateKey:PrivateKey`."""
        super().__init__(package, version)
        self.resources = resources

    def _resource(self, urn_type: str) -> Resource:
        try:
            return self.resources[token(urn_type)]
        except KeyError:
            known = ", ".join(self.resources)
            raise PluginError(
                f"{token(urn_type)} is no resource of the lab's {self.package} stand-in; it has: {known}"
            ) from None

    async def invoke(self, request: InvokeRequest) -> InvokeResponse:
        raise PluginError(f"{request.tok}: the lab's {self.package} stand-in has resources only, no functions")

    async def check(self, request: CheckRequest) -> CheckResponse:
        resource = self._resource(request.type)
        inputs = plain_map(request.new_inputs)
        problems = list(violations(resource.inputs, inputs)) or list(resource.problems(inputs))
        return CheckResponse(
            inputs={name: value for name, value in request.new_inputs.items() if value.value is not None},
            failures=checked(request, problems, {name for name, prop in resource.inputs.items() if prop.secret}),
        )

    async def create(self, request: CreateRequest) -> CreateResponse:
        self.guard()
        resource = self._resource(request.type)
        inputs = plain_map(request.properties)
        if request.preview:
            made: dict[str, Plain] = {
                name: UNKNOWN if prop.default is None else prop.default for name, prop in resource.computed.items()
            }
            return CreateResponse(properties=_outputs(resource, request.properties, made))
        resource_id, made = resource.create(inputs)
        return CreateResponse(resource_id=resource_id, properties=_outputs(resource, request.properties, made))

    async def diff(self, request: DiffRequest) -> DiffResponse:
        resource = self._resource(request.type)
        state, inputs = plain_map(request.old_state), plain_map(request.new_inputs)
        changes: dict[str, PropertyDiff] = {}
        replaces: list[str] = []
        for name, prop in resource.inputs.items():
            if prop.write_only or state.get(name, prop.default) == inputs.get(name, prop.default):
                continue
            if not prop.in_place:
                replaces.append(name)
            kind = change(name in state, name in inputs, replace=not prop.in_place)
            changes[name] = PropertyDiff(kind, input_diff=False)
        for name in resource.renewals(state, inputs):
            replaces.append(name)
            changes[name] = PropertyDiff(PropertyDiffKind.UPDATE_REPLACE, input_diff=False)
        return DiffResponse(changes=bool(changes), replaces=replaces, diffs=list(changes), detailed_diff=changes)

    async def update(self, request: UpdateRequest) -> UpdateResponse:
        self.guard()
        resource = self._resource(request.type)
        computed = {name: value for name, value in request.olds.items() if name in resource.computed}
        return UpdateResponse(properties=_outputs(resource, request.news, {}) | computed)

    async def read(self, request: ReadRequest) -> ReadResponse:
        resource = self._resource(request.type)
        if not request.properties:
            raise PluginError(f"{request.name}: {request.type} cannot be imported; it exists only in a stack's state")
        newer = {
            name: wire(value, secret=resource.computed[name].secret)
            for name, value in resource.refresh(plain_map(request.properties)).items()
        }
        return ReadResponse(request.resource_id, properties=request.properties | newer, inputs=request.inputs)

    async def delete(self, request: DeleteRequest) -> None:
        self._resource(request.type)


def _outputs(
    resource: Resource, inputs: Mapping[str, PropertyValue], made: Mapping[str, Plain]
) -> dict[str, PropertyValue]:
    outputs: dict[str, PropertyValue] = {}
    for name, prop in resource.inputs.items():
        value = inputs.get(name)
        if prop.write_only:
            continue
        if value is not None and value.value is not None:
            outputs[name] = value.with_secret(value.is_secret or prop.secret)
        elif prop.default is not None:
            outputs[name] = wire(prop.default, secret=prop.secret)
    return outputs | {name: wire(value, secret=resource.computed[name].secret) for name, value in made.items()}


def change(before: bool, after: bool, *, replace: bool) -> PropertyDiffKind:
    """What happens to a property that was there before, or is there after."""
    if before and after:
        return PropertyDiffKind.UPDATE_REPLACE if replace else PropertyDiffKind.UPDATE
    if after:
        return PropertyDiffKind.ADD_REPLACE if replace else PropertyDiffKind.ADD
    return PropertyDiffKind.DELETE_REPLACE if replace else PropertyDiffKind.DELETE


class _ClearErrors(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Hands a PluginError to the engine as its message alone; the SDK would add a traceback."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def call(request: Any, context: Any) -> Any:
            try:
                return await handler.unary_unary(request, context)
            except Exception as error:
                reason = error.__context__
                if isinstance(reason, PluginError):
                    await context.abort(grpc.StatusCode.UNKNOWN, str(reason), _details(reason))
                raise

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


def _details(error: PluginError) -> tuple[tuple[str, bytes], ...]:
    """Tells the engine to keep a resource that is unfinished."""
    if not isinstance(error, Unfinished):
        return ()
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.resource_id, properties=PropertyValue.marshal_map(error.properties), reasons=[str(error)]
        )
    )
    return (("grpc-status-details-bin", status.SerializeToString()),)


class _Servicer(ProviderServicer):
    """What Pulumi's SDK has no place for."""

    async def Diff(self, request: Any, context: Any) -> Any:
        """Hands a plugin that compares inputs with inputs the old inputs."""
        if isinstance(self._provider, Plugin) and self._provider.compares_inputs:
            request.olds.CopyFrom(request.old_inputs)
        return await super().Diff(request, context)

    async def Read(self, request: Any, context: Any) -> Any:
        """Says that a resource is not there: to the engine, empty properties are those of one that is."""
        answer = await super().Read(request, context)
        if not answer.id:
            answer.ClearField("properties")
        return answer


def serve(provider: Plugin, arguments: list[str]) -> None:
    """Serves a plugin to the engine, whose address is the first argument, until the engine ends the process."""
    if not arguments:
        print(f"pulumi-resource-{provider.package} is started by Pulumi, not by hand", file=sys.stderr)
        raise SystemExit(2)

    async def run() -> None:
        # No limit on the size of a message, as Pulumi's own servers have it.
        server = grpc.aio.server(interceptors=[_ClearErrors()], options=[("grpc.max_receive_message_length", -1)])
        servicer = _Servicer(arguments, provider.version, provider, engine_address=arguments[-1])
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()

    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole group; the engine reports the interrupt
        asyncio.run(run())
