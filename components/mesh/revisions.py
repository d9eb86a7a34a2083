"""Which control plane serves which namespace."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class Revisions:
    """The mesh's control planes, as namespaces and gateways follow them."""

    tag: pulumi.Output[str]
    """Label istio.io/rev of every namespace that was not moved."""

    revision: pulumi.Output[str]
    """What the tag names."""

    moved: pulumi.Output[dict[str, str]]
    """Revisions by namespace, where it is another than the tag's."""

    def label(self, namespace: str) -> pulumi.Output[str]:
        """The namespace's value of istio.io/rev; its gateways and other pods follow it when they are made."""
        return pulumi.Output.all(self.tag, self.moved).apply(lambda values: values[1].get(namespace, values[0]))

    def serving(self, namespace: str) -> pulumi.Output[str]:
        """The revision that injects the namespace's pods; another one when the tag moves."""
        return pulumi.Output.all(self.revision, self.moved).apply(lambda values: values[1].get(namespace, values[0]))
