"""Order between resources as data: what uses a value waits for more than the value's own resource."""

from __future__ import annotations

from typing import TypeVar

import pulumi

T = TypeVar("T")


def after(value: pulumi.Input[T], *resources: pulumi.Resource) -> pulumi.Output[T]:
    """`value`, for those who may go on only when `resources` exist too; it travels through contracts.

    A preview knows it as soon as `value`: it waits for the resources' URNs, which a preview has, not for their ids.
    With ids, a new firewall rule would make the subnet unknown, and the cluster in it seem to be replaced.
    """
    return pulumi.Output.all(value, *(resource.urn for resource in resources)).apply(lambda values: values[0])
