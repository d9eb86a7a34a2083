"""The configuration of a stack as typed plain values.

`load` turns the raw configuration (namespace `meshgate`) into `Settings`, or raises `SettingsError` with everything
that is wrong in it. WHICH resources exist follows from these values alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, get_args, get_type_hints

import pulumi.runtime.config
from pydantic import Field, TypeAdapter, ValidationError

from settings.authority import AuthoritySettings
from settings.cluster import ClusterSettings
from settings.errors import SettingsError, from_validation
from settings.ingress import IngressSettings
from settings.mesh import IstioSettings, MeshSettings
from settings.model import Model, Problem, matching
from settings.verify import VerifySettings

__all__ = ["REQUIRES", "Layer", "Problem", "Settings", "SettingsError", "load", "stack_config"]

Layer = Literal["cluster", "authority", "mesh", "ingress"]

REQUIRES: Mapping[Layer, tuple[Layer, ...]] = {
    "cluster": (),
    "authority": ("cluster",),
    "mesh": ("cluster", "authority"),
    "ingress": ("cluster", "mesh"),
}
"""The layers whose contracts a layer reads, in the order in which layers are built."""


class Settings(Model):
    """Everything that one stack is configured with."""

    name: Annotated[
        str,
        matching(
            r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?", "lower-case letters, digits and, between them, '-', at most 20"
        ),
    ]
    """Prefix of the resources' names; stacks that make up one environment share it."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    """The layers that this stack holds."""

    upstream: dict[Layer, Annotated[str, Field(min_length=1)]] = {}
    """For each further layer that is needed: the stack that holds it, as StackReference takes it."""

    protect: bool = True
    """Whether the CA's keys and certificates are protected from deletion."""

    istio: IstioSettings = IstioSettings()
    cluster: ClusterSettings | None = None
    authority: AuthoritySettings | None = None
    mesh: MeshSettings | None = None
    ingress: IngressSettings | None = None
    verify: VerifySettings = VerifySettings()


def stack_config() -> dict[str, Any]:
    """The running stack's configuration in the namespace `meshgate`, objects and lists parsed."""
    # pulumi.Config reads key by key; to find keys that nobody knows, all of them are needed.
    values = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    return {
        key.removeprefix("meshgate:"): _parsed(value) for key, value in values.items() if key.startswith("meshgate:")
    }


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("[", "{")):
        # Text that only begins like JSON stays text, for `load` to say what should be there.
        with suppress(json.JSONDecodeError):
            return json.loads(value)
    return value


def load(config: Mapping[str, Any]) -> Settings:
    """Check the configuration and give it types.

    `config` maps the keys below `meshgate:` to plain values. Raises SettingsError with all problems: each section is
    checked on its own, so that a mistake in one does not hide those of another.
    """
    # Pulumi.yaml gives an empty object to what is not there.
    config = {key: value for key, value in config.items() if value != {} or key not in Settings.model_fields}
    problems: list[Problem] = []
    try:
        settings = Settings.model_validate(config)
        good = dict(settings)
    except ValidationError as error:
        problems = from_validation(error, config)
        bad = {details["loc"][0] for details in error.errors()}
        types = get_type_hints(Settings, include_extras=True)
        good = {
            name: TypeAdapter[Any](types[name]).validate_python(config[name])
            for name in Settings.model_fields
            if name in config and name not in bad
        }
    for name, value in good.items():
        if isinstance(value, Model):
            problems.extend(problem.below(name) for problem in value.problems())
    if "layers" in good and ("upstream" in good or "upstream" not in config):
        problems.extend(_layering(good["layers"], good.get("upstream", {}), config))
    problems.extend(_namespaces(good))
    if problems:
        raise SettingsError(problems)
    return settings


def _namespaces(good: Mapping[str, Any]) -> Iterator[Problem]:
    authority: AuthoritySettings | None = good.get("authority")
    ingress: IngressSettings | None = good.get("ingress")
    made = [("authority.namespace", authority.namespace)] if authority else []
    if ingress:
        made.append(("ingress.namespace", ingress.namespace))
    if ingress and ingress.coolstore:
        made.append(("ingress.coolstore.namespace", ingress.coolstore.namespace))
    for index, (key, namespace) in enumerate(made):
        for other, taken in made[:index]:
            if namespace == taken:
                yield Problem(key=key, message=f"'{namespace}' is {other} too; each needs a namespace of its own")


def _layering(layers: tuple[Layer, ...], upstream: Mapping[Layer, str], config: Mapping[str, Any]) -> Iterator[Problem]:
    for index, layer in enumerate(layers):
        if layer in layers[:index]:
            yield Problem(key="layers", message=f"'{layer}' is there twice")
        if layer not in config:
            yield Problem(key=layer, message=f"is missing; layers has '{layer}', which is configured here")
    needed = {upper: layer for layer in layers for upper in REQUIRES[layer] if upper not in layers}
    for upper, layer in needed.items():
        if upper not in upstream:
            yield Problem(
                key=f"upstream.{upper}",
                message=f"is missing; '{layer}' needs the layer '{upper}': add it to layers, "
                "or name the stack that holds it",
            )
    for upper in upstream:
        if upper not in needed:
            reason = "layers has it too" if upper in layers else "no layer here needs it"
            yield Problem(key=f"upstream.{upper}", message=f"names a stack, but {reason}; take it out")
    for layer in get_args(Layer):
        if layer in config and layer not in layers:
            yield Problem(key=layer, message=f"is configured, but layers has no '{layer}'")
