"""One module per layer or scenario: `build(settings, upstream)` makes it and gives its contract."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

from settings import Layer, Settings, SettingsError
from stacks.upstream import Upstream


def build(settings: Settings) -> None:
    """Make the layers that the stack holds, from the bottom up.

    What can only be asked outside (an existing cluster) is checked before any resource is made; raises SettingsError.
    """
    # A layer's module is imported only when the stack holds it: it loads SDKs that other stacks do not need.
    modules = {layer: import_module(f"stacks.{layer}") for layer in get_args(Layer) if layer in settings.layers}
    problems = [
        problem.below(layer)
        for layer, module in modules.items()
        if hasattr(module, "check")
        for problem in module.check(getattr(settings, layer))
    ]
    if problems:
        raise SettingsError(problems)
    upstream = Upstream(settings)
    for layer, module in modules.items():
        upstream.add(layer, module.build(settings, upstream))
