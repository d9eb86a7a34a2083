"""What a Pulumi SDK for Python says of its resource types: their arguments, which of them are required, their outputs.

The types are the source: every SDK has them, whatever cloud it is for. An SDK's parts are imported when one of their
types is asked for, because a cloud's whole SDK takes seconds and hundreds of megabytes.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import types
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Union, cast, get_args, get_origin, is_typeddict

import pulumi
from pulumi import _types as pulumi_types
from pulumi.runtime import rpc
from pulumi.runtime.rpc import UNKNOWN

Problem = tuple[str, str]
"""The path of a property, and what is wrong with it: words that continue the path to a sentence."""

_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


class UnknownType(Exception):
    """No resource type of the SDK has this token."""


@cache
def resource(token: str) -> type:
    """The class of a resource type, for example of `gcp:compute/network:Network`. Raises UnknownType."""
    if token.startswith("pulumi:providers:"):
        return cast(type, _package(token.rsplit(":", 1)[1]).Provider)
    package, module = token.split(":")[:2]
    _package(package)
    for registered in rpc._RESOURCE_MODULES.get(f"{package}:{module}", []):
        info = cast(Any, registered).mod_info
        if token in info["classes"]:
            return cast(type, getattr(importlib.import_module(info["fqn"]), info["classes"][token]))
    known = [
        name
        for key, registered in rpc._RESOURCE_MODULES.items()
        if key.startswith(f"{package}:")
        for entry in registered
        for name in cast(Any, entry).mod_info["classes"]
    ]
    raise UnknownType(f"pulumi_{package} has no resource type {token}{_like(token, known)}")


@cache
def arguments(token: str) -> type:
    """The class of a resource type's arguments. Raises UnknownType."""
    cls = resource(token)
    own = vars(importlib.import_module(cls.__module__))
    # `InitArgs` where a resource's own name with `Args` is that of a nested type.
    return next(cast(type, own[name]) for name in (f"{cls.__name__}InitArgs", f"{cls.__name__}Args") if name in own)


@cache
def inputs(token: str) -> Mapping[str, Any]:
    """The arguments of a resource type, named as on the wire, with their types."""
    return pulumi_types.input_type_types(arguments(token))


@cache
def required(token: str) -> frozenset[str]:
    """The arguments of a resource type, named as on the wire, without which the SDK takes none."""
    return _required(arguments(token))


@cache
def outputs(token: str) -> Mapping[str, Any]:
    """The outputs of a resource type, named as on the wire, with their types."""
    return pulumi_types.resource_types(resource(token))


@cache
def always(cls: type) -> frozenset[str]:
    """The outputs, named as on the wire, that every resource (or nested object) of this class has."""
    return frozenset(name for name, getter in _getters(cls) if "Optional[" not in str(getter.__annotations__["return"]))


def problems(token: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the inputs (names as on the wire) of a resource type; a value that is `UNKNOWN` is right.

    Raises UnknownType. The words never hold a value, which may be a secret.
    """
    if token.startswith("pulumi:providers:"):
        # A provider's inputs are JSON in strings on the wire, where they are no strings themselves.
        expected = inputs(token)
        values = {key: _decoded(value, expected.get(key, Any)) for key, value in values.items()}
    return _object("", arguments(token), values)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(f"pulumi_{name}")
    except ModuleNotFoundError:
        raise UnknownType(f"the SDK pulumi_{name} is not installed") from None


def _decoded(value: Any, expected: Any) -> Any:
    if not any(_value("", expected, value)):
        return value
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def _object(path: str, cls: type, value: Any) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield path, f"must be an object, not {_described(value)}"
        return
    known, required = pulumi_types.input_type_types(cls), _required(cls)
    prefix = f"{path}." if path else ""
    for key in sorted(value.keys() - known.keys()):
        yield f"{prefix}{key}", f"is not a property of {cls.__name__.removesuffix('Args')}{_like(key, known)}"
    for name in sorted(required):
        if value.get(name) is None:
            yield f"{prefix}{name}", f"is required by {cls.__name__.removesuffix('Args')}"
    for key, item in value.items():
        if key in known and item is not None:
            yield from _value(f"{prefix}{key}", known[key], item)


@cache
def _required(cls: type) -> frozenset[str]:
    names = pulumi_types.input_type_py_to_pulumi_names(cls)
    parameters = inspect.signature(cls).parameters.values()
    return frozenset(
        names[parameter.name]
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty and parameter.name in names
    )


def _value(path: str, expected: Any, value: Any) -> Iterator[Problem]:
    origin = get_origin(expected)
    if value == UNKNOWN or expected is Any or isinstance(expected, str):
        return
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(expected) if not _wrapper(option)]
        found = [list(_value(path, option, value)) for option in options]
        if all(found):
            yield from min(found, key=len)
    elif origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            yield path, f"must be a mapping, not {_described(value)}"
            return
        for key, item in value.items():
            yield from _value(f"{path}.{key}", get_args(expected)[1], item)
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str):
            yield path, f"must be a list, not {_described(value)}"
            return
        for index, item in enumerate(value):
            yield from _value(f"{path}[{index}]", get_args(expected)[0], item)
    elif isinstance(expected, type) and pulumi_types.is_input_type(expected):
        yield from _object(path, expected, value)
    elif isinstance(expected, type) and not _fits(expected, value):
        yield path, f"must be {_NAMES.get(expected, expected.__name__)}, not {_described(value)}"


def _wrapper(option: Any) -> bool:
    """Whether a member of a union only says that the value may come later, or as a plain dictionary."""
    return option is type(None) or get_origin(option) in (Awaitable, pulumi.Output) or is_typeddict(option)


def _fits(expected: type, value: Any) -> bool:
    if issubclass(expected, (pulumi.Asset, pulumi.Archive)):
        # On the wire an asset is a mapping that says what it is.
        return isinstance(value, expected) or (isinstance(value, Mapping) and rpc._special_sig_key in value)
    if isinstance(value, bool):
        return expected is bool
    if isinstance(value, (int, float)):
        # Numbers are floats on the wire.
        return expected is float or (expected is int and float(value).is_integer())
    return isinstance(value, expected)


def _described(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    return _NAMES.get(type(value), type(value).__name__)


def _like(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _getters(cls: type) -> Iterator[tuple[str, Any]]:
    for name, member in inspect.getmembers(cls, lambda member: isinstance(member, property)):
        if name not in ("id", "urn", "pulumi_resource_name", "pulumi_resource_type"):
            yield getattr(member.fget, "_pulumi_name", name), member.fget
