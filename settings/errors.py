"""Errors of the configuration, all of them at once, in words for the person who wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from settings.model import Problem


class SettingsError(Exception):
    """The configuration cannot be used; its text lists every problem with its key."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"the configuration has {count} {'error' if count == 1 else 'errors'}; nothing was made:"
        super().__init__(
            "\n".join([head, *(f"  meshgate:{problem.key}: {problem.message}" for problem in self.problems)])
        )


def from_validation(error: ValidationError, config: Mapping[str, Any]) -> list[Problem]:
    """The problems in a pydantic error about `config`, with keys as they are written in YAML."""
    problems = error.errors()
    return [
        Problem(key=_key(details["loc"], config), message=_message(details))
        for details in problems
        # A list all of whose items are bad is also "too short", which is not what is wrong with it.
        if not (details["type"] == "too_short" and any(_below(details, other) for other in problems))
    ]


def _below(outer: ErrorDetails, inner: ErrorDetails) -> bool:
    depth = len(outer["loc"])
    return len(inner["loc"]) > depth and inner["loc"][:depth] == outer["loc"]


def _key(location: tuple[int | str, ...], value: Any) -> str:
    key = ""
    for index, part in enumerate(location):
        last = index == len(location) - 1
        # pydantic puts the tag of a union's member (issued, LoadBalancer) into the path, where the value has no such
        # key, and [key] when it is the key itself that is wrong.
        if part == "[key]" or (isinstance(part, str) and isinstance(value, list)):
            continue
        if not last and isinstance(value, Mapping) and part not in value:
            continue
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
        value = None if last else value[part]
    return key.removeprefix(".")


def _message(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a known key"
    if kind == "union_tag_invalid":
        # Where a kind may be left out, it is a function that tells the union's members.
        key = context["discriminator"].replace("_kind()", "'kind'")
        return f"{key} is '{context['tag']}'; it must be one of {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"{context['discriminator']} is missing"
    if kind == "too_short":
        return "is empty; it needs at least one entry"
    if kind == "too_long":
        return f"has {context['actual_length']} entries; it takes at most {context['max_length']}"
    if kind == "value_error":
        return f"is {details['input']!r}; it {context['error']}"
    said = _EXPECTED.get(kind) or details["msg"].replace("Input should be", "must be")
    return f"is {details['input']!r}; it {said}"


_EXPECTED = {
    "string_too_short": "must not be empty",
    "string_type": "must be text, in quotes where YAML reads something else",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "ip_v4_network": "must be an IPv4 network without host bits, for example 10.0.0.0/24",
    "ip_v4_address": "must be an IPv4 address, for example 10.0.0.1",
}
"""What pydantic says in terms of Python, said in terms of YAML."""
