"""A resource's inputs, as they go to the engine, held against the SDK's own types and required arguments."""

from __future__ import annotations

import importlib
import inspect
import json
import types
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, is_typeddict

from pulumi import Output
from pulumi import _types as pulumi_types

UNTYPED_GROUPS = ("networking.istio.io", "security.istio.io", "telemetry.istio.io")
"""Custom resources: no SDK has types for them; a real API server checks them in the engine tests."""


def problems(token: str, inputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with `inputs` (names as on the wire) of a resource of the type `token`; empty when all is right."""
    if any(f":{group}/" in token for group in UNTYPED_GROUPS):
        return [] if inputs.keys() >= {"metadata", "spec"} else [f"{token}: a custom resource has metadata and spec"]
    if token.startswith("pulumi:providers:"):
        # A provider's inputs are JSON in strings on the wire.
        inputs = {key: json.loads(value) if value in ("true", "false") else value for key, value in inputs.items()}
    return list(_object(token, _arguments(token), inputs))


def _arguments(token: str) -> type:
    """The class of a resource's arguments."""
    if token.startswith("pulumi:providers:"):
        return _member(f"pulumi_{token.rsplit(':', 1)[1]}", "Provider")
    package, module, name = token.split(":")
    module = module.split("/")[0] if module.startswith("index/") else module
    path = "" if module == "index" else "." + module.replace(".k8s.io", "").replace("helm.sh", "helm").replace("/", ".")
    return _member(f"pulumi_{package}{path}", name)


def _member(module: str, resource: str) -> type:
    package = importlib.import_module(module)
    for suffix in ("InitArgs", "Args"):
        found = getattr(package, f"{resource}{suffix}", None)
        if isinstance(found, type):
            return found
    # Argument classes that a package does not export are in the resource's own module.
    own = importlib.import_module(getattr(package, resource).__module__)
    names = (f"{resource}InitArgs", f"{resource}Args")
    return next(member for name, member in vars(own).items() if name in names and isinstance(member, type))


def _object(where: str, cls: type, value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where}: is {type(value).__name__}, should be {cls.__name__}"
        return
    names = pulumi_types.input_type_py_to_pulumi_names(cls)
    known = pulumi_types.input_type_types(cls)
    for key in value.keys() - known.keys():
        yield f"{where}.{key}: {cls.__name__} has no such property"
    for parameter in list(inspect.signature(cls).parameters.values()):
        name = names.get(parameter.name)
        if parameter.default is inspect.Parameter.empty and name is not None and value.get(name) is None:
            yield f"{where}.{name}: is required by {cls.__name__}"
    for key, item in value.items():
        if key in known and item is not None:
            yield from _value(f"{where}.{key}", known[key], item)


def _wrapper(option: Any) -> bool:
    """Whether a member of a union only says that the value may come later, or as a plain dictionary."""
    return option is type(None) or get_origin(option) in (Awaitable, Output) or is_typeddict(option)


def _value(where: str, expected: Any, value: Any) -> Iterator[str]:
    origin = get_origin(expected)
    if expected is Any or isinstance(expected, str):
        return
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(expected) if not _wrapper(option)]
        found = [list(_value(where, option, value)) for option in options]
        if all(found):
            yield from min(found, key=len)
    elif origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            yield f"{where}: is {type(value).__name__}, should be a mapping"
            return
        for key, item in value.items():
            yield from _value(f"{where}.{key}", get_args(expected)[1], item)
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str):
            yield f"{where}: is {type(value).__name__}, should be a list"
            return
        for index, item in enumerate(value):
            yield from _value(f"{where}[{index}]", get_args(expected)[0], item)
    elif isinstance(expected, type) and pulumi_types.is_input_type(expected):
        yield from _object(where, expected, value)
    elif isinstance(expected, type):
        # Numbers are floats on the wire.
        number = expected is int and isinstance(value, float) and value.is_integer()
        if not (number or (isinstance(value, expected) and not (expected is int and isinstance(value, bool)))):
            yield f"{where}: is {type(value).__name__} ({value!r}), should be {expected.__name__}"
