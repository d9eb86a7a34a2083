"""One module per layer or scenario: `build(settings, upstream)` makes it and gives its contract."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pulumi

from settings import Layer, Settings, SettingsError
from settings.authority import HsmKmsAuthority
from stacks.contracts import WITHHELD
from stacks.upstream import Upstream


def build(settings: Settings) -> None:
    """Make the layers that the stack holds, from the bottom up.

    What can only be asked outside (an existing cluster) is checked before any resource is made; raises SettingsError.
    """
    # A layer's module is imported only when the stack holds it: it loads SDKs that other stacks do not need.
    modules = {layer: import_module(f"stacks.{layer}") for layer in get_args(Layer) if layer in settings.layers}
    waiting = withheld(settings)
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
        if layer not in waiting:
            upstream.add(layer, module.build(settings, upstream))
    if waiting:
        pulumi.export(WITHHELD, list(waiting))
        request, chain = (
            ("istiod's request in the Secret istio-ca-cert-csr", "authority.chain")
            if isinstance(settings.authority, HsmKmsAuthority)
            else (
                "the request in the output authority_generations (`python -m authority sign`)",
                "authority.generations",
            )
        )
        pulumi.log.warn(
            f"the mesh CA waits for its signed chain: sign {request}, put the chain into {chain} and run `pulumi up` "
            f"again; until then these layers are not made: {', '.join(waiting)}"
        )


def withheld(settings: Settings) -> tuple[Layer, ...]:
    """The stack's layers that cannot be made while its mesh CA waits for a signed chain; none once it has one."""
    authority = settings.authority
    if authority is None or not authority.waiting:
        return ()
    # Every later layer needs the mesh, or will: Bookinfo at its first step comes with the next one's mesh.
    # Where istiod makes the request by itself, the control plane is there before.
    last: Layer = "mesh" if isinstance(authority, HsmKmsAuthority) else "authority"
    order = get_args(Layer)
    return tuple(layer for layer in order[order.index(last) + 1 :] if layer in settings.layers)
